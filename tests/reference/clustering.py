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


def camera_jaccard_by_loops(
    features: np.ndarray,
    camids: np.ndarray,
    k1_intra: int = 5,
    k1_inter: int = 20,
    k2_intra: int = 2,
    k2_inter: int = 4,
) -> np.ndarray:
    """(N, N) CA-Jaccard distances with sets and loops, as the paper tells them."""
    n = len(features)
    wide = features.astype(np.float64)
    s = wide @ wide.T
    near = []  # of each picture: (its own camera, itself first; other cameras)
    for i in range(n):
        order = np.argsort(-s[i].astype(np.float32), kind="stable").tolist()
        order.remove(i)
        own = [i, *(j for j in order if camids[j] == camids[i])][: k1_intra + 1]
        near.append((own, [j for j in order if camids[j] != camids[i]][: k1_inter + 1]))
    V = np.zeros((n, n))
    for i in range(n):
        members = [j for kind in (0, 1) for j in near[i][kind] if i in near[j][kind]]
        raw = np.exp(-(2 - 2 * s[i, members]))
        V[i, members] = raw / raw.sum()
    V = np.stack([V[[*own[:k2_intra], *others[:k2_inter]]].mean(0) for own, others in near])
    m = np.array([[np.minimum(a, b).sum() for b in V] for a in V])
    return np.maximum(0, 1 - m / (2 - m))
