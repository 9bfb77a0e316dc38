"""What all measures of noise count from: clusters against identities as a sparse table,
and its best matching.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from dkdmpl_kit.errors import KitError, check_option

OUTLIERS = ("left_out", "singletons")


@dataclass(frozen=True)
class Contingency:
    """How many images each cluster shares with each identity (the confusion between
    clusters and identities).

    counts     (K, P) int64 csr_array, images
    clusters   (K,) the label of each row, sorted
    pids       (P,) the identity of each column, sorted
    images     (n,) index of the counted images
    row_of, column_of  (n,) their places in the table
    """

    counts: sparse.csr_array
    clusters: np.ndarray
    pids: np.ndarray
    images: np.ndarray
    row_of: np.ndarray
    column_of: np.ndarray


def contingency(
    labels: np.ndarray, pids: np.ndarray, *, outliers: str = "left_out"
) -> Contingency:
    """Table of pseudo labels (N,), -1 for outliers, against identities (N,), negative
    where unknown (never counted).

    outliers: "left_out" counts the clustered images; "singletons" counts all, each
    outlier as a cluster of its own, numbered after the last cluster in the order of the
    images.
    """
    labels, pids = checked(labels, pids)
    check_option("outliers", outliers, OUTLIERS)
    if outliers == "singletons":
        alone = labels < 0
        labels = labels.copy()
        labels[alone] = labels.max() + 1 + np.arange(alone.sum())
    images = np.flatnonzero((labels >= 0) & (pids >= 0))
    clusters, row_of = np.unique(labels[images], return_inverse=True)
    known, column_of = np.unique(pids[images], return_inverse=True)
    return Contingency(
        count_table(row_of, column_of, (len(clusters), len(known))),
        clusters,
        known,
        images,
        row_of,
        column_of,
    )


def count_table(
    rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
) -> sparse.csr_array:
    """How often each (row, column) occurs, csr_array int64 of `shape` without stored
    zeros.
    """
    return sparse.csr_array((np.ones(len(rows), np.int64), (rows, columns)), shape=shape)


def pairs(counts: np.ndarray) -> int:
    """Unordered pairs within groups of these sizes: the sum of n (n - 1) / 2."""
    counts = np.asarray(counts, dtype=np.int64)
    return int((counts * (counts - 1) // 2).sum())


def best_matching(weights: sparse.csr_array) -> np.ndarray:
    """(R,) the column matched to each row of weights (R, C), or -1: one to one, of the
    greatest sum of weights > 0.

    The assignment that the Hungarian algorithm finds (Kuhn 1955;
    scipy.optimize.linear_sum_assignment has the same sum), but on the stored cells
    only: every row may also take a column of its own, of weight 0, and stay alone.
    """
    weights = sparse.csr_array(weights, dtype=float)
    n_rows, n_columns = weights.shape
    if not weights.nnz:
        return np.full(n_rows, -1)
    shifted = weights.copy()
    shifted.data += 1.0  # each row takes exactly one cell: the shift changes no order
    rows, columns = min_weight_full_bipartite_matching(
        sparse.hstack([shifted, sparse.eye_array(n_rows)], format="csr"), maximize=True
    )
    matched = np.empty(n_rows, dtype=np.int64)
    matched[rows] = np.where(columns < n_columns, columns, -1)
    return matched


def cluster_means(features: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(K, d) means of features (N, d) by group (N,) in 0..K-1, none empty, brought to
    norm 1 (a mean of zero stays).
    """
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(groups.max(initial=-1) + 1))
    sums = np.add.reduceat(features[order], starts)
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)


def checked(
    labels: np.ndarray, pids: np.ndarray, names: str = "labels and pids"
) -> tuple[np.ndarray, np.ndarray]:
    """Both as int64 (N,), N >= 1; KitError unless they are two lists of the same
    length.
    """
    labels = np.asarray(labels)
    pids = np.asarray(pids)
    if labels.ndim != 1 or labels.shape != pids.shape or len(labels) == 0:
        raise KitError(
            f"{names} must be two lists of the same length, not {labels.shape} and "
            f"{pids.shape}."
        )
    return labels.astype(np.int64), pids.astype(np.int64)
