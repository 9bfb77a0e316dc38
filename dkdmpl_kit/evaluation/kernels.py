"""Compiled inner loops of the ranking protocol.

numba is imported at the top, so this module is itself imported only inside functions.
Every kernel works on a range of rows, releases the GIL and writes only to its own rows:
threads share nothing, sums run in one fixed order, and the result depends neither on
the number of threads nor on the size of the blocks. Compiled code is cached on disk.
"""

from __future__ import annotations

import numpy as np
from numba import njit

compiled = njit(cache=True, nogil=True)


@compiled
def average_precision(ranks):
    """AP = mean over a query's matches i = 1 ... n of i / rank_i; ranks rise from 1."""
    return np.mean(np.arange(1, len(ranks) + 1) / ranks)


@compiled
def inverse_negative_penalty(ranks):
    """INP = n / rank_n: the matches' share of the list down to the last of them."""
    return len(ranks) / ranks[-1]


@compiled
def rank_matches(
    similarities, query_pids, query_camids, gallery_pids, gallery_camids, start, stop, scores
):
    """scores[b] = (average precision, inverse negative penalty, rank of the first
    match, matches taken by the camera).

    Only the true matches of a query are sorted; each gallery image then finds, by
    bisection among them, which ranks it pushes back. A query without a match keeps NaN
    in the first three.
    """
    matched = np.empty(gallery_pids.shape[0], np.int64)
    for b in range(start, stop):
        pid = query_pids[b]
        camera = query_camids[b]
        n = 0
        scores[b] = np.nan, np.nan, np.nan, 0.0
        for j in range(gallery_pids.shape[0]):
            if gallery_pids[j] == pid and pid >= 0:
                if camera >= 0 and gallery_camids[j] == camera:
                    scores[b, 3] += 1
                else:
                    matched[n], n = j, n + 1
        if n == 0:
            continue
        # stable: smaller index first
        places = matched[:n][np.argsort(-similarities[b][matched[:n]], kind="mergesort")]
        values = similarities[b][places]
        ahead = np.zeros(n, np.int64)
        for j in range(gallery_pids.shape[0]):
            value = similarities[b, j]
            if value < values[n - 1] or gallery_pids[j] < 0:
                continue
            if gallery_pids[j] == pid and camera >= 0 and gallery_camids[j] == camera:
                continue
            low = 0
            high = n
            while low < high:
                middle = (low + high) // 2
                if values[middle] > value or (values[middle] == value and places[middle] < j):
                    low = middle + 1
                else:
                    high = middle
            if low < n:
                ahead[low] += 1
        ranks = np.cumsum(ahead)  # each match counts itself: ranks start at 1
        scores[b, 0] = average_precision(ranks)
        scores[b, 1] = inverse_negative_penalty(ranks)
        scores[b, 2] = ranks[0]


@compiled
def blend_jaccard(
    pointers,
    columns,
    weights,
    by_column,
    owners,
    owner_weights,
    distances,
    original_weight,
    first,
    start,
    stop,
):
    """distances[b] of query first + b to the gallery become
    (1 - lambda) (1 - m / (2 - m)) + lambda distances[b], m = sum_l min(V_ql, V_gl).

    pointers, columns, weights: V of the queries by rows. by_column, owners,
    owner_weights: V of the gallery by columns, that is who has l, and how much. Pictures
    that share nothing have m = 0 and keep their order.
    """
    m = np.empty(distances.shape[1])
    for b in range(start, stop):
        m[:] = 0.0
        for e in range(pointers[first + b], pointers[first + b + 1]):
            weight = weights[e]
            for o in range(by_column[columns[e]], by_column[columns[e] + 1]):
                m[owners[o]] += min(weight, owner_weights[o])
        for g in range(distances.shape[1]):
            jaccard = 1.0 - m[g] / (2.0 - m[g])
            distances[b, g] = (1.0 - original_weight) * jaccard + original_weight * distances[
                b, g
            ]


@compiled
def count_pairs(
    similarities,
    query_pids,
    query_camids,
    gallery_pids,
    gallery_camids,
    own,
    start,
    stop,
    same,
    different,
):
    """Add each pair of row b to same[b, t] or different[b, t], t the step of similarity in
    which it lies. `own`: the gallery's place of row 0, which row b does not count with
    itself; far below 0 where the gallery is another set.
    """
    steps = same.shape[1] - 1
    for b in range(start, stop):
        pid = query_pids[b]
        camera = query_camids[b]
        if pid < 0:
            continue
        for j in range(gallery_pids.shape[0]):
            if gallery_pids[j] < 0 or j == own + b:
                continue
            step = int((np.float64(similarities[b, j]) + 1.0) * (0.5 * steps))
            step = max(0, min(steps, step))
            if gallery_pids[j] != pid:
                different[b, step] += 1
            elif camera < 0 or gallery_camids[j] != camera:
                same[b, step] += 1


@compiled
def best_of_both(
    similarities, query_pids, query_camids, gallery_pids, gallery_camids, start, stop, best
):
    """best[b] = (highest similarity of the query's identity, of all others); what the
    protocol drops counts for neither.
    """
    for b in range(start, stop):
        pid = query_pids[b]
        camera = query_camids[b]
        if pid < 0:
            continue
        for j in range(gallery_pids.shape[0]):
            if gallery_pids[j] < 0:
                continue
            if gallery_pids[j] != pid:
                best[b, 1] = max(best[b, 1], similarities[b, j])
            elif camera < 0 or gallery_camids[j] != camera:
                best[b, 0] = max(best[b, 0], similarities[b, j])
