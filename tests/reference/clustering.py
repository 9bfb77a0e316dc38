"""Naive, dense versions of neighbours, k-reciprocal Jaccard distance and DBSCAN: slow,
short, read beside method.md.
"""

from __future__ import annotations

import numpy as np


def dense_neighbors(features: np.ndarray) -> np.ndarray:
    """(N, N): row i lists i first, then all others by falling similarity; ties by
    index.
    """
    similarities = (features.astype(np.float64) @ features.astype(np.float64).T).astype(
        np.float32
    )
    lists = []
    for i, row in enumerate(similarities):
        order = [int(j) for j in np.argsort(-row, kind="stable") if j != i]
        lists.append([i, *order])
    return np.array(lists)


def dense_jaccard(features: np.ndarray, k1: int, k2: int) -> np.ndarray:
    """(N, N) float64 distances, by sets and loops."""
    n = len(features)
    k1, k2 = min(k1, n), min(k2, n)
    ranks = dense_neighbors(features)
    similarities = features.astype(np.float64) @ features.astype(np.float64).T

    def mutual(width: int) -> list[set[int]]:
        near = [set(ranks[i, :width].tolist()) for i in range(n)]
        return [{j for j in near[i] if i in near[j]} for i in range(n)]

    full, half = mutual(k1), mutual(min(k1, int(np.around(k1 / 2)) + 1))
    encoding = np.zeros((n, n))
    for i in range(n):
        members = set(full[i])
        for j in full[i]:
            if len(half[j] & full[i]) > 2 / 3 * len(half[j]):
                members |= half[j]
        columns = sorted(members)
        weights = np.exp(-(2 - 2 * similarities[i, columns]))
        encoding[i, columns] = weights / weights.sum()
    encoding = np.stack([encoding[ranks[i, :k2]].mean(axis=0) for i in range(n)])
    shared = np.array(
        [[np.minimum(encoding[i], encoding[j]).sum() for j in range(n)] for i in range(n)]
    )
    return np.maximum(0, 1 - shared / (2 - shared))


def dense_dbscan(distances: np.ndarray, eps: float, min_samples: int) -> np.ndarray:
    """DBSCAN as in its paper: start at each core in turn and flood; clusters in order
    of their first core.
    """
    n = len(distances)
    near = [np.flatnonzero(distances[i] <= eps) for i in range(n)]
    labels, cluster = np.full(n, -1), 0
    for start in range(n):
        if labels[start] >= 0 or len(near[start]) < min_samples:
            continue
        stack = [start]
        while stack:
            i = stack.pop()
            if labels[i] >= 0:
                continue
            labels[i] = cluster
            if len(near[i]) >= min_samples:
                stack.extend(int(j) for j in near[i] if labels[j] < 0)
        cluster += 1
    return labels
