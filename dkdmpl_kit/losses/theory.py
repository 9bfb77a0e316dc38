"""The right-hand sides of P1 to P5 (method: "What we can prove"), each to be held
against autograd or an enumeration.

The derivations are the kit's own, step by step in notebooks/08_theory: the paper's
analysis is not available to us. B rows, K clusters, natural logarithms (nats). Give
float64: a comparison to 1e-6 is then one of formulas, not of rounding. Gradients are
those of each row's own loss by its own logits; the kit's losses are batch means, so
theirs are these / B.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.losses.checks import require_positive
from dkdmpl_kit.losses.dkdmpl import (
    cluster_contrast_loss,
    dkdmpl_loss,
    gkd_loss,
    mixed_target,
    skd_loss,
)


def mixed_gradient(
    logits: Tensor, labels: Tensor, e: Tensor, a: Tensor, gkd_weight: float, skd_weight: float
) -> Tensor:
    """(B, K) (1 + lambda_g + lambda_s)(q - r3): the gradient of L by the query's logits
    (method: P4; P1 with skd_weight=0).

    logits (B, K); labels (B,); e, a (B, K) probabilities. Assumes T = 1, "kl", and no
    gradient through e and a.
    """
    r3 = mixed_target(labels, e, a, gkd_weight, skd_weight)
    return (1.0 + gkd_weight + skd_weight) * (torch.softmax(logits, dim=1) - r3)


def mixed_loss(
    logits: Tensor, labels: Tensor, e: Tensor, a: Tensor, gkd_weight: float, skd_weight: float
) -> Tensor:
    """(B,) (1 + lambda_g + lambda_s) H(r3, q) - lambda_g H(e) - lambda_s H(a): L
    itself, with one label (method: P4).
    """
    r3 = mixed_target(labels, e, a, gkd_weight, skd_weight)
    cross = -(r3 * torch.log_softmax(logits, dim=1)).sum(1)  # H(r3, q)
    constant = gkd_weight * torch.special.entr(e).sum(1) + skd_weight * torch.special.entr(
        a
    ).sum(1)
    return (1.0 + gkd_weight + skd_weight) * cross - constant


@dataclass(frozen=True, eq=False)
class LabelCase:
    """One picture's label under the whole loss; vectors are (K,) float64 tensors,
    losses are in nats.

    views     {"e", "q", "a", "r3"}: those that there are; r3 is the target of P4
    losses    {"L_CC", "L_GKD", "L_SKD": (value, weight)}, each as the kit computes it;
              empty for an outlier
    total     L = sum of weight * value, from `dkdmpl_loss`; None for an outlier
    gradient  of L by the query's logits, from autograd; None for an outlier
    mixed     (1 + lambda_g + lambda_s)(q - r3), what P4 says of it; exact: whether P4
              covers these settings
    """

    hard: int
    views: dict[str, Tensor]
    losses: dict[str, tuple[float, float]]
    total: float | None = None
    gradient: Tensor | None = None
    mixed: Tensor | None = None
    exact: bool = False

    @property
    def verdict(self) -> str:
        """One sentence: does the gradient point from q to r3, as P4 says?"""
        if self.gradient is None:
            return ""
        # without an anchor r3 is P1's r
        law, formula, case, target = (
            ("P4", "(1 + λg + λs)(q − r3)", "T = 1 and kl", "r3")
            if "a" in self.views
            else ("P1", "(1 + λg)(q − r)", "T = 1", "r")
        )
        if self.exact:
            return (
                f"{law} covers these settings: the gradient is {formula}, so each arrow ends "
                f"at {target}."
            )
        off = float((self.gradient - self.mixed).abs().max())
        return (
            f"{law} is proven for {case}; here the true gradient differs from "
            f"{formula} by up to {off:.3f}, "
            f"so arrows may miss {target}."
        )


def label_case(
    query: Tensor,
    label: int,
    teacher: Tensor,
    anchor: Tensor | None = None,
    *,
    gkd_weight: float = 0.5,
    skd_weight: float = 0.5,
    temperature: float = 1.0,
    divergence: str = "kl",
) -> LabelCase:
    """Views, losses and gradient of one picture, by the losses that train: query,
    teacher, anchor are logits (K,).

    label in 0..K-1, or -1 for an outlier: it is left out of training, so there are
    views and nothing else. Without an anchor L_SKD is left out. The gradient by the
    query's logits alone: "symmetric_kl" and "js" move the anchor too.
    """
    student = torch.as_tensor(query).detach().double()[None]
    taught = torch.as_tensor(teacher).detach().double()[None]
    mate = None
    views = {"e": taught.softmax(1)[0], "q": student.softmax(1)[0]}
    if anchor is None:
        skd_weight = 0.0
    else:
        mate = torch.as_tensor(anchor).detach().double()[None]
        views["a"] = mate.softmax(1)[0]
    if label < 0:
        return LabelCase(-1, views, {})
    y = torch.tensor([label])
    leaf = student.clone().requires_grad_()
    loss = dkdmpl_loss(
        leaf,
        y,
        teacher_logits=taught,
        anchor_logits=mate,
        gkd_weight=gkd_weight,
        skd_weight=skd_weight,
        temperature=temperature,
        divergence=divergence,
    )
    (gradient,) = torch.autograd.grad(loss.total, leaf)
    # the terms themselves, each beside its weight
    losses = {
        "L_CC": (float(cluster_contrast_loss(student, y)), 1.0),
        "L_GKD": (float(gkd_loss(student, taught, temperature=temperature)), gkd_weight),
    }
    if mate is not None:
        losses["L_SKD"] = (float(skd_loss(student, mate, divergence=divergence)), skd_weight)
    # without an anchor its weight is 0, and any label stands in for it
    e = views["e"][None]
    a = views.get("a", views["e"])[None]
    views["r3"] = mixed_target(y, e, a, gkd_weight, skd_weight)[0]
    exact = (math.isclose(temperature, 1.0) or not gkd_weight) and (
        divergence == "kl" or not skd_weight
    )
    return LabelCase(
        int(label),
        views,
        losses,
        loss.total.item(),
        gradient[0],
        mixed_gradient(student, y, e, a, gkd_weight, skd_weight)[0],
        exact,
    )


def deviation(target: Tensor, truth: Tensor) -> Tensor:
    """(B,) D(t) = |t - 1_{y*}|_1, from 0 to 2 (method: P2). target (B, K) rows that sum
    to 1, truth (B,) the y* in 0..K-1.
    """
    target = _matrix(target, "target")
    return (target - F.one_hot(_truth(truth, *target.shape), target.shape[1])).abs().sum(1)


def teacher_quality(e: Tensor, labels: Tensor, truth: Tensor) -> tuple[float, float, float]:
    """(eta, e_c, e_w): share of wrong labels, mean e[y*] where the label is correct and
    where it is wrong (method: P2).

    e (B, K) probabilities, labels (B,), truth (B,). A mean over no row is 0: in P2 its
    weight is 0 too.
    """
    e = _matrix(e, "e")
    truth = _truth(truth, *e.shape)
    labels = _truth(labels, *e.shape)
    mass = e.gather(1, truth[:, None])[:, 0]
    wrong = labels != truth
    e_c, e_w = (
        float(mass[rows].mean()) if rows.any() else 0.0 for rows in (labels == truth, wrong)
    )
    return float(wrong.double().mean()), e_c, e_w


def break_even(eta: float, e_c: float, e_w: float) -> float:
    """eta e_w - (1 - eta)(1 - e_c): above 0 the mixed label is nearer to the truth than
    the hard one (method: P2).

    Equals mean e[y*] - (1 - eta): the teacher's mass on the truth less the accuracy of
    the hard label.
    """
    return eta * e_w - (1.0 - eta) * (1.0 - e_c)


def expected_deviation(eta: float, e_c: float, e_w: float, gkd_weight: float) -> float:
    """E D(r) = 2 eta - 2 lambda_g / (1 + lambda_g) break_even; weight 0 gives E D(1_y)
    = 2 eta (method: P2).
    """
    return 2.0 * eta - 2.0 * gkd_weight / (1.0 + gkd_weight) * break_even(eta, e_c, e_w)


def consistency_chain(logits: Tensor) -> dict[str, float]:
    """The chain of P3 for the n >= 2 members of one cluster, (n, K) logits; each value
    is at least the next.

    "loss"     E[symmetric KL]: the exact mean over all n (n - 1) ordered pairs of query
               and anchor
    "pinsker"  E |a - q|_1^2 / 2 over the same pairs
    "sharp"    2 n / (n - 1) Var(q): a difference of probabilities sums to 0, so |.|_1^2
               >= 2 |.|_2^2
    "stated"   n / (n - 1) Var(q): with |.|_1 >= |.|_2 only, as P3 is stated
    """
    logits = _matrix(logits, "logits")
    if len(logits) < 2:
        raise KitError(
            "P3 needs two members of a cluster: a lonely picture has no anchor but itself."
        )
    n = len(logits)
    q = torch.softmax(logits, dim=1)
    # every ordered pair of two members
    query, anchor = (torch.eye(n, device=q.device) == 0).nonzero(as_tuple=True)
    variance = float((q - q.mean(0)).square().sum(1).mean())  # Var(q)
    return {
        "loss": float(skd_loss(logits[query], logits[anchor], divergence="symmetric_kl")),
        "pinsker": float((q[query] - q[anchor]).abs().sum(1).square().mean()) / 2.0,
        "sharp": 2.0 * n / (n - 1.0) * variance,
        "stated": n / (n - 1.0) * variance,
    }


def softened_gradient(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """(B, K) T (q^(T) - e^(T)): the gradient of T^2 KL(e^(T) || q^(T)) by the student's
    logits (method: P5).
    """
    require_positive("temperature", temperature)
    return temperature * (
        torch.softmax(student / temperature, dim=1)
        - torch.softmax(teacher / temperature, dim=1)
    )


def softened_limit(student: Tensor, teacher: Tensor) -> Tensor:
    """(B, K) [(l - mean l) - (t - mean t)] / K: what `softened_gradient` tends to as T
    grows (method: P5).
    """
    gap = student - teacher
    return (gap - gap.mean(1, keepdim=True)) / student.shape[1]


def softened_error_bound(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """(B,) (R_l^2 + R_t^2) / (4 T) >= |softened_gradient - softened_limit|_1 at every T
    > 0; R = largest - least logit.
    """
    require_positive("temperature", temperature)
    spread_l, spread_t = (x.amax(1) - x.amin(1) for x in (student, teacher))  # R_l, R_t
    return (spread_l**2 + spread_t**2) / (4.0 * temperature)


def _matrix(x: Tensor, name: str) -> Tensor:
    x = torch.as_tensor(x)
    if x.ndim != 2 or not len(x):
        raise KitError(
            f"{name} must be (rows, K) with at least one row, got shape {tuple(x.shape)}."
        )
    return x


def _truth(truth: Tensor, n: int, k: int) -> Tensor:
    truth = torch.as_tensor(truth)
    if (
        truth.shape != (n,)
        or truth.is_floating_point()
        or truth.min() < 0
        or truth.max() >= k
    ):
        raise KitError(
            f"labels and truth must be {n} integers in 0..{k - 1}; leave out the "
            "pictures that have neither."
        )
    return truth.long()
