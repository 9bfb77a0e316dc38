"""k-reciprocal re-ranking as published, dense and naive: the loops of the re-ID codes
(re_ranking_ranklist.py of Zhong et al.), with sets, in double.
"""

from __future__ import annotations

import numpy as np


def naive_reranking(query, gallery, k1=20, k2=6, original_weight=0.3) -> np.ndarray:
    """Final distances (Q, G) of features with rows of norm 1."""
    features = np.concatenate([query, gallery]).astype(np.float64)
    n = len(features)
    difference = features[:, None] - features[None]
    original = (difference**2).sum(axis=2)
    original = (original / original.max(axis=0)).T
    ranks = np.argsort(original, axis=1, kind="stable")

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in ranks[i, : k + 1].tolist() if i in ranks[j, : k + 1]}

    V = np.zeros((n, n))
    for i in range(n):
        near = reciprocal(i, k1)
        expanded = set(near)
        for candidate in near:
            others = reciprocal(candidate, int(np.around(k1 / 2)))
            if len(others & near) > 2 / 3 * len(others):
                expanded |= others
        members = sorted(expanded)
        weights = np.exp(-original[i, members])
        V[i, members] = weights / weights.sum()
    if k2 != 1:
        V = np.stack([V[ranks[i, :k2]].mean(axis=0) for i in range(n)])
    final = np.empty((len(query), len(gallery)))
    for q in range(len(query)):
        for g in range(len(gallery)):
            shared = np.minimum(V[q], V[len(query) + g]).sum()
            jaccard = 1 - shared / (2 - shared)
            final[q, g] = (1 - original_weight) * jaccard + original_weight * original[
                q, len(query) + g
            ]
    return final
