"""The neighbours' objectives as loops over numbers, written from their formulas alone
(dkdmpl_kit.losses.rivals).
"""

from __future__ import annotations

import torch
from reference.losses import kl, softmax
from reference.memory import mean, move


def cross_entropy(target, row):
    return -sum(p * torch.log(q) for p, q in zip(target, softmax(row), strict=True))


def batch_mean(rows):
    return sum(rows) / len(rows)


def one_hot(label, k):
    return [1.0 if j == int(label) else 0.0 for j in range(k)]


def label_smoothing(logits, labels, epsilon):
    k = len(logits[0])
    return batch_mean(
        [
            cross_entropy([(1 - epsilon) * h + epsilon / k for h in one_hot(y, k)], row)
            for row, y in zip(logits, labels, strict=True)
        ]
    )


def mean_teacher(logits, ema_logits):
    return batch_mean(
        [
            cross_entropy([p.detach() for p in softmax(t)], s)
            for s, t in zip(logits, ema_logits, strict=True)
        ]
    )


def distance(a, b):
    square = ((a - b) ** 2).sum()
    return torch.sqrt(square) if float(square.detach()) > 0 else 0.0 * square


def triplet(z, labels, ema_z=None):
    rows = []
    for i in range(len(z)):
        mates = [j for j in range(len(z)) if labels[j] == labels[i]]
        others = [j for j in range(len(z)) if labels[j] != labels[i]]
        if not others:
            return 0.0 * z.sum()
        p = max(mates, key=lambda j: float(distance(z[i], z[j]).detach()))
        n = min(others, key=lambda j: float(distance(z[i], z[j]).detach()))
        share = softmax([distance(z[i], z[p]), distance(z[i], z[n])])
        target = [0.0, 1.0]
        if ema_z is not None:
            target = [
                x.detach()
                for x in softmax([distance(ema_z[i], ema_z[p]), distance(ema_z[i], ema_z[n])])
            ]
        rows.append(-sum(t * torch.log(x) for t, x in zip(target, share, strict=True)))
    return batch_mean(rows)


def mmt(logits, labels, z, ema_z, ema_logits, soft_weight, soft_triplet_weight):
    return (
        (1 - soft_weight) * label_smoothing(logits, labels, 0.0)
        + soft_weight * mean_teacher(logits, ema_logits)
        + (1 - soft_triplet_weight) * triplet(z, labels)
        + soft_triplet_weight * triplet(z, labels, ema_z)
    )


def refined(labels, posterior, alpha):
    return [
        [float(p) for p in row]
        if y < 0
        else [
            alpha * h + (1 - alpha) * float(p)
            for h, p in zip(one_hot(y, len(row)), row, strict=True)
        ]
        for y, row in zip(labels, posterior, strict=True)
    ]


def rlcc(logits, labels, carried, alpha):
    targets = refined(labels, carried, alpha)
    return batch_mean(
        [cross_entropy(target, row) for target, row in zip(targets, logits, strict=True)]
    )


def probability_distillation(logits, ema_logits):
    return batch_mean(
        [
            sum((p - t.detach()) ** 2 for p, t in zip(softmax(a), softmax(b), strict=True))
            for a, b in zip(logits, ema_logits, strict=True)
        ]
    )


def dot(a, b):
    return (a * b).sum()


def hard_instance(z, labels, ema_z, temperature):
    rows, ema_z = [], ema_z.detach()
    for i in range(len(z)):
        similarity = [dot(z[i], m) / temperature for m in ema_z]
        positive = min(
            (s for s, y in zip(similarity, labels, strict=True) if y == labels[i]),
            key=lambda s: float(s.detach()),
        )
        negatives = [s for s, y in zip(similarity, labels, strict=True) if y != labels[i]]
        rows.append(-torch.log(softmax([positive, *negatives])[0]))
    return batch_mean(rows)


def instance_consistency(z, ema_z, plain_z, temperature):
    ema_z, plain_z = ema_z.detach(), plain_z.detach()
    return batch_mean(
        [
            kl(
                softmax([dot(g, h) / temperature for h in plain_z]),
                softmax([dot(f, m) / temperature for m in ema_z]),
            )
            for f, g in zip(z, plain_z, strict=True)
        ]
    )


def own_classes(labels):
    """Outliers numbered on after the last cluster, in their order."""
    following, classes = max(labels) + 1, []
    for y in labels:
        classes.append(y if y >= 0 else following)
        following += y < 0
    return classes


def hybrid_logits(z, features, labels, temperature):
    """z a tensor (B, d); features and labels plain lists."""
    classes = own_classes(labels)
    means = [
        mean([f for f, c in zip(features, classes, strict=True) if c == k])
        for k in range(max(classes) + 1)
    ]
    return torch.stack(
        [
            torch.stack(
                [dot(row, torch.tensor(m, dtype=z.dtype)) / temperature for m in means]
            )
            for row in z
        ]
    )


def hybrid_update(features, z, indices, momentum):
    features = [list(row) for row in features]
    for row, i in zip(z, indices, strict=True):
        features[i] = move(features[i], row, momentum)
    return features
