"""CA-Jaccard: k-reciprocal Jaccard distances whose neighbourhoods know the cameras.

Chen et al., "CA-Jaccard: Camera-aware Jaccard Distance for Person Re-identification",
CVPR 2024. Pictures of one camera look alike (its light, its background), so that they
crowd the lists of nearest neighbours. Here each picture has two lists, one of its own
camera and a longer one of all others (CKRNNs), and query expansion takes from both
(CLQE). Only the neighbourhoods V differ from `jaccard`; METHOD.md has the symbols.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse

from dkdmpl_kit.clustering.jaccard import _require_reach, jaccard_of
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.neighbors import NeighborGraph, as_features, knn_across, knn_graph


def camera_jaccard_distances(
    features: np.ndarray | torch.Tensor,
    camids: np.ndarray,
    *,
    k1_intra: int = 5,
    k1_inter: int = 20,
    k2_intra: int = 2,
    k2_inter: int = 4,
    max_distance: float = 0.8,
) -> sparse.csr_array:
    """CA-Jaccard distances of the pairs that are near, as `jaccard_distances` returns them.

    features (N, d) rows of norm 1; camids (N,) cameras, 0 or above, of at least two kinds.
    The k's are those of `camera_neighbourhoods`; max_distance and what is stored as in
    `jaccard_distances`. KitError: unknown cameras, one camera, settings out of range.
    """
    _require_reach(max_distance)  # before the long part
    neighbourhoods = camera_neighbourhoods(
        features,
        camids,
        k1_intra=k1_intra,
        k1_inter=k1_inter,
        k2_intra=k2_intra,
        k2_inter=k2_inter,
    )
    return jaccard_of(neighbourhoods, max_distance)


def camera_neighbourhoods(
    features: np.ndarray | torch.Tensor,
    camids: np.ndarray,
    *,
    k1_intra: int = 5,
    k1_inter: int = 20,
    k2_intra: int = 2,
    k2_inter: int = 4,
) -> sparse.csr_array:
    """V (N, N) float32 of CA-Jaccard, rows that sum to 1.

    k1_intra, k1_inter  lengths of the lists within a camera and across cameras. As in the
                        published code both lists have one entry more: within, that is the
                        picture itself.
    k2_intra, k2_inter  entries of each list that query expansion averages; within, the
                        picture itself counts as one. 1 and 0: no expansion.

    P_i joins those of the picture's own camera and those of other cameras that list it
    back; unlike the plain distance it is not expanded. V_i is the softmax over P_i of
    -(2 - 2 s_ij), then the mean of V over the first entries of both lists. A camera with
    few pictures gives shorter lists (the published code fills them up with pictures of
    the other kind). The defaults are those of the published training commands.
    Errors as `camera_jaccard_distances`.
    """
    _require_lengths(k1_intra, k1_inter, k2_intra, k2_inter)
    tensor = as_features(features)
    cameras = require_cameras(camids, len(tensor))
    within = _lists_within(tensor, cameras, k1_intra + 1)
    across = _lists(knn_across(tensor, k1_inter + 2, cameras))
    reciprocal = sum(_reciprocal(lists, len(tensor)) for lists in (within, across))
    V = _rows_sum_to_1(reciprocal)
    if (k2_intra, k2_inter) != (1, 0):
        first = _first(within, k2_intra, len(tensor)) + _first(across, k2_inter, len(tensor))
        V = _rows_sum_to_1(first) @ V
    V = sparse.csr_array(V, dtype=np.float32)
    V.sort_indices()
    return V


def require_cameras(camids: np.ndarray, n: int) -> np.ndarray:
    """camids (N,) as an array; KitError unless all are known and there are two or more."""
    cameras = np.asarray(camids)
    if cameras.shape != (n,):
        raise KitError(f"camids has shape {cameras.shape}, but there are {n} pictures.")
    unknown = int((cameras < 0).sum())
    if unknown:
        raise KitError(
            f"distance=camera_jaccard needs every camera, and {unknown} are unknown: use "
            "distance=jaccard, or a pattern with the group camid."
        )
    if len(np.unique(cameras)) < 2:
        raise KitError(
            "distance=camera_jaccard needs at least two cameras, and all pictures are of "
            "one: use distance=jaccard."
        )
    return cameras


def _require_lengths(k1_intra: int, k1_inter: int, k2_intra: int, k2_inter: int) -> None:
    for name, value, least, most in (
        ("k1_intra", k1_intra, 1, None),
        ("k1_inter", k1_inter, 1, None),
        ("k2_intra", k2_intra, 1, k1_intra + 1),
        ("k2_inter", k2_inter, 0, k1_inter + 1),
    ):
        if value < least or most is not None and value > most:
            upper = "" if most is None else f" and at most {most}, the length of its list"
            raise KitError(f"{name}={value} must be at least {least}{upper}.")


# (rows, columns, similarities, places in the row's list), each (number of entries,)
Lists = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _lists(graph: NeighborGraph) -> Lists:
    """The lists of `knn_across`, without the picture itself."""
    kept = graph.similarities[:, 1:] > -2
    rows, places = np.nonzero(kept)
    return rows, graph.indices[:, 1:][kept], graph.similarities[:, 1:][kept], places


def _lists_within(tensor: torch.Tensor, cameras: np.ndarray, length: int) -> Lists:
    """The nearest pictures of the same camera, the picture itself first."""
    parts = []
    for camera in np.unique(cameras):
        own = np.flatnonzero(cameras == camera)
        at = torch.as_tensor(own, device=tensor.device)
        graph = knn_graph(tensor[at], min(length, len(own)))
        rows, places = np.indices(graph.indices.shape)
        parts.append(
            (
                own[rows.ravel()],
                own[graph.indices.ravel()],
                graph.similarities.ravel(),
                places.ravel(),
            )
        )
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def _reciprocal(lists: Lists, n: int) -> sparse.csr_array:
    """(N, N) float64: exp(-(2 - 2 s_ij)) where i and j list each other."""
    rows, columns, similarities, _ = lists
    raw = np.exp(-(2.0 - 2.0 * similarities.astype(np.float64)))
    listed = sparse.csr_array((raw, (rows, columns)), shape=(n, n))
    back = sparse.csr_array((np.ones(len(rows)), (columns, rows)), shape=(n, n))
    return listed * back


def _first(lists: Lists, k: int, n: int) -> sparse.csr_array:
    """(N, N) float64: 1 at the first `k` entries of each list."""
    rows, columns, _, places = lists
    kept = places < k
    ones = np.ones(int(kept.sum()))
    return sparse.csr_array((ones, (rows[kept], columns[kept])), shape=(n, n))


def _rows_sum_to_1(weights: sparse.csr_array) -> sparse.csr_array:
    """Every row has an entry: a picture lists itself."""
    return sparse.diags_array(1 / weights.sum(axis=1)) @ weights
