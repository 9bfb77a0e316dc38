"""How clusters split, merge, are born and die from epoch to epoch: an alluvial picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.viz.style import CYCLE, PALETTE, add_note, new_figure, say, styled

NODE = 0.07  # half the width of an epoch's column, in epochs
_BEND = np.linspace(0, 1, 16)
_SMOOTH = _BEND**2 * (3 - 2 * _BEND)
OUTLINED = (withStroke(linewidth=2.5, foreground="white"),)  # letters over anything
READ = (
    "A column is an epoch, a band a cluster, its height the pictures in it; a ribbon shows "
    "where pictures go. + born, × died."
)


def letter(place: int) -> str:
    """The name of a chosen cluster: A, B, ... Z, A1, B1, ..."""
    return chr(ord("A") + place % 26) + (str(place // 26) if place >= 26 else "")


def band_look(place: int, n_chosen: int) -> dict[str, Any]:
    """Colour, opacity and hatch of band `place`: a chosen cluster, then all others,
    then outliers.
    """
    if place < n_chosen:
        return {"facecolor": CYCLE[place % len(CYCLE)]}
    if place == n_chosen:
        return {"facecolor": PALETTE["grey"]}
    return {"facecolor": "white", "hatch": "////"}


def _heights(bands: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(lower edge, height), each (E, bands), of the stacked columns; the first band is
    on top.
    """
    sizes = np.stack([np.bincount(column, minlength=count) for column in bands])
    gap = 0.012 * bands.shape[1]
    room = sizes + gap * (sizes > 0)
    return room.sum(1, keepdims=True) - np.cumsum(room, 1), sizes


def draw_flows(
    ax: Axes, bands: Any, n_chosen: int, *, now: int | None = None, epochs: Any = None
) -> int:
    """Draw `bands` (E, N) of `noise.track_bands` into `ax`; returns how many pictures
    are in it.

    Only pictures that pass through one of the `n_chosen` clusters at some time are
    drawn. `now`: the epoch to mark.
    """
    bands = np.asarray(bands)
    shown = (bands < n_chosen).any(0)
    bands = bands[:, shown]
    count = n_chosen + 2
    if not bands.size:
        say(ax, "No cluster to show: every picture is an outlier.")
        return 0
    epochs = np.arange(len(bands)) if epochs is None else np.asarray(epochs)
    low, sizes = _heights(bands, count)
    for step in range(len(bands) - 1):
        _ribbons(ax, bands[step : step + 2], low[step : step + 2], n_chosen, step)
    for place in range(count):
        here = np.flatnonzero(sizes[:, place])
        look = band_look(place, n_chosen)
        ax.bar(
            here,
            sizes[here, place],
            2 * NODE,
            low[here, place],
            linewidth=0.3,
            edgecolor=PALETTE["grey"],
            **look,
        )
        if len(here) and place < n_chosen:
            _name(ax, place, here, low[:, place] + sizes[:, place] / 2, len(bands) - 1)
    top = float((low + sizes).max())
    if now is not None:
        ax.axvspan(
            now - 0.3, now + 0.3, color=PALETTE["yellow"], alpha=0.35, linewidth=0, zorder=0
        )
    ax.set(
        xlim=(-0.5, len(bands) - 0.5),
        ylim=(-0.01 * top, 1.05 * top),
        xlabel="epoch",
        ylabel="pictures",
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    ax.xaxis.set_major_formatter(
        lambda x, _: f"{epochs[round(x)]}" if 0 <= round(x) < len(epochs) else ""
    )
    ax.grid(False)
    return int(shown.sum())


def _ribbons(ax: Axes, pair: np.ndarray, low: np.ndarray, n_chosen: int, step: int) -> None:
    """The flows from one epoch (pair[0]) to the next: one bent strip a pair of bands,
    in the colour of where it comes from.
    """
    count = n_chosen + 2
    flow = np.zeros((count, count), int)
    np.add.at(flow, tuple(pair), 1)
    # where each strip begins and ends: in its band, the strips of upper bands on top
    start = low[0][:, None] + flow.sum(1, keepdims=True) - np.cumsum(flow, 1)
    end = low[1][None] + flow.sum(0, keepdims=True) - np.cumsum(flow, 0)
    x = step + NODE + _BEND * (1 - 2 * NODE)
    for one in range(count):
        strips = []
        for other in np.flatnonzero(flow[one]):
            bottom = start[one, other] + _SMOOTH * (end[one, other] - start[one, other])
            there = np.stack([x, bottom], axis=1)
            back = np.stack([x, bottom + flow[one, other]], axis=1)[::-1]
            strips.append(np.concatenate([there, back]))
        chosen = one < n_chosen
        colour = CYCLE[one % len(CYCLE)] if chosen else PALETTE["light"]
        alpha = 0.55 if chosen else 0.35
        ax.add_collection(PolyCollection(strips, facecolor=colour, alpha=alpha, linewidth=0))


def _name(ax: Axes, place: int, here: np.ndarray, middle: np.ndarray, last: int) -> None:
    """The letter where a cluster first stands, and what became of it."""
    first = here[0]
    end = here[-1]
    ax.text(
        first - NODE - 0.04,
        middle[first],
        ("+ " if first else "") + letter(place),
        ha="right",
        va="center",
        fontsize=9,
        fontweight="bold",
        path_effects=OUTLINED,
    )
    if end < last:
        ax.text(
            end + NODE + 0.05,
            middle[end],
            "×",
            ha="left",
            va="center",
            fontsize=11,
            fontweight="bold",
            path_effects=OUTLINED,
        )


def flow_legend(figure: Figure) -> None:
    """What the two grey bands are."""
    from matplotlib.patches import Patch

    figure.legend(
        handles=[
            Patch(edgecolor=PALETTE["grey"], linewidth=0.5, label=name, **band_look(place, 0))
            for place, name in enumerate(("other clusters", "outliers"))
        ],
        loc="outside upper right",
        ncols=2,
    )


@styled
def alluvial(
    bands: Any,
    n_chosen: int,
    *,
    now: int | None = None,
    epochs: Any = None,
    title: str = "How clusters split, merge and die",
) -> Figure:
    """How `n_chosen` clusters split, merge, are born and die; all others folded into
    one band, outliers in their own.

    bands (E, N): 0..n_chosen-1 a chosen cluster, then `n_chosen` any other,
    `n_chosen` + 1 an outlier (`noise.track_bands`). epochs (E,): their numbers, else 0,
    1, ...
    """
    bands = np.asarray(bands)
    if bands.ndim != 2 or not bands.size or bands.min() < 0 or bands.max() > n_chosen + 1:
        raise KitError(
            f"alluvial: bands must be (epochs, pictures) from 0 to {n_chosen + 1}, not "
            f"{bands.shape} of others."
        )
    figure = new_figure(10, 5, title=title)
    ax = figure.subplots()
    shown = draw_flows(ax, bands, n_chosen, now=now, epochs=epochs)
    if shown:
        flow_legend(figure)
        add_note(
            figure,
            f"{READ} Shown: the {shown:,} of {bands.shape[1]:,} pictures that pass through "
            f"clusters A to {letter(n_chosen - 1)} at some time.",
        )
    return figure
