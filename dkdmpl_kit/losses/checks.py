"""What the losses ask of their input, in one sentence each; float32 at the least."""

from __future__ import annotations

import torch
from torch import Tensor

from dkdmpl_kit.errors import KitError


def require_positive(name: str, value: float) -> None:
    """KitError unless `value`, the setting called `name`, is above 0."""
    if not value > 0:
        raise KitError(f"{name}={value} must be above 0.")


def checked_logits(x: Tensor, name: str) -> Tensor:
    """Finite logits (B, K) of two clusters or more, in float32 or float64; else KitError."""
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


def checked_pair(x: Tensor, y: Tensor, x_name: str, y_name: str) -> tuple[Tensor, Tensor]:
    """Two `checked_logits` of one shape (B, K)."""
    x = checked_logits(x, x_name)
    y = checked_logits(y, y_name)
    if x.shape != y.shape:
        raise KitError(
            f"{x_name} {tuple(x.shape)} and {y_name} {tuple(y.shape)} must share one "
            "shape (B, K)."
        )
    return x, y


def checked_labels(labels: Tensor, n: int, k: int, device: torch.device) -> Tensor:
    """Labels (n,) as int64 from 0 to k-1 on `device`; else KitError."""
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
