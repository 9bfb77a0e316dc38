"""Compiled inner loops of the memory update.

numba is imported at the top, so this module is itself imported only inside functions.
Every kernel works on a range of rows, releases the GIL and writes only to its own rows:
threads share nothing, sums run in one fixed order, and the result depends neither on
the number of threads nor on the size of the blocks. Compiled code is cached on disk.
"""

from __future__ import annotations

import numpy as np
from numba import njit

compiled = njit(cache=True, nogil=True)


# sums may be reordered: vector instructions
@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def move_in_turn(memory, z, labels, numbers):
    """M_k <- normalise(m M_k + (1 - m) z) for one row of the batch after the other, in
    place.

    numbers: m, 1 - m, 0 and the least length to divide by, of the memory's type:
    literals would make all of it float64.
    """
    keep, take, zero, tiny = numbers
    for i in range(z.shape[0]):
        row = memory[labels[i]]
        new = z[i]
        square = zero
        for j in range(row.shape[0]):
            row[j] = keep * row[j] + take * new[j]
            square += row[j] * row[j]
        # as torch's normalize: a row of zeros stays one
        length = max(np.sqrt(square), tiny)
        for j in range(row.shape[0]):
            row[j] /= length
