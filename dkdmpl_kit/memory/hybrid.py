"""A memory of clusters and outliers side by side, as SpCL keeps one."""

from __future__ import annotations

import torch
from torch import Tensor

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.memory.cluster import ClusterMemory


class HybridMemory(ClusterMemory):
    """Clusters and outliers side by side (SpCL: Ge, Zhu, Chen, Zhao, Li, NeurIPS 2020).

    `.features` (N, d) holds every image, and `update(z, indices)` moves each by itself:
    v_i <- normalise(m v_i + (1-m) z). `.classes` (N,): the K clusters, then every
    outlier (-1 in labels) as a class of its own; train on
    `cluster_contrast_loss(memory.logits(z, tau), memory.classes[indices])`. With no
    outlier it is a memory of clusters, with nothing but outliers instance
    discrimination. Theirs lives through all epochs and keeps reliable clusters only:
    this one starts anew from each epoch's features and trusts them all. KitError as in
    `ClusterMemory`.
    """

    def __init__(self, features: Tensor, labels: Tensor, *, momentum: float = 0.2) -> None:
        features = torch.as_tensor(features)
        super().__init__(features, torch.arange(len(features)), momentum=momentum)
        labels = torch.as_tensor(labels, device=self.features.device)
        if (
            labels.shape != self.features.shape[:1]
            or labels.is_floating_point()
            or labels.min() < -1
        ):
            raise KitError(
                f"labels must be integers of -1 or above ({len(features)},), "
                f"got {labels.dtype} {tuple(labels.shape)}."
            )
        outlier = labels < 0
        n_clusters = int(labels.max()) + 1
        self.classes = torch.where(outlier, n_clusters - 1 + outlier.cumsum(0), labels.long())
        self.outliers = outlier.nonzero()[:, 0]
        self.counts = torch.bincount(self.classes)
        if (self.counts == 0).any():
            empty = int((self.counts == 0).nonzero()[0, 0])
            raise KitError(
                f"cluster {empty} has no image: labels must run from 0 to K-1 without a gap."
            )

    def logits(self, z: Tensor, temperature: float) -> Tensor:
        """z (B, d) -> (B, K + outliers): <z, c_k> / tau and <z, v_k> / tau; c_k is the
        plain mean of a cluster's images.
        """
        sums = self.features.new_zeros(len(self.counts), self.features.shape[1])
        means = sums.index_add_(0, self.classes, self.features) / self.counts[:, None]
        return self._scaled(z, means, temperature)

    def remember(self, z: Tensor, images: Tensor) -> None:
        """Move the features of the batch's images: z (B, d), images (B,) indices 0..N-1."""
        self.update(z, images)
