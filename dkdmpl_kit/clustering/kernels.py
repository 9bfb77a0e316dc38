"""Compiled inner loops of the Jaccard distance.

numba is imported at the top, so this module is itself imported only inside functions.
Every kernel works on a range of rows, releases the GIL and writes only to its own rows:
threads share nothing, sums run in one fixed order, and the result depends neither on
the number of threads nor on the size of the blocks. Compiled code is cached on disk.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from dkdmpl_kit.neighbors.kernels import dot

compiled = njit(cache=True, nogil=True)


@compiled
def reciprocal(ranks, start, stop, mask):
    """mask[i, c] = is i among the neighbours of its c-th neighbour? `mask` is as wide
    as the lists compared.
    """
    width = mask.shape[1]
    for i in range(start, stop):
        for c in range(width):
            j = ranks[i, c]
            for b in range(width):
                if ranks[j, b] == i:
                    mask[i, c] = True
                    break


@compiled
def _room(array, needed):
    """`array`, or a copy at least twice as long if `needed` entries do not fit."""
    if needed <= array.shape[0]:
        return array
    larger = np.empty(max(needed, 2 * array.shape[0]), array.dtype)
    larger[: array.shape[0]] = array
    return larger


@compiled
def encode(ranks, similarities, features, full, half, start, stop):
    """Rows start..stop of V before query expansion: (entries per row, columns
    ascending, softmax weights).
    """
    k1 = full.shape[1]
    width = half.shape[1]
    place = np.full(ranks.shape[0], -1, np.int32)
    chosen = np.full(ranks.shape[0], -1, np.int32)
    counts = np.zeros(stop - start, np.int64)
    members = np.empty(k1 * (width + 1), np.int32)
    columns = np.empty(0, np.int32)
    weights = np.empty(0, np.float32)
    size = 0
    for i in range(start, stop):
        n = 0
        for c in range(k1):
            place[ranks[i, c]] = c
            if full[i, c]:
                members[n], chosen[ranks[i, c]], n = ranks[i, c], i, n + 1
        for m in range(
            n
        ):  # expansion: n is fixed here, each test is against the original set
            j = members[m]
            shared = 0
            total = 0
            for c in range(width):
                if half[j, c]:
                    total += 1
                    at = place[ranks[j, c]]
                    if at >= 0 and full[i, at]:
                        shared += 1
            if 3 * shared > 2 * total:
                for c in range(width):
                    if half[j, c] and chosen[ranks[j, c]] != i:
                        members[n], chosen[ranks[j, c]], n = ranks[j, c], i, n + 1
        members[:n].sort()
        columns = _room(columns, size + n)
        weights = _room(weights, size + n)
        total_weight = 0.0
        raw = np.empty(n)
        for m in range(n):
            at = place[members[m]]
            s = (
                similarities[i, at]
                if at >= 0
                else np.float32(dot(features[i], features[members[m]]))
            )
            raw[m] = np.exp(2.0 * s - 2.0)
            total_weight += raw[m]
        for m in range(n):
            columns[size + m], weights[size + m] = members[m], raw[m] / total_weight
        for c in range(k1):
            place[ranks[i, c]] = -1
        counts[i - start], size = n, size + n
    return counts, columns[:size].copy(), weights[:size].copy()


@compiled
def average(ranks, k2, pointers, columns, weights, start, stop):
    """Query expansion: rows start..stop of the mean of V over the first k2 neighbours."""
    sums = np.zeros(ranks.shape[0])
    touched = np.empty(ranks.shape[0], np.int32)
    counts = np.zeros(stop - start, np.int64)
    size = 0
    new_columns = np.empty(0, np.int32)
    new_weights = np.empty(0, np.float32)
    for i in range(start, stop):
        n = 0
        for j in ranks[i, :k2]:
            for e in range(pointers[j], pointers[j + 1]):
                if sums[columns[e]] == 0.0:
                    touched[n], n = columns[e], n + 1
                sums[columns[e]] += weights[e]
        touched[:n].sort()
        new_columns = _room(new_columns, size + n)
        new_weights = _room(new_weights, size + n)
        for t in range(n):
            new_columns[size + t], new_weights[size + t] = touched[t], sums[touched[t]] / k2
            sums[touched[t]] = 0.0
        counts[i - start], size = n, size + n
    return counts, new_columns[:size].copy(), new_weights[:size].copy()


@compiled
def overlap(
    pointers, columns, weights, by_column, owners, owner_weights, max_distance, start, stop
):
    """Jaccard distances of rows i in start..stop to rows i, i+1, ... that are at most
    `max_distance` apart.
    """
    n_rows = pointers.shape[0] - 1
    shared = np.zeros(n_rows)
    touched = np.empty(n_rows + 1, np.int32)
    counts = np.zeros(stop - start, np.int64)
    size = 0
    found = np.empty(0, np.int32)
    distances = np.empty(0, np.float32)
    for i in range(start, stop):
        n = 0
        for e in range(pointers[i], pointers[i + 1]):
            column = columns[e]
            weight = weights[e]
            first = by_column[column]
            last = by_column[column + 1]
            first += np.searchsorted(owners[first:last], i)
            for o in range(first, last):
                before = shared[owners[o]]
                touched[n] = owners[o]
                n += (
                    before == 0.0
                    # no branch: whether a row was met already is a guess that fails too
                    # often
                )
                shared[owners[o]] = before + min(weight, owner_weights[o])
        kept = 0
        for t in range(n):  # keep in place, then sort only what is kept
            distance = np.float32(1.0 - shared[touched[t]] / (2.0 - shared[touched[t]]))
            if distance <= max_distance or touched[t] == i:
                touched[kept], touched[t], kept = touched[t], touched[kept], kept + 1
        touched[:kept].sort()
        found = _room(found, size + kept)
        distances = _room(distances, size + kept)
        for t in range(kept):
            m = shared[touched[t]]
            found[size + t], distances[size + t] = (
                touched[t],
                0.0 if touched[t] == i else max(0.0, 1.0 - m / (2.0 - m)),
            )
        for t in range(n):
            shared[touched[t]] = 0.0
        counts[i - start], size = kept, size + kept
    return counts, found[:size].copy(), distances[:size].copy()


@compiled
def mirror(pointers, columns, values):
    """The symmetric CSR of an upper triangle with its diagonal; columns stay sorted,
    stored zeros stay stored.
    """
    n = pointers.shape[0] - 1
    full = np.zeros(n + 1, np.int64)
    for i in range(n):
        full[i + 1] += pointers[i + 1] - pointers[i]
        for e in range(pointers[i], pointers[i + 1]):
            if columns[e] != i:
                full[columns[e] + 1] += 1
    full = np.cumsum(full)
    free = full[:-1].copy()
    new_columns = np.empty(full[n], np.int32)
    new_values = np.empty(full[n], np.float32)
    for i in range(
        n
    ):  # when row i writes its own part, all smaller rows have written into it
        for e in range(pointers[i], pointers[i + 1]):
            j = columns[e]
            new_columns[free[i]], new_values[free[i]], free[i] = j, values[e], free[i] + 1
            if j != i:
                new_columns[free[j]], new_values[free[j]], free[j] = i, values[e], free[j] + 1
    return full, new_columns, new_values
