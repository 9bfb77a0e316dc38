"""DBSCAN as its paper has it: slow, short, read beside METHOD.md."""

from __future__ import annotations

import numpy as np


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
