"""Noise of a known kind and rate, put into true labels: how much does a loss bear?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dkdmpl_kit.errors import KitError, check_option
from dkdmpl_kit.noise.agreement import label_report
from dkdmpl_kit.noise.causes import noise_causes
from dkdmpl_kit.noise.tables import count_table

NOISE_KINDS = ("symmetric", "look_alike", "camera_split", "outlier")


@dataclass(frozen=True)
class NoisyLabels:
    """labels (N,) int64 after the injection; changed (N,) bool: exactly round(rate N)
    of them.
    """

    labels: np.ndarray
    changed: np.ndarray


def inject_noise(
    labels: np.ndarray,
    rate: float,
    *,
    kind: str = "symmetric",
    seed: int = 0,
    features: np.ndarray | None = None,
    similarity: np.ndarray | None = None,
    camids: np.ndarray | None = None,
) -> NoisyLabels:
    """Change exactly round(rate N) of the true labels (N,) of P identities, all of them
    known (>= 0).

    kind "symmetric"     to another identity, each equally likely
         "look_alike"    to the identity most similar to its own: by the cosine of mean
                         `features` (N, d), or by `similarity` (P, P), rows and columns
                         in the order of the sorted labels (ties: the first)
         "camera_split"  a camera's images of an identity get a label of their own,
                         above max(labels). Whole (identity, camera) groups in a random
                         order, the last one in part; the largest group of each identity
                         keeps its label, so that the wrong share after best matching is
                         the rate
         "outlier"       to -1

    The same seed and rate give the same noise; at the same seed a lower rate changes a
    part of what a higher one changes, in the same way. Labels keep their numbers and
    may vanish: renumber them before training. KitError: unknown labels, a rate outside
    0..1 or beyond what can be split, one identity only, what a kind lacks.
    """
    check_option("kind", kind, NOISE_KINDS)
    labels = np.asarray(labels)
    if (
        labels.ndim != 1
        or len(labels) == 0
        or labels.dtype.kind not in "iu"
        or labels.min() < 0
    ):
        raise KitError(
            "inject_noise needs the true label of every image, whole numbers from 0: "
            "leave unknown ones out."
        )
    if not 0 <= rate <= 1:
        raise KitError(
            f"rate={rate} must lie between 0 and 1: the share of the labels to change."
        )
    labels = labels.astype(np.int64)
    identities, own = np.unique(labels, return_inverse=True)
    rng = np.random.default_rng([seed, NOISE_KINDS.index(kind)])
    count = round(rate * len(labels))
    if kind == "camera_split":
        order, noisy = _camera_split(labels, own, camids, rng)
        if count > len(order):
            raise KitError(
                f"rate={rate} is too much for camera_split here: "
                f"{len(order) / len(labels):.3f} at most, as the "
                "largest camera of each identity keeps its label."
            )
    else:
        order = rng.permutation(len(labels))
        noisy = _other_labels(kind, identities, own, rng, features, similarity)
    changed = np.zeros(len(labels), dtype=bool)
    changed[order[:count]] = True
    return NoisyLabels(np.where(changed, noisy, labels), changed)


def _other_labels(
    kind: str,
    identities: np.ndarray,
    own: np.ndarray,
    rng: np.random.Generator,
    features: np.ndarray | None,
    similarity: np.ndarray | None,
) -> np.ndarray:
    """(N,) what each image would be called, if it were changed."""
    if kind == "outlier":
        return np.full(len(own), -1)
    if len(identities) < 2:
        raise KitError(
            f"{kind} noise moves images to another identity, and there is only one: "
            "give two or more."
        )
    if kind == "symmetric":
        other = rng.integers(len(identities) - 1, size=len(own))
        return identities[other + (other >= own)]  # steps over the own identity
    nearest = _similarity(len(identities), own, features, similarity)
    np.fill_diagonal(nearest, -np.inf)
    return identities[nearest.argmax(axis=1)[own]]


def _similarity(
    n: int, own: np.ndarray, features: np.ndarray | None, similarity: np.ndarray | None
) -> np.ndarray:
    """(P, P) similarity of the identities, a copy: as given, or the cosine of their
    mean features.
    """
    if (features is None) == (similarity is None):
        raise KitError(
            "look_alike noise needs to know who looks alike: give features (N, d) or "
            "similarity (P, P)."
        )
    if features is None:
        given = np.array(similarity, dtype=float)
        shape = (n, n)
    else:
        given = np.array(features, dtype=float)
        shape = (len(own), *given.shape[-1:])
    if given.shape != shape or not np.isfinite(given).all():
        raise KitError(
            f"look_alike noise needs finite numbers of shape {shape}, not "
            f"{given.shape} or NaN."
        )
    if features is None:
        return given
    means = count_table(own, np.arange(len(own)), (n, len(own))) @ given
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return means @ means.T


def _camera_split(
    labels: np.ndarray, own: np.ndarray, camids: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(indices that may change, group by group in a random order; (N,) label of each
    image's group).
    """
    camids = None if camids is None else np.asarray(camids)
    if camids is None or camids.shape != labels.shape or camids.min() < 0:
        raise KitError(
            "camera_split needs the camera of every image: give camids (N,), all of "
            "them known."
        )
    groups, group_of, sizes = np.unique(
        np.stack([own, camids]), axis=1, return_inverse=True, return_counts=True
    )
    group_of = group_of.ravel()
    # an identity's largest group first; stable
    by_size = np.lexsort([-sizes, groups[0]])
    kept = by_size[np.unique(groups[0][by_size], return_index=True)[1]]
    place = rng.permutation(len(sizes))
    images = np.flatnonzero(~np.isin(group_of, kept))
    order = images[np.argsort(place[group_of[images]], kind="stable")]
    return order, labels.max() + 1 + group_of


def noise_response(
    pids: np.ndarray,
    rates: Sequence[float],
    *,
    noise: str = "symmetric",
    kind: str = "merged",
    camids: np.ndarray | None = None,
    factors: Sequence[dict] | None = None,
    features: np.ndarray | None = None,
    max_pairs: int = 3000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """What a kind of injected noise does at each rate to agreement, and to the odds of
    what may cause wrong pairs.

    pids (N,) identities, all known; arguments of `inject_noise` and `noise_causes`.
    Returns columns (R,): "rate", "ari", "pair_precision", "pair_recall", and for each
    factor the odds ratio of a wrong pair of `kind` (1: the noise has nothing to do with
    it); NaN where it cannot be told. Rates above what `noise` can do are left out.
    """
    rows = []
    for rate in rates:
        try:
            labels = inject_noise(
                pids, rate, kind=noise, seed=seed, features=features, camids=camids
            ).labels
        except KitError:
            if not rows:
                raise
            break
        report = label_report(labels, pids)
        row = {
            "rate": rate,
            "ari": report.ari,
            "pair_precision": report.pair_precision,
            "pair_recall": report.pair_recall,
        }
        rows.append(row)
        if camids is not None or factors is not None:
            found = noise_causes(
                labels,
                pids,
                camids=camids,
                factors=factors,
                kind=kind,
                max_pairs=max_pairs,
                resamples=0,
                seed=seed,
            )
            row |= dict(zip(found.names, found.odds_ratio))
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {
        name: np.array([row.get(name, np.nan) for row in rows], dtype=float) for name in names
    }
