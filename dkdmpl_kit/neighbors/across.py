"""The nearest neighbours of other groups: for each picture those of other cameras."""

from __future__ import annotations

import numpy as np
import torch

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.neighbors import graph as exact
from dkdmpl_kit.neighbors.graph import NeighborGraph, as_features, bfloat16_is_faster


def knn_across(
    features: np.ndarray | torch.Tensor, k: int, groups: np.ndarray
) -> NeighborGraph:
    """The k - 1 most similar rows of other groups, for each of `features` (N, d), rows of
    norm 1; `groups` (N,) such as camera ids.

    Exact, as `knn_graph` is: column 0 is the row itself, similarities are computed in
    double, of equal ones the smaller index is first. A row that has fewer than k - 1 rows
    of other groups lists itself again at similarity -2 in the columns that are left. N x N
    similarities are never held at once. KitError: k below 1, groups of another length,
    and what `knn_graph` refuses.
    """
    tensor = as_features(features)
    n, d = tensor.shape
    groups = np.asarray(groups)
    if groups.shape != (n,):
        raise KitError(f"groups has shape {groups.shape}, but there are {n} features.")
    if k < 1:
        raise KitError(f"k={k} neighbours cannot be taken; choose k of at least 1.")
    host = tensor.cpu().numpy()
    reduced = tensor.device.type == "cpu" and n * n * d > 2**30 and bfloat16_is_faster()
    side = tensor.bfloat16() if reduced else tensor
    error = exact._bfloat16_error(tensor, side) if reduced else exact._float32_error(n, d)
    found = NeighborGraph(np.empty((n, k), np.int32), np.empty((n, k), np.float32), host)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        others = np.flatnonzero(groups != group).astype(np.int32)
        _search(found, tensor, side, error, rows, others, 3 if reduced else 1.5)
    return found


def _search(
    found: NeighborGraph,
    tensor: torch.Tensor,
    side: torch.Tensor,
    error: exact.ProductError,
    rows: np.ndarray,
    others: np.ndarray,
    margin: float,
) -> None:
    """Fill `rows` (b,) of the graph from the columns `others` (c,). `side`: the features
    that are multiplied; `margin`: candidates a neighbour, as their order is not final.
    """
    wanted = min(found.k - 1, len(others))
    if wanted == 0:
        none = np.zeros((len(rows), 1), bool)
        exact._rerank(found, rows, np.zeros((len(rows), 1), np.int32), none)
        return
    width = min(len(others), int(margin * found.k) + 8)
    columns = side[torch.as_tensor(others, device=side.device)]
    names = torch.arange(len(others), device=side.device)
    wide = max(1, 2 * exact.BLOCK_ENTRIES // exact.BLOCK_ROWS)
    for start in range(0, len(rows), exact.BLOCK_ROWS):
        part = rows[start : start + exact.BLOCK_ROWS]
        block = side[torch.as_tensor(part, device=side.device)]
        largest = exact._Largest(len(part), width, side)
        for tile in names.split(wide):
            largest.offer((block @ columns[tile[0] : tile[-1] + 1].T).contiguous(), tile)
        at, values = largest.read()
        highest = values + error.of(part, values)  # no true similarity is above it
        kth = np.partition(values, -wanted, axis=1)[:, -wanted, None]
        possible = highest >= kth - error.of(part, kth)
        exact._rerank(found, part, others[at], possible)
        if width < len(others):  # and so every list is full
            doubtful = highest.min(axis=1) >= found.similarities[part, -1]
            exact._search_again(found, tensor, part[doubtful], others)
