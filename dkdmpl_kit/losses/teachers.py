"""The epoch view e_i: what the epoch's clustering teaches each picture of a batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dkdmpl_kit.errors import KitError, check_option
from dkdmpl_kit.losses.checks import checked_labels, require_positive

GKD_TEACHERS = ("sample", "cluster", "consensus", "vote", "neighbourhood")

_EPS = 1e-8


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
    soft label a cluster, of labels (B,); the others the log of `posterior` (B, K): rows
    of `carry_posterior` for "consensus", of `clustering.soft` for "vote" and
    "neighbourhood". centroids: (K, d), the C of the epoch.
    """
    check_option("kind", kind, GKD_TEACHERS)
    given = {
        "sample": (features, centroids),
        "cluster": (labels, centroids),
    }.get(kind, (posterior,))
    if any(value is None for value in given):
        names = {
            "sample": "features and centroids",
            "cluster": "labels and centroids",
        }.get(kind, "posterior")
        raise KitError(f"the {kind!r} teacher needs {names}.")
    require_positive("temperature", temperature)
    if kind not in ("sample", "cluster"):
        return torch.as_tensor(posterior).clamp_min(_EPS).log()
    c = torch.as_tensor(centroids)
    if kind == "cluster":
        labels = torch.as_tensor(labels)
        v = c[checked_labels(labels, len(labels), len(c), c.device)]
    else:
        v = torch.as_tensor(features, device=c.device)
    if v.ndim != 2 or v.shape[1] != c.shape[1]:
        raise KitError(f"features {tuple(v.shape)} do not fit centroids {tuple(c.shape)}.")
    with torch.autocast(c.device.type, enabled=False):  # 1 / tau_t magnifies bf16's rounding
        return v.to(c.dtype) @ c.T / temperature


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
    # |A and B| / |A or B|
    overlap = shared / (sizes[0][:, None] + sizes[1] - shared).clamp_min(1)
    carried = posterior @ (overlap / overlap.sum(1, keepdim=True).clamp_min(_EPS))
    mass = carried.sum(1, keepdim=True)
    return torch.where(
        mass > _EPS, carried / mass.clamp_min(_EPS), torch.full_like(carried, 1.0 / k_new)
    )
