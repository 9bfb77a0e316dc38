"""Frames of a run: maps that stay aligned from epoch to epoch, beside the flows between
clusters; and its live curves.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dkdmpl_kit.errors import KitError, check_option
from dkdmpl_kit.viz.flows import OUTLINED, READ, draw_flows, letter
from dkdmpl_kit.viz.maps import KINDS, draw_map
from dkdmpl_kit.viz.pictures import as_pictures, frame, mosaic, name_column, sheet_figure
from dkdmpl_kit.viz.style import (
    CYCLE,
    DPI,
    MARKERS,
    PALETTE,
    UNKNOWN,
    VIEW_COLOURS,
    new_figure,
    same_length,
    say,
    styled,
)

NO_MAP = (
    "This run kept no features (keep_features=False), so there is no map: labels, flows and "
    "records are all there."
)


def fixed_png(figure: Figure, dpi: float = DPI) -> bytes:
    """The figure as PNG bytes of its own size: frames of one run must not be cropped
    each in its own way.
    """
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None}
    )
    return buffer.getvalue()


def map_limits(maps: Sequence[Any]) -> tuple[float, float, float, float]:
    """(left, right, bottom, top) that hold every map (N, 2) with a margin: frames that
    do not jump.
    """
    points = np.concatenate([np.asarray(xy, float) for xy in maps])
    left, bottom = points.min(axis=0).tolist()
    right, top = points.max(axis=0).tolist()
    margin = 0.08 * max(right - left, top - bottom, 1e-6)
    return left - margin, right + margin, bottom - margin, top + margin


def _draw_chosen(ax: Axes, xy: np.ndarray, bands: np.ndarray, n_chosen: int) -> None:
    """Chosen clusters in the colours and letters of the flows; the others grey,
    outliers small and pale.
    """
    size = float(np.clip(9000 / max(len(xy), 1), 4, 26))
    other = bands == n_chosen
    outside = bands == n_chosen + 1
    ax.scatter(
        *xy[outside].T, s=size * 0.5, color=PALETTE["outlier"], marker=".", linewidths=0
    )
    ax.scatter(*xy[other].T, s=size * 0.6, color=PALETTE["grey"], linewidths=0, alpha=0.45)
    for place in range(n_chosen):
        here = xy[bands == place]
        if len(here):
            colour = CYCLE[place % len(CYCLE)]
            ax.scatter(
                *here.T,
                s=max(size, 12),
                color=colour,
                marker=MARKERS[place % len(MARKERS)],
                linewidths=0,
                zorder=3,
            )
            middle = np.median(here, axis=0)
            away = np.linalg.norm(here - middle, axis=1)
            bulk = here[away <= 2 * np.median(away)]  # strays do not lift the letter
            top = bulk[:, 1].max()
            ax.annotate(
                letter(place),
                (middle[0], top),
                (0, 3),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=10,
                fontweight="bold",
                color=colour,
                zorder=4,
                path_effects=OUTLINED,
            )


def _draw_frame(
    ax: Axes, xy: Any, bands: Any, n_chosen: int, colour_by: Any, kind: str, limits: Any
) -> None:
    ax.set(xticks=[], yticks=[])
    if xy is None:
        say(ax, NO_MAP)
        return
    xy = np.asarray(xy, float).reshape(-1, 2)
    if kind == "chosen":
        same_length(xy=xy, bands=bands)
        ax.grid(False)
        ax.spines[:].set(visible=True, color="#DDDDDD")
        _draw_chosen(ax, xy, np.asarray(bands), n_chosen)
    else:
        check_option("kind", kind, KINDS)
        draw_map(ax, xy, colour_by, kind, "")
    if limits is not None:
        ax.set(xlim=limits[:2], ylim=limits[2:])
    ax.set_aspect("equal", adjustable="box" if limits is not None else "datalim")


@styled
def epoch_frame(
    xy: Any,
    bands: Any,
    n_chosen: int,
    now: int,
    *,
    colour_by: Any = None,
    kind: str = "chosen",
    map_images: Any = None,
    limits: Any = None,
    title: str = "",
    size: tuple[float, float] = (10, 5.2),
) -> Figure:
    """One epoch of a run: its map beside the flows of the whole run, in the same
    colours and letters.

    xy (n, 2), or None where no features were kept; bands (E, N) as in `alluvial`, of
    which the map shows `map_images` (n,), None for all; now: this epoch's place
    in 0..E-1. kind "chosen", or one of `feature_map`'s with `colour_by` (n,). limits:
    `map_limits` of all epochs. size in inches; a small frame has no remark on how to
    read it.
    """
    bands = np.asarray(bands)
    if not 0 <= now < len(bands):
        raise KitError(
            f"epoch_frame: epoch {now} is not among the {len(bands)} of the flows."
        )
    figure = new_figure(*size, title=title, note=READ if size[0] > 8 else "")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    of_map = bands[now] if map_images is None else bands[now][np.asarray(map_images)]
    _draw_frame(left, xy, of_map, n_chosen, colour_by, kind, limits)
    draw_flows(right, bands, n_chosen, now=now)
    return figure


@styled
def epoch_strip(
    maps: Sequence[Any],
    bands: Any,
    n_chosen: int,
    *,
    titles: Sequence[str] = (),
    title: str = "Epoch by epoch: the same clusters in the same colours",
) -> Figure:
    """Stills of a run side by side: maps, one (n, 2) a still, and the bands (stills, n)
    of their pictures.
    """
    same_length(maps=maps, bands=bands)
    if not len(maps):
        raise KitError("epoch_strip: no maps given; give one (n, 2) an epoch.")
    lines = max((text.count("\n") + 1 for text in titles), default=0)
    figure = new_figure(
        max(2.6 * len(maps), 5.2),
        3.25 + 0.17 * lines,
        title=title,
        note="Grey: other clusters; pale: outliers. A map keeps "
        "neighbourhoods, not distances: its axes have no unit.",
    )
    limits = map_limits(maps)
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    for ax, xy, of_map in zip(axes, maps, bands):
        _draw_frame(ax, xy, of_map, n_chosen, None, "chosen", limits)
        ax.set_anchor("N")  # at the bottom, no room would be kept for the titles
    for ax, text in zip(axes, titles):
        ax.set_title(text)
    return figure


_LIVE = (
    (
        "losses (nats)",
        "Losses: comparable within a method only",
        (
            ("loss", "whole loss", PALETTE["vermillion"], "o"),
            ("loss_cc", "cluster contrast", VIEW_COLOURS["hard"], "s"),
            ("loss_gkd", "GKD", VIEW_COLOURS["e"], "^"),
            ("loss_skd", "SKD", VIEW_COLOURS["a"], "D"),
        ),
    ),
    (
        "share (0 to 1)",
        "Retrieval of unseen identities",
        (("mAP", "mAP", PALETTE["blue"], "o"), ("rank1", "Rank-1", PALETTE["sky"], "^")),
    ),
    (
        "ARI (1 = true partition)",
        "Pseudo labels against the truth",
        (("ari", "ARI", PALETTE["green"], "o"),),
    ),
    ("clusters (count)", "Clusters", (("n_clusters", "clusters", PALETTE["blue"], "o"),)),
    (
        "outliers (share)",
        "Pictures left out of training",
        (("outlier_fraction", "outliers", PALETTE["grey"], "o"),),
    ),
    (
        "teacher's mass − accuracy",
        "P2: above 0, nearer to the truth",
        (("margin", "margin", VIEW_COLOURS["e"], "^"),),
    ),
)
_WHY = {
    "ari": f"{UNKNOWN}.",
    "mAP": "Not measured yet, or nothing to rank: no test split with identities.",
    "margin": f"{UNKNOWN}, or the run keeps no features: the break-even cannot be measured.",
}


@styled
def live_curves(
    history: Sequence[Mapping[str, Any]],
    *,
    identities: int | None = None,
    epochs: int | None = None,
    title: str = "",
    why: Mapping[str, str] | None = None,
) -> Figure:
    """All that a run tells while it trains, six panels over its epochs.

    history: records as in history.jsonl; "hard_accuracy" and "teacher_mass" in them (1
    - eta and E e[y*], method: P2) draw the margin of the teacher's break-even, the
    second less the first. identities: their true number, a dotted line; epochs: how
    many the run will have. `why` {metric: sentence}: what stands where "mAP", "ari" or
    "margin" is missing in every record.
    """
    figure = new_figure(10, 6.2, title=title)
    history = [_with_margin(record) for record in history]
    for ax, (unit, hint, lines) in zip(figure.subplots(2, 3).ravel(), _LIVE):
        for name, label, colour, marker in lines:
            found = [record for record in history if record.get(name) is not None]
            if found:
                epochs_of = [record["epoch"] for record in found]
                values = [record[name] for record in found]
                ax.plot(epochs_of, values, color=colour, marker=marker, label=label)
        first = lines[0][0]
        if not ax.lines:
            sentence = "No epoch is done yet."
            if history:
                sentence = (_WHY | dict(why or {})).get(first, "Not measured in this run.")
            say(ax, sentence)
            continue
        if first == "n_clusters" and identities:
            ax.axhline(
                identities,
                color=PALETTE["grey"],
                linestyle=":",
                label=f"{identities} identities",
            )
        ax.set(xlabel="epoch", ylabel=unit, title=hint)
        ax.set_xlim(-0.4, max(epochs or 0, *(r["epoch"] + 1 for r in history)) - 0.6)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if first == "n_clusters":
            ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        elif first == "margin":
            _shade_margin(ax)
        elif ax.dataLim.ymin >= 0:
            ax.set_ylim(0, 1.08 * ax.dataLim.ymax or 1)  # room for the highest marker
        if len(ax.lines) > 1:
            ax.legend(
                loc="upper left",
                bbox_to_anchor=(-0.1, -0.2),
                ncols=2,
                fontsize=8,
                columnspacing=1,
                handlelength=1.5,
            )
    return figure


def _with_margin(record: Mapping[str, Any]) -> Mapping[str, Any]:
    if record.get("teacher_mass") is None:
        return record
    return {**record, "margin": record["teacher_mass"] - record["hard_accuracy"]}


def _shade_margin(ax: Axes) -> None:
    """The break-even as a line, green above and vermillion below."""
    ax.axhline(0, color=PALETTE["black"], linestyle="--", linewidth=1.2, label="break-even")
    low, high = ax.get_ylim()
    ax.axhspan(0, max(high, 0), color=PALETTE["right"], alpha=0.1, linewidth=0, zorder=0)
    ax.axhspan(min(low, 0), 0, color=PALETTE["wrong"], alpha=0.1, linewidth=0, zorder=0)
    ax.set_ylim(low, high)


@styled
def hardest_pictures(
    pictures: Any,
    labels: Any,
    scores: Any,
    kinds: Any = None,
    *,
    title: str = "The hardest pictures: those nearest to another cluster",
) -> Figure:
    """The pictures whose labels look least trustworthy, worst first: pictures (n, ...)
    uint8, labels (n,), scores (n,).

    kinds (n,) of `noise.error_kinds` frames them right or wrong; None: identities
    unknown.
    """
    same_length(pictures=pictures, labels=labels, scores=scores, kinds=kinds)
    shown = as_pictures(pictures)
    note = "The number: 1 far from all other clusters, 0 between two, below 0 nearer to another. "
    note += f"{UNKNOWN}." if kinds is None else "✓ the label is right, ✗ it is wrong."
    columns = min(max(len(shown), 1), 12)
    size = shown.shape[1:3]
    figure = sheet_figure(1, columns, size, title=title, note=note, side=0.3)
    ax = figure.subplots()
    if not len(shown):
        say(ax, "No clustered picture to show.")
        return figure
    mosaic(ax, [list(shown[:columns])], size)
    for c, (label, score) in enumerate(zip(labels[:columns], scores[:columns])):
        name_column(ax, c, size, f"cluster {label}\n{score:+.2f}")
        if kinds is not None:
            if str(kinds[c]) == "right":
                frame(ax, 0, c, size, PALETTE["right"], "✓")
            else:
                frame(ax, 0, c, size, PALETTE["wrong"], "✗")
    return figure
