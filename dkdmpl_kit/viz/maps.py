"""Maps of feature space and the matrix of Jaccard distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dkdmpl_kit.errors import KitError, check_option
from dkdmpl_kit.viz.style import (
    CYCLE,
    MARKERS,
    PALETTE,
    UNKNOWN,
    count,
    new_figure,
    same_length,
    say,
    styled,
)

KINDS = ("cluster", "identity", "camera", "error", "some")
# kind: (colour, marker), in the order of drawing: mistakes on top
ERROR_LOOK = {
    "unknown": ("outlier", "*"),
    "outlier": ("outlier", "."),
    "right": ("right", "o"),
    "split": ("split", "^"),
    "merged": ("merged", "X"),
}
ERROR_LABELS = {
    "right": "right",
    "merged": "merged: among pictures of somebody else",
    "split": "split: away from its identity's largest cluster",
    "outlier": "outlier",
    "unknown": "identity unknown",
}


def draw_map(ax: Axes, xy: np.ndarray, colour_by: Any, kind: str, title: str) -> None:
    """Draw the points of one map, xy (N, 2): colour and shape by value, so that more
    values than colours stay apart.
    """
    ax.set(xticks=[], yticks=[], title=title)
    ax.grid(False)
    ax.spines[:].set(visible=True, color="#DDDDDD")
    ax.set_aspect("equal", adjustable="datalim")
    size = float(np.clip(9000 / max(len(xy), 1), 6, 30))
    if not len(xy):
        say(ax, "No pictures to show.")
    elif colour_by is None:
        ax.scatter(*xy.T, s=size, color=PALETTE["outlier"], linewidths=0)
        missing = "Cameras are not known" if kind == "camera" else UNKNOWN
        ax.set_xlabel(f"{missing}.", color="#555555")
    elif kind == "error":
        _draw_errors(ax, xy, np.asarray(colour_by), size)
    else:
        _draw_groups(ax, xy, np.asarray(colour_by), kind, size)


def _draw_errors(ax: Axes, xy: np.ndarray, kinds: np.ndarray, size: float) -> None:
    place = ax.get_subplotspec()
    narrow = place is not None and place.get_gridspec().ncols > 2
    for name, (colour, marker) in ERROR_LOOK.items():
        here = kinds == name
        words = ERROR_LABELS[name].split(":")[0] if narrow else ERROR_LABELS[name]
        if name == "unknown" and not here.any():
            continue
        ax.scatter(
            *xy[here].T,
            s=size,
            color=PALETTE[colour],
            marker=marker,
            linewidths=0,
            label=f"{words} ({here.mean():.0%})",
        )
    ax.legend(
        loc="upper left",
        bbox_to_anchor=(0, -0.01),
        ncols=2,
        handletextpad=0.2,
        columnspacing=1,
    )


def _draw_groups(
    ax: Axes, xy: np.ndarray, values: np.ndarray, kind: str, size: float
) -> None:
    outside = values < 0
    if kind == "some":  # few stand out of many
        size *= 2.5
    ax.scatter(
        *xy[outside].T, s=size * 0.5, color=PALETTE["outlier"], marker=".", linewidths=0
    )
    names, places = np.unique(values[~outside], return_inverse=True)
    colours = np.array([to_rgba(colour) for colour in CYCLE])[places % len(CYCLE)]
    shapes = places // len(CYCLE) % len(MARKERS)
    for shape in np.unique(shapes):
        here = shapes == shape
        ax.scatter(
            *xy[~outside][here].T,
            s=size,
            c=colours[here],
            marker=MARKERS[shape],
            linewidths=0,
        )
    if kind == "camera":
        handles = [
            Line2D(
                [],
                [],
                linestyle="",
                color=CYCLE[p % len(CYCLE)],
                marker=MARKERS[p // len(CYCLE) % len(MARKERS)],
                label=f"camera {name + 1}",
            )
            for p, name in enumerate(names.tolist())
        ]
        ax.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(0, -0.01),
            ncols=3,
            handletextpad=0.1,
            columnspacing=0.8,
        )
    elif kind == "some":
        ax.set_xlabel("grey: all others")
    elif kind == "cluster":
        ax.set_xlabel(
            f"{count(len(names), 'cluster')}, {count(int(outside.sum()), 'outlier')} "
            f"({outside.mean():.0%}, grey)"
        )
    else:
        unknown = f", {int(outside.sum())} unknown (grey)" if outside.any() else ""
        ax.set_xlabel(f"{count(len(names), 'identity', 'identities')}{unknown}")


def _map_note(panels: Sequence[Mapping[str, Any]]) -> str:
    """What stands under maps, by the groups that their panels colour."""
    note = "A map keeps neighbourhoods, not distances: its axes have no unit."
    groups = [
        np.unique(np.asarray(panel["colour_by"]))
        for panel in panels
        if panel["colour_by"] is not None and panel.get("kind", "cluster") != "error"
    ]
    many = any((found != -1).sum() > len(CYCLE) for found in groups)
    return f"{note} Colours repeat with another shape." if many else note


@styled
def feature_map(xy: Any, colour_by: Any, *, title: str = "", kind: str = "cluster") -> Figure:
    """Pictures as points: xy (N, 2), coloured by pseudo label, identity or camera (N,)
    int, or kind of error (N,) str. kind "some": a few groups (N,), -1 for all others.

    -1 is an outlier (or unknown) and drawn small and grey; `colour_by=None` draws grey
    points and says what is missing.
    """
    xy = np.asarray(xy, float).reshape(-1, 2)
    check_option("kind", kind, KINDS)
    same_length(xy=xy, colour_by=colour_by)
    note = _map_note([{"colour_by": colour_by, "kind": kind}])
    figure = new_figure(8, 6.2, title=title, note=note)
    draw_map(figure.subplots(), xy, colour_by, kind, "")
    return figure


@styled
def feature_maps(
    panels: Sequence[Any], *, row_labels: Sequence[str] = (), title: str = ""
) -> Figure:
    """Maps side by side: `panels` a list (one row) or a list of lists (rows, e.g.
    before and after) of dicts with the keys xy (N, 2), colour_by (N,) or None, kind,
    and title. `row_labels` name the rows.
    """
    if panels and isinstance(panels[0], Mapping):
        panels = [panels]
    rows = [list(row) for row in panels]
    if not rows or not all(rows):
        raise KitError(
            "feature_maps: no panels given; give dicts with xy, colour_by, kind and title."
        )
    columns = max(len(row) for row in rows)
    width = min(3.3 * columns, 10) if columns > 2 else 4.5 * columns
    note = _map_note([panel for row in rows for panel in row])
    figure = new_figure(width, 3.6 * len(rows) + 0.7, title=title, note=note)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for r, row in enumerate(rows):
        for ax, panel in zip(axes[r], row):
            kind = panel.get("kind", "cluster")
            check_option("kind", kind, KINDS)
            xy = np.asarray(panel["xy"], float).reshape(-1, 2)
            same_length(xy=xy, colour_by=panel["colour_by"])
            draw_map(ax, xy, panel["colour_by"], kind, panel.get("title", ""))
        for ax in axes[r, len(row) :]:
            ax.set_axis_off()
        if r < len(row_labels):
            axes[r, 0].set_ylabel(row_labels[r], fontweight="bold")
    return figure


def _matrix(
    values: np.ndarray,
    order: Any,
    labels: Any,
    *,
    title: str,
    unit: str,
    note: str,
    **colours: Any,
) -> Figure:
    """A square matrix with its groups' borders; rows in `order`, else sorted by label."""
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise KitError(f"viz: a matrix of shape {values.shape} is not square (n, n).")
    if labels is not None and len(labels) != len(values):
        raise KitError(
            f"viz: {len(labels)} labels for {len(values)} rows; give one label a row."
        )
    if order is None and labels is None:
        order = np.arange(len(values))
    elif order is None:
        order = np.argsort(np.asarray(labels), kind="stable")
    order = np.asarray(order, dtype=np.int64)
    figure = new_figure(8, 6.6, title=title, note=note)
    ax = figure.subplots()
    if not len(order):
        say(ax, "No pictures to show.")
        return figure
    image = ax.imshow(values[np.ix_(order, order)], interpolation="nearest", **colours)
    figure.colorbar(image, ax=ax, label=unit, shrink=0.85)
    ax.grid(False)
    ax.set(xlabel="picture", ylabel="picture", xticks=[], yticks=[])
    if labels is not None:
        # white lines would not be seen between white pairs
        colour = PALETTE["light"] if np.isnan(values).any() else "white"
        _group_borders(ax, np.asarray(labels)[order], colour)
    return figure


def _group_borders(ax: Axes, labels: np.ndarray, colour: str) -> None:
    cuts = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    edges = np.concatenate([[0], cuts, [len(labels)]])
    if len(edges) > 200:  # lines would hide the matrix
        return
    for cut in cuts:
        ax.axhline(cut - 0.5, color=colour, linewidth=0.7)
        ax.axvline(cut - 0.5, color=colour, linewidth=0.7)
    if len(edges) <= 31:
        names = [
            "outliers" if name == -1 else str(name) for name in labels[edges[:-1]].tolist()
        ]
        ax.set_yticks((edges[1:] + edges[:-1] - 1) / 2, names)
        ax.set_ylabel("group")


@styled
def jaccard_matrix(
    distances: Any,
    order: Any = None,
    labels: Any = None,
    *,
    title: str = "Jaccard distances: dark blocks are pictures that share their neighbours",
) -> Figure:
    """Jaccard distances, dense (n, n) or scipy.sparse (pairs not stored stay white);
    rows in `order` (n,), else sorted by `labels` (n,), lines between.
    """
    if hasattr(distances, "tocoo"):
        if distances.shape[0] > 4000:
            raise KitError(
                f"jaccard_matrix: {distances.shape[0]} pictures are too many to draw; "
                "slice a part of the matrix."
            )
        pairs = distances.tocoo()
        dense = np.full(distances.shape, np.nan)
        dense[pairs.row, pairs.col] = pairs.data
    else:
        dense = np.asarray(distances, float)
    note = ""
    if np.isnan(dense).any():
        absent = np.isnan(dense).mean()
        note = f"White: the {absent:.0%} of pairs farther apart than the graph stores."
    return _matrix(
        dense,
        order,
        labels,
        title=title,
        unit="Jaccard distance (0 same neighbours, 1 none)",
        note=note,
        cmap="cividis",
        vmin=0,
        vmax=1,
    )
