"""Pseudo labels: sparse k-reciprocal Jaccard distances on the neighbour graph, then
DBSCAN on what they left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from dkdmpl_kit.errors import KitError, check_option
from dkdmpl_kit.neighbors import NeighborGraph, as_features, knn_graph, map_ranges

UNCLUSTERED = -1
METHODS = ("dbscan", "hdbscan", "agglomerative")


@dataclass(frozen=True)
class PseudoLabels:
    """One epoch's clustering and the settings that made it.

    labels            (N,) int64: 0..n_clusters-1, numbered by first appearance; -1 for
                      an outlier
    outlier_fraction  share of the N images that are outliers
    """

    labels: np.ndarray
    n_clusters: int
    outlier_fraction: float
    method: str = "dbscan"
    eps: float = 0.6
    min_samples: int = 4


def jaccard_distances(
    features_or_graph: np.ndarray | torch.Tensor | NeighborGraph,
    *,
    k1: int = 30,
    k2: int = 6,
    max_distance: float = 0.8,
) -> sparse.csr_array:
    """k-reciprocal Jaccard distances (Zhong et al. 2017, as in the published re-ID
    codes) of the pairs that are near.

    features_or_graph  (N, d) with rows of norm 1, or a `knn_graph` of them with at
                       least k1 columns
    k1            neighbours per image, itself included; clipped to N
    k2            neighbours averaged by query expansion, itself included (1: none); at
                  most k1
    max_distance  in (0, 1): pairs further apart are not stored, so N x N numbers never
                  exist

    Returns a symmetric csr_array (N, N) float32 with sorted columns and the attribute
    `.max_distance`. The diagonal is stored, as explicit zeros, and so are other
    distances of zero: a row's stored columns are its whole neighbourhood, itself
    included, which is how scikit-learn's DBSCAN(metric="precomputed") reads it (do not
    `eliminate_zeros`). The result does not depend on the number of threads. KitError:
    fewer than 2 images, and settings out of range.
    """
    if not 1 <= k2 <= k1:
        raise KitError(f"k2={k2} must lie between 1 and k1={k1}.")
    if not 0 < max_distance < 1:
        raise KitError(
            f"max_distance={max_distance} must lie strictly between 0 and 1: at 1 "
            "every pair is near."
        )
    given = isinstance(features_or_graph, NeighborGraph)
    source = features_or_graph if given else as_features(features_or_graph)
    n = len(source)
    if n < 2:
        raise KitError("One image cannot be clustered: distances need at least 2 images.")
    k1 = min(k1, n)
    k2 = min(k2, n)
    graph = source if given else knn_graph(source, k1)
    if graph.k < k1:
        raise KitError(
            f"The neighbour graph has {graph.k} columns, but k1={k1} needs as many: "
            f"build it with k={k1}."
        )
    encoding = _expand_query(graph.indices[:, :k1], k2, _encode(graph, k1))
    return _overlaps(encoding, max_distance)


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
    if eps <= 0 or (reach is not None and eps > reach):
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


def require_clusters(pseudo: PseudoLabels, at_least: int = 2) -> PseudoLabels:
    """`pseudo` itself, or a KitError that says which setting to turn if it has too few
    clusters to train on.
    """
    if pseudo.n_clusters >= at_least:
        return pseudo
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


def centre_by_camera(
    features: np.ndarray | torch.Tensor, camids: np.ndarray
) -> np.ndarray | torch.Tensor:
    """Features (N, d) without the mean of their camera (N,), rows of norm 1 again; same
    kind and device as given.

    An option before clustering, not in the paper: it removes what all pictures of one
    camera have in common (its cast, its background), at the price of using camera ids.
    KitError: unknown cameras (-1), or a camera whose images are all alike, such as a
    single one, of which nothing is left.
    """
    tensor = as_features(features)
    cameras = np.asarray(camids)
    if cameras.shape != (len(tensor),):
        raise KitError(
            f"camids has shape {cameras.shape}, but there are {len(tensor)} features."
        )
    if (cameras < 0).any():
        raise KitError(
            f"{int((cameras < 0).sum())} images have no known camera: centring by "
            "camera needs all of them."
        )
    centred = tensor.clone()
    for camera in np.unique(cameras):
        rows = torch.as_tensor(np.flatnonzero(cameras == camera), device=tensor.device)
        centred[rows] -= tensor[rows].mean(dim=0)
        if bool((torch.linalg.vector_norm(centred[rows], dim=1) < 1e-6).any()):
            raise KitError(
                f"Camera {camera} ({len(rows)} images) has nothing left after "
                "centring: switch the centring "
                "by camera off, or leave this camera out."
            )
    centred = torch.nn.functional.normalize(centred, dim=1)
    return centred if isinstance(features, torch.Tensor) else centred.numpy()


def _assemble(
    work: Callable[[int, int], tuple], n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run a kernel by blocks of rows and join the parts: (row pointers (n+1,) int64,
    columns int32, values).
    """
    counts, columns, values = zip(*map_ranges(work, n, max(256, n // 64)), strict=True)
    pointers = np.zeros(n + 1, np.int64)
    np.cumsum(np.concatenate(counts), out=pointers[1:])
    return pointers, np.concatenate(columns), np.concatenate(values)


def _encode(graph: NeighborGraph, k1: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V of every row: softmax of -(2 - 2s) over its expanded set of reciprocal
    neighbours.
    """
    from dkdmpl_kit.clustering import kernels

    n = len(graph)
    ranks = np.ascontiguousarray(graph.indices[:, :k1])
    full = np.zeros((n, k1), bool)
    half = np.zeros((n, min(k1, round(k1 / 2) + 1)), bool)
    for mask in (full, half):
        map_ranges(
            lambda start, stop, mask=mask: kernels.reciprocal(ranks, start, stop, mask),
            n,
            max(256, n // 64),
        )
    return _assemble(
        lambda start, stop: kernels.encode(
            ranks, graph.similarities, graph.features, full, half, start, stop
        ),
        n,
    )


def _expand_query(
    ranks: np.ndarray, k2: int, encoding: tuple
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from dkdmpl_kit.clustering import kernels

    if k2 == 1:
        return encoding
    ranks = np.ascontiguousarray(ranks[:, :k2])
    return _assemble(
        lambda start, stop: kernels.average(ranks, k2, *encoding, start, stop), len(ranks)
    )


def _overlaps(encoding: tuple, max_distance: float) -> sparse.csr_array:
    """1 - m / (2 - m) with m_ij = sum_l min(V_il, V_jl), upper triangle first, then
    mirrored.
    """
    from dkdmpl_kit.clustering import kernels

    pointers, columns, weights = encoding
    n = len(pointers) - 1
    inverted = sparse.csr_array(
        (weights, columns, pointers), shape=(n, n)
    ).tocsc()  # per column: who has it, ascending
    owned = (
        inverted.indptr.astype(np.int64),
        inverted.indices.astype(np.int32, copy=False),
        inverted.data,
    )
    limit = np.float32(max_distance)
    upper = _assemble(
        lambda start, stop: kernels.overlap(*encoding, *owned, limit, start, stop), n
    )
    pointers, columns, values = kernels.mirror(*upper)
    distances = sparse.csr_array((values, columns, pointers), shape=(n, n))
    distances.has_sorted_indices = distances.has_canonical_format = True
    distances.max_distance = float(max_distance)
    return distances


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
    first = np.ones(
        len(order), bool
    )  # a pair that is stored keeps its distance: it is the shorter one
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
