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

SKD_DIVERGENCES = ("kl", "symmetric_kl", "js")
SKD_ANCHORS = (
    "hardest",
    "random",
    "mean",
    "augmentation",
    "ema",
)  # the last two are encoded by the training loop
GKD_TEACHERS = ("sample", "cluster", "consensus")
_EPS = 1e-8


def cluster_contrast_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """L_CC = -log q_i[y_i] with q = softmax(logits); Cluster Contrast (Dai et al.
    2021).

    logits: (B, K), K >= 2. labels: (B,) integers in 0..K-1 (outliers must be left out
    before).
    """
    logits = _logits(logits, "logits")
    return F.cross_entropy(
        logits, _labels(labels, len(logits), logits.shape[1], logits.device)
    )


def gkd_loss(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """L_GKD = T^2 KL(e^(T) || q^(T)), the global distillation (method: loss 2; Hinton
    et al. 2015).

    Both (B, K). The teacher is detached. T^2 keeps the gradient's scale as T grows
    (method: P5).
    """
    student, teacher = _pair(
        student_logits, teacher_logits, "student_logits", "teacher_logits"
    )
    _positive("temperature", temperature)
    log_q = F.log_softmax(student / temperature, dim=1)  # q^(T) = softmax(l / T)
    # e^(T) = softmax(t / T)
    log_e = F.log_softmax(teacher.detach() / temperature, dim=1)
    return temperature**2 * _kl(log_e, log_q)


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
    query, anchor = _pair(query_logits, anchor_logits, "query_logits", "anchor_logits")
    log_q = F.log_softmax(query, dim=1)
    log_a = F.log_softmax(anchor, dim=1)
    if divergence == "kl":
        return _kl(log_a.detach(), log_q)  # KL(sg(a) || q)
    if divergence == "symmetric_kl":
        # [KL(a || q) + KL(q || a)] / 2
        return 0.5 * (_kl(log_a, log_q) + _kl(log_q, log_a))
    log_m = torch.logaddexp(log_a, log_q) - np.log(2.0)  # m = (a + q) / 2
    # [KL(a || m) + KL(q || m)] / 2
    return 0.5 * (_kl(log_a, log_m) + _kl(log_q, log_m))


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

    query_logits, teacher_logits, anchor_logits: (B, K); labels: (B,). A weight of 0
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
    contrast = cluster_contrast_loss(query_logits, labels)
    zero = torch.zeros_like(contrast)
    gkd = (
        gkd_loss(query_logits, teacher_logits, temperature=temperature)
        if gkd_weight
        else zero
    )
    skd = skd_loss(query_logits, anchor_logits, divergence=divergence) if skd_weight else zero
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
    hard = F.one_hot(_labels(labels, *e.shape, e.device), e.shape[1]).to(e.dtype)
    return (hard + gkd_weight * e + skd_weight * a) / (1.0 + gkd_weight + skd_weight)


def positive_anchors(
    z: Tensor,
    labels: Tensor,
    *,
    strategy: str = "hardest",
    generator: torch.Generator | None = None,
    alone: str = "self",
) -> Tensor:
    """(B,) index p(i) of each row's positive anchor: another row of the batch with the
    same label (method: "Symbols").

    z: (B, d) rows of norm 1. labels: (B,) integers >= 0. strategy: "hardest" (least
    similar) or "random" (uniform, drawn from `generator`). A row alone in its cluster
    is its own anchor (L_SKD is 0 there): alone="error" forbids.
    """
    check_option("strategy", strategy, ("hardest", "random"))
    check_option("alone", alone, ("self", "error"))
    z, mates = _mates(z, labels)
    lonely = ~mates.any(dim=1)
    if alone == "error" and lonely.any():
        raise KitError(
            f"row {int(lonely.nonzero()[0, 0])} is alone in its cluster; draw two of "
            "each cluster."
        )
    if strategy == "hardest":
        cost = z.detach() @ z.detach().T
    else:
        where = z.device if generator is None else generator.device
        cost = torch.rand(mates.shape, generator=generator, device=where).to(z.device)
    chosen = cost.masked_fill(~mates, float("inf")).argmin(dim=1)
    return torch.where(lonely, torch.arange(len(z), device=z.device), chosen)


def anchor_features(
    z: Tensor,
    labels: Tensor,
    *,
    strategy: str = "hardest",
    generator: torch.Generator | None = None,
) -> Tensor:
    """(B, d) features of the second view, differentiable in z: z[p(i)] for "hardest"
    and "random", or for "mean" the normalised mean of the batch mates (without the row
    itself). A row alone in its cluster keeps its own feature.
    """
    if strategy in ("augmentation", "ema"):
        raise KitError(
            f"strategy={strategy!r} takes another pass of an encoder: the training "
            "loop makes it."
        )
    check_option("strategy", strategy, SKD_ANCHORS)
    if strategy != "mean":
        return torch.as_tensor(z)[
            positive_anchors(z, labels, strategy=strategy, generator=generator)
        ]
    z, mates = _mates(z, labels)
    mates = mates | torch.diag(~mates.any(dim=1))  # alone: itself
    return F.normalize(mates.to(z.dtype) @ z, dim=1)


def teacher_logits(
    kind: str,
    *,
    centroids: Tensor | None = None,
    features: Tensor | None = None,
    labels: Tensor | None = None,
    temperature: float = 0.05,
    posterior: Tensor | None = None,
) -> Tensor:
    """(B, K) logits of the epoch view e; softmax gives e. KitError names what a kind
    lacks.

    kind: "sample" C v_i / tau_t of features (B, d); "cluster" C c_{y_i} / tau_t, one
    soft label a cluster, of labels (B,); "consensus" the log of `posterior` (B, K),
    rows of `carry_posterior`. centroids: (K, d), the C of the epoch.
    """
    check_option("kind", kind, GKD_TEACHERS)
    given = {
        "sample": (features, centroids),
        "cluster": (labels, centroids),
        "consensus": (posterior,),
    }[kind]
    if any(value is None for value in given):
        names = {
            "sample": "features and centroids",
            "cluster": "labels and centroids",
            "consensus": "posterior",
        }[kind]
        raise KitError(f"the {kind!r} teacher needs {names}.")
    _positive("temperature", temperature)
    if kind == "consensus":
        return torch.as_tensor(posterior).clamp_min(_EPS).log()
    c = torch.as_tensor(centroids)
    if kind == "cluster":
        labels = torch.as_tensor(labels)
        return c[_labels(labels, len(labels), len(c), c.device)] @ c.T / temperature
    return torch.as_tensor(features, device=c.device) @ c.T / temperature


def carry_posterior(
    posterior: Tensor, previous_labels: np.ndarray, labels: np.ndarray
) -> Tensor:
    """Last epoch's posterior in this epoch's clusters, (N, K_prev) -> (N, K); RLCC
    (Zhang et al. 2021), "consensus".

    posterior_new = normalise(posterior @ O), O (K_prev, K) the intersection over union
    of old and new clusters, rows normalised. labels: (N,) each, the same images, -1
    outliers (in no cluster). A row whose clusters all dissolved is uniform: it teaches
    nothing.
    """
    posterior = torch.as_tensor(posterior)
    old, new = (
        torch.as_tensor(x, device=posterior.device).long() for x in (previous_labels, labels)
    )
    n, k_old = posterior.shape
    if (
        old.shape != (n,)
        or new.shape != (n,)
        or int(old.max()) >= k_old
        or int(new.max()) < 0
    ):
        raise KitError(
            f"posterior {tuple(posterior.shape)} does not fit labels "
            f"{tuple(old.shape)}, {tuple(new.shape)} "
            "of the same images, or there is no cluster left."
        )
    k_new = int(new.max()) + 1
    both = (old >= 0) & (new >= 0)
    shared = (
        torch.bincount(old[both] * k_new + new[both], minlength=k_old * k_new)
        .view(k_old, k_new)
        .to(posterior)
    )
    sizes = [
        torch.bincount(x[x >= 0], minlength=k).to(posterior)
        for x, k in ((old, k_old), (new, k_new))
    ]
    overlap = shared / (sizes[0][:, None] + sizes[1] - shared).clamp_min(
        1
    )  # |A and B| / |A or B|
    carried = posterior @ (overlap / overlap.sum(1, keepdim=True).clamp_min(_EPS))
    mass = carried.sum(1, keepdim=True)
    return torch.where(
        mass > _EPS, carried / mass.clamp_min(_EPS), torch.full_like(carried, 1.0 / k_new)
    )


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """mean_i KL(p_i || q_i) from log-probabilities (B, K)."""
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise KitError(f"{name}={value} must be above 0.")


def _logits(x: Tensor, name: str) -> Tensor:
    x = torch.as_tensor(x)
    if x.ndim != 2 or not len(x):
        raise KitError(
            f"{name} must be a batch (B, K) with at least one row, got shape "
            f"{tuple(x.shape)}."
        )
    if x.shape[1] < 2:
        raise KitError(
            f"{name} hold {x.shape[1]} cluster, a contrast needs two: lower eps so "
            "that clusters separate."
        )
    if not torch.isfinite(x).all():
        raise KitError(
            f"{name} hold NaN or infinity; lower the learning rate or use precision=fp32."
        )
    return x if x.dtype == torch.float64 else x.float()


def _pair(x: Tensor, y: Tensor, x_name: str, y_name: str) -> tuple[Tensor, Tensor]:
    x = _logits(x, x_name)
    y = _logits(y, y_name)
    if x.shape != y.shape:
        raise KitError(
            f"{x_name} {tuple(x.shape)} and {y_name} {tuple(y.shape)} must share one "
            "shape (B, K)."
        )
    return x, y


def _labels(labels: Tensor, n: int, k: int, device: torch.device) -> Tensor:
    labels = torch.as_tensor(labels, device=device)
    if labels.shape != (n,) or labels.is_floating_point():
        raise KitError(
            f"labels must be integers ({n},), got {labels.dtype} {tuple(labels.shape)}."
        )
    if n and (labels.min() < 0 or labels.max() >= k):
        raise KitError(
            f"labels must lie in 0..{k - 1} (outliers, -1, are left out of a batch), "
            f"got {int(labels.min())} to {int(labels.max())}."
        )
    return labels.long()


def _mates(z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """z as a tensor, and (B, B): True where column j is another row with row i's label."""
    z = torch.as_tensor(z)
    if z.ndim != 2 or not len(z):
        raise KitError(
            f"z must be a batch (B, d) with at least one row, got shape {tuple(z.shape)}."
        )
    labels = _labels(labels, len(z), np.iinfo(np.int64).max, z.device)
    return z, (labels[:, None] == labels) & ~torch.eye(
        len(z), dtype=torch.bool, device=z.device
    )
