"""One label on the bench: its views, the losses between them, and where the gradient
pushes each cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.viz.labels import HATCHES, hard_vector
from dkdmpl_kit.viz.pictures import one_picture
from dkdmpl_kit.viz.style import (
    METHOD_COLOURS,
    PALETTE,
    VIEW_COLOURS,
    VIEW_LABELS,
    add_note,
    new_figure,
    same_length,
    say,
    styled,
)

# plain letters: mathtext is slow
_TERMS = {"L_CC": ("L_CC", "hard"), "L_GKD": ("λg L_GKD", "e"), "L_SKD": ("λs L_SKD", "a")}
_HALO = withStroke(linewidth=3.2, foreground="white")
_OUTLIER = (
    "An outlier of this epoch's clustering has no hard label: it is left out of training, "
    "so there is no loss and no arrow."
)


@styled
def loss_lab(
    hard: int,
    views: Mapping[str, Any],
    losses: Mapping[str, tuple[float, float]],
    total: float | None,
    gradient: Any,
    *,
    picture: Any = None,
    anchor_picture: Any = None,
    top: int = 6,
    title: str | None = None,
    note: str = "",
) -> Figure:
    """The views of a label as bars over the `top` clusters, arrows where the gradient
    pushes q, and the losses beside.

    hard: cluster, or -1 for an outlier; views {"e", "q", "a", "r3": (K,)
    probabilities}, as far as there are; losses {"L_CC", "L_GKD", "L_SKD": (value in
    nats, weight)}, their weighted sum `total`; gradient (K,) of it by the query's
    logits, None: no arrows (`theory.label_case` gives all five). An arrow starts at the
    top of q and is minus the gradient long, divided by the sum of the weights, so that
    it ends at r3 where P4 holds. method: P4. Pictures: uint8 (3, H, W) or (H, W, 3), or
    None.
    """
    views = {name: np.asarray(view, float) for name, view in views.items()}
    clusters = same_length(**views)
    if "q" not in views or clusters < 2:
        raise KitError(
            "loss_lab: give the views with q among them, over two clusters or more."
        )
    title = _title(hard, views) if title is None else title
    figure = new_figure(9.5, 4.4, title=title, note=note)
    given = {"query": picture, "its anchor": anchor_picture}
    pictures = {name: one_picture(one) for name, one in given.items() if one is not None}
    if pictures:
        sheet, bars, terms = figure.subplots(1, 3, width_ratios=(1.15, 6, 2.1))
        _draw_pictures(sheet, pictures)
    else:
        bars, terms = figure.subplots(1, 2, width_ratios=(6, 2.1))
    shown, others = _shown_clusters(hard, views, top)
    names = [str(k) for k in shown]
    if len(others):
        names.append("others")

    def gather(values: np.ndarray) -> np.ndarray:
        """The values of the clusters shown, and the sum of the others' if there are any."""
        return np.append(values[shown], values[others].sum())[: len(names)]

    gathered = {name: gather(view) for name, view in views.items()}
    place = int(np.flatnonzero(shown == hard)[0]) if hard >= 0 else None
    _draw_views(bars, gathered, names, place)
    if gradient is None:
        add_note(figure, _OUTLIER if hard < 0 else "")
        say(terms, "No loss without a hard label.")
        return figure
    gradient = np.asarray(gradient, float)
    same_length(q=views["q"], gradient=gradient)
    weights = sum(weight for _, weight in losses.values())
    _draw_arrows(bars, gathered, gather(gradient), weights)
    _draw_losses(terms, losses, total)
    return figure


def _title(hard: int, views: Mapping[str, np.ndarray]) -> str:
    if hard < 0:
        return "An outlier: soft views, but no label to train on"
    favourite = int(np.argmax(views.get("r3", views["q"])))
    agree = all(int(np.argmax(view)) == hard for view in views.values())
    if agree:
        return f"All views name cluster {hard}: the gradient only sharpens it"
    prefers = [
        f"{name} prefers {int(np.argmax(view))}"
        for name, view in views.items()
        if name != "r3"
    ]
    return f"Hard label {hard}; {', '.join(prefers)}; the target {favourite}"


def _shown_clusters(
    hard: int, views: Mapping[str, np.ndarray], top: int
) -> tuple[np.ndarray, np.ndarray]:
    """The clusters that any view likes best, the hard label first (few clusters: all,
    in order), and all the others.
    """
    strongest = np.max(list(views.values()), axis=0)
    if hard >= 0:
        strongest = strongest + 2 * hard_vector(hard, len(strongest))
    order = np.arange(len(strongest))
    if len(strongest) > top:
        order = np.argsort(-strongest, kind="stable")
    return order[:top], order[top:]


def _draw_pictures(ax: Axes, pictures: Mapping[str, np.ndarray]) -> None:
    """Pictures (H, W, 3), one above the other, each under its name."""
    height, width = next(iter(pictures.values())).shape[:2]
    gap = max(height // 7, 4)
    canvas = np.full((len(pictures) * (height + gap), width, 3), 255, np.uint8)
    for place, (name, picture) in enumerate(pictures.items()):
        top = gap + place * (height + gap)
        if picture.shape[:2] == (height, width):
            canvas[top : top + height] = picture
        ax.text(width / 2, top - 0.15 * gap, name, ha="center", va="bottom", fontsize=9)
    ax.imshow(canvas, interpolation="antialiased")
    ax.set_axis_off()


def _draw_views(
    ax: Axes, views: Mapping[str, np.ndarray], names: list[str], hard: int | None
) -> None:
    width = 0.84 / len(views)
    places = np.arange(len(names))
    labels = VIEW_LABELS
    if "a" not in views:
        labels = VIEW_LABELS | {"r3": "r: target mixed from both"}
    for j, (name, heights) in enumerate(views.items()):
        ax.bar(
            places + (j - (len(views) - 1) / 2) * width,
            heights,
            width * 0.94,
            edgecolor="white",
            linewidth=0,
            label=labels[name],
            color=VIEW_COLOURS[name],
            hatch=HATCHES[name],
        )
    if hard is not None:
        ax.bar(
            hard,
            1,
            0.94,
            fill=False,
            edgecolor=VIEW_COLOURS["hard"],
            linewidth=1.6,
            label=VIEW_LABELS["hard"],
        )
    ax.set_xticks(places, names)
    ax.set(xlabel="cluster", ylabel="probability (0 to 1)", ylim=(0, 1.08))
    ax.legend(
        ncols=3,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        borderaxespad=0.2,
        fontsize=8,
        columnspacing=1.2,
    )


def _draw_arrows(
    ax: Axes, views: Mapping[str, np.ndarray], gradient: np.ndarray, scale: float
) -> None:
    """From the top of each q bar, minus gradient / scale long; the number is this length,
    below 0 where the arrow points down.
    """
    order = list(views)
    shift = (order.index("q") - (len(order) - 1) / 2) * 0.84 / len(order)
    x = np.arange(len(gradient)) + shift
    ends = views["q"] - gradient / scale
    for place, start, end in zip(x, views["q"], ends):
        if abs(start - end) > 0.008:
            ax.annotate(
                "",
                (place, end),
                (place, start),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": PALETTE["black"],
                    "linewidth": 1.6,
                    "shrinkA": 0,
                    "shrinkB": 0,
                    "mutation_scale": 11,
                    "path_effects": [_HALO],
                },
            )
            ax.text(
                place,
                max(start, end) + 0.015,
                f"{end - start:+.2f}",
                ha="center",
                va="bottom",
                fontsize=8,
                bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.4},
                in_layout=False,
            )
    ax.set_ylim(min(0, 1.08 * ends.min()), max(1.08, 1.08 * ends.max()))


def _draw_losses(ax: Axes, losses: Mapping[str, tuple[float, float]], total: float) -> None:
    """Bars of the weighted terms and their sum, with the numbers that were multiplied."""
    names, values, colours, texts = [], [], [], []
    for name, (value, weight) in losses.items():
        label, view = _TERMS[name]
        text = f"{value:.3f}"
        if name != "L_CC":
            text = f"{weight:g} × {value:.3f} = {weight * value:.3f}"
        names.append(label)
        values.append(weight * value)
        colours.append(VIEW_COLOURS[view])
        texts.append(text)
    names.append("L, the sum")
    values.append(total)
    colours.append(METHOD_COLOURS["dkdmpl"])
    texts.append(f"{total:.3f}")
    y = np.arange(len(names))
    ax.barh(y, values, 0.4, color=colours)
    for place, text in zip(y, texts):
        ax.text(0, place - 0.24, text, va="bottom", ha="left", fontsize=9)
    ax.set_yticks(y, names)
    ax.set(
        xlabel="loss (nats)",
        ylim=(len(names) - 0.5, -0.75),
        xlim=(0, 1.05 * max(*values, 0.1)),
    )
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x")
