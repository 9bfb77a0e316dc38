"""Rows on the live lab: from a control's move to the new picture, in the kernel.

The browser's drawing comes on top.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.measure import features_like, row


class Thumbnails:
    """A store of n pictures in memory, 256 different ones, for points to show."""

    def __init__(self, n: int) -> None:
        self.n = n
        draws = torch.Generator().manual_seed(0)
        self.pixels = torch.randint(
            256, (256, 3, 128, 64), generator=draws, dtype=torch.uint8
        )

    def __len__(self) -> int:
        return self.n

    def batch(self, indices) -> torch.Tensor:
        """(B,) indices -> (B, 3, 128, 64) uint8."""
        return self.pixels[torch.as_tensor(np.asarray(indices), dtype=torch.int64) % 256]


def rows(size: str):
    """Yield the rows: the cluster explorer's controls at 1,000 or 12,936 pictures."""
    from dkdmpl_kit.lessons.lab import ClusterExplorer

    n, d = (1_000, 64) if size == "small" else (12_936, 2_048)
    features, pids = features_like(n, d, noise=0.9)
    # where a point lies changes nothing about the time
    xy = np.random.default_rng(0).standard_normal((n, 2))
    lab = ClusterExplorer(xy, features, pids=pids, camids=pids % 6, pictures=Thumbnails(n))
    lab.check()

    def set_to(control, trait: str, values: list) -> list[Callable[[], None]]:
        return [
            lambda value=value: (setattr(control, trait, value), lab.check())
            for value in values
        ]

    def lasso(start: int) -> np.ndarray:
        return np.arange(start, start + 500, dtype=np.uint32)

    yield moves_row(
        f"eps slider to new colours, {n:,}",
        set_to(lab.eps, "value", [0.3 + step / 50 for step in range(20)]),
        0.5,
    )
    yield moves_row(f"k1 slider to new colours, {n:,}", set_to(lab.k1, "value", [20, 25, 30]))
    yield moves_row(
        f"hover to picture, {n:,}", set_to(lab.map, "hovering", list(range(0, 200, 10))), 0.2
    )
    yield moves_row(
        f"lasso of 500 to gallery, {n:,}",
        set_to(lab.map, "selection", [lasso(0), lasso(100), lasso(200)]),
    )
    clusters = np.unique(lab.labels[lab.labels >= 0])[:3].tolist()
    yield moves_row(
        f"a cluster's number to its members, {n:,}", set_to(lab.cluster, "value", clusters)
    )


def moves_row(what: str, moves: list[Callable[[], None]], goal: float | None = None) -> dict:
    """The median seconds of some moves, and the slowest; goal: the longest fair wait."""
    seconds = []
    for move in moves:
        start = time.perf_counter()
        move()
        seconds.append(time.perf_counter() - start)
    said = f"median of {len(moves)} moves, the slowest {max(seconds):.3f} s"
    if goal:
        said += f"; wanted: at most {goal} s"
    return row(what, {"seconds": float(np.median(seconds)), "peak_mb": None}, agreement=said)
