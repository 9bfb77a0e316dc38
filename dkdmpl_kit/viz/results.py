"""Results over seeds, how labels go wrong over epochs, and what methods teach, side by
side.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.viz.labels import hard_vector, show_picture
from dkdmpl_kit.viz.maps import ERROR_LABELS
from dkdmpl_kit.viz.style import (
    PALETTE,
    UNKNOWN,
    add_note,
    count,
    method_look,
    new_figure,
    same_length,
    say,
    styled,
)

# from the bottom up, with hatches
_STACK = {"right": "", "split": "//", "merged": "xx", "outlier": ""}


def _per_seed(values: Any) -> np.ndarray:
    """Values per seed (S,) as floats, NaN for None; empty for None."""
    return np.atleast_1d(np.array([] if values is None else values, dtype=float))


@styled
def result_bars(
    rows: Mapping[str, Any],
    *,
    metric: str = "mAP (0 to 1)",
    paired: bool = True,
    title: str = "",
    note: str = "",
) -> Figure:
    """One bar a method (mean), one dot a seed; thin lines join the same seed in
    neighbouring bars.

    rows: {method: values per seed (S,), a number, or None where not measured (an empty
    place that says so)}.
    """
    many = len(rows) > 7  # their names then need more room, and several lines
    width, height = (1.15 * len(rows), 4.7) if many else (9, 4.2)
    figure = new_figure(width, height, title=title, note=note)
    ax = figure.subplots()
    if not rows:
        say(ax, "No results to show.")
        return figure
    data = {name: _per_seed(values) for name, values in rows.items()}
    ticks = []
    for x, (name, values) in enumerate(data.items()):
        colour, marker, label = method_look(name, list(data))
        seen = values[~np.isnan(values)]
        if many:
            label = textwrap.fill(label, 14)
        if not len(seen):
            ticks.append(f"{label}\nnot measured")
            continue
        ticks.append(f"{label}\n{count(len(seen), 'seed')}")
        ax.bar(x, seen.mean(), 0.62, color=colour, alpha=0.4, edgecolor=colour, linewidth=1.2)
        ax.scatter(
            [x] * len(seen),
            seen,
            color=colour,
            edgecolors="white",
            s=36,
            marker=marker,
            zorder=4,
        )
        text = f"{seen.mean():.3f}" if seen.max() <= 1.5 else f"{seen.mean():.1f}"
        ax.annotate(text, (x, seen.max()), (0, 6), textcoords="offset points", ha="center")
    arrays = list(data.values())
    for x, (one, two) in enumerate(zip(arrays[:-1], arrays[1:])):
        if paired and len(one) == len(two) > 1:
            for pair in zip(one, two):
                ax.plot((x, x + 1), pair, color="#777777", linewidth=0.8, zorder=3)
    ax.set_xticks(range(len(data)), ticks)
    ax.set(ylabel=metric, xlim=(-0.5, len(data) - 0.5))
    ax.margins(y=0.12)
    return figure


@styled
def paired_differences(
    diffs: Mapping[str, Any],
    intervals: Mapping[str, float | None] | None = None,
    *,
    baseline: str = "cluster contrast",
    unit: str = "mAP points",
    title: str | None = None,
) -> Figure:
    """Differences to the baseline: a dot a seed, the mean, its 95 % interval, and zero.

    diffs: {method: differences per seed (S,)}, in `unit`, method minus baseline with
    the same seed. intervals: {method: half the width of the mean's 95 % interval}, in
    `unit`, None for none (`studies.results.Spread.interval`); it is drawn from three
    seeds on.
    """
    title = f"Change against {baseline}, seed by seed" if title is None else title
    figure = new_figure(9, 1.5 + 0.62 * max(len(diffs), 1), title=title)
    ax = figure.subplots()
    if not diffs:
        say(ax, "No pairs of runs to compare.")
        return figure
    ax.axvline(0, color="black", linewidth=1.2)
    names = []
    for y, (method, values) in enumerate(diffs.items()):
        colour, marker, name = method_look(method, list(diffs))
        names.append(name)
        values = _per_seed(values)
        values = values[~np.isnan(values)]
        half = (intervals or {}).get(method) if len(values) >= 3 else None
        _draw_differences(ax, y, values, half, colour, marker)
        ax.text(
            1.01,
            y,
            _differences_text(values, half),
            transform=ax.get_yaxis_transform(),
            va="center",
            fontsize=9,
            color="#555555",
        )
    ax.set_yticks(range(len(diffs)), names)
    ax.set(
        xlabel=f"difference ({unit}; right of zero is better)", ylim=(len(diffs) - 0.5, -0.5)
    )
    ax.grid(axis="x")
    return figure


def _draw_differences(
    ax: Axes, y: int, values: np.ndarray, half: float | None, colour: str, marker: str
) -> None:
    """One method's dots, mean and interval on row `y`."""
    if not len(values):
        return
    mean = values.mean()
    ax.scatter(
        values,
        [y] * len(values),
        color=colour,
        marker=marker,
        s=40,
        alpha=0.85,
        edgecolors="white",
        zorder=3,
    )
    ax.plot((mean, mean), (y - 0.28, y + 0.28), color=colour, linewidth=3)
    if half is not None:
        ax.plot((mean - half, mean + half), (y, y), color=colour, linewidth=1.4, zorder=2)


def _differences_text(values: np.ndarray, half: float | None) -> str:
    if not len(values):
        return "no pairs"
    above = int((values > 0).sum())
    text = f"mean {values.mean():+.2f}, above 0 in {above} of {len(values)}"
    return text if half is None else f"{text}\n95 % interval ±{half:.2f}"


@styled
def error_kinds_bars(
    kinds: Sequence[Any] | None,
    *,
    epochs: Sequence[int] | None = None,
    title: str = "How pseudo labels go wrong, epoch by epoch",
) -> Figure:
    """Right, merged, split and outlier pictures as shares of all, one stacked bar an
    epoch.

    kinds: for each epoch an array (N,) of those words, or a mapping {word: count};
    None: identities unknown.
    """
    figure = new_figure(9, 3.9, title=title)
    ax = figure.subplots()
    if not kinds:
        unknown = f"{UNKNOWN}, so errors cannot be told."
        say(ax, unknown if kinds is None else "No epochs to show.")
        return figure
    same_length(kinds=kinds, epochs=epochs)
    counts = np.array([_kind_counts(kind) for kind in kinds])
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    x = np.arange(len(kinds)) if epochs is None else np.asarray(epochs)
    below = np.zeros(len(x))
    for (name, hatch), share in zip(_STACK.items(), shares.T):
        ax.bar(
            x,
            share,
            0.85,
            bottom=below,
            color=PALETTE[name],
            hatch=hatch,
            edgecolor="white",
            linewidth=0.3,
            label=ERROR_LABELS[name],
        )
        below += share
    ax.set(xlabel="epoch", ylabel="share of the pictures (0 to 1)", ylim=(0, 1))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower left", ncols=2)
    return figure


def _kind_counts(kinds: Any) -> list[int]:
    """Pictures of each kind in `_STACK`'s order; those of unknown identity are not
    counted.
    """
    if isinstance(kinds, Mapping):
        return [int(kinds.get(name, 0)) for name in _STACK]
    return [int((np.asarray(kinds) == name).sum()) for name in _STACK]


@styled
def label_targets(
    targets: Mapping[str, Any],
    hard: int,
    *,
    truth: int | None = None,
    top: int = 5,
    picture: Any = None,
    colours: Mapping[str, str] | None = None,
    title: str = "",
) -> Figure:
    """What each method trains one picture on, a panel each, over the `top` clusters
    that any of them likes best.

    targets: {name: (K,) probabilities}. hard: the cluster of the hard label, framed in
    every panel, or -1. truth: the cluster of the true identity, starred. The last bar
    holds all other clusters. `picture` as in `label_views`. colours: {name: colour} of
    panels that are not blue.
    """
    values = {name: np.asarray(target, float) for name, target in targets.items()}
    if not values or not same_length(**values):
        raise KitError(
            "label_targets: no target given; give at least one, with one probability a "
            "cluster."
        )
    clusters = same_length(**values)
    columns = min(len(values), 3)
    one_hot = hard_vector(hard, clusters)
    # hard label and truth always among them
    likes = np.max(list(values.values()), axis=0) + 2 * one_hot
    if truth is not None:
        likes = likes + 2 * hard_vector(truth, clusters)
    shown = np.argsort(-likes, kind="stable")[:top]
    names = [f"{k}*" if k == truth else f"{k}" for k in shown]
    if clusters > len(shown):
        names.append("others")
    rows = -(-len(values) // columns)
    figure = new_figure(9.5, 2.2 * rows + 0.9, title=title)
    room = 0.01 if picture is None else 0.7
    grid = figure.add_gridspec(rows, columns + 1, width_ratios=(room, *[1.5] * columns))
    if picture is not None:
        show_picture(figure.add_subplot(grid[:, 0]), picture)
    for j, (name, target) in enumerate(values.items()):
        ax = figure.add_subplot(grid[j // columns, j % columns + 1])
        heights = np.append(target[shown], np.delete(target, shown).sum())[: len(names)]
        colour = (colours or {}).get(name, PALETTE["blue"])
        ax.bar(range(len(names)), heights, 0.8, color=colour, alpha=0.75)
        for x, height in enumerate(heights):
            if height >= 0.005:
                ax.text(x, height, f"{height:.2f}", ha="center", va="bottom", fontsize=8)
        for x in np.flatnonzero(one_hot[shown]):
            ax.bar(x, 1, 0.9, fill=False, edgecolor=PALETTE["black"], linewidth=1.2)
        ax.set_xticks(range(len(names)), names)
        ax.set(ylim=(0, 1.14), title=name, ylabel="probability" if j % columns == 0 else "")
    add_note(figure, "x axis: cluster. Frame: the hard label.")
    if truth is not None:
        add_note(figure, "Star: the true identity's cluster.")
    return figure


@styled
def cosine_table(
    values: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str = "",
    note: str = "",
) -> Figure:
    """Cosines (n, m) from -1 to 1 as a coloured table with the numbers in it; a NaN
    stays white and says "none".
    """
    values = np.asarray(values, float)
    if values.shape != (len(rows), len(columns)) or not values.size:
        raise KitError(
            f"cosine_table: values {values.shape} do not fit {len(rows)} rows and "
            f"{len(columns)} columns."
        )
    figure = new_figure(
        3.4 + 0.9 * len(columns), 1.7 + 0.42 * len(rows), title=title, note=note
    )
    ax = figure.subplots()
    # colours that colour-blind people tell apart, too
    image = ax.imshow(values, cmap="PuOr", vmin=-1, vmax=1, aspect="auto")
    for (i, j), cosine in np.ndenumerate(values):
        # adding 0.0 turns -0.0 into 0.0
        text = "none" if np.isnan(cosine) else f"{round(cosine, 2) + 0.0:.2f}"
        ax.text(
            j,
            i,
            text,
            ha="center",
            va="center",
            fontsize=9,
            color="white" if abs(cosine) > 0.65 else "black",
        )
    heads = [textwrap.fill(name, 13, break_long_words=False) for name in columns]
    ax.set_xticks(range(len(columns)), heads)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.grid(visible=False)
    figure.colorbar(image, ax=ax, label="cosine (no unit)", shrink=0.9)
    return figure
