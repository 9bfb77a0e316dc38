"""Compiled inner loops of neighbors, clustering, memory and evaluation.

numba is imported at the top, so this module is itself imported only inside functions. Every kernel works on a range of
rows, releases the GIL and writes only to its own rows: threads share nothing, sums run in one fixed order, and the
result depends neither on the number of threads nor on the size of the blocks. Compiled code is cached on disk.
"""
from __future__ import annotations

import numpy as np
from numba import njit

compiled = njit(cache=True, nogil=True)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def dot(x, y):
    """Inner product of two float32 rows, summed in double, so that float32 holds it correctly rounded."""
    total = 0.0
    for i in range(x.shape[0]):
        total += np.float64(x[i]) * np.float64(y[i])
    return total


@compiled
def largest_first(values, size, width):
    """Reorder values[:size] so that the `width` largest come first, the least of them last; returns that one.

    Quickselect (Hoare 1961). NumPy's partition does the same, but takes numba ten times as long to compile.
    """
    low, high = 0, size - 1
    while low < high:
        pivot, i, j = values[(low + high) // 2], low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i, j = i + 1, j - 1
        if width - 1 <= j:
            high = j
        elif width - 1 >= i:
            low = i
        else:
            break
    return values[width - 1]


@compiled
def select(bits, rows, names, start, stop, width, kept, sizes, bars):
    """Offer rows start..stop of a tile of similarities to the lists of the largest so far of `rows`.

    `bits` are floats seen as integers of their size, names (c,) what the tile's columns are called. kept (n, 2 width +
    128), sizes (n,), bars (n,): the lists, an entry being a similarity's rank above the complement of its name, so that
    equal ones prefer the smaller name; nothing at or below the bar can enter. Columns go in groups (c, c + m, c + 2m,
    ...) and a group whose largest entry is not above the bar is passed over: far fewer steps than a top-k of all.
    """
    room, n, flip = kept.shape[1], bits.shape[1], (np.int64(1) << (8 * bits.itemsize - 1)) - 1
    depth = max(1, n // (8 * width))
    m = n // depth
    highest, scratch = np.empty(m, bits.dtype), np.empty(m, bits.dtype)
    for r in range(start, stop):
        row, own, size, bar = bits[r], kept[rows[r]], sizes[rows[r]], bars[rows[r]]
        for c in range(m):
            highest[c] = row[c]
        for first in range(m, n, m):
            part = row[first:first + m]  # the last one may be shorter
            for c in range(part.shape[0]):
                if part[c] > highest[c]:  # not max(): that would widen the integers and halve the speed
                    highest[c] = part[c]
        if bar < 0 and m >= width:  # `width` groups hold an entry as large as the width-th of the groups' largest
            for c in range(m):
                scratch[c] = highest[c]
            least = np.int64(largest_first(scratch, m, width))
            bar = least - 1 if least > 0 else bar
        for c in range(m):
            if bar >= 0 and highest[c] <= bar:
                continue
            for at in range(c, n, m):
                value = np.int64(row[at])
                value = value if value >= 0 else value ^ flip  # integers that sort as the floats do
                if value > bar:
                    if size == room:
                        size, bar = width, largest_first(own, room, width) >> 32
                    own[size], size = value * 4294967296 + (4294967295 - names[at]), size + 1
        sizes[rows[r]], bars[rows[r]] = size, bar


@compiled
def unpack(kept, sizes, start, stop, columns, bits):
    """The lists of `select` as columns (n, width), in no order and filled up with -1, and similarities' bits."""
    width, flip = columns.shape[1], (np.int64(1) << (8 * bits.itemsize - 1)) - 1
    for r in range(start, stop):
        size = min(width, sizes[r])
        best = kept[r]
        if size:
            largest_first(best, sizes[r], size)
        columns[r, size:], bits[r, size:] = -1, 0
        for c in range(size):
            value = best[c] >> 32
            columns[r, c], bits[r, c] = 4294967295 - (best[c] & 0xFFFFFFFF), value if value >= 0 else value ^ flip


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def dot_four(x, features, columns, first, last, result):
    """`dot` of x with the rows columns[first..last] of features, at most four: together they wait for memory only once."""
    a, b = features[columns[first]], features[columns[min(first + 1, last)]]
    c, d = features[columns[min(first + 2, last)]], features[columns[min(first + 3, last)]]
    by_a, by_b, by_c, by_d = 0.0, 0.0, 0.0, 0.0
    for i in range(x.shape[0]):
        value = np.float64(x[i])
        by_a += value * np.float64(a[i])
        by_b += value * np.float64(b[i])
        by_c += value * np.float64(c[i])
        by_d += value * np.float64(d[i])
    result[0], result[1], result[2], result[3] = by_a, by_b, by_c, by_d


@compiled
def rerank(features, rows, candidates, ends, begin, indices, similarities):
    """Fill each row of the graph: itself, then the best of its candidate columns by exact similarity.

    Row r's candidates end at ends[r], where those of row r + 1 begin. Ties: smaller index first. A short list is filled
    with the row itself at -2.
    """
    values = np.empty(4, np.float32)
    bits = values.view(np.int32)
    keys = np.empty(0, np.int64)
    for r in range(rows.shape[0]):
        row, n = rows[r], 0
        if keys.shape[0] < ends[r] - begin:
            keys = np.empty(ends[r] - begin, np.int64)
        for first in range(begin, ends[r], 4):
            dot_four(features[row], features, candidates, first, ends[r] - 1, values)
            for v in range(min(4, ends[r] - first)):
                if candidates[first + v] != row:
                    values[v] += np.float32(0.0)  # no negative zero
                    order = np.int64(bits[v])
                    order = order if order >= 0 else order ^ 0x7FFFFFFF  # integers that sort as the floats do
                    keys[n], n = -order * 4294967296 + candidates[first + v], n + 1
        begin = ends[r]
        keys[:n].sort()
        indices[row, 0], similarities[row, 0] = row, dot(features[row], features[row])
        indices[row, 1:], similarities[row, 1:] = row, -2.0
        for c in range(1, min(n + 1, indices.shape[1])):
            order = -(keys[c - 1] >> 32)
            bits[0] = order if order >= 0 else order ^ 0x7FFFFFFF
            indices[row, c], similarities[row, c] = keys[c - 1] & 0xFFFFFFFF, values[0]


@compiled
def reciprocal(ranks, start, stop, mask):
    """mask[i, c] = is i among the neighbours of its c-th neighbour? `mask` is as wide as the lists compared."""
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
    """Rows start..stop of V before query expansion: (entries per row, columns ascending, softmax weights)."""
    k1, width = full.shape[1], half.shape[1]
    place, chosen = np.full(ranks.shape[0], -1, np.int32), np.full(ranks.shape[0], -1, np.int32)
    counts, members = np.zeros(stop - start, np.int64), np.empty(k1 * (width + 1), np.int32)
    columns, weights, size = np.empty(0, np.int32), np.empty(0, np.float32), 0
    for i in range(start, stop):
        n = 0
        for c in range(k1):
            place[ranks[i, c]] = c
            if full[i, c]:
                members[n], chosen[ranks[i, c]], n = ranks[i, c], i, n + 1
        for m in range(n):  # expansion: n is fixed here, each test is against the original set
            j, shared, total = members[m], 0, 0
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
        columns, weights, total_weight = _room(columns, size + n), _room(weights, size + n), 0.0
        raw = np.empty(n)
        for m in range(n):
            at = place[members[m]]
            s = similarities[i, at] if at >= 0 else np.float32(dot(features[i], features[members[m]]))
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
    sums, touched = np.zeros(ranks.shape[0]), np.empty(ranks.shape[0], np.int32)
    counts, size = np.zeros(stop - start, np.int64), 0
    new_columns, new_weights = np.empty(0, np.int32), np.empty(0, np.float32)
    for i in range(start, stop):
        n = 0
        for j in ranks[i, :k2]:
            for e in range(pointers[j], pointers[j + 1]):
                if sums[columns[e]] == 0.0:
                    touched[n], n = columns[e], n + 1
                sums[columns[e]] += weights[e]
        touched[:n].sort()
        new_columns, new_weights = _room(new_columns, size + n), _room(new_weights, size + n)
        for t in range(n):
            new_columns[size + t], new_weights[size + t] = touched[t], sums[touched[t]] / k2
            sums[touched[t]] = 0.0
        counts[i - start], size = n, size + n
    return counts, new_columns[:size].copy(), new_weights[:size].copy()


@compiled
def overlap(pointers, columns, weights, by_column, owners, owner_weights, max_distance, start, stop):
    """Jaccard distances of rows i in start..stop to rows i, i+1, ... that are at most `max_distance` apart."""
    n_rows = pointers.shape[0] - 1
    shared, touched = np.zeros(n_rows), np.empty(n_rows + 1, np.int32)
    counts, size = np.zeros(stop - start, np.int64), 0
    found, distances = np.empty(0, np.int32), np.empty(0, np.float32)
    for i in range(start, stop):
        n = 0
        for e in range(pointers[i], pointers[i + 1]):
            column, weight = columns[e], weights[e]
            first, last = by_column[column], by_column[column + 1]
            first += np.searchsorted(owners[first:last], i)
            for o in range(first, last):
                before = shared[owners[o]]
                touched[n] = owners[o]
                n += before == 0.0  # no branch: whether a row was met already is a guess that fails too often
                shared[owners[o]] = before + min(weight, owner_weights[o])
        kept = 0
        for t in range(n):  # keep in place, then sort only what is kept
            distance = np.float32(1.0 - shared[touched[t]] / (2.0 - shared[touched[t]]))
            if distance <= max_distance or touched[t] == i:
                touched[kept], touched[t], kept = touched[t], touched[kept], kept + 1
        touched[:kept].sort()
        found, distances = _room(found, size + kept), _room(distances, size + kept)
        for t in range(kept):
            m = shared[touched[t]]
            found[size + t], distances[size + t] = touched[t], 0.0 if touched[t] == i else max(0.0, 1.0 - m / (2.0 - m))
        for t in range(n):
            shared[touched[t]] = 0.0
        counts[i - start], size = kept, size + kept
    return counts, found[:size].copy(), distances[:size].copy()


@compiled
def rank_matches(similarities, query_pids, query_camids, gallery_pids, gallery_camids, start, stop, scores):
    """scores[b] = (average precision, inverse negative penalty, rank of the first match, matches taken by the camera).

    Only the true matches of a query are sorted; each gallery image then finds, by bisection among them, which ranks it
    pushes back. A query without a match keeps NaN in the first three.
    """
    matched = np.empty(gallery_pids.shape[0], np.int64)
    for b in range(start, stop):
        pid, camera, n = query_pids[b], query_camids[b], 0
        scores[b] = np.nan, np.nan, np.nan, 0.0
        for j in range(gallery_pids.shape[0]):
            if gallery_pids[j] == pid and pid >= 0:
                if camera >= 0 and gallery_camids[j] == camera:
                    scores[b, 3] += 1
                else:
                    matched[n], n = j, n + 1
        if n == 0:
            continue
        places = matched[:n][np.argsort(-similarities[b][matched[:n]], kind="mergesort")]  # stable: smaller index first
        values, ahead = similarities[b][places], np.zeros(n, np.int64)
        for j in range(gallery_pids.shape[0]):
            value = similarities[b, j]
            if value < values[n - 1] or gallery_pids[j] < 0:
                continue
            if gallery_pids[j] == pid and camera >= 0 and gallery_camids[j] == camera:
                continue
            low, high = 0, n
            while low < high:
                middle = (low + high) // 2
                if values[middle] > value or (values[middle] == value and places[middle] < j):
                    low = middle + 1
                else:
                    high = middle
            if low < n:
                ahead[low] += 1
        ranks = np.cumsum(ahead)  # each match counts itself: ranks start at 1
        scores[b, 0] = np.mean(np.arange(1, n + 1) / ranks)
        scores[b, 1], scores[b, 2] = n / ranks[n - 1], ranks[0]


@compiled
def mirror(pointers, columns, values):
    """The symmetric CSR of an upper triangle with its diagonal; columns stay sorted, stored zeros stay stored."""
    n = pointers.shape[0] - 1
    full = np.zeros(n + 1, np.int64)
    for i in range(n):
        full[i + 1] += pointers[i + 1] - pointers[i]
        for e in range(pointers[i], pointers[i + 1]):
            if columns[e] != i:
                full[columns[e] + 1] += 1
    full = np.cumsum(full)
    free, new_columns, new_values = full[:-1].copy(), np.empty(full[n], np.int32), np.empty(full[n], np.float32)
    for i in range(n):  # when row i writes its own part, all smaller rows have written into it
        for e in range(pointers[i], pointers[i + 1]):
            j = columns[e]
            new_columns[free[i]], new_values[free[i]], free[i] = j, values[e], free[i] + 1
            if j != i:
                new_columns[free[j]], new_values[free[j]], free[j] = i, values[e], free[j] + 1
    return full, new_columns, new_values


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})  # sums may be reordered: vector instructions
def move_in_turn(memory, z, labels, numbers):
    """M_k <- normalise(m M_k + (1 - m) z) for one row of the batch after the other, in place.

    numbers: m, 1 - m, 0 and the least length to divide by, of the memory's type: literals would make all of it float64.
    """
    keep, take, zero, tiny = numbers
    for i in range(z.shape[0]):
        row, new, square = memory[labels[i]], z[i], zero
        for j in range(row.shape[0]):
            row[j] = keep * row[j] + take * new[j]
            square += row[j] * row[j]
        length = max(np.sqrt(square), tiny)  # as torch's normalize: a row of zeros stays one
        for j in range(row.shape[0]):
            row[j] /= length
