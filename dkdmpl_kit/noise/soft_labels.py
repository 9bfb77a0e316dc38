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


@dataclass(frozen=True)
class MassBalance:
    """What mixing a view into the hard label does to the mass on the true cluster, as means
    over all pictures (method: P2).

    gained  mass on it where the label is wrong: eta e_w
    lost    mass missing on it where the label is right: (1 - eta)(1 - e_c)
    margin  gained - lost, the break-even margin; low, high: its 95 % bootstrap interval over
            whole identities
    """

    gained: float
    lost: float
    margin: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """ "nearer" to the truth, "further" from it, or "undecided" where 0 lies inside."""
        if self.low > 0:
            return "nearer"
        return "further" if self.high < 0 else "undecided"


def mass_balance(
    view: np.ndarray,
    labels: np.ndarray,
    truth: np.ndarray,
    people: np.ndarray,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> MassBalance:
    """The `MassBalance` of a view (B, K), rows that sum to 1, of pictures with a true cluster.

    labels: (B,) the hard ones, truth: (B,) true clusters, both 0..K-1; people: (B,) the
    pictures' identities, which are drawn as wholes, as pictures of one are not independent.
    KitError: no picture, or shapes that do not fit.
    """
    view = np.asarray(view, float)
    labels, truth = checked(labels, truth, "labels and truth")
    labels, people = checked(labels, people, "labels and people")
    if view.ndim != 2 or len(view) != len(labels):
        raise KitError(f"view must be ({len(labels)}, K), got shape {view.shape}.")
    if not len(view) or min(labels.min(), truth.min()) < 0:
        raise KitError("a balance needs pictures that have a label and a true cluster.")
    mass = view[np.arange(len(view)), truth]
    right = labels == truth
    change = mass - right  # what a whole step from the label to the view does to the mass
    person = np.unique(people, return_inverse=True)[1]
    sums, sizes = np.bincount(person, change), np.bincount(person)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(resamples, len(sums)))
    low, high = np.percentile(sums[drawn].sum(1) / sizes[drawn].sum(1), (2.5, 97.5))
    return MassBalance(
        gained=float((mass * ~right).mean()),
        lost=float(((1 - mass) * right).mean()),
        margin=float(change.mean()),
        low=float(low),
        high=float(high),
    )
