"""Seconds and peak memory of a piece of work, and features like those of a data set."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import time
from collections.abc import Callable

import numpy as np


def features_like(
    n: int, d: int, *, per_identity: int = 17, noise: float = 0.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) float32 rows of norm 1 and their identities (n,), in no order.

    Re-ID features fill few of their dimensions: identities are points of a
    32-dimensional space, images lie around them, and both are seen through one random
    map to d. noise: a picture's distance from its identity, as a share of the distance
    between identities; 0.5 clusters well, 0.9 badly.
    """
    rng = np.random.default_rng(seed)
    pids = rng.integers(0, max(1, n // per_identity), n)
    view = rng.standard_normal((32, d), np.float32)
    centres = rng.standard_normal((max(1, n // per_identity), 32), np.float32)
    features = np.empty((n, d), np.float32)
    for start in range(0, n, 16384):
        own = centres[pids[start : start + 16384]]
        around = own + noise * rng.standard_normal(own.shape, np.float32)
        rows = around @ view / np.float32(32**0.5)
        rows += 0.5 * noise * rng.standard_normal(rows.shape, np.float32)
        features[start : start + 16384] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return features, pids


def measured(
    work: Callable[[], object], repeats: int = 3
) -> tuple[dict[str, float | None], object]:
    """({"seconds": the best of `repeats` calls, "peak_mb": of the last}, its result).

    peak_mb is the rise of the resident memory's peak above what was resident before the
    call, everything included that any library allocates (Linux; None elsewhere).
    """
    seconds = []
    result = None
    for _ in range(repeats):
        result = None
        before = _reset_peak()
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    peak = None if before is None else max(0.0, _status("VmHWM") - before)
    return {"seconds": min(seconds), "peak_mb": peak}, result


def peak_of_process_mb() -> float | None:
    """The peak since the last measurement began, everything resident included.

    None where the system is not Linux.
    """
    return _status("VmHWM") if sys.platform == "linux" else None


def row(
    what: str,
    kit: dict,
    against: str | None = None,
    other: dict | None = None,
    agreement: str = "",
) -> dict:
    """One line of the table.

    `against` names what `other` measured, `agreement` says how the results compare.
    """
    return {
        "what": what,
        "kit": kit,
        "against": against,
        "other": other,
        "agreement": agreement,
    }


def _reset_peak() -> float | None:
    """Give freed memory back and start a new peak; returns the MB now resident."""
    gc.collect()
    if sys.platform != "linux":
        return None
    # a C library without malloc_trim only keeps more
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _status("VmRSS")


def _status(name: str) -> float:
    """A line of /proc/self/status, in MB."""
    with open("/proc/self/status") as file:
        kilobytes = next(int(line.split()[1]) for line in file if line.startswith(name))
    return kilobytes / 1024
