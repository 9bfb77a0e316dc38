"""One query under several encoders: its distances among all others', and where the
encoders look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.viz.pictures import one_picture
from dkdmpl_kit.viz.style import PALETTE, UNKNOWN, legend_entries, new_figure, say, styled

GROUPS = (
    ("same identity, same camera", "sky", ":"),
    ("same identity, other camera", "green", "-"),
    ("different identities", "vermillion", "--"),
)
MARKS = {"right": "green", "wrong": "vermillion", "junk": "junk"}


@styled
def query_distances(
    views: Mapping[str, tuple[Sequence[Any], Any, Any]],
    *,
    title: str = "Cosine distances of all pairs (curves) and of this query's list (ticks)",
) -> Figure:
    """Distances of all pairs, and below them one query's first places; one panel a
    view, the same axis for all. Without a list (two empty ones) there are curves alone.

    views: {name: (groups, distances (top,), kinds (top,))}; groups are
    `distance_groups`' three, or None where identities are unknown; kinds are "right",
    "wrong", "junk" or "unknown", nearest first.
    """
    if not views:
        raise KitError("query_distances: no views given; give at least one encoder's.")
    figure = new_figure(9.5, 3.2, title=title)
    axes = np.atleast_1d(figure.subplots(1, len(views), sharex=True))
    for ax, (name, (groups, distances, kinds)) in zip(axes, views.items()):
        ax.set_title(name)
        _draw_groups(ax, groups)
        _draw_ticks(ax, np.asarray(distances, float), np.asarray(kinds))
        ax.set(
            xlabel="cosine distance, 1 − similarity",
            yticks=[],
            ylabel="density of pairs" if ax is axes[0] else "",
        )
    handles = {}
    for ax in axes:
        handles |= legend_entries(ax)
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=3)
    return figure


def _draw_groups(ax: Axes, groups: Sequence[Any] | None) -> None:
    if groups is None or not sum(len(group) for group in groups):
        say(ax, f"{UNKNOWN}:\npairs cannot be told apart.")
        return
    edges = np.histogram_bin_edges(np.concatenate([np.asarray(g, float) for g in groups]), 40)
    for values, (label, colour, dashes) in zip(groups, GROUPS):
        if len(values):
            density = np.histogram(values, edges, density=True)[0]
            ax.stairs(
                density,
                edges,
                color=PALETTE[colour],
                linestyle=dashes,
                linewidth=1.6,
                label=label,
            )
            ax.stairs(density, edges, color=PALETTE[colour], fill=True, alpha=0.15)


def _draw_ticks(ax: Axes, distances: np.ndarray, kinds: np.ndarray) -> None:
    """One tick a listed picture, below the curves, in a row of its own for each kind."""
    if not len(distances):
        return
    low, high = ax.get_ylim()
    step = 0.09 * (high - low)
    for row, (kind, colour) in enumerate((*MARKS.items(), ("unknown", "black"))):
        here = distances[kinds == kind]
        if len(here):
            ax.plot(
                here,
                np.full(len(here), low - (min(row, 2) + 1) * step),
                linestyle="",
                marker="|",
                markersize=9,
                markeredgewidth=1.8,
                color=PALETTE[colour],
                label=f"in this list: {kind}" if kind != "unknown" else "in this list",
            )
    ax.set_ylim(low - 3.8 * step, high)


@styled
def activation_pairs(
    query: Any,
    other: Any,
    maps: Mapping[str, tuple[Any, Any]],
    *,
    scores: Mapping[str, float] | None = None,
    title: str = "Where the encoder finds the two alike",
) -> Figure:
    """A query and one gallery picture, as they are, and for each view what each of their
    places adds to their similarity, side by side.

    query, other: uint8 pictures (3, H, W) or (H, W, 3). maps: {view: (map of the query
    (h, w), map of the other)}, as `occlusion_map` or `similarity_map` make them; what
    is negative is left dark. The maps of a view share one scale. scores: {view:
    similarity}.
    """
    pair = [one_picture(picture) for picture in (query, other)]
    tall = pair[0].shape[0] / pair[0].shape[1]
    width = 1.3 if tall > 1.3 else 1.7
    figure = new_figure(
        (2 + 2 * len(maps)) * width + 0.35 * len(maps),
        1.1 + width * tall,
        title=title,
        note="Yellow: this place makes the two alike most. Grey: it does nothing, or "
        "makes them differ.",
    )
    ratios = [1, 1, *(0.2, 1, 1) * len(maps)]
    grid = figure.add_gridspec(1, len(ratios), width_ratios=ratios)
    for column, (picture, what) in enumerate(zip(pair, ("query", "gallery"))):
        ax = _picture_axes(figure, grid[0, column])
        ax.imshow(picture)
        ax.set_title(what)
    for view, (name, both) in enumerate(maps.items()):
        highest = max(float(np.max(m)) for m in both) or 1.0
        for place, (picture, heat) in enumerate(zip(pair, both)):
            ax = _picture_axes(figure, grid[0, 3 * view + 3 + place])
            share = _upsampled(heat, picture.shape[:2]) / highest
            ax.imshow(picture.mean(2) * 0.75, cmap="gray", vmin=0, vmax=255)
            opacity = np.minimum(0.8, 1.6 * share)
            ax.imshow(share, cmap="inferno", vmin=0, vmax=1, alpha=opacity)
            if not place:
                ax.set_title(name + (f"\nsimilarity {scores[name]:.2f}" if scores else ""))
    return figure


def _picture_axes(figure: Figure, cell: Any) -> Axes:
    ax = figure.add_subplot(cell)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    return ax


def _upsampled(heat: Any, size: tuple[int, int]) -> np.ndarray:
    """(h, w) -> (H, W), bilinear, negative places as 0."""
    from PIL import Image

    positive = np.clip(np.asarray(heat, np.float32), 0, None)
    return np.asarray(
        Image.fromarray(positive).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    )
