"""Curves over epochs, eps and distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.viz.style import (
    PALETTE,
    UNKNOWN,
    add_note,
    count,
    legend_entries,
    method_look,
    new_figure,
    same_length,
    say,
    styled,
)

METRICS: dict[str, tuple[str, str]] = {
    "mAP": ("mAP (0 to 1)", "Retrieval of unseen identities: higher is better"),
    "rank1": ("Rank-1 (0 to 1)", "First place right: higher is better"),
    "mINP": ("mINP (0 to 1)", "The hardest match: higher is better"),
    "ari": ("ARI (1 = true partition)", "Pseudo labels against the truth: higher is better"),
    "right_labels": (
        "right labels (share of all)",
        "Outliers count as not right: higher is better",
    ),
    "nmi": ("NMI (0 to 1)", "Pseudo labels against the truth: higher is better"),
    "purity": ("purity (0 to 1)", "Share of each cluster's main identity"),
    "n_clusters": ("clusters (count)", "Clusters: near the number of identities is good"),
    "outlier_fraction": (
        "outliers (share)",
        "Pictures left out of training: lower is better",
    ),
    "loss": ("loss (nats)", "Loss: comparable within a method only"),
    "loss_cc": ("cluster contrast (nats)", "Loss of the hard label"),
    "loss_gkd": ("GKD (nats)", "Distance of student and teacher"),
    "loss_skd": ("SKD (nats)", "Distance of query and anchor view"),
    "learning_rate": ("learning rate", "Learning rate"),
    "gkd_cosine": ("cosine with cluster contrast", "GKD's gradient: 1 adds nothing"),
    "skd_cosine": ("cosine with cluster contrast", "SKD's gradient: 1 adds nothing"),
    "teacher_own_mass": (
        "mass e[y] (0 to 1)",
        "The teacher on the hard label: 1 is no doubt",
    ),
    "teacher_truth": ("mass on the truth (0 to 1)", "The teacher on clusters of the same identity"),
    "teacher_sibling_lift": (
        "lift (1 = chance)",
        "Its doubt on clusters of the same identity",
    ),
    "brier_gain": ("Brier score saved", "P2: above 0 GKD's label is nearer to the truth"),
    "eps": ("eps", "Radius of the clustering"),
    "largest_share": (
        "largest cluster (share)",
        "A few per cent at most: else clusters merged",
    ),
}
# what the distillations add to cluster contrast
DISTILLATION = ("gkd_cosine", "skd_cosine", "teacher_own_mass", "teacher_truth")
ADDS_NOTHING = {"gkd_cosine": 1.0, "skd_cosine": 1.0, "teacher_own_mass": 1.0}
# measured against true identities
TRUTH = (
    "ari",
    "right_labels",
    "nmi",
    "purity",
    "teacher_truth",
    "teacher_sibling_lift",
    "brier_gain",
)
LABELS = ("ari", "right_labels")  # where both are drawn they have one scale
BAND = "Line: mean over the seeds; band: from the least to the most"


def _seed_runs(history: Any) -> list[list[Mapping[str, Any]]]:
    """One list of records a seed, from a single list of records or a list of such
    lists.
    """
    history = list(history)
    if not history or isinstance(history[0], Mapping):
        return [history]
    return [list(run) for run in history]


def _table(
    runs: Sequence[Sequence[Mapping[str, Any]]], metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """(epochs (E,), values (seeds, E), NaN where not measured) of one metric, epochs
    without any value left out.
    """
    rows = [
        {int(r["epoch"]): float(r[metric]) for r in run if r.get(metric) is not None}
        for run in runs
    ]
    epochs = sorted(set().union(*rows)) if rows else []
    values = np.array([[row.get(e, np.nan) for e in epochs] for row in rows])
    return np.array(epochs, int), values.reshape(len(rows), -1)


def _draw_curves(ax: Axes, histories: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """One metric of all methods: the mean over seeds, with a band where there are
    several; {legend entry: line}.
    """
    lines: dict[str, Any] = {}
    for method, history in histories.items():
        colour, marker, label = method_look(method, list(histories))
        epochs, values = _table(_seed_runs(history), metric)
        if not len(epochs):
            continue
        if len(values) > 1:
            ax.fill_between(
                epochs,
                np.nanmin(values, 0),
                np.nanmax(values, 0),
                color=colour,
                alpha=0.18,
                linewidth=0,
            )
            label += f" ({len(values)} seeds)"
        every = max(len(epochs) // 8, 1)
        (lines[label],) = ax.plot(
            epochs, np.nanmean(values, 0), color=colour, marker=marker, markevery=every
        )
    return lines


@styled
def training_curves(
    histories: Mapping[str, Any],
    *,
    metrics: Sequence[str] = ("mAP", "ari", "n_clusters", "loss"),
    references: Mapping[str, float] | None = None,
    title: str = "",
) -> Figure:
    """Each metric over the epochs, one colour a method; over several seeds the mean,
    and a band over their range.

    histories: {method: list of records} or {method: list of lists, one a seed}; a
    record is one line of history.jsonl. `references` {metric: value} draws a dotted
    line, say the true number of identities under "n_clusters".
    """
    if not metrics:
        raise KitError(
            "training_curves: no metrics given; name fields of the history, for "
            "example mAP and ari."
        )
    columns = 1 if len(metrics) == 1 else 2
    rows = -(-len(metrics) // columns)
    figure = new_figure(9, 2.7 * rows + 0.8, title=title)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    handles: dict[str, Any] = {}
    for ax, metric in zip(axes, metrics):
        name, hint = METRICS.get(metric, (metric.replace("_", " "), ""))
        lines = _draw_curves(ax, histories, metric)
        if not lines:
            sentence = f"{name}: not measured in these runs."
            say(ax, f"{sentence} {UNKNOWN}." if metric in TRUTH else sentence)
            continue
        if metric in (references or {}):
            lines["reference value"] = ax.axhline(
                references[metric], color=PALETTE["grey"], linestyle=":"
            )
        ax.set(xlabel="epoch", ylabel=name, title=hint)
        compared = metric in LABELS and set(LABELS) <= set(metrics)
        if metric in DISTILLATION or compared:  # so that a small change looks small
            ax.set_ylim(min(0.0, ax.get_ylim()[0]), 1.05)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles = {**lines, **handles}
    for ax in axes[len(metrics) :]:
        ax.set_axis_off()
    if handles:
        explain = BAND if any(label.endswith("seeds)") for label in handles) else None
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower left",
            ncols=min(len(handles), 4),
            title=explain,
            alignment="left",
            title_fontsize=9,
        )
    return figure


@styled
def eps_curve(
    eps: Any,
    n_clusters: Any,
    outlier_fraction: Any,
    ari: Any = None,
    right: Any = None,
    *,
    chosen: float | None = None,
    auto: float | None = None,
    n_identities: int | None = None,
    title: str = "Small eps: many outliers. Large eps: everything melts into one cluster",
) -> Figure:
    """What eps does to the clustering: clusters, share of outliers and, where
    identities are known, ARI and beside it `right`, the share of right labels among all
    pictures, outliers too; each (E,).

    `chosen` marks the eps in use, `auto` the one that `sweep_eps` would take, and
    `n_identities` the true number of identities.
    """
    same_length(
        eps=eps,
        n_clusters=n_clusters,
        outlier_fraction=outlier_fraction,
        ari=ari,
        right=right,
    )
    figure = new_figure(9.5, 3.7, title=title)
    handles: dict[str, Any] = {}
    panels = (
        ("clusters (count)", n_clusters, "blue", "o"),
        ("outliers (share, 0 to 1)", outlier_fraction, "grey", "s"),
        ("ARI (1 = true partition)", ari, "green", "^"),
    )
    curve = {"label": "ARI (clustered pictures only)"} if right is not None else {}
    for ax, (name, values, colour, marker) in zip(figure.subplots(1, 3), panels):
        if values is None or not len(values):
            sentence = "No values of eps given."
            if values is None:
                sentence = f"{UNKNOWN}, so the ARI cannot be measured."
            say(ax, sentence)
            continue
        ax.plot(
            np.asarray(eps, float),
            np.array(values, float),
            color=PALETTE[colour],
            marker=marker,
            **(curve if values is ari else {}),
        )
        ax.set(xlabel="eps (Jaccard distance)", ylabel=name)
        if values is ari and right is not None:
            share = np.array(right, float)
            ax.plot(
                np.asarray(eps, float),
                share,
                color=PALETTE["black"],
                marker="D",
                label="right labels (share of all pictures)",
            )
            ax.set(ylabel="ARI, and right labels (0 to 1)")
        if values is n_clusters and n_identities is not None:
            ax.axhline(
                n_identities, color="black", linestyle=":", label=f"{n_identities} identities"
            )
        if values is outlier_fraction:
            ax.set_ylim(-0.03, 1.03)
        if chosen is not None:
            ax.axvline(
                chosen, color=PALETTE["vermillion"], linestyle="--", label=f"eps = {chosen:g}"
            )
        if auto is not None:
            ax.axvline(
                auto,
                color=PALETTE["purple"],
                linestyle="-.",
                label=f"eps = {auto:g}: where clusters are most, over 3 steps (eps=auto)",
            )
        handles |= legend_entries(ax)
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=3)
    return figure


@styled
def distance_histograms(
    same_id_same_cam: Any,
    same_id_cross_cam: Any,
    different: Any,
    *,
    bins: int = 50,
    unit: str = "cosine distance, 1 − similarity",
    title: str | None = None,
) -> Figure:
    """Distances of pairs in three groups, each histogram of area 1; None for all three:
    identities unknown.

    The title tells how far the same identity under other cameras and different
    identities overlap (shared area).
    """
    groups = (
        ("same identity, same camera", same_id_same_cam, "sky", ":"),
        ("same identity, other camera", same_id_cross_cam, "green", "-"),
        ("different identities", different, "vermillion", "--"),
    )
    data = [
        np.asarray([] if values is None else values, float).ravel()
        for _, values, *_ in groups
    ]
    if not sum(map(len, data)):
        figure = new_figure(9, 3.7, title=title or "")
        say(figure.subplots(), f"{UNKNOWN}, so pairs cannot be told apart.")
        return figure
    edges = np.histogram_bin_edges(np.concatenate(data), bins)
    heights = [
        np.histogram(values, edges, density=True)[0] if len(values) else None
        for values in data
    ]
    if title is None and heights[1] is not None and heights[2] is not None:
        shared = float((np.minimum(heights[1], heights[2]) * np.diff(edges)).sum())
        title = f"Same identity under another camera against strangers: {shared:.0%} overlap"
    figure = new_figure(9, 3.7, title=title or "")
    ax = figure.subplots()
    for (name, _, colour, dashes), values, density in zip(groups, data, heights):
        if density is None:
            add_note(figure, f"No pairs: {name}.")
            continue
        ax.stairs(
            density,
            edges,
            color=PALETTE[colour],
            linestyle=dashes,
            linewidth=1.8,
            label=f"{name} ({count(len(values), 'pair')})",
        )
        ax.stairs(density, edges, color=PALETTE[colour], fill=True, alpha=0.18)
    ax.set(xlabel=unit, ylabel="density (area 1)")
    ax.legend()
    return figure
