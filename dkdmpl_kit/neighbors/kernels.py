"""Compiled inner loops of selection of the nearest neighbours.

numba is imported at the top, so this module is itself imported only inside functions.
Every kernel works on a range of rows, releases the GIL and writes only to its own rows:
threads share nothing, sums run in one fixed order, and the result depends neither on
the number of threads nor on the size of the blocks. Compiled code is cached on disk.
"""

from __future__ import annotations

import numpy as np
from numba import njit

compiled = njit(cache=True, nogil=True)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def dot(x, y):
    """Inner product of two float32 rows, summed in double, so that float32 holds it
    correctly rounded.
    """
    total = 0.0
    for i in range(x.shape[0]):
        total += np.float64(x[i]) * np.float64(y[i])
    return total


@compiled
def largest_first(values, size, width):
    """Reorder values[:size] so that the `width` largest come first, the least of them
    last; returns that one.

    Quickselect (Hoare 1961). NumPy's partition does the same, but takes numba ten times
    as long to compile.
    """
    low = 0
    high = size - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i = low
        j = high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i = i + 1
                j = j - 1
        if width - 1 <= j:
            high = j
        elif width - 1 >= i:
            low = i
        else:
            break
    return values[width - 1]


@compiled
def select(bits, names, start, stop, width, kept, sizes, bars):
    """Offer rows start..stop of a tile of similarities to their lists of the largest.

    `bits` are floats seen as integers of their size, names (c,) what the tile's columns
    are called. kept (n, 2 width + 128), sizes (n,), bars (n,): the lists, an entry
    being a similarity's rank above the complement of its name, so that equal ones
    prefer the smaller name; nothing at or below the bar can enter. Columns go in groups
    (c, c + m, c + 2m, ...) and a group whose largest entry is not above the bar is
    passed over: far fewer steps than a top-k of all.
    """
    room = kept.shape[1]
    n = bits.shape[1]
    flip = (np.int64(1) << (8 * bits.itemsize - 1)) - 1
    depth = max(1, n // (8 * width))
    m = n // depth
    highest = np.empty(m, bits.dtype)
    scratch = np.empty(m, bits.dtype)
    for r in range(start, stop):
        row = bits[r]
        own = kept[r]
        size = sizes[r]
        bar = bars[r]
        for c in range(m):
            highest[c] = row[c]
        for first in range(m, n, m):
            part = row[first : first + m]  # the last one may be shorter
            for c in range(part.shape[0]):
                # not max(): that would widen the integers and halve the speed
                if part[c] > highest[c]:
                    highest[c] = part[c]
        if (
            bar < 0 and m >= width
            # `width` groups hold an entry as large as the width-th of the groups'
            # largest
        ):
            for c in range(m):
                scratch[c] = highest[c]
            least = np.int64(largest_first(scratch, m, width))
            bar = least - 1 if least > 0 else bar
        for c in range(m):
            if bar >= 0 and highest[c] <= bar:
                continue
            for at in range(c, n, m):
                value = np.int64(row[at])
                # integers that sort as the floats do
                value = value if value >= 0 else value ^ flip
                if value > bar:
                    if size == room:
                        size = width
                        bar = largest_first(own, room, width) >> 32
                    own[size], size = value * 4294967296 + (4294967295 - names[at]), size + 1
        sizes[r], bars[r] = size, bar


@compiled
def unpack(kept, sizes, start, stop, columns, bits):
    """The lists of `select` as columns (n, width), in no order and filled up with -1,
    and similarities' bits.
    """
    width = columns.shape[1]
    flip = (np.int64(1) << (8 * bits.itemsize - 1)) - 1
    for r in range(start, stop):
        size = min(width, sizes[r])
        best = kept[r]
        if size:
            largest_first(best, sizes[r], size)
        columns[r, size:], bits[r, size:] = -1, 0
        for c in range(size):
            value = best[c] >> 32
            columns[r, c], bits[r, c] = (
                4294967295 - (best[c] & 0xFFFFFFFF),
                value if value >= 0 else value ^ flip,
            )


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def dot_four(x, features, columns, first, last, result):
    """`dot` of x with the rows columns[first..last] of features, at most four: together
    they wait for memory only once.
    """
    a = features[columns[first]]
    b = features[columns[min(first + 1, last)]]
    c = features[columns[min(first + 2, last)]]
    d = features[columns[min(first + 3, last)]]
    by_a = 0.0
    by_b = 0.0
    by_c = 0.0
    by_d = 0.0
    for i in range(x.shape[0]):
        value = np.float64(x[i])
        by_a += value * np.float64(a[i])
        by_b += value * np.float64(b[i])
        by_c += value * np.float64(c[i])
        by_d += value * np.float64(d[i])
    result[0], result[1], result[2], result[3] = by_a, by_b, by_c, by_d


@compiled
def rerank(features, rows, candidates, ends, begin, indices, similarities):
    """Fill each row of the graph: itself, then the best of its candidate columns by
    exact similarity.

    Row r's candidates end at ends[r], where those of row r + 1 begin. Ties: smaller
    index first. A short list is filled with the row itself at -2.
    """
    values = np.empty(4, np.float32)
    bits = values.view(np.int32)
    keys = np.empty(0, np.int64)
    for r in range(rows.shape[0]):
        row = rows[r]
        n = 0
        if keys.shape[0] < ends[r] - begin:
            keys = np.empty(ends[r] - begin, np.int64)
        for first in range(begin, ends[r], 4):
            dot_four(features[row], features, candidates, first, ends[r] - 1, values)
            for v in range(min(4, ends[r] - first)):
                if candidates[first + v] != row:
                    values[v] += np.float32(0.0)  # no negative zero
                    order = np.int64(bits[v])
                    # integers that sort as the floats do
                    order = order if order >= 0 else order ^ 0x7FFFFFFF
                    keys[n], n = -order * 4294967296 + candidates[first + v], n + 1
        begin = ends[r]
        keys[:n].sort()
        indices[row, 0], similarities[row, 0] = row, dot(features[row], features[row])
        indices[row, 1:], similarities[row, 1:] = row, -2.0
        for c in range(1, min(n + 1, indices.shape[1])):
            order = -(keys[c - 1] >> 32)
            bits[0] = order if order >= 0 else order ^ 0x7FFFFFFF
            indices[row, c], similarities[row, c] = keys[c - 1] & 0xFFFFFFFF, values[0]
