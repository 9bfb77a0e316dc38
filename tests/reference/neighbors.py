"""Neighbours by sorting every row: slow, short."""

from __future__ import annotations

import numpy as np


def dense_neighbors(features: np.ndarray) -> np.ndarray:
    """(N, N): row i lists i first, then all others by falling similarity; ties by index."""
    similarities = features.astype(np.float64) @ features.astype(np.float64).T
    lists = []
    for i, row in enumerate(similarities.astype(np.float32)):
        order = [int(j) for j in np.argsort(-row, kind="stable") if j != i]
        lists.append([i, *order])
    return np.array(lists)
