"""The losses of DKD-MPL: pure functions of tensors, the equation beside its line.

The paper (Zhu, Peng, Yan, IEEE Trans. Multimedia 2024) is known to us by its abstract:
the formulas are the kit's reading of it. B is the batch, K the number of clusters, d
the feature size. Logits are already divided by their temperature; 16-bit logits are
computed in float32; every loss is a mean over the batch, a scalar tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dkdmpl_kit.errors import KitError, check_option
from dkdmpl_kit.losses.checks import (
    checked_labels,
    checked_logits,
    checked_pair,
    require_positive,
)

SKD_DIVERGENCES = ("kl", "symmetric_kl", "js")


def cluster_contrast_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """L_CC = -log q_i[y_i] with q = softmax(logits); Cluster Contrast (Dai et al.
    2021).

    logits: (B, K), K >= 2. labels: (B,) integers in 0..K-1 (outliers must be left out
    before).
    """
    logits = checked_logits(logits, "logits")
    return F.cross_entropy(
        logits, checked_labels(labels, len(logits), logits.shape[1], logits.device)
    )


def gkd_loss(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """L_GKD = T^2 KL(e^(T) || q^(T)), the global distillation (method: loss 2; Hinton
    et al. 2015).

    Both (B, K). The teacher is detached. T^2 keeps the gradient's scale as T grows
    (method: P5).
    """
    student, teacher = checked_pair(
        student_logits, teacher_logits, "student_logits", "teacher_logits"
    )
    require_positive("temperature", temperature)
    log_q = F.log_softmax(student / temperature, dim=1)  # q^(T) = softmax(l / T)
    # e^(T) = softmax(t / T)
    log_e = F.log_softmax(teacher.detach() / temperature, dim=1)
    return temperature**2 * kl_divergence(log_e, log_q)


def skd_loss(
    query_logits: Tensor, anchor_logits: Tensor, *, divergence: str = "symmetric_kl"
) -> Tensor:
    """L_SKD = D(a, q), the self distillation between two views of a label (method: loss
    3). Both (B, K).

    divergence: "kl" KL(stopgrad(a) || q); "symmetric_kl" the mean of both directions,
    gradient through both views; "js" Jensen-Shannon (at most log 2), gradient through
    both.
    """
    check_option("divergence", divergence, SKD_DIVERGENCES)
    query, anchor = checked_pair(query_logits, anchor_logits, "query_logits", "anchor_logits")
    log_q = F.log_softmax(query, dim=1)
    log_a = F.log_softmax(anchor, dim=1)
    if divergence == "kl":
        return kl_divergence(log_a.detach(), log_q)  # KL(sg(a) || q)
    if divergence == "symmetric_kl":
        # [KL(a || q) + KL(q || a)] / 2
        return 0.5 * (kl_divergence(log_a, log_q) + kl_divergence(log_q, log_a))
    log_m = torch.logaddexp(log_a, log_q) - np.log(2.0)  # m = (a + q) / 2
    # [KL(a || m) + KL(q || m)] / 2
    return 0.5 * (kl_divergence(log_a, log_m) + kl_divergence(log_q, log_m))


@dataclass(frozen=True, eq=False)
class DKDMPLLoss:
    """Scalar tensors. `total` carries the weights; the three terms are unweighted (0
    where a weight is 0).
    """

    total: Tensor
    cluster_contrast: Tensor
    gkd: Tensor
    skd: Tensor


def dkdmpl_loss(
    query_logits: Tensor,
    labels: Tensor,
    *,
    teacher_logits: Tensor | None = None,
    anchor_logits: Tensor | None = None,
    gkd_weight: float = 0.5,
    skd_weight: float = 0.5,
    temperature: float = 1.0,
    divergence: str = "symmetric_kl",
) -> DKDMPLLoss:
    """L = L_CC + lambda_g L_GKD + lambda_s L_SKD (method: loss 4).

    query_logits, teacher_logits, anchor_logits: (B, K); labels: (B,), -1 for an outlier,
    which L_GKD alone teaches: L_CC and L_SKD are means over the other rows. A weight of 0
    skips its term, whose logits may then be None. `temperature` is the T of L_GKD
    alone.
    """
    for name, weight, given in (
        ("gkd_weight", gkd_weight, teacher_logits),
        ("skd_weight", skd_weight, anchor_logits),
    ):
        if not 0.0 <= weight < float("inf"):
            raise KitError(f"{name}={weight} must be 0 or above.")
        if weight and given is None:
            missing = "teacher_logits" if name == "gkd_weight" else "anchor_logits"
            raise KitError(f"{name}={weight} needs {missing}; give them, or set {name}=0.")
    labels = torch.as_tensor(labels)
    known = labels != -1
    rows = slice(None) if known.all() else known  # a slice copies nothing
    contrast = cluster_contrast_loss(query_logits[rows], labels[rows])
    zero = torch.zeros_like(contrast)
    gkd = (
        gkd_loss(query_logits, teacher_logits, temperature=temperature)
        if gkd_weight
        else zero
    )
    skd = (
        skd_loss(query_logits[rows], anchor_logits[rows], divergence=divergence)
        if skd_weight
        else zero
    )
    return DKDMPLLoss(contrast + gkd_weight * gkd + skd_weight * skd, contrast, gkd, skd)


def mixed_target(
    labels: Tensor, e: Tensor, a: Tensor, gkd_weight: float, skd_weight: float
) -> Tensor:
    """r3 = (1_y + lambda_g e + lambda_s a) / (1 + lambda_g + lambda_s), (B, K) rows
    that sum to 1 (method: P4).

    The one label that DKD-MPL trains on (with "kl", T = 1): d total / d logits = (1 +
    lambda_g + lambda_s)(q - r3) / B. With skd_weight=0 it is the r of P1. labels: (B,);
    e, a: (B, K) probabilities.
    """
    e = torch.as_tensor(e)
    a = torch.as_tensor(a)
    if e.ndim != 2 or e.shape != a.shape:
        raise KitError(
            f"e and a must share one shape (B, K), got {tuple(e.shape)} and {tuple(a.shape)}."
        )
    if not (gkd_weight >= 0 and skd_weight >= 0):
        raise KitError(
            f"gkd_weight={gkd_weight} and skd_weight={skd_weight} must be 0 or above."
        )
    hard = F.one_hot(checked_labels(labels, *e.shape, e.device), e.shape[1]).to(e.dtype)
    return (hard + gkd_weight * e + skd_weight * a) / (1.0 + gkd_weight + skd_weight)


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """mean_i KL(p_i || q_i) from log-probabilities (B, K)."""
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
