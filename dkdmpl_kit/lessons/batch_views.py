"""The query and the anchor view of many pictures, as a training epoch has them."""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dkdmpl_kit.experiment import pick_device
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.lessons.views import lesson_batches, student_views
from dkdmpl_kit.losses import positive_anchors
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.models import Encoder
from dkdmpl_kit.training.seeds import generator_for


class BatchViews(NamedTuple):
    """q and a, (M, K) probabilities in float64, of the M pictures `images` (sorted)."""

    images: np.ndarray
    q: Tensor
    a: Tensor


def batch_views(
    stage: Stage,
    encoder: Encoder,
    features: np.ndarray,
    labels: np.ndarray,
    *,
    looks: int = 3,
) -> BatchViews:
    """The query and the anchor view of clustered pictures, in batches as training draws them:
    P clusters of K pictures, augmented, through the encoder in train mode, whose batch norm
    sees the batch; the anchor is the least similar mate in the batch.

    features: (N, d), rows of norm 1, and labels: (N,), -1 for outliers, of the epoch that
    begins: M = C. About `looks` pictures are drawn for each clustered one, and the first look
    at a picture counts; pictures that no batch drew are left out. The encoder given stays as
    it is.
    """
    config = stage.config
    device = pick_device(config.device)
    memory = ClusterMemory(torch.from_numpy(features), torch.from_numpy(labels))
    encoder = copy.deepcopy(encoder).to(device).train()
    draws = generator_for(config.seed, 0, "views: augmentation")
    size = config.batch_clusters * config.batch_images
    count = -(-looks * int((labels >= 0).sum()) // size)
    order = generator_for(config.seed, 0, "views: sampler")
    drawn, queries, anchors = [], [], []
    for batch in lesson_batches(stage, labels, order, count):
        with torch.no_grad():
            z = encoder(student_views(stage, batch, draws).to(device)).float().cpu()
        mates = positive_anchors(z, torch.from_numpy(labels[batch]))
        probabilities = memory.logits(z, config.temperature).double().softmax(1)
        drawn.append(batch)
        queries.append(probabilities)
        anchors.append(probabilities[mates])
    images, first = np.unique(np.concatenate(drawn), return_index=True)
    return BatchViews(images, torch.cat(queries)[first], torch.cat(anchors)[first])
