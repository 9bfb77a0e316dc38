"""Wrong pairs of images: what may have caused them, how they look, and what injected
noise does to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    NullFormatter,
)

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.viz.pictures import GAP, as_pictures, corner_of, mosaic
from dkdmpl_kit.viz.style import CYCLE, MARKERS, PALETTE, new_figure, same_length, say, styled

_KIND_NAMES = {
    "merged": "pairs of two identities in one cluster",
    "split": "pairs of one identity in two clusters",
}


@styled
def pair_cause_bars(
    table: Mapping[str, Sequence], *, kind: str, title: str | None = None, note: str = ""
) -> Figure:
    """Which share of the wrong pairs each cause explains (dark, with its interval), and in
    which share it is true (light); the last row is what no clear cause explains. Causes hold
    together, so the rows need not add up to 100 %.

    table: columns of `noise.PairCauses.table`; kind "merged" or "split".
    """
    same_length(**table)
    names = list(table["cause"])
    title = f"What explains {_KIND_NAMES[kind]}" if title is None else title
    note = note or "Several causes can hold for one pair, so the rows need not add up to 100 %."
    figure = new_figure(9.5, 2.0 + 0.42 * max(len(names), 2), title=title, note=note)
    ax = figure.subplots()
    if not table["pairs"] or not any(table["pairs"]):
        say(ax, f"No pair is wrongly {kind}.")
        return figure
    rows = [dict(zip(table, values)) for values in zip(*table.values())]
    y = np.arange(len(rows))
    true = [100 * row["holds"] for row in rows[:-1]]
    drawn = [row["clear"] for row in rows[:-1]]
    explains = [100 * row["explains"] * clear for row, clear in zip(rows, drawn)]
    if len(rows) > 1:
        ax.barh(y[:-1], true, 0.7, color=PALETTE["light"], alpha=0.5, label="has the cause")
        ax.barh(y[:-1], explains, 0.4, color=PALETTE[kind], label="explained by it")
    rest = 100 * rows[-1]["explains"]
    ax.barh(y[-1], rest, 0.4, color=PALETTE["grey"], label="explained by none")
    for place, row in enumerate(rows):
        ends = [100 * row[end] for end in ("from", "to")]
        if not np.isnan(ends).any() and (row["clear"] or row["low"] <= 1):
            ax.plot(ends, [place, place], color=PALETTE["black"], linewidth=1.4)
        ax.text(102, place, _explained(row), va="center", ha="left", fontsize=9)
    ax.set_yticks(y, names)
    ax.set_xticks(range(0, 101, 20))
    ax.set(ylim=(len(names) - 0.5, -0.5), xlim=(0, 165))
    ax.set_xlabel(f"share of the wrongly {kind} pairs (%; line: 95 % interval)", loc="left")
    ax.grid(axis="y", visible=False)
    ax.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0))
    return figure


def _explained(row: Mapping[str, Any]) -> str:
    """What stands beside the bar of a cause."""
    if np.isnan(row["odds_ratio"]):
        return f"{row['explains']:.0%} left"
    odds = f"odds ×{_short(row['odds_ratio'])}"
    if np.isnan(row["to"]):
        return odds
    span = f"{row['from']:.0%} to {row['to']:.0%}".replace("% to", " to")
    if not row["clear"] and row["low"] > 1:
        return f"nearly all pairs have it, {odds}"
    if not row["clear"]:
        return f"undecided ({span}), {odds}"
    return f"explains {row['explains']:.0%} ({span}), {odds}"


def _short(value: float) -> str:
    """An odds ratio as text; near 1 with a digit more, as the side of 1 decides."""
    if np.isnan(value):
        return "?"
    if value > 100:
        return "100 or more"
    if value >= 10:
        return f"{value:.0f}"
    return f"{value:.2f}" if 0.9 < value < 1.1 else f"{value:.1f}"


@styled
def factor_map(
    effects: Mapping[str, tuple[Any, Any, Any, Any]],
    *,
    title: str = "What wrong pairs share more (orange) or less often (purple) than right ones",
    note: str = "",
) -> Figure:
    """Factor x kind of error: the odds ratio as colour, and how often the factor holds
    in wrong and in right pairs.

    effects {"merged" or "split": (names (F,), odds_ratio (F,), share_wrong (F,),
    share_right (F,))} of `noise.noise_causes`.
    """
    names = list(dict.fromkeys(name for rows, *_ in effects.values() for name in rows))
    figure = new_figure(9.5, 1.8 + 0.5 * max(len(names), 2), title=title, note=note)
    ax = figure.subplots()
    if not names:
        say(ax, "No factor differs between wrong and right pairs.")
        return figure
    odds = np.full((len(names), len(effects)), np.nan)
    for x, (factors, ratio, wrong, right) in enumerate(effects.values()):
        same_length(names=factors, odds_ratio=ratio, share_wrong=wrong, share_right=right)
        for name, value, among_wrong, among_right in zip(factors, ratio, wrong, right):
            y = names.index(name)
            odds[y, x] = value
            far = abs(np.log(max(value, 1e-6))) > np.log(6)
            shares = f"{among_wrong:.0%} of wrong, {among_right:.0%} of right pairs"
            ax.text(
                x,
                y,
                f"odds ×{value:.2g}\n{shares}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if far else "black",
                in_layout=False,
            )
    image = ax.imshow(odds, norm=LogNorm(0.1, 10), cmap="PuOr_r", aspect="auto")
    for y, x in np.argwhere(np.isnan(odds)):
        ax.text(
            x,
            y,
            "the same in all pairs",
            ha="center",
            va="center",
            fontsize=9,
            color=PALETTE["grey"],
            in_layout=False,
        )
    ax.set_xticks(range(len(effects)), [f"wrongly {kind}" for kind in effects])
    ax.set_yticks(range(len(names)), names)
    ax.grid(False)
    bar = figure.colorbar(image, ax=ax, label="odds ratio (log scale)", extend="both")
    bar.ax.yaxis.set_major_locator(FixedLocator([0.1, 0.3, 1, 3, 10]))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return figure


@styled
def pair_pictures(
    first: Any,
    second: Any,
    captions: Sequence[str] = (),
    *,
    kind: str | None = None,
    per_row: int = 6,
    title: str = "",
    note: str = "",
) -> Figure:
    """Pairs of pictures side by side, a frame a pair in the colour of its `kind` of
    error; captions below.

    first, second: uint8 (n, 3, H, W) or (n, H, W, 3), as many of either; none: a
    sentence.
    """
    if same_length(first=first, second=second) == 0:
        figure = new_figure(9.5, 1.4, title=title, note=note)
        say(figure.subplots(), "There is no such pair to show.")
        return figure
    couples = [
        np.concatenate(pair, axis=1) for pair in zip(as_pictures(first), as_pictures(second))
    ]
    if captions and len(captions) != len(couples):
        raise KitError(
            f"pair_pictures: {len(captions)} captions for {len(couples)} pairs; give "
            "one a pair."
        )
    colour = PALETTE.get(kind, PALETTE["grey"])
    rows = -(-len(couples) // per_row)
    height, width = couples[0].shape[:2]
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    each = 9.3 / (per_row * (1 + GAP) + GAP) * (height / width + 2 * GAP) + 0.17 * lines
    figure = new_figure(
        9.5, 0.15 + 0.3 * bool(title) + 0.3 * bool(note) + rows * each, title=title, note=note
    )
    for r, ax in enumerate(figure.subplots(rows, 1, squeeze=False)[:, 0]):
        cells = couples[r * per_row : (r + 1) * per_row]
        ax.set_anchor("N")
        mosaic(ax, [cells], (height, width), columns=per_row)
        for c in range(len(cells)):
            caption = captions[r * per_row + c] if captions else ""
            _frame_pair(ax, c, (height, width), colour, caption)
    return figure


def _frame_pair(
    ax: Axes, column: int, size: tuple[int, int], colour: str, caption: str
) -> None:
    """One frame and one line between the two pictures, drawn as one path; the caption
    stands below.
    """
    y, x = corner_of(0, column, *size)
    bottom = y + size[0]
    right = x + size[1]
    middle = x + size[1] / 2
    ax.plot(
        [middle, middle, x, x, right, right, middle],
        [bottom, y, y, bottom, bottom, y, y],
        color=colour,
        linewidth=2.2,
    )
    ax.text(middle, bottom + 0.05 * size[1], caption, ha="center", va="top", fontsize=8)


@styled
def noise_response_curves(
    table: Mapping[str, Any],
    *,
    noise: str,
    kind: str = "merged",
    mark: float | None = None,
    title: str | None = None,
) -> Figure:
    """What injected noise does as its rate grows: agreement (left), odds ratios of what
    may cause wrong pairs (right).

    table: columns (R,) of `noise.noise_response`; `mark`: the rate that is looked at.
    """
    measures = ("ari", "pair_precision", "pair_recall")
    if title is None:
        name = noise.replace("_", " ")
        title = f"Injected noise, {name}: agreement, and what marks wrongly {kind} pairs"
    figure = new_figure(9.5, 3.9, title=title)
    left, right = figure.subplots(1, 2)
    factors = [name for name in table if name not in (*measures, "rate")]
    for ax, names in ((left, measures), (right, factors)):
        drawn = [name for name in names if not np.isnan(table[name]).all()]
        for name, colour, marker in zip(drawn, CYCLE, MARKERS):
            label = "ARI" if name == "ari" else name.replace("_", " ")
            ax.plot(
                table["rate"],
                table[name],
                color=colour,
                marker=marker,
                label=label,
                clip_on=ax is right,
            )
        if not drawn:
            say(ax, f"No wrongly {kind} pairs, or nothing known that may cause them.")
            continue
        if mark is not None:
            ax.axvline(mark, color=PALETTE["black"], linestyle=":", label="the slider")
        ax.set(xlabel="share of wrong labels (0 to 1)")
        ax.legend(
            ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0), fontsize=8, columnspacing=1.0
        )
    left.set(ylabel="agreement (0 to 1)", ylim=(0, 1.02), xlim=left.get_xlim())
    if right.lines:
        right.set(
            ylabel="odds ratio (log scale; 1: no link)", yscale="log", xlim=left.get_xlim()
        )
        low, high = right.get_ylim()
        right.set_ylim(min(low, 0.2), max(high, 5))
        right.axhline(1, color=PALETTE["black"], linewidth=1.2, zorder=1)
        right.yaxis.set_major_locator(
            LogLocator(subs=(1,) if high > 50 * low else (1, 2, 5), numticks=8)
        )
        right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        right.yaxis.set_minor_formatter(NullFormatter())
    return figure
