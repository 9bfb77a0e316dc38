"""Which state of an adaptation is kept, epoch by epoch, and what its criteria are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dkdmpl_kit.viz.style import (
    CYCLE,
    MARKERS,
    PALETTE,
    new_figure,
    same_length,
    say,
    styled,
)


@styled
def guard_curve(
    values: Any,
    low: Any,
    high: Any,
    *,
    chosen: int,
    criterion: str = "across",
    title: str = "",
) -> Figure:
    """A criterion's values (E + 1,) of the start and after each epoch, on pictures held out
    of the training.

    low, high: the ends (E + 1,) of the 95 % interval of its change against the start, 0 for
    the start itself. chosen: the epoch that is kept, 0: the start.
    """
    same_length(values=values, low=low, high=high)
    values, low, high = (np.asarray(array, float) for array in (values, low, high))
    kept = "the start is kept" if chosen == 0 else f"epoch {chosen} is kept"
    figure = new_figure(
        7.5,
        3.6,
        title=title or f"Pictures held out judge: {kept}",
        note="Band: 95% interval of the change against the start. It must lie above the line.",
    )
    ax = figure.subplots()
    if len(values) < 2:
        say(ax, "Nothing was trained, so there is nothing to compare with the start.")
        return figure
    epochs = np.arange(len(values))
    ends = values[0] + low, values[0] + high
    ax.fill_between(epochs, *ends, color=PALETTE["blue"], alpha=0.2, lw=0)
    ax.plot(epochs, values, color=PALETTE["blue"], marker="o", label=criterion)
    ax.axhline(values[0], color=PALETTE["grey"], label="the start")
    ax.plot(
        chosen,
        values[chosen],
        marker="o",
        markersize=13,
        markerfacecolor="none",
        markeredgecolor=PALETTE["vermillion"],
        markeredgewidth=2,
        linestyle="none",
        label="kept",
    )
    ax.set(xlabel="epochs of training", ylabel=f"{criterion} (share, 0 to 1)")
    ax.set_xticks(epochs)
    ax.legend(loc="best")
    return figure


@styled
def criteria_against_gain(
    changes: Mapping[str, Any], gains: Any, sets: Sequence[str], *, title: str = ""
) -> Figure:
    """What criteria that need no identities are worth: the change of each against the
    change of mAP, a point a trained state, both against the start of its training.

    changes: {criterion: (n,), NaN where it is unknown}. gains: (n,) points of mAP. sets:
    (n,) what each state was trained on. Each panel names Spearman's rank correlation.
    """
    from scipy.stats import spearmanr

    gains = np.asarray(gains, float)
    names = sorted(set(sets))
    note = "Right of 0 a criterion calls a state better than the start; above 0 it is better."
    figure = new_figure(2.9 * len(changes) + 1.9, 3.9, title=title, note=note)
    axes = np.atleast_1d(figure.subplots(1, len(changes), sharey=True))
    for ax, (criterion, values) in zip(axes, changes.items()):
        values = np.asarray(values, float)
        same_length(changes=values, gains=gains, sets=np.asarray(sets))
        known = ~np.isnan(values)
        for turn, name in enumerate(names):
            of = known & (np.asarray(sets) == name)
            ax.plot(
                values[of],
                gains[of],
                MARKERS[turn % len(MARKERS)],
                color=CYCLE[turn % len(CYCLE)],
                label=name,
                markersize=4.5,
            )
        ax.axhline(0, color=PALETTE["grey"], lw=1)
        ax.axvline(0, color=PALETTE["grey"], lw=1)
        rho = spearmanr(values[known], gains[known])[0] if known.sum() > 2 else float("nan")
        ax.set(
            title=f"{criterion}: rank correlation {rho:.2f}", xlabel=f"change of {criterion}"
        )
    axes[0].set_ylabel("change of mAP (points)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    return figure
