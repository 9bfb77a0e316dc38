"""The checks of notebook 00."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dkdmpl_kit.clustering import PseudoLabels
from dkdmpl_kit.evaluation import RankingResult
from dkdmpl_kit.lessons.exercises import Test, exercises, value
from dkdmpl_kit.lessons.search import Search


def checks(
    search: Search, cluster: Callable[[float], PseudoLabels]
) -> Callable[[int, Any], bool]:
    """Rank-1 by luck and the extreme queries of a search; the outliers of `cluster(eps)`."""
    found = [cluster(eps) for eps in (0.4, 0.7)]
    outliers = [int((one.labels < 0).sum()) for one in found]
    ranked = search.result is not None
    return exercises(
        {
            1: _luck(search) if ranked else None,
            2: _easiest_and_hardest(search.result) if ranked else None,
            3: value(
                outliers,
                mistakes={
                    "those are the pictures that are clustered; count the others.": [
                        len(one.labels) - n for one, n in zip(found, outliers)
                    ],
                    "those are the clusters; count the outliers.": [
                        one.n_clusters for one in found
                    ],
                    "those are shares; count the pictures.": [
                        n / len(one.labels) for one, n in zip(found, outliers)
                    ],
                },
            ),
        }
    )


def _luck(search: Search) -> Test:
    allowed = search.gallery_pids >= 0
    right = (search.query_pids[:, None] == search.gallery_pids) & allowed
    camera = search.query_camids[:, None]
    left_out = right & (camera == search.gallery_camids) & (camera >= 0)
    n_right = (right & ~left_out).sum(axis=1)
    n_counted = (allowed & ~left_out).sum(axis=1)
    can = n_right > 0
    chance = n_right / n_counted
    elsewhere = (allowed & (camera != search.gallery_camids)).sum(axis=1)
    return value(
        chance[can].mean(),
        mistakes={
            "leave out of both numbers the same person under the same camera, and nobody "
            "else (strangers there do count).": (right.sum(axis=1) / allowed.sum())[
                can
            ].mean(),
            "leave the same person's pictures under the same camera out of the counted "
            "pictures as well.": (n_right / allowed.sum())[can].mean(),
            "strangers under the query's camera do count.": (
                n_right[can] / np.maximum(elsewhere[can], 1)
            ).mean(),
            "queries without a right picture are skipped, and do not count as 0.": (
                chance.mean()
            ),
            "take the chance of each query, and then the mean of these.": (
                n_right[can].sum() / n_counted[can].sum()
            ),
            "that is the Rank-1 that was measured; luck's is asked for.": (
                search.result.cmc[1]
            ),
        },
    )


def _easiest_and_hardest(result: RankingResult) -> Test:
    ap = result.average_precision

    def test(answer: Any) -> str:
        given = np.asarray(answer)
        if given.shape != (2,) or given.dtype.kind not in "iu":
            return (
                "two whole numbers are asked for: the rows of the two queries, not their APs."
            )
        if not ((given >= 0) & (given < len(ap))).all():
            return f"the rows of the queries go from 0 to {len(ap) - 1}."
        easy, hard = ap[given]
        if np.isnan([easy, hard]).any():
            return "one of the two has no AP (NaN): np.nanargmax and np.nanargmin pass over those."
        lowest, highest = np.nanmin(ap), np.nanmax(ap)
        if easy == lowest < highest == hard:
            return "the right two, the other way round: the easiest query has the highest AP."
        if easy == highest and hard == lowest:
            return ""
        return "there is a higher, or a lower AP than theirs."

    return test
