"""The rivals of DKD-MPL: six published objectives, as functions of the same tensors.

Each is written from the paper's formula and the authors' published code, read and not
copied; its docstring names both and says what is simpler here: one network, the kit's
clustering, no camera terms. B is the batch, K the number of clusters, d the feature
size. Logits are already divided by their temperature, features are rows of norm 1,
16-bit input is computed in float32, every loss is a mean over the batch.
`rival_loss` reaches them all by name.
"""

from __future__ import annotations

from collections.abc import Mapping

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
from dkdmpl_kit.losses.dkdmpl import DKDMPLLoss, cluster_contrast_loss, kl_divergence

# What each objective takes beside logits and labels (B, ...); the training loop makes
# these and no others:
#   z            (B, d) features of the batch, with their gradient
#   ema_z        (B, d) a second augmentation of the same images through the EMA encoder
#   ema_logits   (B, K) the memory's logits of ema_z
#   plain_z      (B, d) the same images without augmentation through the EMA encoder
#   carried      (B, K) last epoch's refined labels in this epoch's clusters; None in
#                the first epoch
NEEDS: dict[str, tuple[str, ...]] = {
    "label_smoothing": (),
    "mmt": ("z", "ema_z", "ema_logits"),
    "rlcc": ("carried",),
    "hdcpd": ("ema_logits",),
    "ice": ("z", "ema_z", "plain_z"),
    "spcl": (),
}


def rival_loss(
    method: str,
    logits: Tensor,
    labels: Tensor,
    views: Mapping[str, Tensor | None] | None = None,
    **options: float,
) -> DKDMPLLoss:
    """The objective called `method`, in the form of `dkdmpl_loss`: `total`, and L_CC
    beside it (gkd and skd are 0).

    logits: (B, K) of the memory (for "spcl" of `HybridMemory`); labels: (B,). views:
    what `NEEDS[method]` names. options: the keywords of its function; without them the
    weights are the published ones.
    """
    check_option("method", method, NEEDS)
    views = views or {}
    for name in NEEDS[method]:
        if name not in views or (views[name] is None and name != "carried"):
            raise KitError(
                f"method={method!r} needs the view {name!r}; give views[{name!r}]."
            )
    contrast = cluster_contrast_loss(logits, labels)
    total = _FUNCTIONS[method](
        logits, labels, *(views[name] for name in NEEDS[method]), **options
    )
    zero = torch.zeros_like(contrast)
    return DKDMPLLoss(total, contrast, zero, zero)


def label_smoothing_loss(logits: Tensor, labels: Tensor, *, epsilon: float = 0.1) -> Tensor:
    """Cross entropy with softened hard labels; Szegedy et al., Inception v3, CVPR 2016,
    section 7. (B, K), (B,).
    """
    _share("epsilon", epsilon)
    logits = checked_logits(logits, "logits")
    labels = checked_labels(labels, len(logits), logits.shape[1], logits.device)
    # target (1 - epsilon) 1_y + epsilon / K
    return F.cross_entropy(logits, labels, label_smoothing=epsilon)


def mmt_loss(
    logits: Tensor,
    labels: Tensor,
    z: Tensor,
    ema_z: Tensor,
    ema_logits: Tensor,
    *,
    soft_weight: float = 0.5,
    soft_triplet_weight: float = 0.8,
) -> Tensor:
    """Mutual Mean-Teaching with one network; MMT (Ge, Chen and Li, ICLR 2020).

    Theirs trains two networks, each taught by the other's EMA: here a network is taught
    by its own EMA on another augmentation. Their classifier is our memory; their
    features are not normalised, ours are (distances up to 2).
    """
    _share("soft_weight", soft_weight)
    _share("soft_triplet_weight", soft_triplet_weight)
    # (1 - lambda_id) L_id
    identity = (1 - soft_weight) * cluster_contrast_loss(logits, labels)
    # + lambda_id L_sid
    identity = identity + soft_weight * mean_teacher_loss(logits, ema_logits)
    # (1 - lambda_tri) L_tri
    triplet = (1 - soft_triplet_weight) * softmax_triplet_loss(z, labels)
    # + lambda_tri L_stri
    return identity + triplet + soft_triplet_weight * softmax_triplet_loss(z, labels, ema_z)


def mean_teacher_loss(logits: Tensor, ema_logits: Tensor) -> Tensor:
    """L_sid = -sum_k p_k log q_k, p the EMA encoder's classes (MMT). Both (B, K); the
    teacher is detached.
    """
    student, teacher = checked_pair(logits, ema_logits, "logits", "ema_logits")
    return F.cross_entropy(student, F.softmax(teacher.detach(), dim=1))


def softmax_triplet_loss(z: Tensor, labels: Tensor, ema_z: Tensor | None = None) -> Tensor:
    """Softmax-triplet loss of batch-hard triplets; with ema_z its soft form (MMT). z,
    ema_z: (B, d).

    The triplets are mined in z alone. A row alone in its cluster is its own positive,
    at distance 0 (as published); a batch of one cluster holds no triplet: the loss is
    0.
    """
    rows = _features(z=z) if ema_z is None else _features(z=z, ema_z=ema_z)
    z = rows[0]
    same = _same(labels, z)
    if same.all():
        return 0.0 * z.sum()
    distance = _distances(z)
    # furthest of the cluster
    positive = distance.masked_fill(~same, -float("inf")).argmax(dim=1)
    # nearest of another
    negative = distance.masked_fill(same, float("inf")).argmin(dim=1)
    pick = torch.stack([positive, negative], dim=1)
    # T = e^{d_n} / (e^{d_p} + e^{d_n})
    log_t = F.log_softmax(distance.gather(1, pick), dim=1)
    if ema_z is None:
        return -log_t[:, 1].mean()  # L_tri = -log T
    target = F.softmax(_distances(rows[1].detach()).gather(1, pick), dim=1)
    return -(target * log_t).sum(dim=1).mean()  # L_stri = BCE(T, T of the EMA encoder)


def rlcc_loss(
    logits: Tensor, labels: Tensor, carried: Tensor | None, *, alpha: float = 0.9
) -> Tensor:
    """Cross entropy with labels refined by the last clustering; RLCC (Zhang, Ge, Qiao
    and Li, CVPR 2021).

    carried: (B, K) rows of `losses.carry_posterior`, whose posterior is
    `refined_labels` of the epoch before, as in the published code, where an outlier may
    be a class of its own; ours carries its posterior alone. carried=None, the first
    epoch: cluster contrast.
    """
    logits = checked_logits(logits, "logits")
    if carried is None:
        return cluster_contrast_loss(logits, labels)
    carried = torch.as_tensor(carried)
    if carried.shape != logits.shape:
        raise KitError(
            f"logits {tuple(logits.shape)} and carried {tuple(carried.shape)} must "
            "share one shape (B, K)."
        )
    labels = checked_labels(labels, len(logits), logits.shape[1], logits.device)
    return F.cross_entropy(logits, refined_labels(labels, carried.to(logits), alpha=alpha))


def refined_labels(labels: Tensor, posterior: Tensor, *, alpha: float = 0.9) -> Tensor:
    """alpha 1_y + (1 - alpha) posterior, (N, K) without gradient (RLCC). labels: (N,),
    -1 keeps the posterior alone.
    """
    _share("alpha", alpha)
    posterior = torch.as_tensor(posterior).detach()
    if posterior.ndim != 2:
        raise KitError(f"posterior must be (N, K), got shape {tuple(posterior.shape)}.")
    labels = torch.as_tensor(labels, device=posterior.device)
    hard = F.one_hot(
        checked_labels(labels.clamp_min(0), *posterior.shape, posterior.device),
        posterior.shape[1],
    )
    return torch.where(
        labels[:, None] < 0,
        posterior,
        alpha * hard.to(posterior.dtype) + (1 - alpha) * posterior,
    )


def hdcpd_loss(
    logits: Tensor, labels: Tensor, ema_logits: Tensor, *, weight: float = 1.0
) -> Tensor:
    """Cluster contrast and probability distillation; HDCPD (Cheng, Zhou, Wang and Gao,
    arXiv 2109.14157, 2021).

    The published form on top of Cluster Contrast; their own contrast over hardest
    instances and outliers is left out.
    """
    return cluster_contrast_loss(logits, labels) + weight * probability_distillation_loss(
        logits, ema_logits
    )


def probability_distillation_loss(logits: Tensor, ema_logits: Tensor) -> Tensor:
    """L_S = |P^s - P^t|_2^2 between two augmentations' cluster probabilities, the EMA
    encoder's fixed (HDCPD). (B, K).

    Mean over the batch; the published code sums over the batch and divides by K.
    """
    student, teacher = checked_pair(logits, ema_logits, "logits", "ema_logits")
    return (
        (F.softmax(student, dim=1) - F.softmax(teacher.detach(), dim=1))
        .square()
        .sum(dim=1)
        .mean()
    )


def ice_loss(
    logits: Tensor,
    labels: Tensor,
    z: Tensor,
    ema_z: Tensor,
    plain_z: Tensor,
    *,
    hard_weight: float = 1.0,
    soft_weight: float = 10.0,
    hard_temperature: float = 0.1,
    soft_temperature: float = 0.4,
) -> Tensor:
    """Inter-instance Contrastive Encoding; ICE (Chen, Lagadec and Bremond, ICCV 2021),
    the camera-agnostic form.

    L = L_CC + lambda_h L_hard + lambda_s L_soft, their class contrast replaced by the
    kit's; no camera proxies.
    """
    return (
        cluster_contrast_loss(logits, labels)
        + hard_weight * hard_instance_loss(z, labels, ema_z, temperature=hard_temperature)
        + soft_weight
        * instance_consistency_loss(z, ema_z, plain_z, temperature=soft_temperature)
    )


def hard_instance_loss(
    z: Tensor, labels: Tensor, ema_z: Tensor, *, temperature: float = 0.1
) -> Tensor:
    """L_hard: -log of the hardest positive's share against the batch's other clusters
    (ICE). z, ema_z: (B, d).

    Positives are the EMA views of the cluster, a row's own among them: all that a row
    alone in its cluster has. In a batch of one cluster there is no negative and the
    loss is 0.
    """
    z, ema_z = _features(z=z, ema_z=ema_z)
    require_positive("temperature", temperature)
    same = _same(labels, z)
    similarity = z @ ema_z.detach().T / temperature  # <f_i, m_j> / tau_h
    hardest = similarity.masked_fill(~same, float("inf")).argmin(dim=1)
    # the easier positives take no part
    rest = same & (torch.arange(len(z), device=z.device) != hardest[:, None])
    return F.cross_entropy(similarity.masked_fill(rest, -float("inf")), hardest)


def instance_consistency_loss(
    z: Tensor, ema_z: Tensor, plain_z: Tensor, *, temperature: float = 0.4
) -> Tensor:
    """L_soft = KL(W || U) over the batch's instances (ICE): augmented views shall rank
    them as plain ones do. (B, d).
    """
    z, ema_z, plain_z = _features(z=z, ema_z=ema_z, plain_z=plain_z)
    require_positive("temperature", temperature)
    ema_z = ema_z.detach()
    plain_z = plain_z.detach()
    # U_i = softmax_j <z_i, m_j> / tau_s
    log_U = F.log_softmax(z @ ema_z.T / temperature, dim=1)
    # W_i = softmax_j <g_i, g_j> / tau_s
    log_W = F.log_softmax(plain_z @ plain_z.T / temperature, dim=1)
    return kl_divergence(log_W, log_U)


_FUNCTIONS = {
    "label_smoothing": label_smoothing_loss,
    "mmt": mmt_loss,
    "rlcc": rlcc_loss,
    "hdcpd": hdcpd_loss,
    "ice": ice_loss,
    "spcl": cluster_contrast_loss,
}


def _distances(z: Tensor) -> Tensor:
    """(B, B) Euclidean distances; the exact form, whose gradient is 0 (not infinite)
    between equal rows.
    """
    return torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")


def _same(labels: Tensor, z: Tensor) -> Tensor:
    """(B, B): True where two rows share a label, a row with itself too."""
    labels = checked_labels(labels, len(z), torch.iinfo(torch.int64).max, z.device)
    return labels[:, None] == labels


def _features(**given: Tensor) -> tuple[Tensor, ...]:
    """The features as float32 or float64 tensors of one shape (B, d)."""
    rows = {name: torch.as_tensor(x) for name, x in given.items()}
    shape = rows["z"].shape
    for name, x in rows.items():
        if x.ndim != 2 or not len(x) or x.shape != shape:
            raise KitError(
                f"{name} must be (B, d) features of at least one row, as z is "
                f"{tuple(shape)}, "
                f"got shape {tuple(x.shape)}."
            )
        if not torch.isfinite(x).all():
            raise KitError(
                f"{name} hold NaN or infinity; lower the learning rate or use precision=fp32."
            )
    return tuple(x if x.dtype == torch.float64 else x.float() for x in rows.values())


def _share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise KitError(f"{name}={value} is not between 0 and 1.")
