"""Soft labels against identities: what of a teacher's mass lies on the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise.agreement import cluster_owners
from dkdmpl_kit.noise.tables import checked


@dataclass(frozen=True)
class SoftLabelMass:
    """Where the mass of soft labels lies; means over the counted pictures.

    own        on the picture's own cluster
    truth      on the clusters that its identity owns (it is the most frequent one there)
    siblings   on those of them that are not its own cluster
    strangers  on clusters of other identities that are not its own cluster
    sibling_lift  of the mass off the own cluster, the share on siblings, divided by the
               share that a uniform soft label would have there: 1 is chance
    counted    pictures whose identity owns a cluster
    sibling_lift and siblings are None where no picture has a sibling cluster.
    """

    own: float
    truth: float
    siblings: float | None
    strangers: float
    sibling_lift: float | None
    counted: int


def soft_label_mass(
    e: np.ndarray, images: np.ndarray, labels: np.ndarray, pids: np.ndarray
) -> SoftLabelMass | None:
    """Judge soft labels e (B, K), rows that sum to 1, of images (B,) in 0..N-1.

    labels: (N,) the clustering, -1 for outliers; pids: (N,) identities, negative where
    unknown. None where no picture's identity owns a cluster. KitError: shapes that do not
    fit.
    """
    labels, pids = checked(labels, pids)
    e = np.asarray(e, float)
    k = int(labels.max(initial=-1)) + 1
    if e.ndim != 2 or e.shape != (len(images), k):
        raise KitError(f"e must be ({len(images)}, {k}), got shape {e.shape}.")
    owners = cluster_owners(labels, pids)
    if (owners < 0).all():
        return None
    known = pids[images] >= 0
    owned = (owners[None, :] == pids[images][:, None]) & known[:, None]
    counted = owned.any(axis=1)
    if not counted.any():
        return None
    e, owned, own_label = e[counted], owned[counted], labels[images][counted]
    own = np.arange(k)[None, :] == own_label[:, None]
    sibling = owned & ~own
    has_sibling = sibling.any(axis=1)
    mass = {
        "own": float((e * own).sum(1).mean()),
        "truth": float((e * owned).sum(1).mean()),
        "strangers": float((e * ~(owned | own)).sum(1).mean()),
    }
    siblings = lift = None
    if has_sibling.any():
        on = (e * sibling).sum(1)[has_sibling]
        off = (e * ~own).sum(1)[has_sibling]
        uniform = sibling.sum(1)[has_sibling] / (~own).sum(1)[has_sibling]
        siblings = float(on.mean())
        lift = float(on.sum() / off.sum() / uniform.mean()) if off.sum() > 0 else None
    return SoftLabelMass(
        **mass, siblings=siblings, sibling_lift=lift, counted=int(counted.sum())
    )
