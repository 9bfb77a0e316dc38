"""The checks of notebook 02."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from dkdmpl_kit.clustering import pseudo_labels
from dkdmpl_kit.lessons.exercises import Test, exercises, value
from dkdmpl_kit.lessons.stage import Stage

_MOST = 3000  # pictures in the plain distance
_COUNT = "those are the outliers; count the clusters."


def plain_distances(features: np.ndarray) -> np.ndarray:
    """1 - v_i . v_j of features (N, d), of the first 3,000 pictures."""
    chosen = features[:_MOST]
    return np.clip(1 - chosen @ chosen.T, 0, None)


def checks(
    stage: Stage, features: np.ndarray, distances: csr_array, eps: float
) -> Callable[[int, Any], bool]:
    """Outliers of distances (N, N) at three min_samples; a radius of the plain distance of
    features (N, d); clusters at three k1.
    """
    config, total = stage.config, len(features)
    tried = [pseudo_labels(distances, eps=eps, min_samples=m) for m in (2, 4, 8)]
    left_out = [int((found.labels < 0).sum()) for found in tried]
    lengths = (max(2, config.k1 // 2), config.k1, min(2 * config.k1, total))
    with_k1 = [stage.cluster(features, k1=k, k2=min(config.k2, k)) for k in lengths]
    target = pseudo_labels(
        distances, eps=eps, min_samples=config.min_samples
    ).outlier_fraction
    return exercises(
        {
            1: value(
                left_out,
                mistakes={
                    "those are the pictures that are clustered; count the others.": [
                        total - n for n in left_out
                    ],
                    "those are the clusters; count the outliers.": [
                        found.n_clusters for found in tried
                    ],
                    "those are shares; count the pictures.": [n / total for n in left_out],
                },
            ),
            2: _radius(plain_distances(features), config.min_samples, target),
            3: value(
                [found.n_clusters for found in with_k1],
                mistakes={_COUNT: [int((found.labels < 0).sum()) for found in with_k1]},
            ),
        }
    )


def _radius(plain: np.ndarray, min_samples: int, target: float) -> Test:
    from sklearn.cluster import DBSCAN

    near_enough = min(0.03, target / 2)

    def share(radius: float) -> float:
        scan = DBSCAN(eps=radius, min_samples=min_samples, metric="precomputed")
        return float(np.mean(scan.fit_predict(plain) < 0))

    def test(answer: Any) -> str:
        given = np.asarray(answer)
        if given.shape != () or given.dtype.kind not in "iuf":
            return "one number is asked for, the radius."
        radius = float(given)
        if not 0 < radius < np.inf:
            return "a radius is above 0."
        lower, here, upper = (share(factor * radius) for factor in (0.98, 1, 1.02))
        # near enough, or the share leaps over the target just here
        if abs(here - target) <= near_enough or lower >= target >= upper:
            return "" if radius <= 1.02 * plain.max() else "no two pictures are so far apart."
        way = "larger" if here > target else "smaller"
        return (
            f"it leaves {here:.0%} of the pictures as outliers, and {target:.0%} are wanted: "
            f"make it {way}."
        )

    return test
