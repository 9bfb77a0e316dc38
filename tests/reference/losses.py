"""Losses as nested loops over numbers: slow, obvious, and written from the formulas
alone (method: "Losses").

They take lists or tensors and work on scalars of a float64 tensor, so that autograd
differentiates them too.
"""

from __future__ import annotations

import torch


def softmax(row):
    """One row of numbers -> list of probabilities."""
    top = max(float(x.detach()) for x in row)
    exponentials = [torch.exp(x - top) for x in row]
    total = sum(exponentials)
    return [x / total for x in exponentials]


def kl(p, q):
    """KL(p || q) of two lists of probabilities."""
    return sum(a * (torch.log(a) - torch.log(b)) for a, b in zip(p, q, strict=True))


def cluster_contrast(logits, labels):
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        total = total - torch.log(softmax(row)[int(label)])
    return total / len(logits)


def gkd(student, teacher, temperature):
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        q = softmax([x / temperature for x in s])
        e = softmax([x.detach() / temperature for x in t])
        total = total + temperature**2 * kl(e, q)
    return total / len(student)


def skd(query, anchor, divergence):
    total = 0.0
    for x, y in zip(query, anchor, strict=True):
        q, a = softmax(x), softmax(y)
        if divergence == "kl":
            total = total + kl([p.detach() for p in a], q)
        elif divergence == "symmetric_kl":
            total = total + (kl(a, q) + kl(q, a)) / 2
        else:
            middle = [(s + t) / 2 for s, t in zip(a, q, strict=True)]
            total = total + (kl(a, middle) + kl(q, middle)) / 2
    return total / len(query)


def hardest_anchors(z, labels):
    """Index of the least similar batch mate of each row; itself where there is none."""
    anchors = []
    for i in range(len(z)):
        best, lowest = i, float("inf")
        for j in range(len(z)):
            similarity = sum(float(a) * float(b) for a, b in zip(z[i], z[j], strict=True))
            if j != i and labels[j] == labels[i] and similarity < lowest:
                best, lowest = j, similarity
        anchors.append(best)
    return anchors


def mean_anchors(z, labels):
    """Normalised mean of the batch mates of each row, itself left out (unless it is
    alone).
    """
    rows = []
    for i in range(len(z)):
        mates = [z[j] for j in range(len(z)) if j != i and labels[j] == labels[i]] or [z[i]]
        mean = sum(mates) / len(mates)
        rows.append(mean / torch.sqrt((mean * mean).sum()))
    return torch.stack(rows)


def carried_posterior(posterior, previous_labels, labels):
    """posterior (N, K_prev) carried over by the intersection over union of old and new
    clusters, with Python sets.
    """

    def clusters(y):
        return [{i for i, c in enumerate(y) if c == k} for k in range(max(y) + 1)]

    old, new = clusters(previous_labels), clusters(labels)
    old += [set()] * (len(posterior[0]) - len(old))
    overlap = [[len(a & b) / max(1, len(a | b)) for b in new] for a in old]
    overlap = [[x / sum(row) if sum(row) else 0.0 for x in row] for row in overlap]
    rows = []
    for p in posterior:
        carried = [
            sum(float(p[a]) * overlap[a][b] for a in range(len(old))) for b in range(len(new))
        ]
        rows.append(
            [x / sum(carried) for x in carried] if sum(carried) else [1 / len(new)] * len(new)
        )
    return torch.tensor(rows, dtype=torch.float64)
