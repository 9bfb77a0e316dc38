"""Whether features serve re-identification better than others of the same pictures, as far
as it can be seen without identities.

Each criterion is a mean over pictures, so that two sets of features are compared picture
by picture (`compare`). Which of them follows mAP, and where it does not, is measured:
docs/adapt.md, "What the guard watches".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dkdmpl_kit.errors import KitError

ASKED = 2000  # pictures whose neighbours are looked for: a percent is seen by then
BLOCK = 256  # of them at a time
NEIGHBOURS = 10
BACK = 5  # how near a picture must be to its nearest one to count as mutual
PARTITIONS = 4  # ways to split the dimensions of a feature in two halves
RESAMPLES = 1000
SURE = 0.95  # of an interval


@dataclass(frozen=True, eq=False)
class Evidence:
    """What n of the pictures say of features, an array (n,) for each criterion.

    mixing: the share of other cameras among a picture's 10 nearest, divided by their
    share of all pictures: 1 where cameras leave no trace; of the pictures whose camera
    is known, and None unless two cameras are.
    stability: how often two halves of the feature's dimensions name the same nearest
    picture; in [0, 1].
    across: the same, of the nearest pictures of other cameras. None like mixing.
    mutual: 1 where a picture is among the 5 nearest of its nearest one, else 0.
    """

    mixing: np.ndarray | None
    stability: np.ndarray
    across: np.ndarray | None
    mutual: np.ndarray

    def means(self) -> dict[str, float | None]:
        """{criterion: its mean}."""
        return {
            name: None if value is None else float(value.mean())
            for name, value in vars(self).items()
        }


def evidence(
    features: np.ndarray, camids: np.ndarray, *, groups: np.ndarray | None = None
) -> Evidence:
    """`Evidence` of features (N, d), rows of norm 1, with cameras (N,), -1 where unknown.

    groups: (N,) a number for pictures that are nearly the same, -1 for the rest; no
    picture is a neighbour of another one of its group, as the frames of a burst find each
    other with any features. Of more than 2,000 pictures as many, drawn evenly, are asked
    for their neighbours among all. KitError for fewer than four pictures.
    """
    features = np.ascontiguousarray(features, np.float32)
    n = len(features)
    if n < 4:
        raise KitError(f"{n} pictures say nothing about features: give at least four.")
    camids = np.asarray(camids, np.int64)
    groups = np.full(n, -1, np.int64) if groups is None else np.asarray(groups, np.int64)
    several = len(np.unique(camids[camids >= 0])) > 1
    asked = np.unique(np.linspace(0, n - 1, min(n, ASKED)).astype(int))
    halves = _halves(features)
    found = [
        _of_block(features, halves, block, camids, groups, several)
        for block in np.array_split(asked, -(-len(asked) // BLOCK))
    ]
    mixing, stability, across, mutual = (np.concatenate(parts) for parts in zip(*found))
    if not several:
        return Evidence(None, stability, None, mutual)
    return Evidence(mixing, stability, across, mutual)


def _halves(features: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Both halves of each partition of the dimensions, (N, d / 2) with rows of norm 1."""
    generator = np.random.default_rng(0)
    pairs = []
    for _ in range(PARTITIONS):
        order = generator.permutation(features.shape[1])
        parts = [features[:, dims] for dims in np.array_split(order, 2)]
        pairs.append(
            tuple(
                p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), 1e-12) for p in parts
            )
        )
    return pairs


def _of_block(
    features: np.ndarray,
    halves: list[tuple[np.ndarray, np.ndarray]],
    asked: np.ndarray,
    camids: np.ndarray,
    groups: np.ndarray,
    several: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(mixing, stability, across, mutual) of the pictures `asked`, indices (n,)."""
    known = asked[camids[asked] >= 0]
    mixing = _mixing(features, known, groups, camids) if several else np.empty(0)
    nearest = _similar(features, asked, groups).argmax(axis=1)
    back = _similar(features, nearest, groups)
    rows = np.arange(len(asked))
    mutual = (back > back[rows, asked][:, None]).sum(axis=1) < BACK
    stability = _agreement(halves, asked, groups)
    across = _agreement(halves, asked, groups, camids) if several else np.empty(0)
    return mixing, stability, across, mutual.astype(float)


def _agreement(
    halves: list[tuple[np.ndarray, np.ndarray]],
    asked: np.ndarray,
    groups: np.ndarray,
    camids: np.ndarray | None = None,
) -> np.ndarray:
    """(n,) the share of the partitions whose halves name the same nearest picture."""
    same = [
        _similar(one, asked, groups, camids).argmax(axis=1)
        == _similar(two, asked, groups, camids).argmax(axis=1)
        for one, two in halves
    ]
    return np.mean(same, axis=0)


def _similar(
    features: np.ndarray,
    asked: np.ndarray,
    groups: np.ndarray,
    camids: np.ndarray | None = None,
) -> np.ndarray:
    """(n, N) similarities to all pictures; -inf to itself, to its own group and, with
    camids, to its own camera.
    """
    similar = features[asked] @ features.T
    for values in (groups, camids):
        if values is not None:
            own = values[asked][:, None]
            similar[(own == values) & (own >= 0)] = -np.inf
    similar[np.arange(len(asked)), asked] = -np.inf
    return similar


def _mixing(
    features: np.ndarray, asked: np.ndarray, groups: np.ndarray, camids: np.ndarray
) -> np.ndarray:
    """(n,) of the pictures `asked`, among those whose camera is known."""
    near = _similar(features, asked, groups)
    near[:, camids < 0] = -np.inf
    known = camids[camids >= 0]
    k = min(NEIGHBOURS, len(known) - 1)
    nearest = np.argpartition(-near, k - 1, axis=1)[:, :k]
    own = camids[asked]
    other = (camids[nearest] != own[:, None]).mean(axis=1)
    share = np.bincount(known) / len(known)
    return other / (1 - share[own])


def compare(
    now: np.ndarray, start: np.ndarray, *, seed: int = 0
) -> tuple[float, float, float]:
    """(mean change, and the ends of its 95 % interval) of a criterion (n,) on the same
    pictures, by a bootstrap over them.

    Pictures of one identity are not independent, so the interval is too narrow.
    """
    change = np.asarray(now, float) - np.asarray(start, float)
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(change), size=(RESAMPLES, len(change)))
    ends = np.quantile(change[drawn].mean(axis=1), [(1 - SURE) / 2, (1 + SURE) / 2])
    return float(change.mean()), float(ends[0]), float(ends[1])
