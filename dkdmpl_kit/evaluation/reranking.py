"""k-reciprocal re-ranking (Zhong et al., CVPR 2017) on the sparse neighbour graph.

The published codes hold a dense (Q + G)^2 matrix, 35 GB for MSMT17. Here V is sparse, and
the distances of one block of queries to the gallery are all that is ever dense.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from dkdmpl_kit.clustering import reciprocal_weights
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.neighbors import (
    BLOCK_ENTRIES,
    NeighborGraph,
    as_features,
    knn_graph,
    map_ranges,
)
from dkdmpl_kit.neighbors.graph import BLOCK_ROWS


@dataclass(frozen=True)
class Reranking:
    """The settings of re-ranking; the defaults are the paper's.

    k1  neighbours of the k-reciprocal sets, the picture itself not counted
    k2  neighbours averaged by query expansion, the picture itself counted (1: none)
    original_weight  lambda in [0, 1], the share of the original distance
    KitError: settings out of range.
    """

    k1: int = 20
    k2: int = 6
    original_weight: float = 0.3

    def __post_init__(self) -> None:
        if not 1 <= self.k2 <= self.k1 + 1:
            raise KitError(f"k2={self.k2} must lie between 1 and k1 + 1 = {self.k1 + 1}.")
        if not 0 <= self.original_weight <= 1:
            raise KitError(
                f"original_weight={self.original_weight} must lie between 0 and 1."
            )

    def __str__(self) -> str:
        return f"k1 {self.k1}, k2 {self.k2}, lambda {self.original_weight:g}"


def reranked_distances(
    query_features: np.ndarray | torch.Tensor,
    gallery_features: np.ndarray | torch.Tensor,
    settings: Reranking = Reranking(),
    *,
    progress: bool = False,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first query, distances (b, G) float32) block by block, smaller is nearer.

    query_features (Q, d), gallery_features (G, d), rows of norm 1. The distance is
    (1 - lambda) J + lambda D, as the published code in float32 computes it
    (re_ranking_ranklist.py, given Euclidean distances): D is the squared distance,
    divided by the largest one of its query to all of queries and gallery; so is the
    distance in the weights exp(-D) of V. The half sets come from round(k1 / 2) + 1
    neighbours. Equal similarities: the smaller index first, itself before all; the
    published code leaves their order to its sort.

    KitError: features that do not fit together, NaN, rows not of norm 1.
    """
    query, gallery = fitting(query_features, gallery_features)
    both = torch.cat([query, gallery])
    width = min(settings.k1 + 1, len(both))
    graph = knn_graph(both, width, progress=progress)
    scale = farthest(both)
    V = _neighbourhoods(graph, settings, scale)
    del graph, both
    yield from _blocks(query, gallery, V, scale, settings.original_weight)


def fitting(
    query_features: np.ndarray | torch.Tensor, gallery_features: np.ndarray | torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as float32 tensors on the queries' device; KitError unless rows of norm 1 with
    as many columns.
    """
    query = as_features(query_features, "query_features")
    gallery = as_features(gallery_features, "gallery_features")
    if query.shape[1] != gallery.shape[1]:
        raise KitError(
            f"query_features have {query.shape[1]} columns but gallery_features "
            f"{gallery.shape[1]}."
        )
    return query, gallery.to(query.device)


def farthest(features: torch.Tensor) -> np.ndarray:
    """(N,) the squared distance of each row of (N, d) to the row that is farthest from it.

    1 where all rows are the same: it is what distances are divided by.
    """
    least = features.new_full((len(features),), torch.inf)
    parts = torch.arange(len(features)).split(BLOCK_ROWS)
    for i, rows in enumerate(parts):
        # a pair of blocks is met once, and serves the rows of both
        for columns in parts[i:]:
            rows_at, columns_at = (slice(int(p[0]), int(p[-1]) + 1) for p in (rows, columns))
            s = features[rows_at] @ features[columns_at].T
            least[rows_at] = torch.minimum(least[rows_at], s.amin(dim=1))
            least[columns_at] = torch.minimum(least[columns_at], s.amin(dim=0))
    squared = (2 - 2 * least).cpu().numpy()
    return np.where(squared > 1e-6, squared, np.float32(1))


def _neighbourhoods(
    graph: NeighborGraph, settings: Reranking, scale: np.ndarray
) -> sparse.csr_array:
    """V (N, N) after query expansion: softmax of -D over each expanded reciprocal set."""
    n = len(graph)
    V = reciprocal_weights(graph, graph.k, round(settings.k1 / 2) + 1)
    # exp(-d) / sum, raised to the power 1 / scale, is proportional to exp(-d / scale)
    V.data **= np.repeat(1 / scale, np.diff(V.indptr))
    V.data /= np.repeat(V.sum(axis=1), np.diff(V.indptr))
    k2 = min(settings.k2, graph.k)
    pointers = np.arange(0, n * k2 + 1, k2)
    first = np.ascontiguousarray(graph.indices[:, :k2]).ravel()
    share = np.full(n * k2, 1 / k2, np.float32)
    return sparse.csr_array((share, first, pointers), shape=(n, n)) @ V


def _blocks(
    query: torch.Tensor,
    gallery: torch.Tensor,
    V: sparse.csr_array,
    scale: np.ndarray,
    original_weight: float,
) -> Iterator[tuple[int, np.ndarray]]:
    from dkdmpl_kit.evaluation import kernels

    of_queries = V[: len(query)]
    by_column = V[len(query) :].tocsc()
    arrays = [
        array
        for part in (of_queries, by_column)
        for array in (part.indptr.astype(np.int64), part.indices, part.data)
    ]
    scale = scale[: len(query), None]
    block = max(1, BLOCK_ENTRIES // len(gallery))
    for start in range(0, len(query), block):
        similarities = (query[start : start + block] @ gallery.T).cpu().numpy()
        distances = (2 - 2 * similarities) / scale[start : start + block]
        map_ranges(
            lambda a, b, d=distances, s=start: kernels.blend_jaccard(
                *arrays, d, np.float32(original_weight), s, a, b
            ),
            len(distances),
            16,
        )
        yield start, distances
