"""The training loop as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from dkdmpl_kit.viz.labels import draw_views, hard_vector, show_picture
from dkdmpl_kit.viz.pictures import as_pictures
from dkdmpl_kit.viz.style import PALETTE, VIEW_COLOURS, new_figure, same_length, styled

STEPS = (  # title, what happens, what comes out
    (
        "1  extract",
        "the encoder, in eval mode,\nlooks at every picture once",
        "features $v_i$",
    ),
    (
        "2  cluster",
        "pictures that share their\nneighbours form groups",
        "pseudo labels $y_i$\n($-1$: outlier)",
    ),
    ("3  remember", "normalised cluster means\nbecome the memory", "$C$ frozen, $M$ live"),
    ("4  train", "augmented batches are\ncompared with the memory", "the trained encoder"),
)
SIGNALS = (  # view of the label, from which step, what it does
    ("hard", 1, "hard label $\\mathbf{1}_{y_i}$:\ncluster contrast, $L_{CC}$"),
    ("e", 2, "epoch view $e_i$ from $C$ and $v_i$:\nteacher of $L_{GKD}$"),
    ("q", 3, "query view $q_i$ from $M$ and $z_i$:\nthe student"),
    ("a", 3, "anchor view $a_i$ from $M$ and $z_{p(i)}$:\npartner in $L_{SKD}$"),
)
LOSS = "loss of step 4:   $L = L_{CC} + \\lambda_g\\, L_{GKD} + \\lambda_s\\, L_{SKD}$"
# of a box, and from box to box
_WIDTH = 2.1
_HEIGHT = 1.5
_STEP = 2.65


def _box(
    ax: Axes, x: float, y: float, size: tuple[float, float], colour: str, face: str = "white"
) -> None:
    ax.add_patch(
        FancyBboxPatch(
            (x, y),
            *size,
            boxstyle="round,pad=0.02,rounding_size=0.12",
            edgecolor=colour,
            facecolor=face,
            linewidth=1.6,
        )
    )


def _arrow(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str,
    bend: float = 0.0,
) -> None:
    ax.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=14,
            color=colour,
            linewidth=1.6,
            connectionstyle=f"arc3,rad={bend}",
            shrinkA=0,
            shrinkB=0,
        )
    )


def _steps(ax: Axes) -> None:
    for i, (name, action, result) in enumerate(STEPS):
        x = i * _STEP
        _box(ax, x, 0, (_WIDTH, _HEIGHT), PALETTE["grey"], "#F7F7F7")
        ax.text(x + 0.12, 1.3, name, fontweight="bold", va="center")
        ax.text(x + 0.12, 0.88, action, va="center", fontsize=7.6, color="#444444")
        ax.text(x + 0.12, 0.3, result, va="center", fontsize=9.5)
        if i:
            _arrow(ax, (x - (_STEP - _WIDTH) + 0.06, 0.75), (x - 0.06, 0.75), PALETTE["grey"])
    back = 2.15  # the way from the last step to the first, above the boxes
    last = 3 * _STEP + _WIDTH / 2
    ax.plot(
        [last, last, _WIDTH / 2],
        [_HEIGHT + 0.05, back, back],
        color=PALETTE["grey"],
        linewidth=1.6,
    )
    _arrow(ax, (_WIDTH / 2, back), (_WIDTH / 2, _HEIGHT + 0.05), PALETTE["grey"])
    ax.text(
        (_WIDTH / 2 + last) / 2,
        back + 0.08,
        "next epoch: the trained encoder looks again",
        ha="center",
        va="bottom",
        fontsize=9,
        color="#444444",
    )


def _signals(ax: Axes) -> None:
    for i, (view, step, text) in enumerate(SIGNALS):
        x = i * _STEP
        top = -1.0
        _box(ax, x, top - 0.75, (_WIDTH + 0.2, 0.75), VIEW_COLOURS[view])
        ax.text(x + 0.1, top - 0.375, text, va="center", fontsize=7.6)
        _arrow(
            ax,
            (step * _STEP + _WIDTH / 2 + 0.35 * (i - step), -0.06),
            (x + _WIDTH / 2 + 0.15, top + 0.06),
            VIEW_COLOURS[view],
        )


@styled
def loop_diagram(
    pictures: Any = None,
    *,
    picture: Any = None,
    hard: Any = None,
    views: Mapping[str, Any] | None = None,
    notes: Mapping[int, str] | None = None,
    title: str = "One epoch: the labels are guessed, used, and guessed again",
) -> Figure:
    """The loop extract -> cluster -> remember -> train, below it the hard label and the
    three views that it feeds, and the loss that they make.

    pictures: up to four uint8 thumbnails (n, 3, H, W) or (n, H, W, 3) drawn at the left
    as the input; None for none. With `views` {"e", "q" or "a": (K,) probabilities} the
    label of one real `picture` (3, H, W) stands below: `hard` is its cluster, and notes
    {cluster: words} say more of a cluster.
    """
    note = (
        "Black and coloured boxes: what the loss of step 4 is made of, in the colours of "
        "all later pictures."
    )
    figure = new_figure(10, 5.0 if views is None else 8.4, title=title, note=note)
    if views is None:
        ax = figure.subplots()
    else:
        rows = figure.add_gridspec(2, 2, height_ratios=(2.0, 1), width_ratios=(1, 8))
        ax = figure.add_subplot(rows[0, :])
        left = figure.add_subplot(rows[1, 0])
        show_picture(left, picture)
        left.set_title("one picture", fontsize=9)
        given = {name: np.asarray(view, float) for name, view in views.items()}
        one_hot = hard_vector(hard, same_length(**given))
        draw_views(figure.add_subplot(rows[1, 1]), one_hot, given, top=6, notes=notes)
    limits = {
        "xlim": (-1.35 if pictures is not None else -0.1, 3 * _STEP + _WIDTH + 0.4),
        "ylim": (-2.55, 2.55),
    }
    ax.set(**limits, aspect="equal")
    ax.set_axis_off()
    _steps(ax)
    _signals(ax)
    ax.text((3 * _STEP + _WIDTH) / 2, -2.2, LOSS, ha="center", va="center", fontsize=13)
    if pictures is not None:
        thumbnails = as_pictures(pictures)[:4]
        high = 1.0
        wide = high * thumbnails.shape[2] / thumbnails.shape[1]
        for i, thumbnail in enumerate(thumbnails):  # a small staple of pictures
            left = -1.3 + 0.11 * i
            low = 0.42 - 0.11 * i
            ax.imshow(
                thumbnail,
                extent=(left, left + wide, low, low + high),
                zorder=2 + i,
                aspect="equal",
            )
        ax.set(**limits)
        _arrow(ax, (-0.4, 0.75), (-0.06, 0.75), PALETTE["grey"])
    return figure
