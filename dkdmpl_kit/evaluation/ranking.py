"""mAP, CMC and mINP under the re-identification protocol: arrays in, a frozen result
out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.evaluation.reranking import Reranking, fitting, reranked_distances
from dkdmpl_kit.neighbors import BLOCK_ENTRIES, map_ranges


@dataclass(frozen=True)
class RankingResult:
    """Means over the queries that have a match.

    mAP   mean average precision; a query's AP is the mean, over its matches, of the
          precision at the match's rank
    mINP  mean inverse negative penalty (Ye et al. 2021): number of matches / rank of
          the last match
    cmc   {k: share of queries with a match among the first k}
    average_precision  (Q,) float64, NaN for a query without a match
    """

    mAP: float
    mINP: float
    cmc: dict[int, float]
    n_valid_queries: int
    average_precision: np.ndarray


def evaluate_ranking(
    query_features: np.ndarray | torch.Tensor,
    gallery_features: np.ndarray | torch.Tensor,
    query_pids: np.ndarray,
    gallery_pids: np.ndarray,
    query_camids: np.ndarray,
    gallery_camids: np.ndarray,
    *,
    topk: Sequence[int] = (1, 5, 10),
    rerank: Reranking | None = None,
) -> RankingResult:
    """Rank the gallery (G, d) for each query (Q, d) by inner product, rows of norm 1,
    and score the ranking.

    rerank: rank by k-reciprocal re-ranked distances instead. Junk then takes no part in
    the neighbourhoods.

    The protocol of Market-1501: gallery images with pid -1 (junk) are dropped; each
    query also drops the images of its own pid from its own camera; a query without a
    match left, or of unknown pid (-1), is skipped. Distractors (a pid that no query
    has, as Market's 0) stay and never match. Where the query's camid is unknown (-1)
    nothing is dropped by camera. Equal similarity: the smaller gallery index ranks
    first. The gallery is never sorted and no Q x G matrix is held: only the positions
    of the true matches matter.

    KitError: shapes that do not agree, NaN, rows not of norm 1, topk below 1, or no
    query with a match.
    """
    query, gallery, ids = with_ids(
        query_features,
        gallery_features,
        query_pids,
        gallery_pids,
        query_camids,
        gallery_camids,
    )
    if len(topk) == 0 or min(topk) < 1:
        raise KitError(
            f"topk={tuple(topk)} must name at least one rank, and ranks start at 1."
        )
    from dkdmpl_kit.evaluation import kernels

    if rerank is not None:
        kept = ids[1] >= 0
        gallery = gallery[torch.as_tensor(kept, device=gallery.device)]
        ids = (ids[0], ids[1][kept], ids[2], ids[3][kept])
    scores = np.full((len(query), 4), np.nan)
    for start, similarities in similarity_blocks(query, gallery, rerank):
        part = slice(start, start + len(similarities))
        map_ranges(
            lambda a, b, s=similarities, p=part: kernels.rank_matches(
                s, ids[0][p], ids[2][p], ids[1], ids[3], a, b, scores[p]
            ),
            len(similarities),
            16,
        )
    valid = ~np.isnan(scores[:, 0])
    if not valid.any():
        why = "no query's identity is in the gallery."
        if scores[:, 3].sum() > 0:
            why = (
                "every true match of each query was taken by its own camera; the test needs "
                "images of two cameras, or camids of -1 where cameras are unknown."
            )
        raise KitError(f"Nothing can be matched: {why}")
    precision = scores[valid, 0]
    penalty = scores[valid, 1]
    first = scores[valid, 2]
    return RankingResult(
        float(precision.mean()),
        float(penalty.mean()),
        cmc(first, topk),
        int(valid.sum()),
        scores[:, 0].copy(),
    )


def cmc(first: np.ndarray, topk: Sequence[int]) -> dict[int, float]:
    """CMC: {k: share of the queries whose first match, at rank first (Q,), is among k}."""
    return {int(k): float(np.mean(first <= k)) for k in topk}


def top_matches(
    query_features: np.ndarray | torch.Tensor,
    gallery_features: np.ndarray | torch.Tensor,
    query_pids: np.ndarray,
    gallery_pids: np.ndarray,
    query_camids: np.ndarray,
    gallery_camids: np.ndarray,
    *,
    top: int = 10,
) -> tuple[np.ndarray, np.ndarray]:
    """The first `top` gallery images of each query under `evaluate_ranking`'s protocol,
    for pictures of rankings.

    Returns indices (Q, top) int64 and matches (Q, top) bool (same pid). What the
    protocol drops does not appear; a list that runs out of gallery is filled with index
    -1, match False.
    """
    query, gallery, (query_pids, gallery_pids, query_camids, gallery_camids) = with_ids(
        query_features,
        gallery_features,
        query_pids,
        gallery_pids,
        query_camids,
        gallery_camids,
    )
    if top < 1:
        raise KitError(f"top={top} must be at least 1.")
    indices = np.full((len(query), top), -1, np.int64)
    matches = np.zeros((len(query), top), bool)
    width = min(top, len(gallery))
    for start, similarities in similarity_blocks(query, gallery):
        part = slice(start, start + len(similarities))
        same = (query_pids[part, None] == gallery_pids) & (query_pids[part, None] >= 0)
        dropped = (gallery_pids < 0) | (
            same
            & (query_camids[part, None] == gallery_camids)
            & (query_camids[part, None] >= 0)
        )
        order = np.argsort(np.where(dropped, np.inf, -similarities), axis=1, kind="stable")[
            :, :width
        ]
        kept = ~np.take_along_axis(dropped, order, axis=1)
        indices[part, :width] = np.where(kept, order, -1)
        matches[part, :width] = np.take_along_axis(same, order, axis=1) & kept
    return indices, matches


def ranked_gallery(
    query_feature: np.ndarray,
    gallery_features: np.ndarray,
    query_pid: int | None,
    gallery_pids: np.ndarray | None,
    query_camid: int | None,
    gallery_camids: np.ndarray | None,
    *,
    top: int = 20,
) -> tuple[np.ndarray, np.ndarray]:
    """One query's list with what the protocol leaves out still in it: indices (<= top,)
    and kinds "right", "wrong", "junk".

    query_feature (d,), gallery_features (G, d), rows of norm 1; pids and camids (G,) or
    None. Junk has the query's pid and camid, or pid -1. Where identities are unknown
    (None, or a query of pid -1) every kind is "unknown". Equal similarity: the smaller
    index first.
    """
    if top < 1:
        raise KitError(f"top={top} must be at least 1.")
    order = np.argsort(-(gallery_features @ query_feature), kind="stable")[:top]
    if query_pid is None or query_pid < 0 or gallery_pids is None:
        return order, np.full(len(order), "unknown")
    pids = np.asarray(gallery_pids)[order]
    near = np.zeros(len(order), bool)
    if query_camid is not None and query_camid >= 0 and gallery_camids is not None:
        near = np.asarray(gallery_camids)[order] == query_camid
    return order, np.where(
        (pids < 0) | ((pids == query_pid) & near),
        "junk",
        np.where(pids == query_pid, "right", "wrong"),
    )


def with_ids(
    query_features, gallery_features, *ids
) -> tuple[torch.Tensor, torch.Tensor, tuple[np.ndarray, ...]]:
    """Features as tensors and (query pids, gallery pids, query camids, gallery camids)
    as int64, or a KitError.
    """
    query, gallery = fitting(query_features, gallery_features)
    names = ("query_pids", "gallery_pids", "query_camids", "gallery_camids")
    arrays = []
    for name, values, features in zip(names, ids, (query, gallery) * 2, strict=True):
        array = np.asarray(values.cpu() if isinstance(values, torch.Tensor) else values)
        if array.shape != (len(features),) or array.dtype.kind not in "iu":
            raise KitError(
                f"{name} must be {len(features)} integers, one a feature, not "
                f"{array.dtype} of shape "
                f"{array.shape}; -1 stands for unknown."
            )
        arrays.append(array.astype(np.int64))
    return query, gallery, tuple(arrays)


def similarity_blocks(
    query: torch.Tensor,
    gallery: torch.Tensor,
    rerank: Reranking | None = None,
    *,
    most_rows: int = BLOCK_ENTRIES,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first query, similarities (b, G) float32) block by block; with `rerank`,
    re-ranked distances with the sign turned.
    """
    if rerank is not None and len(gallery):
        for start, distances in reranked_distances(query, gallery, rerank):
            yield start, -distances
        return
    block = min(most_rows, max(1, BLOCK_ENTRIES // max(1, len(gallery))))
    for start in range(0, len(query), block):
        yield start, (query[start : start + block] @ gallery.T).cpu().numpy()
