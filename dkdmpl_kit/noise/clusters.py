"""What one clustering, and one cluster of it, looks like from outside: the numbers
beside a map that is explored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise.agreement import label_report
from dkdmpl_kit.noise.change import label_change
from dkdmpl_kit.noise.tables import checked, cluster_means


@dataclass(frozen=True)
class ClusteringSummary:
    """One clustering in a line, which is also its `str`.

    ari, purity, merged_clusters (clusters of more than one identity) and
    split_identities (in more than one cluster) are those of `label_report`, None where
    nothing clustered has a known identity. splits, merges: clusters that fell apart or
    were put together since the clustering before, as in `label_change`; None without
    one.
    """

    n_clusters: int
    n_outliers: int
    outlier_fraction: float
    ari: float | None = None
    purity: float | None = None
    merged_clusters: int | None = None
    split_identities: int | None = None
    splits: int | None = None
    merges: int | None = None

    def __str__(self) -> str:
        parts = [
            count_of(self.n_clusters, "cluster"),
            f"{count_of(self.n_outliers, 'outlier')} ({self.outlier_fraction:.1%})",
        ]
        if self.ari is not None:
            parts += [
                f"ARI {self.ari:.3f}",
                f"purity {self.purity:.1%}",
                f"{count_of(self.merged_clusters, 'cluster')} of several identities",
                f"{count_of(self.split_identities, 'identity', 'identities')} in several "
                "clusters",
            ]
        if self.splits is not None:
            parts.append(f"last move: {self.splits} split, {self.merges} merged")
        return " · ".join(parts)


def count_of(n: int, one: str, many: str = "") -> str:
    """ "1 cluster", "2 clusters": a number with its noun, whose plural is `many`."""
    if n == 1:
        return f"{n:,} {one}"
    return f"{n:,} {many or one + 's'}"


def clustering_summary(
    labels: np.ndarray, pids: np.ndarray | None = None, before: np.ndarray | None = None
) -> ClusteringSummary:
    """Count one clustering: labels (N,), -1 for outliers; pids (N,), negative where
    unknown; `before` (N,): the last labels.
    """
    labels, _ = checked(labels, labels)
    outliers = labels < 0
    judged = label_report(labels, pids) if pids is not None else None
    truth = {}
    if judged is not None and judged.ari is not None:
        names = ("ari", "purity", "merged_clusters", "split_identities")
        truth = {name: getattr(judged, name) for name in names}
    moved = {}
    if before is not None:
        change = label_change(before, labels)
        moved = {"splits": len(change.splits), "merges": len(change.merges)}
    return ClusteringSummary(
        len(np.unique(labels[~outliers])),
        int(outliers.sum()),
        float(outliers.mean()),
        **truth,
        **moved,
    )


def kept_names(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The clustering `after` (N,) under the names of `before` (N,): a cluster that is
    still there keeps its number.

    Clusters are matched one to one by overlap (`label_change`); one without a match
    takes a number that `before` does not have. So a colour that follows the number
    stays where it was when a setting moves. Outliers stay -1.
    """
    before, after = checked(before, after, "the labels of two clusterings")
    change = label_change(before, after)
    renamed = after.copy()
    fresh = before.max(initial=-1) + 1 + np.arange(len(change.births))
    names = np.append(change.before, fresh)
    given = np.append(change.after, change.births)
    order = np.argsort(given)
    clustered = after >= 0
    renamed[clustered] = names[order][np.searchsorted(given[order], after[clustered])]
    return renamed


def last_change(epoch_labels: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) int64: the last epoch, from 1, in which an image changed sides or became or
    stopped being an outlier; 0: never.

    epoch_labels: the labels (N,) of E >= 1 epochs in order; sides are the clusters
    matched by `label_change`.
    """
    if not len(epoch_labels):
        raise KitError(
            "The epoch of the last change takes the labels of at least one epoch, and "
            "there are none."
        )
    last = np.zeros(len(epoch_labels[0]), np.int64)
    for epoch in range(1, len(epoch_labels)):
        change = label_change(epoch_labels[epoch - 1], epoch_labels[epoch])
        last[change.flipped | change.became_outlier | change.stopped_outlier] = epoch
    return last


@dataclass(frozen=True)
class ClusterView:
    """One cluster seen from its centroid, its members' normalised mean.

    members     (M,) images, the most similar to the centroid first
    nearest     (n,) labels of the clusters with the most similar centroids, and
                `similarities` (n,), cosine
    purity      share of its most frequent identity `pid` among the members of known
                identity; both None without any; n_identities: how many are among them
    cameras     {camera: images} of the known ones, the most frequent first
    """

    cluster: int
    members: np.ndarray
    nearest: np.ndarray
    similarities: np.ndarray
    purity: float | None
    pid: int | None
    n_identities: int
    cameras: dict[int, int]

    def __str__(self) -> str:
        parts = [f"Cluster {self.cluster}: {count_of(len(self.members), 'picture')}"]
        if self.purity is not None:
            others = f", {self.n_identities} in all" if self.n_identities > 1 else ""
            parts.append(f"purity {self.purity:.0%} (identity {self.pid}{others})")
        if self.cameras:
            most = [f"{camera + 1} ({n})" for camera, n in self.cameras.items()][:5]
            if len(self.cameras) > 5:
                most.append("...")
            noun = "camera" if len(self.cameras) == 1 else "cameras"
            parts.append(f"{noun} {', '.join(most)}")
        return " · ".join(parts)


def cluster_view(
    features: np.ndarray,
    labels: np.ndarray,
    cluster: int,
    *,
    pids: np.ndarray | None = None,
    camids: np.ndarray | None = None,
    nearest: int = 3,
) -> ClusterView:
    """Look at one cluster of labels (N,), in feature space: features (N, d), rows of
    norm 1; KitError: no such cluster.

    pids, camids (N,), negative where unknown, or None; equal counts: the smaller
    identity (camera) first.
    """
    features = np.asarray(features)
    labels, _ = checked(labels, labels)
    if len(features) != len(labels):
        raise KitError(
            f"There are {len(features)} features for {len(labels)} labels: give one "
            "row an image."
        )
    names, own = np.unique(labels, return_inverse=True)
    if cluster < 0 or cluster not in names:
        raise KitError(
            f"There is no cluster {cluster} now; this clustering has {(names >= 0).sum():,}."
        )
    means = cluster_means(features, own)
    at = int(np.searchsorted(names, cluster))
    others = np.flatnonzero((names >= 0) & (names != cluster))
    similarity = means[others] @ means[at]
    first = np.argsort(-similarity, kind="stable")[:nearest]
    members = np.flatnonzero(own == at)
    members = members[np.argsort(-(features[members] @ means[at]), kind="stable")]
    counts = _frequencies(pids, members)
    pid = next(iter(counts), None)
    purity = None if pid is None else counts[pid] / sum(counts.values())
    return ClusterView(
        int(cluster),
        members,
        names[others[first]],
        similarity[first],
        purity,
        pid,
        len(counts),
        _frequencies(camids, members),
    )


def _frequencies(values: np.ndarray | None, members: np.ndarray) -> dict[int, int]:
    """{value: how often} of the known (not negative) values of the members, the most
    frequent first.
    """
    if values is None:
        return {}
    seen = np.asarray(values)[members]
    names, counts = np.unique(seen[seen >= 0], return_counts=True)
    order = np.lexsort((names, -counts))
    return dict(zip(names[order].tolist(), counts[order].tolist()))
