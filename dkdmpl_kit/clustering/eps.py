"""`eps` without guessing: a sweep on the sparse distances, and a rule that needs no truth.

A small eps leaves most pictures out; a large one lets clusters percolate into one. Between
the two the number of clusters peaks, and there the clusters are still sound: on Market-1501
the peak sits where the largest cluster still holds about one picture in a hundred.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from dkdmpl_kit.clustering.algorithms import PseudoLabels, largest_share, pseudo_labels
from dkdmpl_kit.errors import KitError

STEP = 0.025
DEFAULT_FARTHEST = 0.8
LOWEST = 0.1
LARGEST_SHARE = 0.03  # a cluster with more of the pictures has probably percolated


@dataclass(frozen=True)
class EpsSweep:
    """What each eps would give; arrays (n,), eps rising.

    n_clusters, outlier_fraction, largest_share: of all pictures, in the largest cluster.
    found: the clustering at the eps that the rule takes.
    """

    eps: np.ndarray
    n_clusters: np.ndarray
    outlier_fraction: np.ndarray
    largest_share: np.ndarray
    found: PseudoLabels

    @property
    def chosen(self) -> float:
        """The eps that the rule takes."""
        return self.found.eps

    @property
    def labels(self) -> np.ndarray:
        """(N,) the pseudo labels at that eps."""
        return self.found.labels

    def record(self) -> dict:
        """Plain lists for a run's files."""
        return {
            "chosen": self.chosen,
            "eps": [round(float(value), 4) for value in self.eps],
            "n_clusters": self.n_clusters.tolist(),
            "outlier_fraction": [round(float(x), 4) for x in self.outlier_fraction],
            "largest_share": [round(float(x), 4) for x in self.largest_share],
        }


def sweep_eps(
    distances: csr_array,
    *,
    min_samples: int = 4,
    values: np.ndarray | None = None,
) -> EpsSweep:
    """DBSCAN of distances (N, N) at each eps, and the one where the clusters are most.

    values: the eps to try, rising; without them 0.1 to the largest stored distance in
    steps of 0.025.
    The rule: the count of clusters, averaged with its two neighbours in the sweep so that
    a single lucky value does not win, is largest; of equal ones the smallest eps. It takes
    one also where none gives two clusters: `require_clusters` says so. KitError for values
    that are not rising.
    """
    if values is None:
        farthest = getattr(distances, "max_distance", DEFAULT_FARTHEST)
        lowest = min(LOWEST, farthest)
        steps = int((farthest - lowest) / STEP + 1e-9)
        values = [round(lowest + STEP * step, 6) for step in range(steps + 1)]
    values = np.asarray(values, float)
    if not len(values) or (np.diff(values) <= 0).any() or values[0] <= 0:
        raise KitError("eps values must be positive and rising, and at least one.")
    tried = [
        pseudo_labels(distances, eps=float(eps), min_samples=min_samples) for eps in values
    ]
    counts = np.array([found.n_clusters for found in tried])
    return EpsSweep(
        eps=values,
        n_clusters=counts,
        outlier_fraction=np.array([found.outlier_fraction for found in tried]),
        largest_share=np.array([found.largest_share for found in tried]),
        found=tried[int(np.argmax(smoothed(counts)))],
    )


def auto_labels(distances: csr_array, *, min_samples: int = 4) -> PseudoLabels:
    """The pseudo labels at the eps that `sweep_eps` chooses; the sweep's record is kept."""
    sweep = sweep_eps(distances, min_samples=min_samples)
    return dataclasses.replace(sweep.found, sweep=sweep.record())


def smoothed(counts: np.ndarray) -> np.ndarray:
    """Counts (n,) averaged with their neighbours; the ends with themselves."""
    padded = np.concatenate([counts[:1], counts, counts[-1:]])
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3


def percolation_warning(labels: np.ndarray, eps: float) -> str | None:
    """One sentence where the largest cluster holds so many pictures that it is probably
    several identities grown together; None otherwise.

    Few clusters are large by themselves: four times an equal share is allowed.
    """
    share = largest_share(labels)
    equal = 1.0 / max(1, int(labels.max(initial=-1)) + 1)
    if share <= max(LARGEST_SHARE, 4 * equal):
        return None
    return (
        f"The largest cluster holds {share:.0%} of the pictures at eps={eps:g}: clusters have "
        "probably grown together; lower eps (`sweep_eps` shows where clusters are most)."
    )
