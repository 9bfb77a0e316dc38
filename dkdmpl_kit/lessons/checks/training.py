"""Checks of notebook 05: one epoch of the loop."""

from __future__ import annotations

import numpy as np
import torch

from dkdmpl_kit.lessons.exercises import Test, exercises, no_function, value
from dkdmpl_kit.memory import ClusterMemory


def checks(camids: np.ndarray | None, batch_images: int, memory: ClusterMemory):
    """The notebook's `check`: camids (N,) of the training pictures, None where unknown; the
    pictures a cluster has in a batch; the memory after the epoch.
    """
    shares = None if camids is None or batch_images < 2 else _shares(camids, batch_images)
    return exercises({1: shares, 2: _moved_row, 3: _cosines(memory)})


def _shares(camids: np.ndarray, batch_images: int) -> Test:
    """Batches drawn here, so that a number cannot stand for the function."""
    rng = np.random.default_rng(5)
    batches = [
        rng.integers(0, len(camids), clusters * batch_images) for clusters in (2, 5, 9)
    ]
    batches += [rng.integers(0, len(camids), 16 * batch_images) for _ in range(3)]
    rows = [camids[batch].reshape(-1, batch_images) for batch in batches]

    def of(share) -> np.ndarray:
        return np.array([share(row) for row in rows], dtype=float)

    inside = (batch_images - 1) / batch_images
    right = of(lambda row: (row[:, 1:] != row[:, :1]).mean())
    test = value(
        right,
        tol=1e-6,
        mistakes={
            "the first picture itself was counted as well; only its batch mates count.": inside
            * right,
            "those share the camera of the first picture; count the others.": 1 - right,
            "each picture was compared with the one before it; compare with the first.": of(
                lambda row: (row[:, 1:] != row[:, :-1]).mean()
            ),
            "that is the share of clusters with two cameras; count batch mates.": of(
                lambda row: (row[:, 1:] != row[:, :1]).any(axis=1).mean()
            ),
            "those are numbers of batch mates; divide by all batch mates.": of(
                lambda row: (row[:, 1:] != row[:, :1]).sum()
            ),
            "the batch was cut in the wrong direction: a cluster's pictures stand side by "
            "side.": of(
                lambda row: _transposed(row, lambda r: (r[:, 1:] != r[:, :1]).mean())
            ),
        },
    )

    def check(answer) -> str | None:
        if not callable(answer):
            return no_function(answer, "one batch")
        return test([float(answer(batch.copy())) for batch in batches])

    return check


def _transposed(row: np.ndarray, share) -> float:
    return share(row.ravel().reshape(row.shape[::-1]).T)


def _moved_row(answer) -> str | None:
    if not callable(answer):
        return no_function(answer, "(row, z, m)")
    generator = torch.Generator().manual_seed(6)
    for n, momentum in ((1, 0.1), (2, 0.3), (4, 0.5), (3, 0.9)):
        row, *z = torch.nn.functional.normalize(
            torch.randn(n + 1, 5, generator=generator, dtype=torch.float64), dim=1
        )
        z = torch.stack(z)
        given = answer(row.clone(), z.clone(), momentum)
        test = value(
            _by_kit(row, z, momentum), tol=1e-5, mistakes=_mistakes(row, z, momentum)
        )
        if hint := test(given):
            return hint
    return None


def _by_kit(row: torch.Tensor, z: torch.Tensor, momentum: float) -> torch.Tensor:
    memory = ClusterMemory(row[None], torch.zeros(1, dtype=torch.int64), momentum=momentum)
    memory.update(z, torch.zeros(len(z), dtype=torch.int64))
    return memory.features[0]


def _mistakes(row: torch.Tensor, z: torch.Tensor, m: float) -> dict[str, torch.Tensor]:
    unit = torch.nn.functional.normalize
    raw = row
    for one in z:
        raw = m * raw + (1 - m) * one
    return {
        "m and 1 - m changed places: m is the share that the row keeps.": _by_kit(
            row, z, 1 - m
        ),
        "the row was not brought back to length 1.": raw,
        "bring the row back to length 1 after each feature, not only at the end.": unit(
            raw, dim=0
        ),
        "that uses the mean of the features; take each in turn.": unit(
            m * row + (1 - m) * z.mean(0), dim=0
        ),
        "that uses the last feature only; take each in turn.": _by_kit(row, z[-1:], m),
        "that uses the first feature only; take each in turn.": _by_kit(row, z[:1], m),
        "the features were taken from the last to the first.": _by_kit(row, z.flip(0), m),
    }


def _cosines(memory: ClusterMemory) -> Test:
    moved, frozen = memory.features.detach().cpu(), memory.centroids.detach().cpu()
    right = (moved * frozen).sum(1)
    n = len(right)
    test = value(
        right,
        tol=1e-4,
        mistakes={
            "those are distances; the cosine is 1 less the distance.": 1 - right,
            "those are angles; give their cosines.": right.clamp(-1, 1).arccos(),
            "those are lengths of differences; give cosines.": (moved - frozen).norm(dim=1),
            "a row was compared with itself; compare M with C.": torch.ones(n),
            "sum over the features, dim=1: one number a cluster.": (moved * frozen).sum(0),
        },
    )

    def check(answer) -> str | None:
        if tuple(np.shape(answer)) == (n, n) and n > 1:
            return (
                "those are all pairs of rows; take each row with the same row (the diagonal)."
            )
        return test(answer)

    return check
