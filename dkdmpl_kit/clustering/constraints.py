"""What a person, or a tracker, knows of pictures: these are one, those are not. A
clustering is brought in line with it, exactly.

Must-links and cannot-links are those of constrained clustering (Wagstaff et al. 2001).
Here they correct a clustering that is there already, so that any method, any eps and
every epoch of a training can be corrected in the same way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from dkdmpl_kit.clustering.algorithms import UNCLUSTERED, PseudoLabels
from dkdmpl_kit.errors import KitError

Sides = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Constraints:
    """What is known of n pictures, by their indices 0..n-1.

    together  groups, each an array of pictures that are one
    apart     pairs of groups: no picture of the one is ever in a cluster with a picture
              of the other; within a group nothing is said
    named     what an error calls each of them, such as "lines 2 and 3": those of
              `together`, then those of `apart`

    KitError: an index outside, or a contradiction (`refuse_contradictions`).
    """

    n: int
    together: tuple[np.ndarray, ...] = ()
    apart: tuple[Sides, ...] = ()
    named: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        together = tuple(_indices(group, self.n) for group in self.together)
        apart = tuple(tuple(_indices(side, self.n) for side in pair) for pair in self.apart)
        names = [f"group {i + 1} of those that are one" for i in range(len(together))]
        names += [f"pair {i + 1} of those that are not" for i in range(len(apart))]
        # a frozen dataclass is set so, once
        object.__setattr__(self, "together", together)
        object.__setattr__(self, "apart", apart)
        object.__setattr__(self, "named", tuple(self.named or names))
        refuse_contradictions(self)

    @cached_property
    def units(self) -> np.ndarray:
        """(n,) int64: which pictures are one, directly or through others; the number is
        the first of them.
        """
        return linked(self.n, self.together)

    def fingerprint(self) -> str:
        """16 hex digits that name what is said, not how: a picture is its index, and the
        order of groups and of pictures does not count.
        """
        one = sorted(sorted(map(int, group)) for group in self.together)
        two = sorted(sorted(sorted(map(int, side)) for side in pair) for pair in self.apart)
        return hashlib.sha256(json.dumps([self.n, one, two]).encode()).hexdigest()[:16]


def linked(n: int, groups: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) int64: union-find over groups of indices; each gets the smallest index of its
    component.
    """
    parent = np.arange(n)

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return int(i)

    for group in groups:
        roots = sorted({root(int(i)) for i in group})
        for other in roots[1:]:
            parent[other] = roots[0]
    return np.array([root(i) for i in range(n)], np.int64)


def refuse_contradictions(constraints: Constraints) -> None:
    """KitError that names what says that two pictures are one, and what says that they are
    not.
    """
    units = constraints.units
    for place, (one, other) in enumerate(constraints.apart):
        both = np.intersect1d(units[one], units[other])
        if not len(both):
            continue
        name = constraints.named[len(constraints.together) + place]
        i = int(one[units[one] == both[0]][0])
        j = int(other[units[other] == both[0]][0])
        if i == j:
            raise KitError(
                f"{name} says that a picture is not the same as itself: name it on one side "
                "alone."
            )
        links = [constraints.named[k] for k in _way(constraints.together, i, j)]
        raise KitError(
            f"{_listed([*links, name])} contradict each other: the last one says that two "
            f"pictures are not one, and the {'other says' if len(links) == 1 else 'others say'}"
            " that they are; leave one of them out."
        )


def corrected_labels(
    labels: np.ndarray, constraints: Constraints, features: np.ndarray
) -> np.ndarray:
    """(n,) int64: `labels` brought in line with the constraints, numbered by first
    appearance; -1 for an outlier.

    labels: (n,), -1 for outliers. features: (n, d), which decide what constraints leave
    open.
    Pictures that are one go together to the cluster where most of them are; of several
    such ones to that with the most similar centroid (of its members' mean), then to the
    smaller label. Where all are outliers they become a cluster. Then a cluster that holds
    pictures which must be apart comes apart: each of them, larger groups first, joins the
    most similar part in which it may be, or starts a new one, and every other member
    follows the part whose mean is most similar to it. Nothing else moves.
    The result is the same for every order of the constraints. KitError: lengths that do
    not fit.
    """
    labels = np.array(labels, np.int64)
    features = np.asarray(features)
    if labels.shape != (constraints.n,) or features.shape[:1] != labels.shape:
        raise KitError(
            f"The constraints are of {constraints.n} pictures, and there are labels of shape "
            f"{labels.shape} and features of {features.shape}: give those of the same pictures."
        )
    if not constraints.together and not constraints.apart:
        return labels
    _bring_together(labels, constraints.units, features)
    sides = _sides_of(constraints)
    for cluster in _in_conflict(labels, constraints.apart):
        _take_apart(labels, cluster, constraints.units, sides, features)
    return _renumbered(labels)


def corrected(
    pseudo: PseudoLabels, constraints: Constraints | None, features: np.ndarray
) -> PseudoLabels:
    """`corrected_labels` of a clustering, with its counts; itself without constraints.

    Soft labels (`soft`) are of other clusters afterwards, and left out.
    """
    if constraints is None:
        return pseudo
    labels = corrected_labels(pseudo.labels, constraints, features)
    return replace(
        pseudo,
        labels=labels,
        n_clusters=int(labels.max(initial=UNCLUSTERED)) + 1,
        outlier_fraction=float(np.mean(labels == UNCLUSTERED)),
        soft=None,
    )


def _indices(group: Sequence[int] | np.ndarray, n: int) -> np.ndarray:
    found = np.unique(np.asarray(group, np.int64))
    if found.ndim != 1 or not len(found) or found[0] < 0 or found[-1] >= n:
        raise KitError(
            f"constraints are groups of indices below {n}, none empty, not {group!r:.80}."
        )
    return found


def _listed(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]


def _way(groups: Sequence[np.ndarray], start: int, end: int) -> list[int]:
    """The shortest chain of groups that leads from one picture to another."""
    before: dict[int, int | None] = {
        k: None for k, group in enumerate(groups) if start in group
    }
    line = list(before)
    for k in line:  # it grows behind
        if end in groups[k]:
            chain = []
            step: int | None = k
            while step is not None:
                chain.append(step)
                step = before[step]
            return chain[::-1]
        for other, group in enumerate(groups):
            if other not in before and np.isin(groups[k], group).any():
                before[other] = k
                line.append(other)
    return []


def _sum(features: np.ndarray) -> np.ndarray:
    return features.sum(axis=0, dtype=np.float64)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _bring_together(labels: np.ndarray, units: np.ndarray, features: np.ndarray) -> None:
    """Give each group of pictures that are one a single label, in place.

    All look at the clusters as they were, so that no order of groups plays a part.
    """
    names, sizes = np.unique(units, return_counts=True)
    before = labels.copy()
    fresh = int(labels.max(initial=UNCLUSTERED)) + 1
    order = np.argsort(units, kind="stable")
    starts = np.searchsorted(units[order], names[sizes > 1])
    means: dict[int, np.ndarray] = {}
    for start, size in zip(starts.tolist(), sizes[sizes > 1].tolist()):
        members = order[start : start + size]
        own, counts = np.unique(before[members], return_counts=True)
        own, counts = own[own >= 0], counts[own >= 0]
        if not len(own):
            labels[members] = fresh
            fresh += 1
            continue
        leading = own[counts == counts.max()].tolist()
        for label in leading if len(leading) > 1 else ():
            if label not in means:
                means[label] = _unit(_sum(features[before == label]))
        if len(leading) > 1:
            # of equally similar ones the smaller label, which comes first
            here = _sum(features[members])
            leading.sort(key=lambda label: -round(float(means[label] @ here), 9))
        labels[members] = leading[0]


def _sides_of(constraints: Constraints) -> dict[int, list[tuple[int, int]]]:
    """{unit: (place of the pair, its side) ...} of all units that must be apart from some."""
    sides: dict[int, list[tuple[int, int]]] = {}
    for place, pair in enumerate(constraints.apart):
        for side, group in enumerate(pair):
            for unit in np.unique(constraints.units[group]).tolist():
                sides.setdefault(unit, []).append((place, side))
    return sides


def _in_conflict(labels: np.ndarray, apart: Sequence[Sides]) -> list[int]:
    """The clusters that hold pictures of both sides of a pair, rising."""
    found: set[int] = set()
    for one, other in apart:
        found |= set(np.intersect1d(labels[one], labels[other]).tolist())
    return sorted(found - {UNCLUSTERED})


def _take_apart(
    labels: np.ndarray,
    cluster: int,
    units: np.ndarray,
    sides: dict[int, list[tuple[int, int]]],
    features: np.ndarray,
) -> None:
    """Divide one cluster so that no pair that must be apart is left in it, in place."""
    members = np.flatnonzero(labels == cluster)
    own = units[members]
    here = set(own.tolist())
    held: set[tuple[int, int]] = set()
    for unit in here & sides.keys():
        held |= set(sides[unit])
    # a side without its other one in this cluster asks for nothing here
    asked = {
        unit: {(place, side) for place, side in sides[unit] if (place, 1 - side) in held}
        for unit in here & sides.keys()
    }
    sizes = dict(zip(*(found.tolist() for found in np.unique(own, return_counts=True))))
    bound = sorted((u for u in asked if asked[u]), key=lambda u: (-sizes[u], u))
    parts: list[dict] = []
    part_of: dict[int, int] = {}
    for unit in bound:
        total = _sum(features[members[own == unit]])
        banned = {(place, 1 - side) for place, side in asked[unit]}
        free = [k for k, part in enumerate(parts) if not part["sides"] & banned]
        if free:
            near = [round(float(_unit(parts[k]["sum"]) @ total), 9) for k in free]
            chosen = free[int(np.argmax(near))]
        else:
            chosen = len(parts)
            parts.append({"sides": set(), "sum": np.zeros_like(total)})
        parts[chosen]["sides"] |= asked[unit]
        parts[chosen]["sum"] = parts[chosen]["sum"] + total
        part_of[unit] = chosen
    means = np.stack([_unit(part["sum"]) for part in parts])
    fresh = int(labels.max()) + 1
    names = [cluster, *range(fresh, fresh + len(parts) - 1)]
    for unit in sorted(here):
        group = members[own == unit]
        if unit not in part_of:
            near = np.round(means @ _sum(features[group]), 9)
            part_of[unit] = int(np.argmax(near))
        labels[group] = names[part_of[unit]]


def _renumbered(labels: np.ndarray) -> np.ndarray:
    """The same clusters 0..K-1 in the order in which they appear; outliers stay -1."""
    clustered = labels >= 0
    _, first, groups = np.unique(labels[clustered], return_index=True, return_inverse=True)
    numbered = np.full(len(labels), UNCLUSTERED, np.int64)
    numbered[clustered] = np.argsort(np.argsort(first))[groups]
    return numbered
