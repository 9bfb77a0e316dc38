"""Cluster memory: the frozen centroids C of an epoch, and M, which starts as C and
moves with every batch.

The update is a named method that the training loop calls after the optimiser's step,
never part of a backward pass.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dkdmpl_kit.errors import KitError, check_option

UPDATES = ("instance", "mean", "hardest")
_NORM_TOLERANCE = 1e-2  # wide enough for features that were kept in half precision


class ClusterMemory:
    """Memory of K clusters (Cluster Contrast, Dai et al. 2021; method: "Symbols").

    features: (N, d) rows of norm 1; labels: (N,) integers 0..K-1, -1 for outliers
    (ignored). Arrays or tensors. momentum: m in M_k <- normalise(m M_k + (1 - m) z),
    from 0 (replace) to 1 (frozen). update, which z of a batch:
      "instance"  every member in turn, in the batch's order;
      "mean"      the plain mean of the members, not normalised: members that disagree
                  move the memory less;
      "hardest"   the one member least similar to M_k as it was before the call.
    `.centroids` (K, d) is C and never changes; `.features` (K, d) is M. Both lie on the
    device of `features`, in its precision (float32 at least). `.classes` (N,) are the
    labels to train on; `.outliers` are the images to draw beside the clusters: none.
    KitError on labels with gaps, no cluster, rows that are not of norm 1.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        *,
        momentum: float = 0.1,
        update: str = "instance",
    ) -> None:
        check_option("update", update, UPDATES)
        if not 0.0 <= momentum <= 1.0:
            raise KitError(f"momentum={momentum} is not between 0 and 1.")
        self.momentum = float(momentum)
        self.update_rule = update
        features = torch.as_tensor(features).detach()
        features = features if features.dtype == torch.float64 else features.float()
        labels = _checked(
            features, torch.as_tensor(labels, device=features.device), lowest=-1
        )
        kept = labels >= 0
        if not kept.any():
            raise KitError(
                "there is no cluster to remember: every label is -1; raise eps or "
                "lower min_samples."
            )
        counts = torch.bincount(labels[kept])
        if (counts == 0).any():
            empty = int((counts == 0).nonzero()[0, 0])
            raise KitError(
                f"cluster {empty} has no image: labels must run from 0 to K-1 without a gap."
            )
        sums = features.new_zeros(len(counts), features.shape[1]).index_add_(
            0, labels[kept], features[kept]
        )
        # the norm takes care of the division by the count
        self.centroids = F.normalize(sums, dim=1)
        self.features = self.centroids.clone()
        self.classes = labels
        self.outliers = labels.new_zeros(0)

    @property
    def n_clusters(self) -> int:
        return len(self.features)

    def logits(self, z: Tensor, temperature: float) -> Tensor:
        """z (B, d) -> (B, K): M z / tau. The gradient flows to z, never to M."""
        return self._scaled(z, self.features, temperature)

    def _scaled(self, z: Tensor, rows: Tensor, temperature: float) -> Tensor:
        if not temperature > 0:
            raise KitError(f"temperature={temperature} must be above 0.")
        if z.ndim != 2 or z.shape[1] != rows.shape[1]:
            raise KitError(
                f"features of shape {tuple(z.shape)} do not fit a memory of (K, d) = "
                f"{tuple(rows.shape)}."
            )
        # 1/tau magnifies bf16's rounding twentyfold
        with torch.autocast(z.device.type, enabled=False):
            return z.to(rows.dtype) @ rows.T / temperature

    def remember(self, z: Tensor, images: Tensor) -> None:
        """`update` for images of the training set: z (B, d), images (B,) indices 0..N-1;
        outliers leave the memory as it is.
        """
        labels = self.classes[images]
        known = labels >= 0
        if known.all():
            self.update(z, labels)
        elif known.any():
            self.update(z[known], labels[known])

    @torch.no_grad()
    def update(self, z: Tensor, labels: Tensor) -> None:
        """M_k <- normalise(m M_k + (1 - m) z) for a batch: z (B, d) rows of norm 1,
        labels (B,) in 0..K-1.

        M is written in place (a copy would cost more than the rest): call it after
        `backward()`. A backward pass that comes later would need the M of its forward
        pass; autograd refuses it with a RuntimeError, never a wrong gradient.
        """
        memory = self.features
        z = torch.as_tensor(z, device=memory.device).detach().to(memory.dtype)
        labels = _checked(
            z, torch.as_tensor(labels, device=z.device), lowest=0, highest=self.n_clusters - 1
        )
        if self.update_rule == "instance":
            by_device = _move_in_turn if memory.device.type == "cpu" else _move_in_rounds
            return by_device(memory, z, labels, self.momentum)
        clusters, member_of, counts = torch.unique(
            labels, return_inverse=True, return_counts=True
        )
        if self.update_rule == "mean":
            target = (
                z.new_zeros(len(clusters), z.shape[1]).index_add_(0, member_of, z)
                / counts[:, None]
            )
        else:
            # by similarity, then, keeping that, by cluster
            order = torch.argsort((memory[labels] * z).sum(1), stable=True)
            order = order[torch.argsort(labels[order], stable=True)]
            target = z[order[counts.cumsum(0) - counts]]
        _move(memory, clusters, target, self.momentum)


def _move(memory: Tensor, clusters: Tensor, z: Tensor, momentum: float) -> None:
    memory[clusters] = F.normalize(momentum * memory[clusters] + (1.0 - momentum) * z, dim=1)


def _move_in_rounds(memory: Tensor, z: Tensor, labels: Tensor, momentum: float) -> None:
    """The sequential rule on any device: clusters are independent, so round r moves
    each by its r-th member.
    """
    order = torch.argsort(labels, stable=True)
    clusters, counts = torch.unique(labels, return_counts=True)
    starts = counts.cumsum(0) - counts
    for r in range(int(counts.max())):
        more = counts > r
        _move(memory, clusters[more], z[order[starts[more] + r]], momentum)


def _move_in_turn(memory: Tensor, z: Tensor, labels: Tensor, momentum: float) -> None:
    """The sequential rule on the CPU: a compiled loop, one row of the batch after the
    other.
    """
    from dkdmpl_kit.memory.kernels import move_in_turn

    rows = memory.numpy()
    numbers = np.array([momentum, 1.0 - momentum, 0.0, 1e-12], dtype=rows.dtype)
    move_in_turn(rows, z.contiguous().numpy(), labels.contiguous().numpy(), numbers)
    # autograd does not see writes from outside torch
    torch.autograd.graph.increment_version(memory)


def _checked(
    features: Tensor, labels: Tensor, *, lowest: int, highest: int | None = None
) -> Tensor:
    """Labels as int64 after the checks that both the constructor and the update need."""
    if features.ndim != 2 or labels.shape != features.shape[:1] or not len(labels):
        raise KitError(
            f"features (N, d) and labels (N,) must fit, got {tuple(features.shape)}, "
            f"{tuple(labels.shape)}."
        )
    if (
        labels.is_floating_point()
        or labels.min() < lowest
        or (highest is not None and labels.max() > highest)
    ):
        raise KitError(
            f"labels must be integers from {lowest} to "
            f"{'K-1' if highest is None else highest}, got "
            f"{labels.dtype} from {labels.min().item()} to {labels.max().item()}."
        )
    if not ((torch.linalg.vector_norm(features, dim=1) - 1.0).abs() <= _NORM_TOLERANCE).all():
        raise KitError("features must be finite rows of norm 1; normalise them first.")
    return labels.long()
