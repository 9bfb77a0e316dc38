"""The cluster memory one row and one number at a time (method: "Losses", last
paragraph).
"""

from __future__ import annotations

import math


def unit(row):
    length = math.sqrt(sum(x * x for x in row))
    return [x / length for x in row]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def mean(rows):
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def centroids(features, labels):
    return [
        unit(mean([f for f, y in zip(features, labels, strict=True) if y == k]))
        for k in range(max(labels) + 1)
    ]


def move(row, z, momentum):
    return unit([momentum * a + (1 - momentum) * b for a, b in zip(row, z, strict=True)])


def update(memory, z, labels, momentum, rule):
    """A new list of rows after one batch."""
    memory = [list(row) for row in memory]
    if rule == "instance":
        for row, k in zip(z, labels, strict=True):
            memory[k] = move(memory[k], row, momentum)
        return memory
    for k in sorted(set(labels)):
        members = [row for row, y in zip(z, labels, strict=True) if y == k]
        chosen = (
            mean(members)
            if rule == "mean"
            else min(members, key=lambda row: dot(memory[k], row))
        )
        memory[k] = move(memory[k], chosen, momentum)
    return memory
