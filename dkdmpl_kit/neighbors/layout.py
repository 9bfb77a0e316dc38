"""A k-NN graph on paper: one UMAP map, and maps of later epochs that stay aligned with
it.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from typing import Any

import numpy as np

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.neighbors.graph import NeighborGraph

FEWEST = 6  # below, there is no neighbourhood to keep
REFRESH_ROUNDS = 60  # of UMAP's optimiser, from the last epoch's map
# numba's plain threads end the process where two callers meet in them
_ONE_FIT = threading.Lock()


def umap_layout(
    graph: NeighborGraph,
    *,
    seed: int = 0,
    n_neighbors: int = 15,
    min_dist: float = 0.15,
    init: np.ndarray | None = None,
    n_epochs: int | None = None,
) -> np.ndarray:
    """(N, 2) float32 positions by UMAP (McInnes et al. 2018), the same for a seed on one
    thread.

    The graph's neighbours, at most `n_neighbors` of each, spare UMAP its own search.
    Their Euclidean distances are sqrt(2 - 2 similarity). `init` (N, 2): start from
    another map, by default from the features' principal components. `n_epochs`: rounds
    of UMAP's optimiser, by default 500 (200 above 10,000 pictures). Fewer than `FEWEST`
    pictures stand in a line. KitError: `init` of another shape.
    """
    total = len(graph)
    if init is not None and np.shape(init) != (total, 2):
        raise KitError(
            f"umap_layout: init has shape {np.shape(init)}, expected ({total}, 2), one "
            "row a picture."
        )
    if total < FEWEST:
        line = np.stack([np.arange(total), np.zeros(total)], axis=1)
        return np.asarray(line if init is None else init, np.float32)
    k = min(n_neighbors, total - 1, graph.k)
    indices = np.asarray(graph.indices, np.int32)[:, :k]
    distances = np.sqrt(np.maximum(2 - 2 * np.asarray(graph.similarities)[:, :k], 0))
    return _fit_umap(
        np.asarray(graph.features, np.float32),
        n_neighbors=k,
        min_dist=min_dist,
        init="pca" if init is None else np.asarray(init, np.float32),
        n_epochs=n_epochs,
        precomputed_knn=(indices, distances.astype(np.float32), None),
        force_approximation_algorithm=True,
        random_state=seed,
    )


def _fit_umap(features: np.ndarray, **options: Any) -> np.ndarray:
    with _ONE_FIT, warnings.catch_warnings():
        # without its search index UMAP cannot place new points, which is never asked here
        warnings.filterwarnings("ignore", message=".*knn_search_index.*")
        from umap import UMAP

        _keep_compiled_loops()
        return np.asarray(UMAP(n_jobs=1, **options).fit_transform(features), np.float32)


def _keep_compiled_loops() -> None:
    """UMAP compiles two loops anew in every process, most of the time of a small map:
    let numba keep them on disk, where it finds a place.
    """
    from umap import umap_

    for loop in (umap_.smooth_knn_dist, umap_.compute_membership_strengths):
        with contextlib.suppress(RuntimeError):  # no folder can be written: no gain, no harm
            loop.enable_caching()


def align(xy: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(N, 2) the map `xy` (N, 2), moved, turned or mirrored, and scaled to lie as near
    to `reference` (N, 2) as it can.

    Orthogonal Procrustes (Schoenemann 1966). The scale makes the spreads equal: the
    least-squares one would shrink map after map. KitError: maps of two lengths.
    """
    from scipy.linalg import orthogonal_procrustes

    xy = np.asarray(xy, float)
    reference = np.asarray(reference, float)
    if xy.shape != reference.shape:
        raise KitError(
            f"align: the maps have shapes {xy.shape} and {reference.shape}; give two "
            "maps of the same pictures."
        )
    centred = xy - xy.mean(axis=0)
    target = reference - reference.mean(axis=0)
    scale = np.linalg.norm(target) / max(np.linalg.norm(centred), 1e-12)
    turn, _ = orthogonal_procrustes(centred, target)
    return (centred @ turn * scale + reference.mean(axis=0)).astype(np.float32)


def next_layout(
    graph: NeighborGraph, last: np.ndarray, *, seed: int = 0, n_epochs: int = REFRESH_ROUNDS
) -> np.ndarray:
    """(N, 2) the next epoch's map: UMAP started from the `last` (N, 2), for a few
    rounds, then `align`ed with it.
    """
    return align(umap_layout(graph, init=last, seed=seed, n_epochs=n_epochs), last)
