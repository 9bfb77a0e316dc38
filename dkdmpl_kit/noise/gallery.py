"""Which clusters are worth a look: the best, the worst, and the outliers, with a fair
sample of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dkdmpl_kit.noise.clusters import count_of
from dkdmpl_kit.noise.tables import checked

ORDERS = {  # what clusters are ordered by: the names of its best and of its worst
    "purity": ("purest", "most mixed"),
    "compactness": ("most compact", "loosest"),
    "size": ("largest", "smallest"),
}


@dataclass(frozen=True)
class GalleryRow:
    """One cluster of a gallery, or the outliers (cluster -1).

    text    its name and numbers, in lines
    images  (n,) indices of the images to show, those of its most frequent identity first
    """

    cluster: int
    text: str
    images: np.ndarray


def gallery_rows(
    labels: np.ndarray,
    pids: np.ndarray | None = None,
    features: np.ndarray | None = None,
    *,
    clusters_each: int = 2,
    per_cluster: int = 10,
) -> list[GalleryRow]:
    """The best clusters, the worst ones, and the outliers: at most `clusters_each` of
    either, with at most `per_cluster` images.

    labels (N,), -1 for outliers; pids (N,) identities, negative where unknown. Clusters
    are ordered by purity. Where no identity is known they are ordered by compactness,
    the mean similarity to the cluster's normalised mean of features (N, d), rows of norm
    1, or without features by size. KitError: lists of different lengths.
    """
    labels, _ = checked(labels, labels)
    if pids is not None:
        labels, pids = checked(labels, pids)
        pids = pids if (pids >= 0).any() else None
    if features is not None:
        features = np.asarray(features)
        checked(labels, np.zeros(len(features)), "labels and features")
    members = {
        k: np.flatnonzero(labels == k) for k in np.unique(labels[labels >= 0]).tolist()
    }
    if pids is not None:
        order = "purity"
        score = {k: _purity(pids[images]) for k, images in members.items()}
    elif features is not None:
        order = "compactness"
        score = {k: _compactness(features[images]) for k, images in members.items()}
    else:
        order = "size"
        score = {k: len(images) for k, images in members.items()}
    best_first = sorted(members, key=lambda k: (-score[k], -len(members[k]), k))
    n_best = clusters_each
    if len(best_first) <= clusters_each:
        n_best = (len(best_first) + 1) // 2
    others = best_first[n_best:]
    worst_first = sorted(others, key=lambda k: (score[k], -len(members[k]), k))
    best_name, worst_name = ORDERS[order]
    chosen = [(best_name, k) for k in best_first[:n_best]]
    chosen += [(worst_name, k) for k in worst_first[:clusters_each]]
    rows = []
    for name, k in chosen:
        lines = [f"{name}:", f"cluster {k}", count_of(len(members[k]), "picture")]
        if order != "size":
            lines.append(f"{order} {score[k]:.2f}")
        if pids is not None:
            n_identities = len(_by_frequency(pids[members[k]]))
            lines.append(count_of(n_identities, "identity", "identities"))
        rows.append(GalleryRow(k, "\n".join(lines), _sample(members[k], pids, per_cluster)))
    outliers = np.flatnonzero(labels < 0)
    if len(outliers):
        text = f"outliers:\n{len(outliers)} of {len(labels)}\npictures"
        rows.append(GalleryRow(-1, text, _sample(outliers, pids, per_cluster)))
    return rows


def doubt_rows(
    images: np.ndarray,
    labels: np.ndarray,
    score: np.ndarray,
    *,
    first: int | None = None,
    rows: int = 5,
    mates: int = 6,
) -> list[np.ndarray]:
    """The most doubtful images, each followed by the least doubtful of its cluster.

    images (M,) indices; labels (M,) their clusters; score (M,), high where a label looks
    good. first: an image to show above them, whatever its score. Returns `rows` arrays of at
    most 1 + `mates` indices, and one more with `first`. KitError: lists of different lengths.
    """
    labels, _ = checked(labels, images, "labels and images")
    checked(labels, np.zeros(len(score)), "labels and score")
    images = np.asarray(images)
    order = np.argsort(score, kind="stable")
    chosen = [place for place in order if images[place] != first][:rows]
    found = [place for place in np.flatnonzero(images == first)] + chosen
    result = []
    for place in found:
        same = [p for p in order[::-1] if labels[p] == labels[place] and p != place]
        result.append(images[[place, *same[:mates]]])
    return result


def _purity(pids: np.ndarray) -> float:
    """Share of the most frequent identity among those known; 0 where none is."""
    seen = pids[pids >= 0]
    if not len(seen):
        return 0.0
    return float(np.unique(seen, return_counts=True)[1].max() / len(seen))


def _compactness(features: np.ndarray) -> float:
    """Mean similarity of features (n, d) to their normalised mean, -1 to 1."""
    mean = features.mean(axis=0)
    return float((features @ mean).mean() / max(float(np.linalg.norm(mean)), 1e-12))


def _by_frequency(pids: np.ndarray) -> list[int]:
    """The known identities, the most frequent first."""
    names, counts = np.unique(pids[pids >= 0], return_counts=True)
    return names[np.lexsort((names, -counts))].tolist()


def _sample(images: np.ndarray, pids: np.ndarray | None, limit: int) -> np.ndarray:
    """At most `limit` images spread over the identities, the most frequent first: a fair
    sample of a mixed cluster.
    """
    if pids is not None:
        rank = {pid: place for place, pid in enumerate(_by_frequency(pids[images]))}
        ranks = [rank.get(pid, len(rank)) for pid in pids[images].tolist()]
        images = images[np.argsort(ranks, kind="stable")]
    places = np.linspace(0, len(images) - 1, min(limit, len(images)))
    return images[np.unique(places.astype(int))]
