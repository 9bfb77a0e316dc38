"""The noise in pseudo labels: between which cameras, how it moves, how it is found,
whom it costs what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.viz.style import (
    CYCLE,
    MARKERS,
    PALETTE,
    UNKNOWN,
    VIEW_COLOURS,
    VIEW_LABELS,
    count,
    method_look,
    new_figure,
    same_length,
    say,
    styled,
)

_KIND_COLOURS = ("grey", "purple", "sky", "black")  # of kinds of noise: not a method's


@styled
def camera_error_maps(
    cameras: Any,
    merged: Any,
    together: Any,
    split: Any,
    same: Any,
    *,
    title: str = "Errors by pair of cameras: the diagonal is one camera with itself",
) -> Figure:
    """Rates of wrongly merged and wrongly split pairs by the cameras of their two
    images, with the counts behind them.

    cameras (C,); the rest (C, C), symmetric counts of pairs, wrong ones and all
    (`noise.camera_pair_errors`).
    """
    figure = new_figure(9.5, 4.4, title=title)
    panels = (
        ("wrong among pairs in one cluster (merged)", merged, together),
        ("wrong among pairs of one identity (split)", split, same),
    )
    for ax, (name, wrong, pairs) in zip(figure.subplots(1, 2), panels):
        wrong = np.asarray(wrong)
        pairs = np.asarray(pairs)
        if wrong.shape != (len(cameras), len(cameras)) or wrong.shape != pairs.shape:
            raise KitError(
                f"camera_error_maps: counts {wrong.shape} do not fit {len(cameras)} "
                "cameras; give (C, C)."
            )
        if not pairs.any():
            say(ax, "No such pairs.")
            continue
        rate = np.divide(wrong, pairs, out=np.full(wrong.shape, np.nan), where=pairs > 0)
        image = ax.imshow(rate, vmin=0, vmax=1, cmap="cividis")
        if len(cameras) <= 8:
            for (y, x), value in np.ndenumerate(rate):
                text = "no pair" if np.isnan(value) else f"{value:.0%}\nof {pairs[y, x]:,}"
                box = {"facecolor": "#777777", "linewidth": 0} if np.isnan(value) else None
                ax.text(
                    x,
                    y,
                    text,
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="black" if value > 0.5 else "white",
                    bbox=box,
                    in_layout=False,
                )
        ax.set(title=name, xlabel="camera", ylabel="camera")
        ax.set_xticks(range(len(cameras)), [str(c) for c in cameras])
        ax.set_yticks(range(len(cameras)), [str(c) for c in cameras])
        ax.grid(False)
        figure.colorbar(image, ax=ax, shrink=0.8, label="share of the pairs (0 to 1)")
    return figure


@styled
def camera_error_rates(
    cameras: Any,
    merged: Any,
    together: Any,
    split: Any,
    same: Any,
    *,
    title: str = "Errors within one camera and between two",
) -> Figure:
    """How often pairs are wrongly merged (left) and wrongly split (right): bars of all pairs
    within one camera and between two, and a dot for each camera or pair of cameras.

    Arguments as in `camera_error_maps`; a larger dot stands for more pairs.
    """
    figure = new_figure(9.5, 4.2, title=title)
    panels = (
        ("merged", "of the pairs in one cluster", merged, together),
        ("split", "of the pairs of one identity", split, same),
    )
    n = len(cameras)
    apart = np.triu_indices(n, 1)
    groups = (("one camera", np.diag_indices(n)), ("two cameras", apart))
    for ax, (name, unit, wrong, pairs) in zip(figure.subplots(1, 2), panels):
        wrong = np.asarray(wrong)
        pairs = np.asarray(pairs)
        if wrong.shape != (n, n) or wrong.shape != pairs.shape:
            raise KitError(
                f"camera_error_rates: counts {wrong.shape} do not fit {n} cameras; give (C, C)."
            )
        if not pairs.any():
            say(ax, "No such pairs.")
            continue
        for x, (_, cells) in enumerate(groups):
            total = int(pairs[cells].sum())
            rate = 100 * wrong[cells].sum() / max(total, 1)
            ax.bar(x, rate, 0.6, color=PALETTE[name], alpha=0.45)
            there = pairs[cells] > 0
            rates = 100 * wrong[cells][there] / pairs[cells][there]
            beside = np.linspace(-0.2, 0.2, len(rates)) if len(rates) != 1 else np.zeros(1)
            size = 8 + 90 * pairs[cells][there] / pairs.max()
            ax.scatter(x + beside, rates, s=size, color=PALETTE["black"], alpha=0.6, zorder=3)
            text = f"{rate:.0f} %\nof {total:,}" if total else "no pair"
            ax.text(x - 0.36, rate, text, ha="right", va="center", fontsize=9)
        ax.set_xticks(
            range(len(groups)), [f"within {groups[0][0]}", f"between {groups[1][0]}"]
        )
        ax.set(
            title=f"wrongly {name}",
            ylabel=f"wrong {unit} (%)",
            xlim=(-0.8, 1.5),
        )
        ax.set_ylim(bottom=0)
        ax.grid(axis="x", visible=False)
    return figure


@styled
def mass_balance_bars(
    balances: Mapping[str, Any],
    *,
    title: str = "What a view brings to the true cluster, and what it takes from it",
    note: str = "",
) -> Figure:
    """Of each view: mass brought to the true cluster where the label is wrong (right, green),
    mass taken from it where the label is right (left), and the difference with its interval.

    balances: {view's name: `noise.MassBalance`}; right of 0 mixing the view in brings the
    label nearer to the truth (method: P2).
    """
    figure = new_figure(9.5, 1.9 + 0.5 * max(len(balances), 2), title=title, note=note)
    ax = figure.subplots()
    if not balances:
        say(ax, "No view to judge.")
        return figure
    for y, found in enumerate(balances.values()):
        first = y == 0
        ax.barh(
            y,
            -found.lost,
            0.6,
            color=PALETTE["wrong"],
            alpha=0.6,
            label="taken where the label is right" if first else None,
        )
        ax.barh(
            y,
            found.gained,
            0.6,
            color=PALETTE["right"],
            alpha=0.6,
            hatch="//",
            edgecolor="white",
            label="brought where the label is wrong" if first else None,
        )
        ax.plot(
            [found.margin],
            [y],
            "D",
            color=PALETTE["black"],
            label="difference, 95 % interval" if first else None,
        )
        ax.hlines(y, found.low, found.high, color=PALETTE["black"])
    ax.axvline(0, color=PALETTE["black"], linewidth=1)
    ax.set_yticks(range(len(balances)), list(balances))
    ax.set(
        ylim=(len(balances) - 0.5, -0.5),
        xlabel="probability of the true cluster, mean per picture",
    )
    ax.grid(axis="y", visible=False)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=3)
    return figure


@styled
def change_curves(
    table: Mapping[str, Any], *, title: str = "How labels move from epoch to epoch"
) -> Figure:
    """How labels move over the epochs: clusters that come, go, split and merge (left),
    images that change (right).

    table: columns (E - 1,) of `noise.change_table`.
    """
    figure = new_figure(9.5, 3.9, title=title)
    groups = (
        ("clusters (count)", ("births", "deaths", "splits", "merges")),
        ("images (count)", ("flips", "became_outliers", "stopped_outliers")),
    )
    for ax, (unit, names) in zip(figure.subplots(1, 2), groups):
        if not len(table["epoch"]):
            say(ax, "No two epochs to compare.")
            continue
        for name, colour, marker in zip(names, CYCLE, MARKERS):
            ax.plot(
                table["epoch"],
                table[name],
                color=colour,
                marker=marker,
                label=name.replace("_", " "),
            )
        ax.set(xlabel="epoch (against the one before)", ylabel=unit)
        ax.set_ylim(bottom=0)
        ax.set_xlim(min(table["epoch"]) - 0.5, max(table["epoch"]) + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1.0))
    return figure


@styled
def suspicion_curves(
    curves: Mapping[str, tuple[Any, Any] | None] | None,
    *,
    aurocs: Mapping[str, float | None] | None = None,
    title: str = "Looking at suspicious images first",
) -> Figure:
    """The share of the wrong labels found by looking at the most suspicious images
    first, one line a score.

    curves: {score: (looked, found)} of `noise.suspicion_curve`, None where no label is
    wrong; None in place of all: identities unknown. `aurocs` {score: value} stand in the
    legend.
    """
    figure = new_figure(7.5, 4.4, title=title)
    ax = figure.subplots()
    drawn = {name: curve for name, curve in (curves or {}).items() if curve is not None}
    if not drawn:
        say(ax, f"{UNKNOWN}." if curves is None else "No label is wrong.")
        return figure
    for (name, (looked, found)), colour, marker in zip(drawn.items(), CYCLE, MARKERS):
        same_length(looked=looked, found=found)
        area = (aurocs or {}).get(name)
        ax.plot(
            looked,
            found,
            color=colour,
            marker=marker,
            markevery=(0.1, 0.2),
            label=name if area is None else f"{name} (AUROC {area:.2f})",
        )
    ax.plot((0, 1), (0, 1), color=PALETTE["grey"], linestyle=":", label="in any order")
    ax.set(
        xlabel="share of the labelled images looked at (0 to 1)",
        ylabel="share of the wrong labels found (0 to 1)",
    )
    ax.legend(loc="lower right")
    return figure


def _draw_bars(
    ax: Axes, rates: np.ndarray, values: np.ndarray, look: tuple[str, str, str]
) -> None:
    """One method's mean over the seeds (S, R) at each rate measured, with its spread
    from two seeds on.
    """
    colour, marker, label = look
    seeds = (~np.isnan(values)).sum(axis=0)
    shown = seeds > 0
    mean = np.nanmean(values[:, shown], axis=0)
    spread = np.zeros(len(mean))
    several = seeds[shown] > 1
    spread[several] = np.nanstd(values[:, seeds > 1], axis=0, ddof=1)
    ax.errorbar(
        rates[shown],
        mean,
        spread,
        color=colour,
        marker=marker,
        capsize=3,
        label=f"{label} ({count(int(seeds.max(initial=0)), 'seed')})",
    )


@styled
def noise_panels(
    curves: Mapping[str, Mapping[str, tuple[Any, Any]]],
    gains: Sequence[Mapping[str, Any]],
    *,
    title: str = "Wrong labels on purpose: what a method bears, and what it gains",
    note: str = "",
) -> Figure:
    """By kind of noise: mAP against the rate (above), and what each method gains over
    cluster contrast (below).

    curves {kind: {method: (rates (R,), values (S, R))}}, bars of one standard
    deviation; gains: rows of `robustness.gains`, bars of the 95 % t interval over
    seeds, drawn beside one another; kind "none" stands at rate 0.
    """
    figure = new_figure(max(3.6 * len(curves), 7), 6.4, title=title, note=note)
    if not curves:
        say(figure.subplots(), "No results to show.")
        return figure
    axes = figure.subplots(2, len(curves), squeeze=False, sharey="row", sharex=True)
    for (kind, methods), top, bottom in zip(curves.items(), *axes):
        for method, (rates, values) in methods.items():
            values = 100 * np.atleast_2d(np.asarray(values, float))
            look = method_look(method, list(methods))
            _draw_bars(top, np.asarray(rates, float), values, look)
        name = "no" if kind == "none" else kind.replace("_", " ")
        top.set(title=f"{name} noise")
        bottom.axhline(0, color="black", linewidth=1.2)
        shown = [row for row in gains if row["kind"] in (kind, "none")]
        names = list(dict.fromkeys(row["method"] for row in shown))
        for place, name in enumerate(names):
            mine = [row for row in shown if row["method"] == name]
            mine.sort(key=lambda row: row["rate"])
            colour, marker, _ = method_look(name, names)
            shift = 0.022 * (place - (len(names) - 1) / 2)  # beside one another
            bottom.errorbar(
                [row["rate"] + shift for row in mine],
                [100 * row["mean"] for row in mine],
                [100 * (row["half"] or 0) for row in mine],
                color=colour,
                marker=marker,
                capsize=3,
                linewidth=1.2,
            )
        bottom.set(xlabel="share of wrong labels (0 to 1)")
    axes[0, 0].set_ylabel("mAP (%): mean, one deviation")
    axes[1, 0].set_ylabel("gain (mAP points), 95 % interval")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower left", ncols=4)
    return figure


@styled
def margin_gain(
    panels: Mapping[str, Sequence[tuple[str, float, float]]],
    *,
    title: str = "P2's break-even margin, and what GKD gained",
) -> Figure:
    """Did P2's break-even predict GKD's gain? One panel a moment of measuring, one
    point a condition and seed.

    panels: {"first" or "last" epoch: rows (kind, break-even margin, gain in mAP from 0
    to 1)}; shaded: the signs agree.
    """
    figure = new_figure(10, 4.6, title=title)
    axes = figure.subplots(1, max(len(panels), 1), squeeze=False, sharey=True)[0]
    for ax, (when, points) in zip(axes, panels.items()):
        if not points:
            say(ax, "No pairs of runs to compare.")
            continue
        margins = np.array([margin for _, margin, _ in points], float)
        gained = 100 * np.array([gain for _, _, gain in points], float)
        reach = 1.1 * max(abs(margins).max(), 1e-3)
        height = 1.15 * max(abs(gained).max(), 1e-3)
        for x, y in ((reach, height), (-reach, -height)):
            ax.fill_between((0, x), 0, y, color=PALETTE["right"], alpha=0.1, linewidth=0)
        kinds = np.array([kind for kind, _, _ in points])
        for place, kind in enumerate(dict.fromkeys(kinds.tolist())):
            mine = kinds == kind
            colour = PALETTE[_KIND_COLOURS[place % len(_KIND_COLOURS)]]
            ax.plot(
                margins[mine],
                gained[mine],
                MARKERS[place % len(MARKERS)],
                color=colour,
                alpha=0.8,
                linestyle="",
                label="no noise" if kind == "none" else kind.replace("_", " "),
            )
        ax.axhline(0, color="black", linewidth=1)
        ax.axvline(0, color="black", linewidth=1)
        ax.set(
            xlim=(-reach, reach),
            ylim=(-height, height),
            title=f"margin after the {when} epoch",
            xlabel="break-even margin (right: P2 says GKD's label is better)",
        )
        if ax is axes[0]:
            entries = ax.get_legend_handles_labels()
            figure.legend(*entries, loc="outside lower left", ncols=4)
    axes[0].set_ylabel("gain of GKD over cluster contrast (mAP points)")
    return figure


@styled
def repaired_and_spoilt(
    teachers: Mapping[str, tuple[float, float]],
    *,
    title: str = "What each teacher repairs on wrong labels, and spoils on right ones",
) -> Figure:
    """P2 as two bars a teacher: its label is nearer to the truth than the hard one where
    the green bar is the longer one.

    teachers {name: (eta e_w, (1 - eta)(1 - e_c))}, the first on top. method: P2.
    """
    figure = new_figure(9, 1.6 + 0.55 * len(teachers), title=title)
    ax = figure.subplots()
    if not teachers:
        say(ax, "No teachers to show.")
        return figure
    places = np.arange(len(teachers))
    sides = (("repaired: η e_w", "right", ""), ("spoilt: (1 − η)(1 − e_c)", "wrong", "//"))
    for j, (name, colour, hatch) in enumerate(sides):
        lengths = [values[j] for values in teachers.values()]
        y = places + (j - 0.5) * 0.36
        ax.barh(
            y,
            lengths,
            0.34,
            color=PALETTE[colour],
            hatch=hatch,
            edgecolor="white",
            linewidth=0,
            label=name,
        )
        for place, length in zip(y, lengths):
            ax.text(length, place, f" {length:.3f}", va="center", fontsize=8)
    ax.set_yticks(places, list(teachers))
    ax.invert_yaxis()
    ax.set(xlabel="probability moved to the true cluster (repaired) or away (spoilt), mean")
    ax.set_xlim(0, 1.12 * max(max(max(values) for values in teachers.values()), 1e-3))
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure


@styled
def reliability_diagrams(
    views: Mapping[str, tuple[Any, Any, Any]],
    *,
    errors: Mapping[str, float] | None = None,
    title: str = "Reliability: on the diagonal a label is right as often as it says",
) -> Figure:
    """Is a view right as often as it says? One panel a view: accuracy against
    confidence by bin, and the pictures per bin.

    views {"e", "q", "a", "r3", ...: (confidence (b,), accuracy (b,), count (b,)) of its
    filled bins}; `errors` {view: ECE} (Guo et al. 2017). On the diagonal a view is
    calibrated; below it, it is too sure.
    """
    figure = new_figure(max(2.7 * len(views), 6), 3.9, title=title)
    axes = figure.subplots(1, max(len(views), 1), squeeze=False, sharey=True)[0]
    if not views:
        say(axes[0], "No views to show.")
    for ax, (name, (confidence, accuracy, pictures)) in zip(axes, views.items()):
        same_length(confidence=confidence, accuracy=accuracy, count=pictures)
        colour = VIEW_COLOURS.get(name, PALETTE["sky"])
        pictures = np.asarray(pictures, float)
        ax.plot((0, 1), (0, 1), color=PALETTE["grey"], linestyle=":")
        ax.vlines(confidence, confidence, accuracy, color=PALETTE["wrong"], linewidth=1.2)
        ax.plot(confidence, accuracy, color=colour, linewidth=1)
        ax.scatter(
            confidence,
            accuracy,
            s=12 + 160 * pictures / max(pictures.sum(), 1),
            color=colour,
            zorder=3,
            clip_on=False,  # a large point on the edge stays whole
        )
        heading = VIEW_LABELS.get(name, name).replace(": ", "\n")
        if (errors or {}).get(name) is not None:
            heading += f"\nECE {errors[name]:.2f}"
        ax.set(
            xlim=(-0.03, 1.03),
            ylim=(-0.03, 1.03),
            xlabel="confidence",
            aspect="equal",
            title=heading,
        )
    axes[0].set_ylabel("accuracy (0 to 1)")
    return figure
