"""Results over seeds, and how labels go wrong over epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dkdmpl_kit.viz.maps import ERROR_LABELS
from dkdmpl_kit.viz.style import PALETTE, UNKNOWN, count, method_look, new_figure, same_length, say, styled

_STACK = {"right": "", "split": "//", "merged": "xx", "outlier": ""}      # from the bottom up, with hatches


def _per_seed(values: Any) -> np.ndarray:
    """Values per seed (S,) as floats, NaN for None; empty for None."""
    return np.atleast_1d(np.array([] if values is None else values, dtype=float))


@styled
def result_bars(
    rows: Mapping[str, Any], *, metric: str = "mAP (0 to 1)", paired: bool = True, title: str = "", note: str = "",
) -> Figure:
    """One bar a method (mean), one dot a seed; thin lines join the same seed in neighbouring bars.

    rows: {method: values per seed (S,), a number, or None where not measured (an empty place that says so)}.
    """
    figure = new_figure(9, 4.2, title=title, note=note)
    ax = figure.subplots()
    if not rows:
        say(ax, "No results to show.")
        return figure
    data = {name: _per_seed(values) for name, values in rows.items()}
    ticks = []
    for x, (name, values) in enumerate(data.items()):
        colour, marker, label = method_look(name, list(data))
        seen = values[~np.isnan(values)]
        ticks.append(f"{label}\n{count(len(seen), 'seed') if len(seen) else 'not measured'}")
        if not len(seen):
            continue
        ax.bar(x, seen.mean(), 0.62, color=colour, alpha=0.4, edgecolor=colour, linewidth=1.2)
        ax.scatter([x] * len(seen), seen, color=colour, edgecolors="white", s=36, marker=marker, zorder=4)
        text = f"{seen.mean():.3f}" if seen.max() <= 1.5 else f"{seen.mean():.1f}"
        ax.annotate(text, (x, seen.max()), (0, 6), textcoords="offset points", ha="center")
    arrays = list(data.values())
    for x, (one, two) in enumerate(zip(arrays[:-1], arrays[1:])):
        for pair in zip(one, two) if paired and len(one) == len(two) > 1 else ():
            ax.plot((x, x + 1), pair, color="#777777", linewidth=0.8, zorder=3)
    ax.set_xticks(range(len(data)), ticks)
    ax.set(ylabel=metric, xlim=(-0.5, len(data) - 0.5))
    ax.margins(y=0.12)
    return figure


@styled
def paired_differences(
    diffs: Mapping[str, Any], *, baseline: str = "cluster contrast", unit: str = "mAP points", title: str | None = None,
) -> Figure:
    """Differences to the baseline: a dot a seed, the mean, its 95 % t interval from three seeds on, and zero.

    diffs: {method: differences per seed (S,)}, in `unit`, method minus baseline with the same seed.
    """
    title = f"Change against {baseline}, seed by seed" if title is None else title
    figure = new_figure(9, 1.5 + 0.62 * max(len(diffs), 1), title=title)
    ax = figure.subplots()
    if not diffs:
        say(ax, "No pairs of runs to compare.")
        return figure
    ax.axvline(0, color="black", linewidth=1.2)
    for y, (name, values) in enumerate(diffs.items()):
        values = _per_seed(values)
        text = _draw_differences(ax, y, values[~np.isnan(values)], method_look(name, list(diffs)))
        ax.text(1.01, y, text, transform=ax.get_yaxis_transform(), va="center", fontsize=9, color="#555555")
    ax.set_yticks(range(len(diffs)), [method_look(name, list(diffs))[2] for name in diffs])
    ax.set(xlabel=f"difference ({unit}; right of zero is better)", ylim=(len(diffs) - 0.5, -0.5))
    ax.grid(axis="x")
    return figure


def _draw_differences(ax: Axes, y: int, values: np.ndarray, look: tuple[str, str, str]) -> str:
    """One method's dots, mean and interval on row `y`; the sentence beside them."""
    if not len(values):
        return "no pairs"
    colour, marker, _ = look
    mean = float(values.mean())
    ax.scatter(values, [y] * len(values), color=colour, marker=marker, s=40, alpha=0.85, edgecolors="white", zorder=3)
    ax.plot([mean] * 2, (y - 0.28, y + 0.28), color=colour, linewidth=3)
    text = f"mean {mean:+.2f}, above 0 in {int((values > 0).sum())} of {len(values)}"
    if len(values) >= 3:
        half = _t_interval(values)
        ax.plot((mean - half, mean + half), (y, y), color=colour, linewidth=1.4, zorder=2)
        text += f"\n95 % interval ±{half:.2f}"
    return text


def _t_interval(values: np.ndarray) -> float:
    """Half the width of the mean's 95 % interval (Student's t)."""
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


@styled
def error_kinds_bars(
    kinds: Sequence[Any] | None, *, epochs: Sequence[int] | None = None, title: str | None = None,
) -> Figure:
    """Right, merged, split and outlier pictures as shares of all, one stacked bar an epoch.

    kinds: for each epoch an array (N,) of those words, or a mapping {word: count}; None: identities unknown.
    """
    figure = new_figure(9, 3.9, title="How pseudo labels go wrong, epoch by epoch" if title is None else title)
    ax = figure.subplots()
    if not kinds:
        say(ax, f"{UNKNOWN}, so errors cannot be told." if kinds is None else "No epochs to show.")
        return figure
    same_length(kinds=kinds, epochs=epochs)
    counts = np.array([_kind_counts(kind) for kind in kinds])
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    x = np.arange(len(kinds)) if epochs is None else np.asarray(epochs)
    below = np.zeros(len(x))
    for (name, hatch), share in zip(_STACK.items(), shares.T):
        ax.bar(x, share, 0.85, bottom=below, color=PALETTE[name], hatch=hatch, edgecolor="white", linewidth=0.3,
               label=ERROR_LABELS[name])
        below += share
    ax.set(xlabel="epoch", ylabel="share of the pictures (0 to 1)", ylim=(0, 1))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower left", ncols=2)
    return figure


def _kind_counts(kinds: Any) -> list[int]:
    """Pictures of each kind in `_STACK`'s order; those of unknown identity are not counted."""
    if isinstance(kinds, Mapping):
        return [int(kinds.get(name, 0)) for name in _STACK]
    return [int((np.asarray(kinds) == name).sum()) for name in _STACK]
