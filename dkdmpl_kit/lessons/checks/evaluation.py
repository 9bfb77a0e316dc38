"""Checks of notebook 06: how a ranking is scored."""

from __future__ import annotations

import functools

import numpy as np

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.evaluation import evaluate_ranking
from dkdmpl_kit.lessons.exercises import Test, exercises, no_function, value

WIDTHS = (60, 90, 150, 240)  # queries of the made-up lists of exercise 3
DRAWS = 20_000


def checks(
    features: tuple[np.ndarray, np.ndarray],
    query_pids: np.ndarray,
    gallery_pids: np.ndarray,
    query_camids: np.ndarray,
    gallery_camids: np.ndarray,
    *,
    precision: np.ndarray,
    itself: np.ndarray,
):
    """The notebook's `check`: features of query (Q, d) and gallery (G, d), their ids,
    precision (Q,) the AP of the queries, itself (G,) whether a gallery picture is a query.
    """
    joined = _joined(
        *features, query_pids, gallery_pids, gallery_camids, kept=~np.asarray(itself)
    )
    return exercises({1: _cameras(precision, query_camids), 2: joined, 3: _bootstrap})


def _cameras(precision: np.ndarray, camids: np.ndarray) -> Test:
    cameras = np.unique(camids)
    known = ~np.isnan(precision)

    def of(measure) -> np.ndarray:
        parts = [precision[(camids == c) & known] for c in cameras]
        return np.array([measure(part) if len(part) else np.nan for part in parts])

    counted_as_0 = [np.nan_to_num(precision[camids == c]).mean() for c in cameras]
    everybody = np.full(len(cameras), precision[known].mean() if known.any() else np.nan)
    return value(
        of(np.mean),
        mistakes={
            "queries without a match (NaN) are left out of a mean, and do not count as 0.": (
                np.array(counted_as_0)
            ),
            "those are medians; means are asked for.": of(np.median),
            "those are sums; divide by the number of queries that can be matched.": of(
                np.sum
            ),
            "that is the mean over all queries; take each camera apart.": everybody,
        },
    )


def _joined(query, gallery, query_pids, gallery_pids, gallery_camids, *, kept) -> Test | None:
    people = np.unique(query_pids)
    if not np.isin(people, gallery_pids[kept]).any():
        return None
    mean = np.stack([query[query_pids == p].mean(axis=0) for p in people])
    unit = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    one = np.stack([query[query_pids == p][0] for p in people])

    def mAP(features, pids, rows) -> float:
        try:
            nowhere = np.full(len(pids), -1)
            return evaluate_ranking(
                features,
                gallery[rows],
                pids,
                gallery_pids[rows],
                nowhere,
                gallery_camids[rows],
            ).mAP
        except KitError:  # the mistake does not exist here
            return np.nan

    return value(
        mAP(unit, people, kept),
        mistakes={
            "those are the single queries; average the features of each person first.": mAP(
                query, query_pids, kept
            ),
            "gallery pictures that are queries too must be left out: `itself` marks them.": mAP(
                unit, people, np.full(len(gallery), True)
            ),
            "that is the first picture of each person; average all of them.": mAP(
                one, people, kept
            ),
        },
    )


def _bootstrap(answer) -> str | None:
    """Values drawn here, so that two numbers cannot stand for the function. A bootstrap is
    random, and so is its check: each end may be off by a fifth of half the width (a
    thousand draws stay far below), the mean over all lists by a thirtieth.
    """
    if not callable(answer):
        return no_function(answer, "the values")
    lists, means = _made_up()
    given = np.array([[float(x) for x in answer(values.copy())] for values in lists])
    if given.shape != (len(lists), 2):
        return "two numbers are asked for: the lower and the upper end."
    if not np.isfinite(given).all():
        return "it holds a number that is not finite."
    if (given[:, 0] > given[:, 1]).all():
        return "the two ends, the other way round."
    right = _ends(means, 0.95)
    if _near(given, right):
        return None
    known = {
        "those are quantiles of single queries; take quantiles of the means.": _ends(
            lists, 0.95
        ),
        "that holds the middle 90 %; for 95 % cut 2.5 % at each end.": _ends(means, 0.9),
        "that holds the middle 98 %; for 95 % cut 2.5 % at each end.": _ends(means, 0.98),
        "that holds the middle 99 %; for 95 % cut 2.5 % at each end.": _ends(means, 0.99),
        "it is in per cent; give shares from 0 to 1.": 100 * right,
    }
    for hint, ends in known.items():
        if _near(given, ends):
            return hint
    ratio = np.ptp(given, axis=1).sum() / np.ptp(right, axis=1).sum()
    if not 0.97 < ratio < 1.03:
        return (
            f"its intervals are {ratio:.2f} times as wide as those of {DRAWS:,} draws: are as "
            "many queries drawn as there are, with replacement, and 2.5 % cut at each end?"
        )
    return "its ends are not where those of many draws lie: draw a few thousand times."


@functools.lru_cache
def _made_up() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Lists of values, and the means of many draws of each."""
    rng = np.random.default_rng(7)
    lists = [rng.beta(0.9, 0.7, n) for n in WIDTHS for _ in range(2)]
    return lists, [rng.choice(v, (DRAWS, len(v))).mean(axis=1) for v in lists]


def _ends(lists, share: float) -> np.ndarray:
    """(lists, 2)"""
    outside = (1 - share) / 2
    return np.array([np.quantile(values, (outside, 1 - outside)) for values in lists])


def _near(given: np.ndarray, right: np.ndarray) -> bool:
    half = np.ptp(right, axis=1, keepdims=True) / 2
    off = (given - right) / half * [-1, 1]  # above 0: outside the right ends
    return bool((np.abs(off) < 0.2).all() and abs(off.mean()) < 1 / 30)
