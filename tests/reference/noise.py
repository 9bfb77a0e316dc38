"""Measures of noise as nested loops over images and pairs: slow, obvious, written from
the definitions alone.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations


def pair_counts(labels, pids):
    """(pairs together in both, pairs in one cluster, pairs of one identity)."""
    both = claimed = true = 0
    for i, j in combinations(range(len(labels)), 2):
        claimed += labels[i] == labels[j]
        true += pids[i] == pids[j]
        both += labels[i] == labels[j] and pids[i] == pids[j]
    return both, claimed, true


def bcubed(labels, pids):
    """(precision, recall), image by image."""
    n, precision, recall = len(labels), 0.0, 0.0
    for i in range(n):
        cluster = [j for j in range(n) if labels[j] == labels[i]]
        identity = [j for j in range(n) if pids[j] == pids[i]]
        shared = len(set(cluster) & set(identity))
        precision += shared / len(cluster) / n
        recall += shared / len(identity) / n
    return precision, recall


def camera_pairs(labels, pids, camids):
    """{(camera, camera) sorted: [merged, together, split, same]} over pairs of
    clustered images.
    """
    counts = {}
    for i, j in combinations(range(len(labels)), 2):
        if min(labels[i], labels[j], pids[i], pids[j], camids[i], camids[j]) < 0:
            continue
        cell = counts.setdefault(tuple(sorted((camids[i], camids[j]))), [0, 0, 0, 0])
        one_cluster, one_identity = labels[i] == labels[j], pids[i] == pids[j]
        for place, holds in enumerate(
            (
                one_cluster and not one_identity,
                one_cluster,
                one_identity and not one_cluster,
                one_identity,
            )
        ):
            cell[place] += bool(holds)
    return counts


def entropy(p):
    return -sum(x * math.log(x) for x in p if x > 0)


def disagreement(views):
    """Views of one image, lists of probabilities."""
    mean = [sum(column) / len(views) for column in zip(*views, strict=True)]
    return (entropy(mean) - sum(entropy(v) for v in views) / len(views)) / math.log(
        len(views)
    )


def neighbour_entropy(labels, neighbours):
    names = [labels[j] if labels[j] >= 0 else ("outlier", j) for j in neighbours]
    return entropy([c / len(names) for c in Counter(names).values()]) / math.log(len(names))


def centroid_silhouette(features, labels, i):
    """Of one clustered image."""
    centroids = {}
    for label in {x for x in labels if x >= 0}:
        members = [f for f, x in zip(features, labels, strict=True) if x == label]
        mean = [sum(column) / len(members) for column in zip(*members, strict=True)]
        norm = math.sqrt(sum(x * x for x in mean))
        centroids[label] = [x / norm for x in mean]
    if len(centroids) < 2 or labels.count(labels[i]) == 1:
        return 0.0
    away = {
        label: 1 - sum(x * y for x, y in zip(features[i], c, strict=True))
        for label, c in centroids.items()
    }
    a = away.pop(labels[i])
    b = min(away.values())
    return (b - a) / max(a, b)


def auroc(score, wrong):
    """The share of (wrong, right) pairs in which the wrong one scores lower, ties half."""
    won = [
        (s < t) + 0.5 * (s == t)
        for s, w in zip(score, wrong, strict=True)
        if w
        for t, v in zip(score, wrong, strict=True)
        if not v
    ]
    return sum(won) / len(won)


def odds_ratio(pairs, wrong, factor):
    """ad / bc of the table of two yes-no properties over pairs; `wrong` and `factor`
    take a pair.
    """
    table = Counter((bool(wrong(i, j)), bool(factor(i, j))) for i, j in pairs)
    return table[True, True] * table[False, False] / (table[True, False] * table[False, True])


def evidence(features, camids, groups, *, neighbours=10, back=5, halves=()):
    """(mixing, stability, across, mutual) as lists, picture by picture; halves: pairs of
    lists of dimensions.
    """
    n = len(features)
    known = {c for c in camids if c >= 0}

    def similar(i, j, dims):
        a, b = [features[i][d] for d in dims], [features[j][d] for d in dims]
        norm = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
        return sum(x * y for x, y in zip(a, b)) / norm

    def allowed(i, j, other):
        if i == j or (groups[i] == groups[j] and groups[i] >= 0):
            return False
        return not (other and camids[i] == camids[j] and camids[i] >= 0)

    every = range(len(features[0]))
    other = len(known) > 1

    def ranked(i, dims, other):
        pool = [j for j in range(n) if allowed(i, j, other)]
        return sorted(pool, key=lambda j: -similar(i, j, dims))

    mixing, stability, across, mutual = [], [], [], []
    for i in range(n):
        if other and camids[i] >= 0:
            pool = [j for j in ranked(i, every, False) if camids[j] >= 0][:neighbours]
            share = sum(camids[j] != camids[i] for j in pool) / len(pool)
            cameras = [c for c in camids if c >= 0]
            mixing.append(share / (1 - cameras.count(camids[i]) / len(cameras)))
        for found, apart in ((stability, False), (across, other)):
            best = [[ranked(i, dims, apart)[0] for dims in pair] for pair in halves]
            found.append(sum(a == b for a, b in best) / len(best))
        nearest = ranked(i, every, False)[0]
        mutual.append(int(i in ranked(nearest, every, False)[:back]))
    return (mixing if other else None), stability, (across if other else None), mutual
