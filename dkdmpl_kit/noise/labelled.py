"""One row a picture: which cluster it is in, how sure that is, and which cluster comes next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise.tables import checked, cluster_means

BLOCK_ROWS = 2048


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Pseudo labels seen from the clusters' centroids; arrays (N,), a picture each.

    cluster             the pseudo label, -1 for an outlier
    similarity          cosine to the own cluster's normalised mean, NaN for an outlier
    nearest_cluster     of the other clusters (for an outlier: of all) the one with the most
                        similar mean; of equal ones the smaller number; -1 without any
    nearest_similarity  that similarity, NaN without any
    quality             `noise.centroid_silhouette`: (b - a) / max(a, b) of the distances a to
                        the own mean and b to the nearest other one; in [-1, 1], high where
                        the label looks good, 0 for a picture alone in its cluster, NaN for an
                        outlier
    suspect             whether the nearest other mean is more similar than the own one:
                        quality below 0
    """

    cluster: np.ndarray
    similarity: np.ndarray
    nearest_cluster: np.ndarray
    nearest_similarity: np.ndarray
    quality: np.ndarray
    suspect: np.ndarray

    def __len__(self) -> int:
        return len(self.cluster)


def label_table(features: np.ndarray, labels: np.ndarray) -> LabelTable:
    """The `LabelTable` of labels (N,), -1 for outliers, and features (N, d), rows of norm 1.

    Similarities are computed in blocks of rows, so that N x K of them never lie in memory.
    KitError: features that do not fit.
    """
    labels, _ = checked(labels, labels)
    features = np.asarray(features, np.float32)
    if features.ndim != 2 or len(features) != len(labels) or not np.isfinite(features).all():
        raise KitError(
            f"features must be finite numbers (N, d) for {len(labels)} labels, not "
            f"{features.shape} or NaN."
        )
    n = len(labels)
    own_similarity = np.full(n, np.nan)
    nearest = np.full(n, -1, np.int64)
    nearest_similarity = np.full(n, np.nan)
    clustered = labels >= 0
    names, groups, sizes = np.unique(
        labels[clustered], return_inverse=True, return_counts=True
    )
    own = np.full(n, -1, np.int64)
    own[clustered] = groups
    if len(names):
        means = cluster_means(features[clustered], groups)
    for start in range(0, n if len(names) else 0, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        similarity = features[block] @ means.T
        rows = np.flatnonzero(own[block] >= 0)
        mine = own[block][rows]
        own_similarity[block][rows] = similarity[rows, mine]
        similarity[rows, mine] = -np.inf
        best = similarity.argmax(axis=1)
        value = similarity[np.arange(len(best)), best].astype(float)
        there = np.isfinite(value)  # not where the own cluster is the only one
        nearest[block] = np.where(there, names[best], -1)
        nearest_similarity[block] = np.where(there, value, np.nan)
    quality = _silhouette(own_similarity, nearest_similarity)
    alone = clustered.copy()
    alone[clustered] = sizes[groups] == 1
    quality[alone] = 0.0
    return LabelTable(
        labels,
        own_similarity,
        nearest,
        nearest_similarity,
        quality,
        np.nan_to_num(quality, nan=0.0) < 0,
    )


def _silhouette(similarity: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,): the simplified silhouette of similarities to the own and the nearest other mean;
    0 where there is no other one, NaN for outliers.
    """
    a = np.maximum(1 - similarity, 0)
    b = np.maximum(1 - other, 0)
    found = (b - a) / np.maximum(np.maximum(a, b), 1e-12)
    return np.where(np.isnan(similarity), np.nan, np.where(np.isnan(other), 0.0, found))


def most_suspect(table: LabelTable, limit: int) -> np.ndarray:
    """The indices (at most `limit`,) of the suspect pictures, the least sure label first."""
    found = np.flatnonzero(table.suspect)
    return found[np.argsort(table.quality[found], kind="stable")][:limit]
