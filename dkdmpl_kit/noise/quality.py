"""How far a pseudo label can be trusted, without knowing the truth: suspicious images
first.

Every score here is high where a label looks good and NaN for an outlier, which has no
label to trust.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise.tables import checked, cluster_means

BLOCK_ROWS = 2048


@dataclass(frozen=True)
class LabelQuality:
    """The score and its parts, each (N,) in [0, 1] and high where the label looks good;
    NaN for outliers.

    score          mean over the parts given of each image's rank in that part, (rank -
                   1/2) / M among the M clustered ones, ties sharing their mean rank:
                   every part has the same say, whatever its spread; it orders the images
                   of one clustering and says nothing across clusterings
    agreement      1 - `view_disagreement`
    purity_nearby  1 - `neighbour_entropy`
    silhouette     (1 + `centroid_silhouette`) / 2

    A part is None where its input was not given.
    """

    score: np.ndarray
    agreement: np.ndarray | None
    purity_nearby: np.ndarray | None
    silhouette: np.ndarray | None


def label_quality(
    labels: np.ndarray,
    *,
    views: tuple[np.ndarray, ...] | None = None,
    indices: np.ndarray | None = None,
    features: np.ndarray | None = None,
) -> LabelQuality:
    """Score the pseudo labels (N,), -1 for outliers, from whatever is at hand, at least
    one of the three.

    views     (e, q, a), each (N, K) probabilities
    indices   (N, k) of a `NeighborGraph`
    features  (N, d), rows of norm 1

    KitError: nothing is given, or shapes do not fit.
    """
    labels = _labels(labels)
    if views is None and indices is None and features is None:
        raise KitError(
            "label_quality has nothing to judge by: give views, indices of neighbours "
            "or features."
        )
    from scipy.stats import rankdata

    parts = [
        None if views is None else 1 - _of_length(view_disagreement(*views), labels, "views"),
        None if indices is None else 1 - neighbour_entropy(labels, indices),
        None if features is None else (1 + centroid_silhouette(features, labels)) / 2,
    ]
    parts = [None if part is None else np.where(labels >= 0, part, np.nan) for part in parts]
    ranks = [
        (rankdata(part, nan_policy="omit") - 0.5) / max((labels >= 0).sum(), 1)
        for part in parts
        if part is not None
    ]
    return LabelQuality(np.mean(ranks, axis=0), *parts)


def view_disagreement(*views: np.ndarray) -> np.ndarray:
    """(B,) in [0, 1]: how far two or more views of a label, each (B, K) probabilities,
    tell different things.

    The Jensen-Shannon divergence of V views with equal weights (Lin 1991), H(mean of
    the views) - mean of H(view), divided by its greatest value log V: 0 where all views
    are equal, 1 where no two share a cluster.
    """
    views = [_probabilities(view, f"view {i}") for i, view in enumerate(views)]
    if len(views) < 2 or len({view.shape for view in views}) > 1:
        raise KitError(
            f"Disagreement takes two or more views of one shape (B, K), not "
            f"{[view.shape for view in views]}."
        )
    divergence = _entropy(sum(views) / len(views)) - sum(map(_entropy, views)) / len(views)
    return np.clip(divergence / np.log(len(views)), 0, 1)


def neighbour_entropy(labels: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """(N,) in [0, 1]: entropy of the labels among the k nearest images, divided by its
    greatest value log k.

    labels (N,), -1 for outliers; indices (N, k >= 2) of a `NeighborGraph`, whose column
    0, the image itself, counts: an image among k - 1 of another cluster has thus an
    entropy above 0. An outlier counts as a label of its own.
    """
    labels = _labels(labels)
    indices = np.asarray(indices)
    n = len(labels)
    fits = indices.ndim == 2 and len(indices) == n and indices.shape[1] >= 2
    if not fits or indices.min() < 0 or indices.max() >= n:
        raise KitError(
            f"indices must be neighbours (N, k) of the {n} images, k of 2 or more, not "
            f"{indices.shape}."
        )
    k = indices.shape[1]
    alone = labels.max() + 1 + np.arange(n)
    nearby = np.sort(np.where(labels >= 0, labels, alone)[indices], axis=1)
    # the place of a run's last image, less the last place before it: how often each
    # label occurs
    ends = np.append(nearby[:, 1:] != nearby[:, :-1], np.ones((n, 1), bool), axis=1)
    last = np.where(ends, np.arange(1, k + 1), 0)
    before = np.append(
        np.zeros((n, 1), int), np.maximum.accumulate(last, axis=1)[:, :-1], axis=1
    )
    share = np.where(ends, last - before, k) / k  # 1 adds nothing to an entropy
    return np.abs(share * np.log(share)).sum(axis=1) / np.log(k)


def centroid_silhouette(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) in [-1, 1]: the silhouette (Rousseeuw 1987), simplified to centroids
    (Hruschka et al. 2006), cosine distance.

    s = (b - a) / max(a, b), a = 1 - similarity to the own cluster's normalised mean, b
    = 1 - that to the most similar other one: N x K similarities instead of N x N. 0 for
    an image alone in its cluster, as in scikit-learn, and where there is one cluster
    only; NaN for outliers. features (N, d), rows of norm 1; labels (N,), -1 for
    outliers.
    """
    features = np.asarray(features, dtype=np.float32)
    labels = _labels(labels)
    if features.ndim != 2 or len(features) != len(labels) or not np.isfinite(features).all():
        raise KitError(
            f"features must be finite numbers (N, d) for {len(labels)} labels, not "
            f"{features.shape} or NaN."
        )
    silhouette = np.full(len(labels), np.nan)
    images = np.flatnonzero(labels >= 0)
    _, own, sizes = np.unique(labels[images], return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        silhouette[images] = 0.0
        return silhouette
    means = cluster_means(features[images], own)
    for start in range(0, len(images), BLOCK_ROWS):
        block = images[start : start + BLOCK_ROWS]
        mine = own[start : start + BLOCK_ROWS]
        distance = np.maximum(1 - features[block] @ means.T, 0)
        rows = np.arange(len(block))
        a = distance[rows, mine]
        distance[rows, mine] = np.inf
        b = distance.min(axis=1)
        silhouette[block] = np.where(
            sizes[mine] > 1, (b - a) / np.maximum(np.maximum(a, b), 1e-12), 0
        )
    return silhouette


def self_confidence(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(B,) in [0, 1]: p[i, y_i], the probability of the given label (Northcutt et al.
    2021), the field's reference.

    The score that cleanlab calls self_confidence. Its authors take probabilities of
    images held out of training; those of e, q or a have seen their label, and are the
    surer for it. probabilities (B, K); labels (B,) in 0..K-1 or -1.
    """
    probabilities = _probabilities(probabilities, "probabilities")
    labels = _labels(labels)
    _of_length(probabilities, labels, "probabilities")
    if labels.max() >= probabilities.shape[1]:
        raise KitError(
            f"label {labels.max()} has no column among the {probabilities.shape[1]} of "
            "probabilities."
        )
    return np.where(labels >= 0, probabilities[np.arange(len(labels)), labels], np.nan)


def auroc(score: np.ndarray, wrong: np.ndarray) -> float | None:
    """How well a score (N,), high for good labels, finds the wrong (N,) bool: 1 all of
    them last, 0.5 by chance.

    The probability that a wrong label scores lower than a right one, ties half. NaN
    scores (outliers) are left out; None where the rest are all right or all wrong.
    """
    score, wrong = _judged(score, wrong)
    if not wrong.any() or wrong.all():
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(wrong, -score))


def suspicion_curve(
    score: np.ndarray, wrong: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """(looked, found), each (M + 1,) from 0 to 1: the share of the wrong labels found
    after looking at a share of all images, the most suspicious first.

    score (N,), high for good labels; NaN (outliers) left out. wrong (N,) bool. There is
    one step for each of the M different scores: images of one score are looked at in
    even proportion. None where no label is wrong. KitError: lists of two lengths.
    """
    score, wrong = _judged(score, wrong)
    if not wrong.any():
        return None
    values, place = np.unique(score, return_inverse=True)
    looked = np.cumsum(np.bincount(place, minlength=len(values))) / len(score)
    found = np.cumsum(np.bincount(place, wrong, len(values))) / wrong.sum()
    return np.append(0, looked), np.append(0, found)


def softmax_entropy(similarities: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """(T, n) entropy in nats of softmax(similarities (n, K) / tau), for each tau of
    temperatures (T,).

    KitError: no cluster, or a temperature that is not above 0.
    """
    similarities = np.atleast_2d(np.asarray(similarities, float))
    temperatures = np.asarray(temperatures, float).ravel()
    if similarities.shape[1] == 0 or not (temperatures > 0).all():
        raise KitError(
            "softmax_entropy: needs at least one cluster and temperatures above 0."
        )
    below_best = similarities - similarities.max(axis=1, keepdims=True)
    entropies = np.zeros((len(temperatures), len(similarities)))
    for row, tau in enumerate(temperatures):
        weights = np.exp(below_best / tau)
        entropies[row] = _entropy(weights / weights.sum(axis=1, keepdims=True))
    return entropies


def _judged(score: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(score, wrong) of the images with a score; KitError for lists of two lengths."""
    score = np.asarray(score, dtype=float)
    wrong = np.asarray(wrong, dtype=bool)
    if score.ndim != 1 or score.shape != wrong.shape:
        raise KitError(
            f"score and wrong must be two lists of the same length, not {score.shape} "
            f"and {wrong.shape}."
        )
    seen = ~np.isnan(score)
    return score[seen], wrong[seen]


def _labels(labels: np.ndarray) -> np.ndarray:
    return checked(labels, labels)[0]


def _probabilities(view: np.ndarray, name: str) -> np.ndarray:
    """(B, K) float64; KitError unless rows are probabilities that sum to 1."""
    view = np.asarray(view, dtype=float)
    if (
        view.ndim != 2
        or 0 in view.shape
        or not (view >= 0).all()
        or (np.abs(view.sum(axis=1) - 1) > 1e-3).any()
    ):
        raise KitError(
            f"{name} must hold probabilities (B, K), each row of sum 1, not {view.shape} "
            "of other numbers: apply softmax to logits."
        )
    return view


def _of_length(values: np.ndarray, labels: np.ndarray, name: str) -> np.ndarray:
    if len(values) != len(labels):
        raise KitError(
            f"{name} are of {len(values)} images and labels of {len(labels)}: give both "
            "of the same."
        )
    return values


def _entropy(p: np.ndarray) -> np.ndarray:
    """(B,) in nats of rows (B, K); 0 log 0 = 0."""
    return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1)
