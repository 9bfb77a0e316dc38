"""NoiseLens: every wrong pair of a clustering, what explains it, its pictures; and the
same for noise put in on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.lab.panel import FigureView, Panel, buttons, one_row, task_line
from dkdmpl_kit.noise import (
    NO_CAUSE,
    NOISE_KINDS,
    NoiseCauses,
    PairCauses,
    camera_pair_errors,
    inject_noise,
    label_report,
    noise_causes,
    noise_response,
    pair_causes,
)
from dkdmpl_kit.viz.noise import camera_error_maps
from dkdmpl_kit.viz.pairs import (
    factor_map,
    noise_response_curves,
    pair_cause_bars,
    pair_pictures,
)
from dkdmpl_kit.viz.style import UNKNOWN, known, sentence_figure

TASK = (
    "Task: find what explains the wrong pairs. Then choose a cause below and look at its "
    "pairs: would you name the same cause?"
)
_OWN = "the clustering's own"
_ALL = "all wrong pairs"
_RATES = tuple(np.round(np.arange(0, 0.91, 0.1), 2))


class NoiseLens(Panel):
    """Wrong pairs by cause, as bars, by cameras, by factor, against the rate of
    injected noise; and example pairs.

    labels (N,), -1 for outliers; pids (N,) identities, None or negative where unknown;
    camids (N,) the same; factors: N dicts of the renderer, or None; pictures: uint8 (N,
    3, H, W) or (N, H, W, 3), or a store with `.batch(indices)`; features (N, d), for
    look-alike noise. per_page: examples shown. options: max_pairs (4000), resamples
    (40) and seed (0) of `noise.pair_causes`; smaller than there, so that it is quick.
    Injected noise is put into the true labels of all images of known identity; kinds
    that need what is not known are not offered. It opens with the kind of error that has
    more pairs; where no identity is known the panel is one sentence. KitError where
    lengths differ. `.controls` {name: control}; `.causes` the `PairCauses` shown, or None;
    `.labels_shown` (N,); `.example_pairs` (n, 2).
    """

    def __init__(
        self,
        labels: Any,
        pids: Any,
        *,
        camids: Any = None,
        factors: Sequence[dict] | None = None,
        pictures: Any = None,
        features: Any = None,
        per_page: int = 6,
        **options: int,
    ) -> None:
        super().__init__()
        self.add_class("dkdmpl-noiselens")
        self.labels = np.asarray(labels, dtype=np.int64)
        self.pids = known(pids)
        self.camids = known(camids)
        arrays = {
            "pids": self.pids,
            "camids": self.camids,
            "factors": factors,
            "features": features,
        }
        for name, given in arrays.items():
            if given is not None and len(given) != len(self.labels):
                raise KitError(
                    f"NoiseLens: {name} are of {len(given)} images and labels of "
                    f"{len(self.labels)}: give one each."
                )
        self.factors = factors
        self.pictures = pictures
        self.features = None if features is None else np.asarray(features)
        self.options = {"max_pairs": 4000, "resamples": 40, "seed": 0, **options}
        self.per_page = per_page
        self.causes: PairCauses | None = None
        self.labels_shown = self.labels
        self.example_pairs = np.zeros((0, 2), int)
        self.page = 0
        self._kept: dict[tuple, Any] = {}
        self._filling = False
        self.chart = FigureView()
        self.examples = FigureView()
        self.views = (self.chart, self.examples)
        self.controls = {}
        if self.pids is None:
            sentence = f"{UNKNOWN}: no pair can be called wrong."
            self.chart.show(sentence_figure(sentence))
            self.say(sentence)
            self.children = [self.status, self.chart]
            return
        self.controls = controls = self._controls()
        for name in ("kind", "noise", "rate"):
            self.on(controls[name], self.redraw)
        self.on(controls["show"], self._draw_chart)
        self.on(controls["cause"], lambda: None if self._filling else self._draw_examples(0))
        self.on_click(controls["more"], lambda: self._draw_examples(self.page + 1))
        rows = (("kind", "show"), ("noise", "rate"), ("cause", "more"))
        boxes = [one_row([controls[name] for name in row]) for row in rows]
        upper, lower = boxes[:2], boxes[2]
        self.children = [
            task_line(TASK),
            *upper,
            self.status,
            self.chart,
            lower,
            self.examples,
        ]
        self.redraw()  # raises: a broken cell fails

    @property
    def figure(self) -> Figure | None:
        """The chart that is shown; `.examples.figure` holds the pairs."""
        return self.chart.figure

    def _controls(self) -> dict[str, Any]:
        """Every control by name; what cannot be shown or injected here is not offered."""
        has_cameras = self.camids is not None
        every_camera = has_cameras and (self.camids[self.pids >= 0] >= 0).all()
        able = {"look_alike": self.features is not None, "camera_split": every_camera}
        noises = [(_OWN, None)]
        for kind in NOISE_KINDS:
            if able.get(kind, True):
                noises.append((kind.replace("_", " "), kind))
        charts = ["causes"]
        if has_cameras:
            charts.append("cameras")
        if has_cameras or self.factors is not None:
            charts.append("factors")
        charts.append("agreement")
        most = max(("merged", "split"), key=lambda kind: self._causes(kind).n_wrong)
        return {
            "kind": buttons(["merged", "split"], "pairs", value=most),
            "show": buttons(charts, "chart"),
            "noise": ipywidgets.Dropdown(options=noises, description="noise"),
            "rate": ipywidgets.FloatSlider(
                value=0.2, min=0.0, max=0.9, step=0.05, description="rate", disabled=True
            ),
            "cause": ipywidgets.Dropdown(options=[_ALL], description="cause"),
            "more": ipywidgets.Button(description="other examples"),
        }

    def redraw(self) -> None:
        """Labels at the controls' values, their wrong pairs, the chart and the
        examples.
        """
        noise = self.controls["noise"].value
        rate = self.controls["rate"].value
        kind = self.controls["kind"].value
        self.controls["rate"].disabled = noise is None
        try:
            key = ("labels", noise, rate)
            self.labels_shown = self._once(key, lambda: self._labels_at(noise, rate))
        # more noise than this kind can make: said, not an error
        except KitError as error:
            self.causes = None
            self.example_pairs = np.zeros((0, 2), int)
            for view in self.views:
                view.show(sentence_figure(str(error)))
            return self.say(str(error))
        self.causes = self._causes(kind, noise, rate)
        self._offer_causes()
        self._draw_examples(0)
        self._draw_chart()
        self.say(self._sentence())

    def _causes(self, kind: str, noise: str | None = None, rate: float = 0.0) -> PairCauses:
        """Those of the labels shown."""
        found = partial(
            pair_causes,
            self.labels_shown,
            self.pids,
            camids=self.camids,
            factors=self.factors,
            kind=kind,
            **self.options,
        )
        return self._once(("causes", noise, rate if noise else 0.0, kind), found)

    def _offer_causes(self) -> None:
        """The causes that some pair has; the chosen one stays, if it is still among
        them.
        """
        chosen = self.controls["cause"].value
        table = self.causes.table()
        menu = self.controls["cause"]
        found = [
            (f"{name} ({count:,})", name)
            for name, count in zip(table["cause"], table["pairs"])
            if count
        ]
        self._filling = True  # the menu's own changes draw nothing
        menu.options = [(_ALL, _ALL), *found]
        menu.value = chosen if chosen in (name for _, name in found) else _ALL
        self._filling = False

    def _labels_at(self, noise: str | None, rate: float) -> np.ndarray:
        if noise is None:
            return self.labels
        named = np.flatnonzero(self.pids >= 0)
        found = np.full(len(self.labels), -1)
        found[named] = inject_noise(
            self.pids[named],
            rate,
            kind=noise,
            seed=self.options["seed"],
            **self._of(named, "camids", "features"),
        ).labels
        return found

    def _of(self, images: np.ndarray, *names: str) -> dict[str, Any]:
        """What is given by these names, of these images."""
        found = {}
        for name in names:
            given = getattr(self, name)
            if isinstance(given, np.ndarray):
                found[name] = given[images]
            elif given is not None:
                found[name] = [given[i] for i in images]
        return found

    def _draw_chart(self) -> None:
        if self.causes is None:
            return
        charts = {
            "causes": self._bars,
            "cameras": self._cameras,
            "factors": self._factors,
            "agreement": self._agreement,
        }
        draw = charts[self.controls["show"].value]
        noise = self.controls["noise"].value
        self.chart.show(draw(noise, self.controls["rate"].value, self.controls["kind"].value))

    def _bars(self, noise: str | None, rate: float, kind: str) -> Figure:
        return pair_cause_bars(self.causes.table(), kind=kind, note=self.causes.note)

    def _cameras(self, noise: str | None, rate: float, kind: str) -> Figure:
        errors = camera_pair_errors(self.labels_shown, self.pids, self.camids)
        return camera_error_maps(
            errors.cameras + 1, errors.merged, errors.together, errors.split, errors.same
        )

    def _factors(self, noise: str | None, rate: float, kind: str) -> Figure:
        def odds_of(which: str) -> NoiseCauses:
            return noise_causes(
                self.labels_shown,
                self.pids,
                camids=self.camids,
                factors=self.factors,
                kind=which,
                **self.options | {"resamples": 0},
            )

        effects = {}
        for which in ("merged", "split"):
            found = self._once(("odds", noise, rate, which), partial(odds_of, which))
            if found.names:
                shares = (found.share_wrong, found.share_right)
                effects[which] = (found.names, found.odds_ratio, *shares)
        return factor_map(effects)

    def _agreement(self, noise: str | None, rate: float, kind: str) -> Figure:
        if noise is None:
            return sentence_figure(
                "Choose a kind of noise: then this shows agreement and causes at every rate."
            )
        named = np.flatnonzero(self.pids >= 0)
        respond = partial(
            noise_response,
            self.pids[named],
            _RATES,
            noise=noise,
            kind=kind,
            max_pairs=2000,
            seed=self.options["seed"],
            **self._of(named, "camids", "features", "factors"),
        )
        table = self._once(("response", noise, kind), respond)
        return noise_response_curves(table, noise=noise, kind=kind, mark=rate)

    def _draw_examples(self, page: int) -> None:
        """The next pairs of the chosen cause, in an order that mixes people; after the
        last, the first again.
        """
        if self.causes is None:
            return
        chosen = self.controls["cause"].value
        causes = self.causes
        if chosen == NO_CAUSE:
            members = np.flatnonzero(~(causes.holds & causes.clear).any(axis=1))
        elif chosen in causes.names:
            members = np.flatnonzero(causes.holds[:, causes.names.index(chosen)])
        else:
            members = np.arange(len(causes.pairs))
        members = np.random.default_rng(self.options["seed"]).permutation(members)
        self.page = page if page * self.per_page < len(members) else 0
        few = members[self.page * self.per_page :][: self.per_page]
        self.example_pairs = causes.pairs[few]
        title = f"Wrongly {causes.kind}, {chosen}: {len(few)} of {len(members):,} pairs"
        try:
            first = self._pictures_of(self.example_pairs[:, 0])
            second = self._pictures_of(self.example_pairs[:, 1])
        except (KitError, OSError) as error:
            return self.examples.show(
                sentence_figure(f"The pictures cannot be shown: {error}")
            )
        if first is None:
            return self.examples.show(
                sentence_figure("There are no pictures to show: none were given.")
            )
        self.examples.show(
            pair_pictures(
                first,
                second,
                [self._caption(i, j) for i, j in self.example_pairs],
                kind=causes.kind,
                per_row=self.per_page,
                title=title,
            )
        )

    def _pictures_of(self, indices: np.ndarray) -> Any:
        if self.pictures is None:
            return None
        if not len(indices):
            return indices
        if hasattr(self.pictures, "batch"):
            return np.asarray(self.pictures.batch(indices))
        return np.asarray(self.pictures[indices])

    def _caption(self, i: int, j: int) -> str:
        """Who, and by which camera (they count from 1 in file names)."""
        text = f"id {self.pids[i]} | {self.pids[j]}"
        if self.camids is not None:
            cameras = ["?" if self.camids[k] < 0 else f"{self.camids[k] + 1}" for k in (i, j)]
            text += f"\ncamera {' | '.join(cameras)}"
        return text

    def _sentence(self) -> str:
        report = label_report(self.labels_shown, self.pids)
        causes = self.causes
        parts = [
            f"{causes.n_wrong:,} pairs wrongly {causes.kind}",
            f"outliers {(self.labels_shown < 0).mean():.0%}",
        ]
        measures = {
            "ARI": report.ari,
            "pair precision": report.pair_precision,
            "pair recall": report.pair_recall,
        }
        for name, value in measures.items():
            parts.append(f"{name} unknown" if value is None else f"{name} {value:.3f}")
        return " · ".join(parts)

    def _once(self, key: tuple, make: Any) -> Any:
        """What `make` gave at these values; kept, so that going back costs nothing."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]
