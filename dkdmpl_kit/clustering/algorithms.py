"""Pseudo labels: a clustering of the sparse distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from dkdmpl_kit.errors import KitError, check_option

UNCLUSTERED = -1
METHODS = ("dbscan", "hdbscan", "agglomerative")


@dataclass(frozen=True)
class PseudoLabels:
    """One epoch's clustering and the settings that made it.

    labels            (N,) int64: 0..n_clusters-1, numbered by first appearance; -1 for
                      an outlier
    outlier_fraction  share of the N images that are outliers
    eps               the radius used, also where a rule chose it (`sweep`: EpsSweep.record)
    soft              (N, K) sparse soft labels of the same clustering, where asked for
    """

    labels: np.ndarray
    n_clusters: int
    outlier_fraction: float
    method: str = "dbscan"
    eps: float = 0.6
    min_samples: int = 4
    sweep: dict | None = None
    soft: sparse.csr_array | None = None

    @property
    def largest_share(self) -> float:
        """The share of all pictures that the largest cluster holds; 0 without a cluster."""
        return largest_share(self.labels)


def pseudo_labels(
    distances: sparse.csr_array,
    *,
    method: str = "dbscan",
    eps: float = 0.6,
    min_samples: int = 4,
) -> PseudoLabels:
    """Cluster a sparse (N, N) distance graph; another `eps` re-clusters it without
    computing a distance again.

    method "dbscan" (Ester et al. 1996), the published codes' choice: an image with at
    least `min_samples` images within
      `eps`, itself included, is a core; cores within `eps` of each other share a
      cluster; another image within `eps` of a core joins the cluster of the core whose
      cluster starts first (scikit-learn's rule); the rest are outliers, -1.
    "hdbscan" (Campello et al. 2013; scikit-learn's): clusters of any density with at
    least `min_samples` (2 or more)
      images; `eps` plays no part. What is not stored is taken to be as far as can be,
      1.
    "agglomerative": single linkage cut at `eps`, the connected components of all pairs
    within it; components of fewer
      than `min_samples` images are outliers.

    The distances must be symmetric and stored wherever at most `eps`; a stored zero
    counts, and the diagonal counts whether stored or not. Labels are numbered by first
    appearance.
    """
    check_option("method", method, METHODS)
    if (
        not sparse.issparse(distances)
        or distances.ndim != 2
        or distances.shape[0] != distances.shape[1]
    ):
        raise KitError(
            "distances must be a square sparse array, as jaccard_distances returns it."
        )
    reach = getattr(distances, "max_distance", None)
    # nan is neither above nor below
    if not eps > 0 or (reach is not None and eps > reach):
        raise KitError(
            f"eps={eps} must be above 0 and at most the largest stored distance, "
            f"{reach}; "
            "for a larger one call jaccard_distances with a larger max_distance."
        )
    if min_samples < 1:
        raise KitError(f"min_samples={min_samples} must be at least 1.")
    if method == "hdbscan" and not 2 <= min_samples <= distances.shape[0]:
        raise KitError(
            f"min_samples={min_samples} must lie between 2 and the number of images, "
            f"{distances.shape[0]}, "
            "for method='hdbscan'."
        )
    cluster = {"dbscan": _dbscan, "hdbscan": _hdbscan, "agglomerative": _agglomerative}[
        method
    ]
    labels = cluster(sparse.csr_array(distances), eps, min_samples)
    n_clusters = int(labels.max(initial=UNCLUSTERED)) + 1
    outlier_fraction = float(np.mean(labels == UNCLUSTERED))
    return PseudoLabels(
        labels, n_clusters, outlier_fraction, method, float(eps), int(min_samples)
    )


def largest_share(labels: np.ndarray) -> float:
    """The share of all pictures (N,) that the largest cluster holds; 0 without a cluster."""
    sizes = np.bincount(labels[labels >= 0], minlength=1)
    return float(sizes.max() / len(labels))


def require_clusters(pseudo: PseudoLabels, at_least: int = 2) -> PseudoLabels:
    """`pseudo` itself, or a KitError that says which setting to turn if it has too few
    clusters to train on.
    """
    if pseudo.n_clusters >= at_least:
        return pseudo
    if pseudo.sweep:
        tried = pseudo.sweep["eps"]
        raise KitError(
            f"No eps from {tried[0]:g} to {tried[-1]:g} gives {at_least} clusters where "
            f"eps=auto looks: lower min_samples (now {pseudo.min_samples}), raise k1, or "
            "start from better features."
        )
    raise_or_lower = (
        f"raise eps (now {pseudo.eps}) or lower min_samples (now {pseudo.min_samples})"
    )
    if pseudo.n_clusters == 0:
        raise KitError(
            f"All {len(pseudo.labels)} images are outliers: {raise_or_lower}; "
            "with few images per identity a k1 near their number helps too."
        )
    found = f"Only {pseudo.n_clusters} cluster(s) found where training needs {at_least}"
    if pseudo.outlier_fraction > 0.5:
        raise KitError(
            f"{found}, and {pseudo.outlier_fraction:.0%} of the images are outliers: "
            f"{raise_or_lower}."
        )
    raise KitError(
        f"{found}: lower eps (now {pseudo.eps}) or k1, so that identities come apart."
    )


def _dbscan(distances: sparse.csr_array, eps: float, min_samples: int) -> np.ndarray:
    """DBSCAN as connected components of the cores; labels (N,) int64 numbered by first
    appearance.
    """
    n = distances.shape[0]
    rows = np.repeat(np.arange(n, dtype=np.int32), np.diff(distances.indptr))
    near = (distances.data <= eps) & (rows != distances.indices)
    rows = rows[near]
    columns = distances.indices[near]
    core = np.bincount(rows, minlength=n) + 1 >= min_samples
    cores = np.flatnonzero(core)
    linked = core[rows] & core[columns]
    pointers = np.concatenate([[0], np.cumsum(np.bincount(rows[linked], minlength=n))])
    edges = sparse.csr_array(
        (np.ones(pointers[-1], np.int8), columns[linked], pointers), shape=(n, n)
    )
    component = connected_components(edges, directed=False)[1][cores]
    labels = np.full(n, UNCLUSTERED, np.int64)
    labels[cores] = _by_first_appearance(component)
    reached = core[rows] & ~core[columns]
    border = np.full(n, n, np.int64)
    np.minimum.at(border, columns[reached], labels[rows[reached]])
    labels[border < n] = border[border < n]
    labels[labels >= 0] = _by_first_appearance(labels[labels >= 0])
    return labels


def _agglomerative(distances: sparse.csr_array, eps: float, min_samples: int) -> np.ndarray:
    """Connected components of the pairs within eps; labels (N,) int64 numbered by first
    appearance.
    """
    rows = np.repeat(np.arange(distances.shape[0]), np.diff(distances.indptr))
    near = distances.data <= eps
    edges = sparse.csr_array(
        (np.ones(near.sum(), np.int8), (rows[near], distances.indices[near])), distances.shape
    )
    component = connected_components(edges, directed=False)[1]
    large = np.bincount(component)[component] >= min_samples
    labels = np.full(len(component), UNCLUSTERED, np.int64)
    labels[large] = _by_first_appearance(component[large])
    return labels


def _hdbscan(distances: sparse.csr_array, eps: float, min_samples: int) -> np.ndarray:
    """scikit-learn's HDBSCAN on the stored pairs, made one connected graph; labels as
    the others'.

    Each image is also tied to the `min_samples` next ones at 1, the largest Jaccard
    distance: it stands for all pairs that are not stored, connects the graph and gives
    every row the neighbours that scikit-learn asks for.
    """
    from sklearn.cluster import HDBSCAN

    n = distances.shape[0]
    rows = np.repeat(np.arange(n), np.diff(distances.indptr))
    columns = distances.indices
    tied = np.repeat(np.arange(n), min_samples)
    others = (tied + np.tile(np.arange(1, min_samples + 1), n)) % n
    apart = rows != columns
    ring = tied != others
    i = np.concatenate([rows[apart], tied[ring], others[ring], np.arange(n)])
    j = np.concatenate([columns[apart], others[ring], tied[ring], np.arange(n)])
    length = np.concatenate(
        [
            np.maximum(
                distances.data[apart], 1e-9
            ),  # 0 would be no edge to the spanning tree
            np.ones(2 * ring.sum()),
            np.zeros(n),
        ]
    )
    order = np.lexsort((length, j, i))
    # a pair that is stored keeps its distance: it is the shorter one
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(i[order]) != 0) | (np.diff(j[order]) != 0)
    chosen = order[first]
    graph = sparse.csr_matrix((length[chosen], (i[chosen], j[chosen])), shape=(n, n))
    found = HDBSCAN(
        min_cluster_size=min_samples, min_samples=min_samples, metric="precomputed", copy=True
    ).fit(graph)
    labels = np.full(n, UNCLUSTERED, np.int64)
    labels[found.labels_ >= 0] = _by_first_appearance(found.labels_[found.labels_ >= 0])
    return labels


def _by_first_appearance(groups: np.ndarray) -> np.ndarray:
    """Renumber groups 0..K-1 in the order in which they appear."""
    _, first, groups = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[groups]
