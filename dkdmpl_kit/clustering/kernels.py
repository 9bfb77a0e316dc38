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
def reciprocal_sets(R, start, stop, P):
    """P[i, c]: is i among the neighbours of its c-th neighbour? P_i of METHOD.md, as a mask
    over R_i; with lists cut to round(k1 / 2) + 1 it is Q_i.
    """
    width = P.shape[1]
    for i in range(start, stop):
        for c in range(width):
            j = R[i, c]
            for b in range(width):
                if R[j, b] == i:
                    P[i, c] = True
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
def weights_V(R, similarities, features, P, Q, start, stop):
    """Rows start..stop of V before query expansion: (entries per row, columns ascending,
    softmax weights over the expanded P_i).
    """
    k1 = P.shape[1]
    width = Q.shape[1]
    place = np.full(R.shape[0], -1, np.int32)
    chosen = np.full(R.shape[0], -1, np.int32)
    counts = np.zeros(stop - start, np.int64)
    members = np.empty(k1 * (width + 1), np.int32)
    columns = np.empty(0, np.int32)
    weights = np.empty(0, np.float32)
    size = 0
    for i in range(start, stop):
        n = 0
        for c in range(k1):
            place[R[i, c]] = c
            if P[i, c]:
                members[n] = R[i, c]
                chosen[R[i, c]] = i
                n += 1
        # expansion: n is fixed by the range, and each test is against the original P_i
        for m in range(n):
            j = members[m]
            shared = 0
            total = 0
            for c in range(width):
                if Q[j, c]:
                    total += 1
                    at = place[R[j, c]]
                    if at >= 0 and P[i, at]:
                        shared += 1
            if 3 * shared > 2 * total:
                for c in range(width):
                    if Q[j, c] and chosen[R[j, c]] != i:
                        members[n] = R[j, c]
                        chosen[R[j, c]] = i
                        n += 1
        members[:n].sort()
        columns = _room(columns, size + n)
        weights = _room(weights, size + n)
        total_weight = 0.0
        raw = np.empty(n)
        for m in range(n):
            at = place[members[m]]
            if at >= 0:
                s = similarities[i, at]
            else:
                s = np.float32(dot(features[i], features[members[m]]))
            raw[m] = np.exp(-(2.0 - 2.0 * s))
            total_weight += raw[m]
        for m in range(n):
            columns[size + m] = members[m]
            weights[size + m] = raw[m] / total_weight
        for c in range(k1):
            place[R[i, c]] = -1
        counts[i - start] = n
        size += n
    return counts, columns[:size].copy(), weights[:size].copy()


@compiled
def expanded_query(R, k2, pointers, columns, weights, start, stop):
    """Query expansion: rows start..stop of the mean of V over the first k2 of R_i."""
    sums = np.zeros(R.shape[0])
    touched = np.empty(R.shape[0], np.int32)
    counts = np.zeros(stop - start, np.int64)
    size = 0
    new_columns = np.empty(0, np.int32)
    new_weights = np.empty(0, np.float32)
    for i in range(start, stop):
        n = 0
        for j in R[i, :k2]:
            for e in range(pointers[j], pointers[j + 1]):
                if sums[columns[e]] == 0.0:
                    touched[n] = columns[e]
                    n += 1
                sums[columns[e]] += weights[e]
        touched[:n].sort()
        new_columns = _room(new_columns, size + n)
        new_weights = _room(new_weights, size + n)
        for t in range(n):
            new_columns[size + t] = touched[t]
            new_weights[size + t] = sums[touched[t]] / k2
            sums[touched[t]] = 0.0
        counts[i - start] = n
        size += n
    return counts, new_columns[:size].copy(), new_weights[:size].copy()


@compiled
def jaccard_of_shared_m(
    pointers, columns, weights, by_column, owners, owner_weights, max_distance, start, stop
):
    """1 - m / (2 - m) with m_ij = sum_l min(V_il, V_jl), of rows i in start..stop to rows
    i, i+1, ... that are at most `max_distance` apart. `by_column`, `owners` and
    `owner_weights` are V by columns: who has it, and how much.
    """
    n_rows = pointers.shape[0] - 1
    m = np.zeros(n_rows)
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
                before = m[owners[o]]
                touched[n] = owners[o]
                # no branch: whether a row was met already is a guess that fails too often
                n += before == 0.0
                m[owners[o]] = before + min(weight, owner_weights[o])
        kept = 0
        for t in range(n):  # keep in place, then sort only what is kept
            distance = np.float32(1.0 - m[touched[t]] / (2.0 - m[touched[t]]))
            if distance <= max_distance or touched[t] == i:
                touched[kept], touched[t] = touched[t], touched[kept]
                kept += 1
        touched[:kept].sort()
        found = _room(found, size + kept)
        distances = _room(distances, size + kept)
        for t in range(kept):
            m_ij = m[touched[t]]
            found[size + t] = touched[t]
            distances[size + t] = (
                0.0 if touched[t] == i else max(0.0, 1.0 - m_ij / (2.0 - m_ij))
            )
        for t in range(n):
            m[touched[t]] = 0.0
        counts[i - start] = kept
        size += kept
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
    # when row i writes its own part, all smaller rows have written into it
    for i in range(n):
        for e in range(pointers[i], pointers[i + 1]):
            j = columns[e]
            new_columns[free[i]] = j
            new_values[free[i]] = values[e]
            free[i] += 1
            if j != i:
                new_columns[free[j]] = i
                new_values[free[j]] = values[e]
                free[j] += 1
    return full, new_columns, new_values
