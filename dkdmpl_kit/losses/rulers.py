"""P2 in three rulers: does the mixed label lie nearer to the truth than the hard one?

The l1 distance is smallest where a label is sure, so that no honest teacher passes it. The
Brier score and the log loss are proper: they are smallest, in the mean, where a label says
what it knows. METHOD.md, "P2 in proper rulers", has the proofs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.losses.checks import checked_labels
from dkdmpl_kit.losses.theory import deviation

LEAST = 1e-8  # mass: what `teacher_logits` gives a cluster that has none


@dataclass(frozen=True)
class Rulers:
    """How much nearer to the truth GKD's mixed label r is; above 0: nearer.

    l1      E D(1_y) - E D(r), D the l1 distance to 1_{y*}
    brier   E B(1_y) - E B(r), B the squared distance to 1_{y*}
    log     E log r[y*] - E log u[y*], u the hard label smoothed with the same weight: the
            hard label itself has an infinite log loss as soon as one is wrong
    """

    l1: float
    brier: float
    log: float


def rulers(e: Tensor, labels: Tensor, truth: Tensor, gkd_weight: float) -> Rulers:
    """Measure r = (1_y + lambda_g e) / (1 + lambda_g) in three rulers (method: P2).

    e: (B, K) probabilities; labels, truth: (B,) the y and y* in 0..K-1. KitError: shapes,
    labels out of range, a weight that is not above 0.
    """
    e, labels, truth = _checked(e, labels, truth, gkd_weight)
    clusters = e.shape[1]
    hard = F.one_hot(labels, clusters).double()
    mixed = (hard + gkd_weight * e) / (1.0 + gkd_weight)
    # as in the loss, where a cluster without mass has a little
    told = (hard + gkd_weight * e.clamp_min(LEAST)) / (1.0 + gkd_weight)
    smoothed = (hard + gkd_weight / clusters) / (1.0 + gkd_weight)
    return Rulers(
        l1=float((deviation(hard, truth) - deviation(mixed, truth)).mean()),
        brier=float((brier(hard, truth) - brier(mixed, truth)).mean()),
        log=float((_mass(told, truth).log() - _mass(smoothed, truth).log()).mean()),
    )


def brier(target: Tensor, truth: Tensor) -> Tensor:
    """(B,) B(t) = |t - 1_{y*}|_2^2, from 0 to 2; target (B, K), truth (B,) in 0..K-1."""
    target = torch.as_tensor(target).double()
    return (target - F.one_hot(truth, target.shape[1])).square().sum(1)


def brier_break_even(
    eta: float, pull: float, brier_of_teacher: float, gkd_weight: float
) -> float:
    """2 eta (1 - a w) - b E B(e), with a = 1 / (1 + lambda_g) and b = 1 - a: above 0 GKD
    lowers the expected Brier score (method: P2). Times b it is `rulers(...).brier`.

    eta: share of wrong labels. pull: w, the mean of e[y] - e[y*] over wrong labels, from
    -1 to 1 (0 where none is wrong). brier_of_teacher: E B(e).
    """
    a = 1.0 / (1.0 + gkd_weight)
    return 2.0 * eta * (1.0 - a * pull) - (1.0 - a) * brier_of_teacher


def log_break_even(e: Tensor, labels: Tensor, truth: Tensor, gkd_weight: float) -> float:
    """(1 - eta) E log[(1 + lambda_g e*) / (1 + lambda_g / K)] + eta E log[K e*], the first
    mean over right labels and the second over wrong ones, e* = e[y*]: above 0 the teacher
    tells more of the truth than smoothing does (method: P2). Arguments as `rulers`.
    """
    e, labels, truth = _checked(e, labels, truth, gkd_weight)
    clusters = e.shape[1]
    mass = _mass(e, truth).clamp_min(LEAST)
    right = labels == truth
    told = torch.where(
        right,
        torch.log1p(gkd_weight * mass) - math.log1p(gkd_weight / clusters),
        torch.log(clusters * mass),
    )
    return float(told.mean())


def pull_of(e: Tensor, labels: Tensor, truth: Tensor) -> float:
    """w of P2: the mean of e[y] - e[y*] over wrong labels, 0 where none is wrong."""
    wrong = labels != truth
    if not wrong.any():
        return 0.0
    rows = torch.arange(len(e))[wrong]
    return float((e[rows, labels[wrong]] - e[rows, truth[wrong]]).mean())


def _mass(target: Tensor, truth: Tensor) -> Tensor:
    """(B,) t[y*]."""
    return target.gather(1, truth[:, None])[:, 0]


def _checked(
    e: Tensor, labels: Tensor, truth: Tensor, gkd_weight: float
) -> tuple[Tensor, Tensor, Tensor]:
    e = torch.as_tensor(e).double()
    if e.ndim != 2 or not len(e):
        raise KitError(f"e must be a batch (B, K) with a row, got shape {tuple(e.shape)}.")
    if not gkd_weight > 0:
        raise KitError(
            f"gkd_weight={gkd_weight} must be above 0: without GKD nothing is mixed."
        )
    labels, truth = (checked_labels(x, *e.shape, e.device) for x in (labels, truth))
    return e, labels, truth
