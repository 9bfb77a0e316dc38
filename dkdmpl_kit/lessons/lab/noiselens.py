"""NoiseLens: every wrong pair of a clustering, its likeliest cause, its pictures; and
the same for noise put in on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.lab.panel import FigureView, Panel
from dkdmpl_kit.noise import (
    NO_CAUSE,
    NOISE_KINDS,
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
    that need what is not known are not offered. Where no identity is known the panel is
    one sentence. KitError where lengths differ. `.controls` {name: control}; `.causes`
    the `PairCauses` shown, or None; `.labels_shown` (N,); `.shown` (n, 2) examples.
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
        for name, given in (
            ("pids", self.pids),
            ("camids", self.camids),
            ("factors", factors),
            ("features", features),
        ):
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
        self.shown = np.zeros((0, 2), int)
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
        boxes = [ipywidgets.HBox([controls[name] for name in row]) for row in rows]
        controls["kind"].layout.margin = "0 2rem 0 0"
        self.children = [*boxes[:2], self.status, self.chart, boxes[2], self.examples]
        self.redraw()  # raises: a broken cell fails

    @property
    def figure(self) -> Figure | None:
        """The chart that is shown; `.examples.figure` holds the pairs."""
        return self.chart.figure

    def _controls(self) -> dict[str, Any]:
        """Every control by name; what cannot be shown or injected here is not offered."""
        cameras = self.camids is not None and (self.camids[self.pids >= 0] >= 0).all()
        able = {"look_alike": self.features is not None, "camera_split": cameras}
        noises = [
            (_OWN, None),
            *((kind.replace("_", " "), kind) for kind in NOISE_KINDS if able.get(kind, True)),
        ]
        charts = [
            "causes",
            *["cameras"] * (self.camids is not None),
            *["factors"] * (self.camids is not None or self.factors is not None),
            "agreement",
        ]
        return {
            "kind": ipywidgets.ToggleButtons(
                options=["merged", "split"], description="pairs"
            ),
            "show": ipywidgets.ToggleButtons(options=charts, description="chart"),
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
        noise, rate, kind = (self.controls[name].value for name in ("noise", "rate", "kind"))
        self.controls["rate"].disabled = noise is None
        try:
            self.labels_shown = self._once(
                ("labels", noise, rate), lambda: self._labels_at(noise, rate)
            )
        # more noise than this kind can make: said, not an error
        except KitError as error:
            self.causes = None
            self.shown = np.zeros((0, 2), int)
            for view in self.views:
                view.show(sentence_figure(str(error)))
            return self.say(str(error))
        self.causes = self._once(
            ("causes", noise, rate, kind),
            lambda: pair_causes(
                self.labels_shown,
                self.pids,
                camids=self.camids,
                factors=self.factors,
                kind=kind,
                **self.options,
            ),
        )
        self._offer_causes()
        self._draw_examples(0)
        self._draw_chart()
        self.say(self._sentence())

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
        given = {
            name: getattr(self, name) for name in names if getattr(self, name) is not None
        }
        return {
            name: x[images] if isinstance(x, np.ndarray) else [x[i] for i in images]
            for name, x in given.items()
        }

    def _draw_chart(self) -> None:
        noise, rate, kind, show = (
            self.controls[name].value for name in ("noise", "rate", "kind", "show")
        )
        if self.causes is not None:
            self.chart.show(
                {
                    "causes": self._bars,
                    "cameras": self._cameras,
                    "factors": self._factors,
                    "agreement": self._agreement,
                }[show](noise, rate, kind)
            )

    def _bars(self, noise: str | None, rate: float, kind: str) -> Figure:
        return pair_cause_bars(self.causes.table(), kind=kind, note=self.causes.note)

    def _cameras(self, noise: str | None, rate: float, kind: str) -> Figure:
        errors = camera_pair_errors(self.labels_shown, self.pids, self.camids)
        return camera_error_maps(
            errors.cameras + 1, errors.merged, errors.together, errors.split, errors.same
        )

    def _factors(self, noise: str | None, rate: float, kind: str) -> Figure:
        found = [
            self._once(
                ("odds", noise, rate, one),
                lambda one=one: noise_causes(
                    self.labels_shown,
                    self.pids,
                    camids=self.camids,
                    factors=self.factors,
                    kind=one,
                    **self.options | {"resamples": 0},
                ),
            )
            for one in ("merged", "split")
        ]
        return factor_map(
            {
                c.kind: (c.names, c.odds_ratio, c.share_wrong, c.share_right)
                for c in found
                if c.names
            }
        )

    def _agreement(self, noise: str | None, rate: float, kind: str) -> Figure:
        if noise is None:
            return sentence_figure(
                "Choose a kind of noise: then this shows agreement and causes at every rate."
            )
        named = np.flatnonzero(self.pids >= 0)
        table = self._once(
            ("response", noise, kind),
            lambda: noise_response(
                self.pids[named],
                _RATES,
                noise=noise,
                kind=kind,
                max_pairs=2000,
                seed=self.options["seed"],
                **self._of(named, "camids", "features", "factors"),
            ),
        )
        return noise_response_curves(table, noise=noise, kind=kind, mark=rate)

    def _draw_examples(self, page: int) -> None:
        """The next pairs of the chosen cause, in an order that mixes people; after the
        last, the first again.
        """
        if self.causes is None:
            return
        chosen = self.controls["cause"].value
        causes = self.causes
        place = (
            -1
            if chosen == NO_CAUSE
            else causes.names.index(chosen)
            if chosen in causes.names
            else None
        )
        members = np.flatnonzero(
            np.ones(len(causes.pairs), bool) if place is None else causes.cause == place
        )
        members = np.random.default_rng(self.options["seed"]).permutation(members)
        self.page = page if page * self.per_page < len(members) else 0
        few = members[self.page * self.per_page :][: self.per_page]
        self.shown = causes.pairs[few]
        title = f"Wrongly {causes.kind}, {chosen}: {len(few)} of {len(members):,} pairs"
        try:
            first, second = (self._pictures_of(side) for side in self.shown.T)
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
                [self._caption(i, j) for i, j in self.shown],
                kind=causes.kind,
                per_row=self.per_page,
                title=title,
            )
        )

    def _pictures_of(self, indices: np.ndarray) -> Any:
        if self.pictures is None or not len(indices):
            return None if self.pictures is None else indices
        return np.asarray(
            self.pictures.batch(indices)
            if hasattr(self.pictures, "batch")
            else self.pictures[indices]
        )

    def _caption(self, i: int, j: int) -> str:
        """Who, and by which camera (they count from 1 in file names)."""
        text = f"id {self.pids[i]} | {self.pids[j]}"
        if self.camids is not None:
            text += "\ncamera " + " | ".join(
                "?" if self.camids[k] < 0 else str(self.camids[k] + 1) for k in (i, j)
            )
        return text

    def _sentence(self) -> str:
        report = label_report(self.labels_shown, self.pids)
        causes = self.causes
        parts = [
            f"{causes.n_wrong:,} pairs wrongly {causes.kind}",
            f"outliers {(self.labels_shown < 0).mean():.0%}",
        ]
        parts += [
            f"{name} {'unknown' if value is None else f'{value:.3f}'}"
            for name, value in (
                ("ARI", report.ari),
                ("pair precision", report.pair_precision),
                ("pair recall", report.pair_recall),
            )
        ]
        return " · ".join(parts)

    def _once(self, key: tuple, make: Any) -> Any:
        """What `make` gave at these values; kept, so that going back costs nothing."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]
