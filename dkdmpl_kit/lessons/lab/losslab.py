"""LossLab: one label on the bench. Choose a picture or drag probabilities, turn
temperatures and weights, watch the pull.
"""

from __future__ import annotations

from typing import Any

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.lab.panel import FigureView, Panel, task_line
from dkdmpl_kit.losses import SKD_DIVERGENCES
from dkdmpl_kit.losses.theory import LabelCase, label_case
from dkdmpl_kit.viz.losslab import loss_lab
from dkdmpl_kit.viz.style import VIEW_LABELS, sentence_figure

TASKS = {  # without and with an anchor
    False: "Task: lower tau_t. From which value on does the teacher repeat the hard label, so "
    "that L_GKD only makes the loss louder?",
    True: "Task: find a picture whose query q and anchor a disagree. Which way do the arrows "
    "pull, and who would be right?",
}
# where dragging begins
_HAND = {"e": (0.2, 0.7, 0.1, 0.0), "q": (0.6, 0.2, 0.1, 0.1), "a": (0.4, 0.2, 0.4, 0.0)}
_BEGIN = {
    "picture": 0,
    "tau": 0.05,
    "tau_t": 0.05,
    "T": 1.0,
    "lambda_g": 0.5,
    "lambda_s": 0.5,
    "divergence": "kl",
}
_LEAST = 1e-4  # a probability of 0 has no finite logit


class LossLab(Panel):
    """Views, losses and gradient of one label, live; `viz.loss_lab` of a
    `theory.label_case` is its static twin.

    query, teacher, anchor: (B, K) cosine similarities of B pictures to K clusters (z
    M^T, v C^T, z_p M^T); a row of NaN in `anchor`: this picture has none; anchor=None:
    none has, and what belongs to L_SKD is hidden. labels (B,): the hard label, -1 for
    an outlier. pictures, anchor_pictures: uint8 (B, 3, H, W) or (B, H, W, 3), or a
    store with `.batch(indices)`. begin: where controls begin, by name: picture, tau,
    tau_t, T (of L_GKD), lambda_g, lambda_s, divergence. KitError where arrays do not
    fit one another, or there is no such control. With fewer than two clusters or no
    picture only "by hand" can be shown: four clusters whose probabilities are dragged
    (sliders are renormalised; they set the views at the first tau and tau_t).
    `.controls` {name: control} and `.hand` {"e", "q", "a": four sliders}; `.case` the
    `LabelCase` that is shown, or None.
    """

    def __init__(
        self,
        query: Any,
        teacher: Any,
        anchor: Any | None,
        labels: Any,
        *,
        pictures: Any = None,
        anchor_pictures: Any = None,
        **begin: Any,
    ) -> None:
        super().__init__()
        self.add_class("dkdmpl-losslab")
        given = {"e": teacher, "q": query, "a": anchor}
        self.similarities = {
            name: np.asarray(rows, float) for name, rows in given.items() if rows is not None
        }
        self.labels = np.asarray(labels)
        _check_shapes([rows.shape for rows in self.similarities.values()], self.labels)
        for name in set(begin) - set(_BEGIN):
            raise KitError(f"LossLab: no control {name!r}; there are: {', '.join(_BEGIN)}.")
        begin = _BEGIN | begin
        self.pictures = pictures
        self.anchor_pictures = anchor_pictures
        self.scale = {"q": begin["tau"], "e": begin["tau_t"], "a": begin["tau"]}
        self.case: LabelCase | None = None
        self.controls = _controls(self.labels, begin)
        self.hand = {
            view: [_upright(p, k) for k, p in enumerate(_HAND[view])]
            for view in self.similarities
        }
        columns = [
            ipywidgets.VBox([ipywidgets.Label(VIEW_LABELS[view]), ipywidgets.HBox(row)])
            for view, row in self.hand.items()
        ]
        self.by_hand = ipywidgets.VBox([self.controls["hard"], ipywidgets.HBox(columns)])
        self.view = FigureView()
        self.views = (self.view,)
        sliders = [slider for row in self.hand.values() for slider in row]
        for control in [*self.controls.values(), *sliders]:
            self.on(control, self.redraw)
        if anchor is None:
            self.controls["lambda_s"].layout.display = "none"
            self.controls["divergence"].layout.display = "none"
        temperatures = [self.controls[name] for name in ("tau", "tau_t", "T")]
        weights = [self.controls[name] for name in ("lambda_g", "lambda_s", "divergence")]
        self.children = [
            task_line(TASKS[anchor is not None]),
            ipywidgets.HBox([self.controls["source"], self.controls["picture"]]),
            self.by_hand,
            ipywidgets.HBox([ipywidgets.VBox(temperatures), ipywidgets.VBox(weights)]),
            self.status,
            self.view,
        ]
        self.redraw()  # raises: a broken cell fails

    @property
    def figure(self) -> Figure | None:
        """The figure that is shown."""
        return self.view.figure

    def redraw(self) -> None:
        """Compute the case at the controls' values and draw it."""
        set_to = {name: control.value for name, control in self.controls.items()}
        by_hand = set_to["source"] == "by hand"
        self.by_hand.layout.display = "" if by_hand else "none"
        self.controls["picture"].layout.display = "none" if by_hand else ""
        unfit = ""
        if by_hand:
            rows = self._rows_by_hand()
            label = set_to["hard"]
        else:
            rows, label, unfit = self._rows_of(set_to["picture"])
        if unfit:
            self.case = None
            self.view.show(sentence_figure(unfit))
            return self.say(unfit)
        taus = {"q": set_to["tau"], "e": set_to["tau_t"], "a": set_to["tau"]}
        logits = {
            name: row / taus[name] for name, row in rows.items() if not np.isnan(row).any()
        }
        self.case = case = label_case(
            logits["q"],
            label,
            logits["e"],
            logits.get("a"),
            gkd_weight=set_to["lambda_g"],
            skd_weight=set_to["lambda_s"],
            temperature=set_to["T"],
            divergence=set_to["divergence"],
        )
        pictures, lost = {}, ""
        if not by_hand:
            pictures, lost = self._pictures_of(set_to["picture"])
        self.view.show(
            loss_lab(
                case.hard,
                case.views,
                case.losses,
                case.total,
                case.gradient,
                note=case.verdict,
                **pictures,
            )
        )
        self.say(f"{loss_sentence(case)} {lost}".strip())

    def _rows_by_hand(self) -> dict[str, np.ndarray]:
        """Similarities whose softmax at the first temperatures is what the sliders say,
        renormalised.
        """
        rows = {}
        for view, sliders in self.hand.items():
            weights = np.maximum([slider.value for slider in sliders], _LEAST)
            rows[view] = self.scale[view] * np.log(weights / weights.sum())
        return rows

    def _rows_of(self, i: int) -> tuple[dict[str, np.ndarray], int, str]:
        """The rows of picture i and its label; or a sentence on why there is nothing to
        show.
        """
        clusters = self.similarities["q"].shape[1]
        if i < 0 or clusters < 2:
            what = "no picture" if i < 0 else f"{clusters} cluster, and a contrast needs two"
            return {}, -1, f'There is {what}: choose "by hand" and drag a small case.'
        found = {name: rows[i] for name, rows in self.similarities.items()}
        return found, int(self.labels[i]), ""

    def _pictures_of(self, i: int) -> tuple[dict[str, Any], str]:
        """{"picture", "anchor_picture"} as far as they are given, and a sentence where
        one cannot be read.
        """
        found = {}
        lost = ""
        given = {"picture": self.pictures, "anchor_picture": self.anchor_pictures}
        if "a" not in self.case.views:
            del given["anchor_picture"]
        for name, store in given.items():
            try:
                if hasattr(store, "batch"):
                    found[name] = np.asarray(store.batch([i])[0])
                elif store is not None:
                    found[name] = np.asarray(store[i])
            except (KitError, OSError) as error:
                lost = f"A picture could not be read and is left out: {error}"
        return found, lost


def loss_sentence(case: LabelCase) -> str:
    """The sum of a case's losses in numbers, or why there is none."""
    if case.total is None:
        return (
            "An outlier: it has no hard label and is left out of training, so it has no loss "
            "and no gradient."
        )
    terms = " + ".join(
        f"{name} {value:.4f}" if name == "L_CC" else f"{weight:g} × {name} {value:.4f}"
        for name, (value, weight) in case.losses.items()
    )
    sentence = f"{terms} = {case.total:.4f} nats."
    return sentence if "a" in case.views else f"{sentence} No anchor: L_SKD is left out."


def _check_shapes(shapes: list[tuple[int, ...]], labels: np.ndarray) -> None:
    first = shapes[0]
    if set(shapes) == {first} and len(first) == 2 and labels.shape == first[:1]:
        return
    found = ", ".join(str(shape) for shape in sorted(set(shapes)))
    raise KitError(
        "LossLab: query, teacher and anchor must be (B, K) with a label for each of the B "
        f"rows, got {found} and {len(labels)} labels."
    )


def _controls(labels: np.ndarray, begin: dict[str, Any]) -> dict[str, Any]:
    """Every control by name, in the order in which they stand."""
    # there is no room for longer names
    names = [f"{i} (out)" if y < 0 else f"{i}" for i, y in enumerate(labels.tolist())]
    options = list(zip(names, range(len(names)))) or [("no picture", -1)]
    return {
        "source": ipywidgets.ToggleButtons(options=["a picture", "by hand"]),
        "picture": ipywidgets.SelectionSlider(
            options=options, value=begin["picture"] if names else -1, description="picture"
        ),
        **{name: _log_slider(name, begin[name], 0.01, 1.0) for name in ("tau", "tau_t")},
        "T": ipywidgets.FloatSlider(
            value=begin["T"], min=0.5, max=max(20.0, begin["T"]), step=0.5, description="T"
        ),
        **{name: _weight(name, begin[name]) for name in ("lambda_g", "lambda_s")},
        "divergence": ipywidgets.Dropdown(
            options=SKD_DIVERGENCES, value=begin["divergence"], description="divergence"
        ),
        "hard": ipywidgets.Dropdown(
            options=[*((f"cluster {k}", k) for k in range(4)), ("none: an outlier", -1)],
            value=0,
            description="hard label",
        ),
    }


def _log_slider(
    name: str, value: float, low: float, high: float
) -> ipywidgets.FloatLogSlider:
    low = min(low, value)
    high = max(high, value)
    return ipywidgets.FloatLogSlider(
        value=value,
        base=10,
        min=np.log10(low),
        max=np.log10(high),
        step=0.01,
        description=name,
        readout_format=".3f",
    )


def _weight(name: str, value: float) -> ipywidgets.FloatSlider:
    return ipywidgets.FloatSlider(
        value=value, min=0.0, max=max(3.0, value), step=0.05, description=name
    )


def _upright(value: float, cluster: int) -> ipywidgets.FloatSlider:
    return ipywidgets.FloatSlider(
        value=value,
        min=0.0,
        max=1.0,
        step=0.02,
        description=str(cluster),
        orientation="vertical",
        readout_format=".2f",
        layout=ipywidgets.Layout(height="150px", width="58px"),
    )
