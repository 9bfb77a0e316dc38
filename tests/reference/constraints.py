"""Corrections of a clustering with sets and loops, written for the tests: pictures that are
one go together, clusters that hold what must be apart come apart.
"""

from __future__ import annotations

import numpy as np


def units_by_loops(n: int, together) -> list[frozenset[int]]:
    """The pictures that are one with each picture: groups that share one, joined until
    nothing changes.
    """
    sets = [{i} for i in range(n)] + [set(map(int, group)) for group in together]
    changed = True
    while changed:
        changed = False
        for a in range(len(sets)):
            for b in range(a + 1, len(sets)):
                if sets[a] & sets[b]:
                    sets[a] |= sets.pop(b)
                    changed = True
                    break
            if changed:
                break
    return [frozenset(next(s for s in sets if i in s)) for i in range(n)]


def unit_vector(rows) -> np.ndarray:
    total = np.sum([np.asarray(row, float) for row in rows], axis=0)
    return total / max(np.sqrt((total**2).sum()), 1e-12)


def corrected_by_loops(labels, together, apart, features) -> list[int]:
    """`corrected_labels`, read off its docstring."""
    n = len(labels)
    labels = [int(label) for label in labels]
    units = units_by_loops(n, together)
    before = list(labels)
    fresh = max([*labels, -1]) + 1
    for unit in sorted({u for u in units if len(u) > 1}, key=min):
        votes = [before[i] for i in unit if before[i] >= 0]
        if not votes:
            new, fresh = fresh, fresh + 1
        else:
            most = max(votes.count(v) for v in votes)
            leading = sorted({v for v in votes if votes.count(v) == most})

            def near(v, unit=unit):
                centroid = unit_vector([features[i] for i in range(n) if before[i] == v])
                here = np.sum([features[i] for i in sorted(unit)], axis=0)
                return round(float(centroid @ here), 9)

            new = leading[0]
            for v in leading[1:]:
                if near(v) > near(new):
                    new = v
        for i in unit:
            labels[i] = new

    forbidden = set()
    for one, other in apart:
        forbidden |= {(i, j) for i in map(int, one) for j in map(int, other)}
        forbidden |= {(j, i) for i in map(int, one) for j in map(int, other)}

    def clash(a, b):
        return any((i, j) in forbidden for i in a for j in b)

    for cluster in sorted(set(labels) - {-1}):
        here = {units[i] for i in range(n) if labels[i] == cluster}
        bound = [u for u in here if any(clash(u, v) for v in here)]
        if not bound:
            continue
        parts = []
        for u in sorted(bound, key=lambda u: (-len(u), min(u))):
            best, chosen = None, None
            for k, part in enumerate(parts):
                if any(clash(u, v) for v in part):
                    continue
                mean = unit_vector([features[i] for v in part for i in v])
                near = round(float(mean @ np.sum([features[i] for i in u], axis=0)), 9)
                if best is None or near > best:
                    best, chosen = near, k
            if chosen is None:
                parts.append([u])
            else:
                parts[chosen].append(u)
        means = [unit_vector([features[i] for v in part for i in v]) for part in parts]
        for u in sorted(here - set(bound), key=min):
            near = [
                round(float(m @ np.sum([features[i] for i in u], axis=0)), 9) for m in means
            ]
            parts[near.index(max(near))].append(u)
        for part in parts[1:]:
            new = max(labels) + 1
            for u in part:
                for i in u:
                    labels[i] = new
    number = {}
    for label in labels:
        if label >= 0:
            number.setdefault(label, len(number))
    return [number.get(label, -1) for label in labels]
