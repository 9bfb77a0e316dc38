"""Brute-force ranking: sort the whole gallery for each query, walk down the list,
count.
"""

from __future__ import annotations

import numpy as np


def ranked_gallery(
    similarities, query_pid, query_camid, gallery_pids, gallery_camids
) -> list[int]:
    """The gallery that counts for this query, best first; equal similarity: smaller
    index first.
    """
    kept = []
    for j in sorted(range(len(gallery_pids)), key=lambda j: (-similarities[j], j)):
        same_camera = query_camid >= 0 and query_camid == gallery_camids[j]
        if gallery_pids[j] == -1 or (gallery_pids[j] == query_pid and same_camera):
            continue
        kept.append(j)
    return kept


def brute_force_ranking(
    query, gallery, query_pids, gallery_pids, query_camids, gallery_camids, topk=(1, 5, 10)
) -> dict:
    """{"ap": per query or nan, "mAP", "mINP", "cmc", "n_valid"}; the means are nan if
    no query has a match.
    """
    precisions, penalties, first = [], [], []
    similarities = query @ gallery.T
    for i in range(len(query)):
        kept = ranked_gallery(
            similarities[i], query_pids[i], query_camids[i], gallery_pids, gallery_camids
        )
        hits, at_hits = 0, []
        for rank, j in enumerate(kept, start=1):
            if gallery_pids[j] == query_pids[i] and query_pids[i] >= 0:
                hits += 1
                at_hits.append((hits / rank, rank))
        precisions.append(np.mean([p for p, _ in at_hits]) if hits else np.nan)
        if hits:
            penalties.append(hits / at_hits[-1][1])
            first.append(at_hits[0][1])
    return {
        "ap": np.array(precisions),
        "mAP": _mean([p for p in precisions if not np.isnan(p)]),
        "mINP": _mean(penalties),
        "cmc": {k: _mean([rank <= k for rank in first]) for k in topk},
        "n_valid": len(first),
    }


def _mean(values: list) -> float:
    return float(np.mean(values)) if values else float("nan")
