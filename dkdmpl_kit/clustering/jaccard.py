"""k-reciprocal Jaccard distances on the neighbour graph, sparse: pairs that are near.

`by_the_book` computes the same with sets and loops; the symbols R, P, Q, V and m are
those of METHOD.md ("The distance").
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.neighbors import NeighborGraph, as_features, knn_graph, map_ranges


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
    _require_reach(max_distance)  # before the long part
    return jaccard_of(
        reciprocal_neighbourhoods(features_or_graph, k1=k1, k2=k2), max_distance
    )


def reciprocal_neighbourhoods(
    features_or_graph: np.ndarray | torch.Tensor | NeighborGraph,
    *,
    k1: int = 30,
    k2: int = 6,
) -> sparse.csr_array:
    """V (N, N) float32: how much of picture j belongs to picture i's neighbourhood, rows
    that sum to 1 (METHOD.md: "The distance"). Arguments and errors as `jaccard_distances`.
    """
    if not 1 <= k2 <= k1:
        raise KitError(f"k2={k2} must lie between 1 and k1={k1}.")
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
    pointers, columns, weights = _expand_query(
        graph.indices[:, :k1], k2, _rows_of_V(graph, k1, round(k1 / 2) + 1)
    )
    return sparse.csr_array((weights, columns, pointers), shape=(n, n))


def reciprocal_weights(graph: NeighborGraph, width: int, half: int) -> sparse.csr_array:
    """V (N, N) before query expansion, of P_i from lists of `width` neighbours and Q_j from
    lists of `half`, the picture itself included in both.

    Re-ranking counts them otherwise than clustering does. width: at most the graph's.
    """
    n = len(graph)
    pointers, columns, weights = _rows_of_V(graph, width, half)
    return sparse.csr_array((weights, columns, pointers), shape=(n, n))


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


def _rows_of_V(
    graph: NeighborGraph, k1: int, half: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V of every row: softmax of -(2 - 2s) over its expanded set of reciprocal
    neighbours.
    """
    from dkdmpl_kit.clustering import kernels

    n = len(graph)
    R = np.ascontiguousarray(graph.indices[:, :k1])
    P = np.zeros((n, k1), bool)
    Q = np.zeros((n, min(k1, half)), bool)
    for mask in (P, Q):
        map_ranges(
            lambda start, stop, mask=mask: kernels.reciprocal_sets(R, start, stop, mask),
            n,
            max(256, n // 64),
        )
    return _assemble(
        lambda start, stop: kernels.weights_V(
            R, graph.similarities, graph.features, P, Q, start, stop
        ),
        n,
    )


def _expand_query(
    R: np.ndarray, k2: int, V: tuple
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from dkdmpl_kit.clustering import kernels

    if k2 == 1:
        return V
    R = np.ascontiguousarray(R[:, :k2])
    return _assemble(
        lambda start, stop: kernels.expanded_query(R, k2, *V, start, stop), len(R)
    )


def jaccard_of(V: sparse.csr_array, max_distance: float = 0.8) -> sparse.csr_array:
    """1 - m / (2 - m) with m_ij = sum_l min(V_il, V_jl), of V (N, N) as
    `reciprocal_neighbourhoods` gives it; returns what `jaccard_distances` returns.
    """
    from dkdmpl_kit.clustering import kernels

    _require_reach(max_distance)
    n = V.shape[0]
    rows = (V.indptr.astype(np.int64), V.indices.astype(np.int32, copy=False), V.data)
    # per column: who has it, ascending. Upper triangle first, then mirrored
    inverted = V.tocsc()
    by_column = (
        inverted.indptr.astype(np.int64),
        inverted.indices.astype(np.int32, copy=False),
        inverted.data,
    )
    limit = np.float32(max_distance)
    upper = _assemble(
        lambda start, stop: kernels.jaccard_of_shared_m(
            *rows, *by_column, limit, start, stop
        ),
        n,
    )
    pointers, columns, values = kernels.mirror(*upper)
    distances = sparse.csr_array((values, columns, pointers), shape=(n, n))
    distances.has_sorted_indices = distances.has_canonical_format = True
    distances.max_distance = float(max_distance)
    return distances


def _require_reach(max_distance: float) -> None:
    if not 0 < max_distance < 1:
        raise KitError(
            f"max_distance={max_distance} must lie strictly between 0 and 1: at 1 "
            "every pair is near."
        )
