"""Pictures of the propositions: one label among three clusters, a bound's slack, the
break-even in three rulers, a limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.viz.style import (
    CYCLE,
    MARKERS,
    PALETTE,
    VIEW_COLOURS,
    VIEW_LABELS,
    count,
    new_figure,
    same_length,
    say,
    styled,
)

_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])


def _plane(labels: Any) -> np.ndarray:
    """Probabilities (n, 3) -> points (n, 2) of the triangle whose corners are the
    certain labels.
    """
    labels = np.atleast_2d(np.asarray(labels, float))
    if labels.shape[1] != 3 or not np.allclose(labels.sum(1), 1, atol=1e-4):
        raise KitError("label_triangle: every label needs three probabilities that sum to 1.")
    return labels @ _CORNERS


@styled
def label_triangle(
    panels: Mapping[str, tuple[Mapping[str, Any], Any]],
    *,
    title: str = "A label is a point of a triangle",
    note: str = "",
) -> Figure:
    """Labels over three clusters as points of a triangle, one panel each, with the way
    that training takes.

    panels: {panel title: (points {name: (3,) probabilities}, path (S, 3) or None)}. A
    name of the kit's views ("hard", "e", "q", "a", "r3") takes its colour; the path
    runs from its hollow circle to its star. method: P1, P4.
    """
    figure = new_figure(
        max(4.6 * len(panels), 6),
        4.7,
        title=title,
        note=note,
    )
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    shown: dict[str, Any] = {}
    for ax, (name, (points, path)) in zip(axes, panels.items()):
        ax.set_axis_off()
        ax.set(aspect="equal", xlim=(-0.12, 1.12), ylim=(-0.12, 1.0), title=name)
        ax.fill(*_CORNERS.T, facecolor="#F6F6F6", edgecolor=PALETTE["light"])
        for k, (corner, place) in enumerate(zip(_CORNERS, ("top", "top", "bottom"))):
            ax.text(
                *(corner + (0, 0.035 if place == "bottom" else -0.035)),
                f"cluster {k}",
                ha="center",
                va=place,
            )
        if path is not None:
            way = _plane(path)
            shown["way of q"] = ax.plot(*way.T, color=VIEW_COLOURS["q"], linewidth=1.4)[0]
            shown["start"] = ax.plot(
                *way[0], "o", markerfacecolor="white", color=VIEW_COLOURS["q"], linestyle=""
            )[0]
            shown["end"] = ax.plot(
                *way[-1], "*", color=VIEW_COLOURS["q"], markersize=15, linestyle=""
            )[0]
        for j, (view, label) in enumerate(points.items()):
            shown[VIEW_LABELS.get(view, view)] = ax.plot(
                *_plane(label)[0],
                MARKERS[(j + 2) % len(MARKERS)],
                color=VIEW_COLOURS.get(view, PALETTE["purple"]),
                markersize=8,
                linestyle="",
                zorder=3,
            )[0]
    figure.legend(shown.values(), shown.keys(), loc="outside lower left", ncols=4)
    return figure


@styled
def bound_slack(
    chains: Mapping[str, Sequence[Mapping[str, float]]],
    *,
    title: str = "The loss is never below its bound, and can be far above it",
) -> Figure:
    """How loose P3 is: the loss of every cluster beside its bound, both on log axes.

    chains: {name: list of `consistency_chain` results, one a cluster}; those whose
    labels all agree are left out. Below the line there can be no cluster. method: P3.
    """
    figure = new_figure(7.2, 4.9, title=title)
    ax = figure.subplots()
    found = {
        name: np.array([(c["sharp"], c["loss"]) for c in group if c["sharp"] > 1e-12])
        for name, group in chains.items()
    }
    found = {name: points for name, points in found.items() if len(points)}
    if not found:
        say(ax, "Within every cluster the labels agree: loss and bound are both 0.")
        return figure
    bounds = np.concatenate([points[:, 0] for points in found.values()])
    ends = np.array([bounds.min() / 1.5, bounds.max() * 1.5])
    ax.fill_between(
        ends,
        ends.min(),
        ends,
        color=PALETTE["wrong"],
        alpha=0.12,
        linewidth=0,
        label="impossible: below the bound",
    )
    ax.plot(ends, ends, color=PALETTE["black"], linestyle="--", label="loss = bound")
    for j, (name, points) in enumerate(found.items()):
        ax.plot(
            *points.T,
            MARKERS[j],
            color=CYCLE[j],
            alpha=0.6,
            linestyle="",
            label=f"{name} labels ({count(len(points), 'cluster')})",
        )
    ax.set(
        xscale="log",
        yscale="log",
        xlim=ends,
        xlabel="bound 2n/(n−1) Var(q)  (log scale)",
        ylabel="loss: mean symmetric KL, nats  (log scale)",
    )
    _plain_ticks(ax, "x")
    _plain_ticks(ax, "y")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure


def _plain_ticks(ax: Axes, axis: str) -> None:
    """0.01, 0.1, 1, 10 ... instead of powers on a log axis."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    side = ax.xaxis if axis == "x" else ax.yaxis
    side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    side.set_minor_formatter(NullFormatter())


@styled
def ruler_gains(
    weights: Any,
    gains: Mapping[str, Any],
    *,
    errors: Mapping[str, Any] | None = None,
    used: float | None = None,
    title: str = "P2 in three rulers: is the mixed label nearer to the truth?",
) -> Figure:
    """How much nearer to the truth GKD's mixed label is than the label without a teacher,
    by the weight of the teacher, a panel a ruler.

    weights: (n,) lambda_g > 0. gains: {teacher: (n, 3)}, columns as `losses.rulers.Rulers`:
    l1, Brier, log loss; above 0 the label is nearer. errors: {teacher: (n, 3)}, drawn as a
    band of two of them. used: the weight that training takes. method: P2.
    """
    weights = np.asarray(weights, float)
    figure = new_figure(10.5, 4.2, title=title)
    axes = figure.subplots(1, 3)
    for k, (ax, (name, beside)) in enumerate(zip(axes, _RULERS.items())):
        for j, (teacher, values) in enumerate(gains.items()):
            values = np.asarray(values, float)
            same_length(weights=weights, gains=values)
            look = {"color": CYCLE[j % len(CYCLE)], "marker": MARKERS[j % len(MARKERS)]}
            ax.plot(weights, values[:, k], label=teacher, **look)
            if errors is not None:
                half = 2 * np.asarray(errors[teacher], float)[:, k]
                low, high = values[:, k] - half, values[:, k] + half
                ax.fill_between(
                    weights, low, high, color=look["color"], alpha=0.15, linewidth=0
                )
        low, high = ax.get_ylim()
        low, high = min(low, -0.1 * high, -1e-6), max(high, -0.1 * low, 1e-6)
        ax.axhspan(0, high, color=PALETTE["right"], alpha=0.08, linewidth=0)
        ax.axhspan(low, 0, color=PALETTE["wrong"], alpha=0.08, linewidth=0)
        ax.axhline(0, color=PALETTE["black"], linewidth=1)
        if used is not None:
            ax.axvline(used, color=PALETTE["grey"], linestyle=":", label="λ_g in use")
        ax.set(
            xscale="log",
            ylim=(low, high),
            title=f"{name}\nagainst {beside}",
            xlabel="weight λ_g (log scale)",
        )
        _plain_ticks(ax, "x")
    axes[0].set_ylabel("gain: above 0, nearer to the truth")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=4)
    return figure


_RULERS = {
    "ℓ1 distance": "the hard label",
    "Brier score": "the hard label",
    "log loss": "label smoothing",
}


@styled
def limit_curves(
    temperatures: Any,
    norms: Any,
    limit: float,
    errors: Mapping[str, tuple[Any, Any]],
    *,
    used: float | None = None,
    title: str = "T² keeps the gradient alive; how far away is its limit?",
) -> Figure:
    """P5: the gradient's size with and without T² (left), and its distance from the
    limit beside the bound (right).

    temperatures (T,) > 0; norms (T,) mean gradient norm with T²; limit: norm of the
    limit; errors: {name: (distance (T,), bound (T,))}, each relative to the size of the
    limit. used: the T that training takes. method: P5.
    """
    taus = np.asarray(temperatures, float)
    norms = np.asarray(norms, float)
    same_length(temperatures=taus, norms=norms)
    figure = new_figure(
        10,
        4.6,
        title=title,
    )
    left, right = figure.subplots(1, 2)
    left.plot(taus, norms, color=PALETTE["blue"], label="with T²")
    left.plot(
        taus, norms / taus**2, color=PALETTE["vermillion"], linestyle="--", label="without T²"
    )
    left.axhline(limit, color=PALETTE["grey"], linestyle=":", label="the limit")
    left.set(
        xscale="log",
        yscale="log",
        xlabel="distillation temperature T (log scale)",
        ylabel="gradient norm, mean of the rows",
    )
    if used is not None:
        for ax in (left, right):
            ax.axvline(used, color=PALETTE["purple"], linewidth=1.2, label="T in use")
    left.legend()
    for j, (name, (distance, bound)) in enumerate(errors.items()):
        same_length(temperatures=taus, distance=distance, bound=bound)
        right.plot(taus, distance, color=CYCLE[j], label=f"{name}: distance")
        right.plot(taus, bound, color=CYCLE[j], linestyle="--", label=f"{name}: bound")
    right.axhline(0.1, color=PALETTE["grey"], linestyle=":", label="10 % of the limit's size")
    right.set(
        xscale="log",
        yscale="log",
        xlabel="distillation temperature T (log scale)",
        ylabel="distance from the limit / size of the limit",
    )
    right.legend()
    return figure
