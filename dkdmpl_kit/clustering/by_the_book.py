"""The k-reciprocal Jaccard distance by the book: dense, short, to be read beside METHOD.md.

Each function is one symbol of "The distance", computed with sets and loops. It is the
lesson, and the reference that the sparse version (`jaccard`) is tested against; beyond a
few hundred pictures it is too slow to use. Zhong et al., "Re-ranking person
re-identification with k-reciprocal encoding", CVPR 2017, as the published re-ID codes
compute it.
"""

from __future__ import annotations

import numpy as np


def neighbours_R(features: np.ndarray) -> np.ndarray:
    """R (N, N): row i lists i itself first, then the others by falling inner product.

    features: (N, d) rows of norm 1. Of equal similarities the smaller index comes first.
    """
    wide = features.astype(np.float64)
    s = (wide @ wide.T).astype(np.float32)
    np.fill_diagonal(s, np.inf)  # the picture itself is first
    return np.argsort(-s, axis=1, kind="stable")


def reciprocal_sets(R: np.ndarray, width: int) -> list[set[int]]:
    """For each i, { j in R_i : i in R_j }, the lists cut to `width`.

    With width k1 these are the P_i; with round(k1 / 2) + 1 they are the half sets Q_j.
    """
    near = [set(row[:width].tolist()) for row in R]
    return [{j for j in near[i] if i in near[j]} for i in range(len(R))]


def expanded_sets(P: list[set[int]], Q: list[set[int]]) -> list[set[int]]:
    """P_i with every Q_j, j in P_i, of which more than two thirds lie in P_i."""
    expanded = []
    for P_i in P:
        members = set(P_i)
        for j in P_i:
            if len(Q[j] & P_i) > 2 / 3 * len(Q[j]):
                members |= Q[j]
        expanded.append(members)
    return expanded


def weights_V(features: np.ndarray, sets: list[set[int]]) -> np.ndarray:
    """V (N, N): V_i is the softmax over i's expanded set of -(2 - 2 s_ij), 0 elsewhere."""
    wide = features.astype(np.float64)
    s = wide @ wide.T
    V = np.zeros(s.shape)
    for i, members in enumerate(sets):
        columns = sorted(members)
        raw = np.exp(-(2 - 2 * s[i, columns]))
        V[i, columns] = raw / raw.sum()
    return V


def expanded_query(V: np.ndarray, R: np.ndarray, k2: int) -> np.ndarray:
    """Query expansion: V_i becomes the mean of V over the first k2 of R_i."""
    return np.stack([V[row[:k2]].mean(axis=0) for row in R])


def shared_m(V: np.ndarray) -> np.ndarray:
    """m (N, N): m_ij = sum_l min(V_il, V_jl), from 0 to 1."""
    return np.stack([np.minimum(V_i, V).sum(axis=1) for V_i in V])


def jaccard_by_the_book(features: np.ndarray, k1: int = 30, k2: int = 6) -> np.ndarray:
    """(N, N) float64: the Jaccard distance 1 - m / (2 - m), never below 0.

    features: (N, d) rows of norm 1; k1 and k2 are clipped to N, the picture itself counts.
    """
    k1 = min(k1, len(features))
    k2 = min(k2, len(features))
    R = neighbours_R(features)
    P = reciprocal_sets(R, k1)
    Q = reciprocal_sets(R, min(k1, round(k1 / 2) + 1))
    V = weights_V(features, expanded_sets(P, Q))
    m = shared_m(expanded_query(V, R, k2))
    return np.maximum(0, 1 - m / (2 - m))
