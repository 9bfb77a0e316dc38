"""When a match is believed: false and true positives at every threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dkdmpl_kit.viz.style import PALETTE, legend_entries, new_figure, same_length, styled


@styled
def match_rates(
    thresholds: Any,
    fpr: Any,
    tpr: Any,
    *,
    resampled: Any = None,
    chosen: float | None = None,
    labels: str = "",
    title: str = "",
) -> Figure:
    """Rates of believed pairs at every threshold, and one against the other.

    thresholds (T,) similarities; fpr, tpr (T,) shares of the pairs of different identities
    and of one that are at least so similar, tpr NaN where there are none of one.
    resampled (B, T): fpr of a bootstrap, drawn as the band of 95%. chosen: the threshold to
    mark. labels: where identities come from, for the note.
    """
    same_length(thresholds=thresholds, fpr=fpr, tpr=tpr)
    thresholds, fpr, tpr = (np.asarray(a, float) for a in (thresholds, fpr, tpr))
    if not title and chosen is not None:
        at = int(np.searchsorted(thresholds, chosen))
        title = f"Believed from similarity {chosen:.3f}: {fpr[at]:.2g} of strangers"
        if not np.isnan(tpr[at]):
            title += f", {tpr[at]:.0%} of true matches"
    note = f"Identities: {labels}." if labels else ""
    if resampled is not None:
        note += " Band: 95% of resampled identities."
    figure = new_figure(9.5, 3.6, title=title or "Pairs that are believed", note=note)
    left, right = figure.subplots(1, 2)
    _draw_rates(left, thresholds, fpr, tpr, resampled)
    seen = (fpr > 0) & ~np.isnan(tpr)
    right.plot(fpr[seen], tpr[seen], color=PALETTE["blue"])
    right.set(
        xscale="log" if seen.any() else "linear",
        xlabel="false-positive rate (share of strangers)",
        ylabel="true-positive rate",
        ylim=(0, 1.02),
        title="One against the other",
    )
    if chosen is not None:
        left.axvline(chosen, color=PALETTE["black"], linestyle=":", label="chosen")
        at = int(np.searchsorted(thresholds, chosen))
        if fpr[at] > 0 and not np.isnan(tpr[at]):
            right.plot(fpr[at], tpr[at], "o", color=PALETTE["black"])
    handles = legend_entries(left)
    left.legend(handles.values(), handles.keys(), loc="lower left")
    return figure


def _draw_rates(
    ax: Axes, thresholds: np.ndarray, fpr: np.ndarray, tpr: np.ndarray, resampled: Any
) -> None:
    """Both rates over the threshold, where they still change."""
    shown = (fpr < 1) | ((tpr < 1) & ~np.isnan(tpr))
    shown &= (fpr > 0) | (tpr > 0)
    for rate, name, colour, dashes in (
        (fpr, "strangers (FPR)", "vermillion", "--"),
        (tpr, "true matches (TPR)", "green", "-"),
    ):
        drawn = np.where(shown & (rate > 0), rate, np.nan)
        ax.plot(thresholds, drawn, color=PALETTE[colour], linestyle=dashes, label=name)
    if resampled is not None:
        low, high = np.quantile(np.asarray(resampled, float), [0.025, 0.975], axis=0)
        band = shown & (low > 0)
        ax.fill_between(
            thresholds,
            low,
            high,
            where=band,
            color=PALETTE["vermillion"],
            alpha=0.2,
            linewidth=0,
        )
    ax.set(
        yscale="log",
        xlabel="threshold of similarity",
        ylabel="share of pairs that is believed",
        title="Pairs at least so similar",
    )
