"""Soft labels of the clustering itself: how much of a picture's neighbourhood lies in each
cluster. The epoch's teachers "vote" and "neighbourhood" (METHOD.md: "Three views"); the
abstract's "pseudo labels obtained from the epoch-wise clustering", read as what the
clustering saw before it decided. Sparse throughout: (N, K) with a few entries a row.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from dkdmpl_kit.errors import KitError


def jaccard_votes(
    distances: csr_array, labels: np.ndarray, camids: np.ndarray | None = None
) -> csr_array:
    """e_ik in proportion to the sum of 1 - d_J(i, j) over the pictures j of cluster k.

    distances: (N, N) as `jaccard_distances` stores them; pairs that are not stored have no
    vote. labels: (N,) 0..K-1, -1 for outliers, which have no vote but are voted on. The
    picture itself has no vote. camids: (N,), and then only pictures of other cameras vote.
    Returns (N, K) rows that sum to 1; a row without a vote is empty. KitError on shapes
    that do not fit, or no cluster.
    """
    voters, weights = _entries(distances)
    rows = np.repeat(np.arange(distances.shape[0]), np.diff(distances.indptr))
    kept = voters != rows
    return _by_cluster(rows[kept], voters[kept], 1.0 - weights[kept], labels, camids)


def neighbourhood_shares(
    neighbourhoods: csr_array, labels: np.ndarray, camids: np.ndarray | None = None
) -> csr_array:
    """e_ik in proportion to the sum of V_ij over the pictures j of cluster k.

    neighbourhoods: V (N, N), as `reciprocal_neighbourhoods` gives them; the picture itself
    counts unless camids are given. Otherwise as `jaccard_votes`.
    """
    voters, weights = _entries(neighbourhoods)
    rows = np.repeat(np.arange(neighbourhoods.shape[0]), np.diff(neighbourhoods.indptr))
    return _by_cluster(rows, voters, weights, labels, camids)


def strongest(soft: csr_array, count: int) -> csr_array:
    """Each row cut to its `count` largest entries, which again sum to 1; (N, K) as given.

    Of equal entries the cluster that comes first is kept. KitError: count below 1.
    """
    if count < 1:
        raise KitError(f"count={count} must be at least 1: a soft label needs a cluster.")
    rows = np.repeat(np.arange(soft.shape[0]), np.diff(soft.indptr))
    order = np.lexsort((soft.indices, -soft.data, rows))
    rank = np.arange(len(order)) - np.repeat(soft.indptr[:-1], np.diff(soft.indptr))
    kept = order[rank < count]
    cut = csr_array((soft.data[kept], (rows[kept], soft.indices[kept])), shape=soft.shape)
    cut.data /= np.repeat(cut.sum(axis=1), np.diff(cut.indptr))
    return cut


def rows_of(soft: csr_array, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Soft labels (B, K) float32 of images (B,), dense; labels: (N,) the hard ones.

    A row without a vote is its hard label, as nothing speaks against it; an outlier's is
    uniform.
    """
    found = soft[images].toarray().astype(np.float32)
    for row in np.flatnonzero(found.sum(1) == 0):
        own = labels[images[row]]
        found[row] = 1.0 / found.shape[1] if own < 0 else np.eye(found.shape[1])[own]
    return found


def _entries(matrix: csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Columns and values of a square sparse matrix, row by row."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise KitError(f"a sparse (N, N) is needed, got shape {matrix.shape}.")
    return matrix.indices, matrix.data.astype(np.float64)


def _by_cluster(
    rows: np.ndarray,
    voters: np.ndarray,
    weights: np.ndarray,
    labels: np.ndarray,
    camids: np.ndarray | None,
) -> csr_array:
    """(N, K): each row's weights summed by the voters' clusters, and divided by their sum."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.max(initial=-1) < 0:
        raise KitError(f"labels must be integers (N,) with a cluster, got {labels.dtype}.")
    kept = (labels[voters] >= 0) & (weights > 0)
    if camids is not None:
        camids = np.asarray(camids)
        if camids.shape != labels.shape or (camids < 0).any():
            raise KitError("votes of other cameras need the camera of every picture.")
        kept &= camids[rows] != camids[voters]
    shape = (len(labels), int(labels.max()) + 1)
    votes = csr_array((weights[kept], (rows[kept], labels[voters[kept]])), shape=shape)
    totals = votes.sum(axis=1)
    shares = votes.data / np.repeat(totals, np.diff(votes.indptr))
    return csr_array((shares, votes.indices, votes.indptr), shape=shape)
