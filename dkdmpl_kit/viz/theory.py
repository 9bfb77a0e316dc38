"""Pictures of the propositions: one label among three clusters, the break-even, a
bound's slack, a limit.
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
def break_even_map(
    eta: float,
    teachers: Mapping[str, tuple[Any, Any]],
    *,
    marks: Mapping[str, tuple[float, float]] | None = None,
    title: str = "Above the line the teacher repairs more than it spoils",
) -> Figure:
    """Where a teacher helps: its mass on the true cluster on right labels (x) and on
    wrong ones (y), and P2's line.

    eta: share of wrong labels, 0 < eta < 1. teachers: {name: (e_c (n,), e_w (n,))}, say
    over temperatures, joined by a line; marks: {name: (e_c, e_w)} single points. Above
    eta e_w = (1 - eta)(1 - e_c) the mixed label gains. method: P2.
    """
    figure = new_figure(
        7.6,
        5.6,
        title=title,
    )
    ax = figure.subplots()
    if not 0 < eta < 1:
        say(ax, "The labels are all right or all wrong: there is no line to draw.")
        return figure
    x = np.linspace(0, 1, 201)
    line = (1 - eta) * (1 - x) / eta
    ax.fill_between(
        x,
        np.minimum(line, 1),
        1,
        color=PALETTE["right"],
        alpha=0.12,
        linewidth=0,
        label="GKD's label is nearer to the truth",
    )
    ax.fill_between(
        x,
        0,
        np.minimum(line, 1),
        color=PALETTE["wrong"],
        alpha=0.08,
        linewidth=0,
        label="GKD's label is further from the truth",
    )
    ax.plot(
        x[line <= 1],
        line[line <= 1],
        color=PALETTE["black"],
        linestyle="--",
        label=f"break-even at η = {eta:.2f}",
    )
    for j, (name, (e_c, e_w)) in enumerate(teachers.items()):
        same_length(e_c=e_c, e_w=e_w)
        ax.plot(
            e_c,
            e_w,
            marker=MARKERS[j % len(MARKERS)],
            color=CYCLE[j % len(CYCLE)],
            label=name,
            clip_on=False,
        )
    for j, (name, (e_c, e_w)) in enumerate((marks or {}).items()):
        ax.plot(
            [e_c],
            [e_w],
            MARKERS[(j + 4) % len(MARKERS)],
            color=CYCLE[(j + 3) % len(CYCLE)],
            markersize=11,
            label=name,
            linestyle="",
            clip_on=False,
            zorder=4,
        )
    ax.set(
        xlim=(0, 1),
        ylim=(0, 1),
        xlabel="e_c: mean teacher probability of the true cluster, right labels",
        ylabel="e_w: the same, wrong labels",
    )
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure


@styled
def bound_slack(
    chains: Mapping[str, Sequence[Mapping[str, float]]],
    *,
    title: str = "How far the loss lies above its bound",
) -> Figure:
    """How loose P3 is: loss / bound as a histogram (left), and how much of it each of
    the two inequalities loses (right).

    chains: {name: list of `consistency_chain` results, one a cluster}; those whose
    labels all agree are left out. method: P3.
    """
    figure = new_figure(10, 4.6, title=title)
    left, right = figure.subplots(1, 2)
    groups = {
        name: [c for c in found if c["stated"] > 1e-12] for name, found in chains.items()
    }
    if not any(groups.values()):
        for ax in (left, right):
            say(ax, "Within every cluster the labels agree: loss and bound are both 0.")
        return figure
    ratios = {
        name: np.array([c["loss"] / c["stated"] for c in found])
        for name, found in groups.items()
        if found
    }
    bins = np.geomspace(1, max(r.max() for r in ratios.values()) * 1.05, 31)
    for j, (name, values) in enumerate(ratios.items()):
        left.hist(
            values,
            bins,
            alpha=0.55,
            color=CYCLE[j],
            weights=np.full(len(values), 100 / len(values)),
            hatch=("", "//", "..")[j % 3],
            edgecolor="white",
            label=f"{name} ({len(values)})",
        )
        pinsker = [c["loss"] / c["pinsker"] for c in groups[name]]
        norms = [c["pinsker"] / c["stated"] for c in groups[name]]
        right.plot(
            pinsker,
            norms,
            MARKERS[j],
            color=CYCLE[j],
            alpha=0.6,
            linestyle="",
            markersize=4,
            label=name,
        )
    left.axvline(1, color=PALETTE["black"], label="bound as stated")
    left.axvline(2, color=PALETTE["vermillion"], linestyle="--", label="sharp bound")
    right.axhline(2, color=PALETTE["vermillion"], linestyle="--")
    right.axvline(1, color=PALETTE["vermillion"], linestyle="--")
    left.set(
        xscale="log",
        xlabel="loss / (n/(n−1) Var q)  (log scale)",
        ylabel="share of clusters (%)",
    )
    right.set(
        xscale="log",
        yscale="log",
        xlabel="lost by Pinsker: loss / (E ‖a−q‖₁² / 2)",
        ylabel="lost by ℓ1 ≥ ℓ2: E ‖a−q‖₁² / E ‖a−q‖₂²",
    )
    _plain_ticks(left, "x")
    _plain_ticks(right, "x")
    _plain_ticks(right, "y")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=3)
    return figure


def _plain_ticks(ax: Axes, axis: str) -> None:
    """1, 2, 5, 10 ... instead of powers on a short log axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    side = ax.xaxis if axis == "x" else ax.yaxis
    side.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    side.set_minor_formatter(NullFormatter())


@styled
def limit_curves(
    temperatures: Any,
    norms: Any,
    limit: float,
    errors: Mapping[str, tuple[Any, Any]],
    *,
    title: str = "T² keeps the gradient alive; its limit is far away",
) -> Figure:
    """P5: the gradient's size with and without T² (left), and its distance from the
    limit beside the bound (right).

    temperatures (T,) > 0; norms (T,) mean gradient norm with T²; limit: norm of the
    limit; errors: {name: (distance (T,), bound (T,))}, each relative to the size of the
    limit. method: P5.
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
