"""Positive anchors: the second view of a batch's labels (METHOD.md: "Symbols", p(i))."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dkdmpl_kit.errors import KitError, check_option
from dkdmpl_kit.losses.checks import checked_labels

# the last two are encoded by the training loop
SKD_ANCHORS = (
    "hardest",
    "camera",
    "random",
    "mean",
    "augmentation",
    "ema",
)


def positive_anchors(
    z: Tensor,
    labels: Tensor,
    *,
    strategy: str = "hardest",
    generator: torch.Generator | None = None,
    alone: str = "self",
    cameras: Tensor | None = None,
) -> Tensor:
    """(B,) index p(i) of each row's positive anchor: another row of the batch with the
    same label (method: "Symbols").

    z: (B, d) rows of norm 1. labels: (B,) integers >= 0. strategy: "hardest" (least
    similar), "camera" (the least similar of other `cameras` (B,) than its own; of all
    where its cluster has none) or "random" (uniform, drawn from `generator`). A row alone
    in its cluster is its own anchor (L_SKD is 0 there): alone="error" forbids.
    """
    check_option("strategy", strategy, ("hardest", "camera", "random"))
    check_option("alone", alone, ("self", "error"))
    z, mates = batch_mates(z, labels)
    lonely = ~mates.any(dim=1)
    if alone == "error" and lonely.any():
        raise KitError(
            f"row {int(lonely.nonzero()[0, 0])} is alone in its cluster; draw two of "
            "each cluster."
        )
    if strategy == "camera":
        if cameras is None:
            raise KitError('strategy="camera" needs cameras (B,), one a row.')
        cameras = torch.as_tensor(cameras, device=z.device)
        abroad = mates & (cameras[:, None] != cameras)
        mates = torch.where(abroad.any(dim=1, keepdim=True), abroad, mates)
    if strategy in ("hardest", "camera"):
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
    cameras: Tensor | None = None,
) -> Tensor:
    """(B, d) features of the second view, differentiable in z: z[p(i)] for "hardest",
    "camera" (with cameras (B,)) and "random", or for "mean" the normalised mean of the
    batch mates (without the row itself). A row alone in its cluster keeps its own feature.
    """
    if strategy in ("augmentation", "ema"):
        raise KitError(
            f"strategy={strategy!r} takes another pass of an encoder: the training "
            "loop makes it."
        )
    check_option("strategy", strategy, SKD_ANCHORS)
    if strategy != "mean":
        return torch.as_tensor(z)[
            positive_anchors(
                z, labels, strategy=strategy, generator=generator, cameras=cameras
            )
        ]
    z, mates = batch_mates(z, labels)
    mates = mates | torch.diag(~mates.any(dim=1))  # alone: itself
    return F.normalize(mates.to(z.dtype) @ z, dim=1)


def batch_mates(z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """z as a tensor, and (B, B): True where column j is another row with row i's label."""
    z = torch.as_tensor(z)
    if z.ndim != 2 or not len(z):
        raise KitError(
            f"z must be a batch (B, d) with at least one row, got shape {tuple(z.shape)}."
        )
    labels = checked_labels(labels, len(z), np.iinfo(np.int64).max, z.device)
    return z, (labels[:, None] == labels) & ~torch.eye(
        len(z), dtype=torch.bool, device=z.device
    )
