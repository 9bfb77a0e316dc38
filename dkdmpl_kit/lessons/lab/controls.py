"""Sliders over one figure.

A control calls a plain function and shows the figure that it returns as a PNG in an
`Image`. (An `Output` would swallow exceptions.) Notebooks first show the plain
function's figure, then attach a control if they run interactively.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.lab.panel import FigureView, Panel

Drawn = Figure | tuple[Figure, str]


class FigureControl(Panel):
    """Sliders over a figure: moving one calls `figure_of(**values)` and redraws.

    `figure_of` takes the sliders' values by name and returns a `Figure`, or (Figure,
    sentence for the status line). `sliders`: ipywidgets with a `.value`, or tuples
    (low, high, step, value) of numbers. The first drawing happens here and raises, so
    that a broken cell fails. A later error is shown in the status line and kept in
    `.error` (None when the last drawing went well); `.check()` raises it again. The old
    picture stays.
    """

    def __init__(self, figure_of: Callable[..., Drawn], **sliders: Any) -> None:
        if not sliders:
            raise KitError(
                "FigureControl: no sliders given; name at least one argument of the "
                "figure's function."
            )
        super().__init__()
        self.add_class("dkdmpl-figure")
        self.figure_of = figure_of
        self.sliders: dict[str, Any] = {
            name: _slider(name, spec) for name, spec in sliders.items()
        }
        self.image = FigureView()
        self.views = (self.image,)
        self.redraw()
        self.check()
        for slider in self.sliders.values():
            self.on(slider, self._draw)
        self.children = [*self.sliders.values(), self.status, self.image]

    @property
    def figure(self) -> Figure | None:
        """The figure that is shown."""
        return self.image.figure

    @property
    def value(self) -> Any:
        """The slider's value; of several sliders a dict {name: value}. Set it to move
        them.
        """
        values = {name: slider.value for name, slider in self.sliders.items()}
        return values if len(values) > 1 else next(iter(values.values()))

    @value.setter
    def value(self, value: Any) -> None:
        if len(self.sliders) == 1:
            value = {next(iter(self.sliders)): value}
        unknown = set(value) - set(self.sliders)
        if unknown:
            raise KitError(
                f"FigureControl: no slider {sorted(unknown)[0]!r}; there are: "
                f"{', '.join(self.sliders)}."
            )
        for name, one in value.items():
            self.sliders[name].value = one

    def redraw(self) -> None:
        """Call the function with the current values and show its figure, or its error
        in the status line.
        """
        self.attempt(self._draw)

    def _draw(self) -> None:
        values = {name: slider.value for name, slider in self.sliders.items()}
        drawn = self.figure_of(**values)
        figure, sentence = drawn if isinstance(drawn, tuple) else (drawn, "")
        self.image.show(figure)
        self.say(sentence)


def _slider(name: str, spec: Any) -> Any:
    if isinstance(spec, ipywidgets.Widget) and hasattr(spec, "value"):
        return spec
    if not isinstance(spec, (tuple, list)) or len(spec) != 4:
        raise KitError(
            f"FigureControl: slider {name!r} must be a widget with a value or (low, "
            "high, step, value)."
        )
    low, high, step, value = spec
    whole = all(isinstance(part, int) for part in spec)
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    return kind(
        value=value,
        min=low,
        max=high,
        step=step,
        description=name.replace("_", " "),
        continuous_update=False,
    )


def _sentence(summary: Mapping[str, Any]) -> str:
    """{"clusters": 12, "ari": 0.3141} -> "clusters 12 · ari 0.314"; None reads
    "unknown".
    """

    def text(value: Any) -> str:
        if value is None:
            return "unknown"
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    return " · ".join(
        f"{name.replace('_', ' ')} {text(value)}" for name, value in summary.items()
    )


def eps_slider(
    recluster: Callable[[float], tuple[Any, Mapping[str, Any]]],
    figure: Callable[[Any], Figure],
    *,
    value: float = 0.6,
    low: float = 0.3,
    high: float = 0.8,
    step: float = 0.02,
) -> FigureControl:
    """Move eps: `recluster(eps)` -> (labels (N,), summary dict), drawn by
    `figure(labels)` under the summary.
    """

    def draw(eps: float) -> Drawn:
        labels, summary = recluster(eps)
        return figure(labels), _sentence({"eps": eps, **summary})

    return FigureControl(draw, eps=(low, high, step, float(value)))
