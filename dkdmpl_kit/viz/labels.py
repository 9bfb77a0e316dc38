"""Pictures of one label: its three views, what temperature does to it, and the gradient
that it sends back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.viz.pictures import one_picture
from dkdmpl_kit.viz.style import (
    CYCLE,
    MARKERS,
    PALETTE,
    VIEW_COLOURS,
    VIEW_LABELS,
    add_note,
    new_figure,
    same_length,
    say,
    styled,
)

HATCHES = {"e": "//", "q": "", "a": "..", "r3": "xx"}


def hard_vector(hard: Any, clusters: int) -> np.ndarray:
    """The hard label as a one-hot (K,) vector; an index, -1 (an outlier: all zeros) or
    already a vector.
    """
    if np.ndim(hard) == 1:
        return np.asarray(hard, float)
    if not -1 <= int(hard) < clusters:
        raise KitError(
            f"viz: hard label {int(hard)} does not fit {clusters} clusters; give -1 to "
            f"{clusters - 1}."
        )
    return np.eye(clusters)[int(hard)] if int(hard) >= 0 else np.zeros(clusters)


def show_picture(ax: Axes, picture: Any) -> None:
    """Draw one picture, uint8 (3, H, W) or (H, W, 3), without axes."""
    ax.imshow(one_picture(picture))
    ax.set_axis_off()


def _bar_axes(figure: Figure, picture: Any) -> Axes:
    if picture is None:
        return figure.subplots()
    left, right = figure.subplots(1, 2, width_ratios=(1, 7))
    show_picture(left, picture)
    return right


def draw_views(
    ax: Axes,
    one_hot: np.ndarray,
    views: Mapping[str, np.ndarray],
    *,
    top: int = 8,
    notes: Mapping[int, str] | None = None,
) -> None:
    """Views {name: (K,)} of one label as grouped bars over the `top` clusters that any of
    them likes best, and the hard label `one_hot` (K,) as a frame.

    notes {cluster: words}: what stands below a cluster's number.
    """
    # the hard label always among them
    strongest = np.maximum(np.max(list(views.values()), axis=0), 2 * one_hot)
    shown = np.argsort(-strongest, kind="stable")[:top]
    names = [f"{k}\n{(notes or {}).get(int(k), '')}".rstrip() for k in shown]
    if len(one_hot) > len(shown):
        names.append("others")
    width = 0.84 / len(views)
    for j, (name, values) in enumerate(views.items()):
        heights = np.append(values[shown], np.delete(values, shown).sum())[: len(names)]
        ax.bar(
            np.arange(len(names)) + (j - (len(views) - 1) / 2) * width,
            heights,
            width * 0.94,
            edgecolor="white",
            linewidth=0,
            label=VIEW_LABELS[name],
            color=VIEW_COLOURS[name],
            hatch=HATCHES[name],
        )
    if one_hot.any():
        named = np.flatnonzero(one_hot[shown])
        ax.bar(
            named,
            one_hot[shown][named],
            0.92,
            fill=False,
            edgecolor=VIEW_COLOURS["hard"],
            linewidth=1.6,
            label=VIEW_LABELS["hard"],
        )
    ax.set_xticks(np.arange(len(names)), names)
    ax.set(xlabel="cluster", ylabel="probability (0 to 1)", ylim=(0, 1.04))
    ax.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2)


@styled
def label_views(
    hard: Any,
    e: Any,
    q: Any,
    a: Any,
    r3: Any = None,
    *,
    top: int = 8,
    picture: Any = None,
    title: str | None = None,
) -> Figure:
    """The views of one picture's pseudo label as grouped bars over the `top` clusters
    that any of them likes best.

    hard: index of the cluster (or one-hot (K,), -1 for an outlier); e, q, a and r3 (K,)
    probabilities, None to leave one out. The last group holds all other clusters.
    `picture` (3, H, W) or (H, W, 3) uint8 stands beside. method: P4.
    """
    given = {"e": e, "q": q, "a": a, "r3": r3}
    views = {
        name: np.asarray(view, float) for name, view in given.items() if view is not None
    }
    if not views or same_length(**views) == 0:
        raise KitError(
            "label_views: no view of the label given; give e, q or a with one "
            "probability a cluster."
        )
    one_hot = hard_vector(hard, same_length(**views))
    title = _views_title(one_hot, views) if title is None else title
    figure = new_figure(9, 3.9, title=title)
    draw_views(_bar_axes(figure, picture), one_hot, views, top=top)
    if not one_hot.any():
        add_note(
            figure,
            "An outlier of this epoch's clustering: it has no hard label and is left "
            "out of training.",
        )
    return figure


def _views_title(one_hot: np.ndarray, views: Mapping[str, np.ndarray]) -> str:
    agree = {int(np.argmax(values)) for name, values in views.items() if name != "r3"}
    if one_hot.any():
        agree.add(int(np.argmax(one_hot)))
    if len(agree) == 1:
        return "All views name the same cluster"
    return f"The views of this label name {len(agree)} different clusters"


@styled
def temperature_curves(
    temperatures: Any,
    entropy: Any,
    labels: Mapping[float, Any],
    *,
    marks: Mapping[str, float] | None = None,
    title: str = "Higher temperature, softer label",
) -> Figure:
    """How sharp a softmax label is: entropy against temperature (left), one picture's
    label at a few temperatures (right).

    temperatures (T,) > 0; entropy (T, n) in nats of n pictures' labels
    (`noise.softmax_entropy`); labels {temperature: (K,) probabilities} of one picture;
    `marks` {name: temperature} are lined, say tau and tau_t. KitError: no label, or
    lengths that differ.
    """
    temperatures = np.asarray(temperatures, float)
    entropy = np.asarray(entropy, float)
    same_length(temperatures=temperatures, entropy=entropy)
    if not labels:
        raise KitError("temperature_curves: give one picture's label at a temperature.")
    n_clusters = len(next(iter(labels.values())))
    figure = new_figure(9.5, 4.3, title=title)
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    low, middle, high = np.quantile(entropy, (0.1, 0.5, 0.9), axis=1)
    blue = PALETTE["blue"]
    left.fill_between(
        temperatures,
        low,
        high,
        color=blue,
        alpha=0.2,
        linewidth=0,
        label="10 to 90 % of the pictures",
    )
    left.plot(temperatures, middle, color=blue, label="median")
    largest = float(np.log(n_clusters))
    left.axhline(
        largest,
        color=PALETTE["grey"],
        linestyle=":",
        label=f"even over {n_clusters} clusters",
    )
    for j, (name, tau) in enumerate((marks or {}).items()):
        left.axvline(
            tau, color=CYCLE[(j + 3) % len(CYCLE)], linestyle="--", label=f"{name} = {tau:g}"
        )
    left.set(
        xscale="log",
        xlabel="temperature (no unit, log scale)",
        ylabel="entropy of the label (nats)",
    )
    left.set_ylim(0, max(largest * 1.08, 0.1))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=3)
    _draw_sharpness(right, labels)
    return figure


def _draw_sharpness(ax: Axes, labels: Mapping[float, Any]) -> None:
    """One picture's label (K,) at each temperature, its likeliest clusters first."""
    for j, (tau, label) in enumerate(labels.items()):
        likeliest = np.sort(np.asarray(label, float))[::-1][:12]
        ax.plot(
            np.arange(1, len(likeliest) + 1),
            likeliest,
            marker=MARKERS[j % len(MARKERS)],
            color=CYCLE[(j + 3) % len(CYCLE)],
            label=f"{tau:g}",
        )
    ax.set(
        xlabel="cluster, the likeliest first (rank)",
        ylabel="probability (0 to 1)",
        ylim=(0, 1.04),
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(title="temperature", loc="upper right")


@styled
def gradient_bars(
    q: Any,
    r: Any,
    *,
    hard: Any = None,
    views: Mapping[str, str] | None = None,
    top: int = 8,
    title: str = "The gradient pulls up what is below zero and pushes down the rest",
) -> Figure:
    """The gradient of the loss by the logits, q - r (K,), for the `top` clusters moved
    most; negative raises a logit.

    q, r (K,): the student and the (mixed) target, or {legend: target (K,)}, whose colours
    are those of `views` {legend: "e", "q", "a", "r3" or a colour}; `hard`: with it, q - 1_y
    of plain cluster contrast stands beside. method: P1 and P4 (without the factor 1 + lambda_g +
    lambda_s).
    """
    q = np.asarray(q, float)
    targets = dict(r) if isinstance(r, Mapping) else {"q − r (mixed target)": r}
    sets = {}
    if hard is not None:
        one_hot = hard_vector(hard, len(q))
        sets["q − 1_y (hard label)"] = (q - one_hot, VIEW_COLOURS["hard"])
    for legend, target in targets.items():
        target = np.asarray(target, float)
        same_length(q=q, r=target)
        view = (views or {}).get(legend, "r3")
        sets[legend] = (q - target, VIEW_COLOURS.get(view, view))
    figure = new_figure(9, 3.6, title=title)
    ax = figure.subplots()
    if not len(q):
        say(ax, "No clusters: no gradient.")
        return figure
    strongest = np.max([np.abs(values) for values, _ in sets.values()], axis=0)
    shown = np.argsort(-strongest, kind="stable")[:top]
    width = 0.8 / len(sets)
    for j, (name, (values, colour)) in enumerate(sets.items()):
        ax.bar(
            np.arange(len(shown)) + (j - (len(sets) - 1) / 2) * width,
            values[shown],
            width * 0.94,
            color=colour,
            label=name,
        )
    ax.axhline(0, color=PALETTE["grey"], linewidth=1)
    ax.set_xticks(np.arange(len(shown)), [str(k) for k in shown])
    ax.set(xlabel="cluster", ylabel="gradient by the logit\n(below 0: pulled up)")
    ax.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2)
    return figure
