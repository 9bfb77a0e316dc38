"""What the lessons on the losses (03, 04) need around the one picture that they follow: the
clustering's soft labels, a batch that holds the picture, and the batch as the student sees
it.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_array

from dkdmpl_kit.clustering import jaccard_of
from dkdmpl_kit.data import augment, pk_batches
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.training.extraction import neighbourhoods_of, soft_labels

_DRAWS = 5000  # batches to look through: a picture of a large cluster is drawn seldom


def soft_labels_of(
    stage: Stage, features: np.ndarray, labels: np.ndarray, teacher: str = "vote"
) -> csr_array:
    """Soft labels (N, K), sparse, of features (N, d) and hard labels (N,), whoever made
    these: what `stage.cluster(features, gkd_teacher=teacher).soft` is for the clustering's
    own ones. teacher: "vote" or "neighbourhood".
    """
    config = stage.config.replace(gkd_teacher=teacher)
    neighbourhoods = neighbourhoods_of(config, features, stage.camids)
    distances = jaccard_of(neighbourhoods, config.max_distance)
    return soft_labels(config, distances, neighbourhoods, labels, stage.camids)


def batch_with(
    picture: int, stage: Stage, labels: np.ndarray, generator: torch.Generator
) -> np.ndarray:
    """(B,) indices of a batch as training draws it from hard labels (N,): the first one that
    holds `picture`. KitError where there is none.
    """
    config = stage.config
    batches = pk_batches(
        labels,
        stage.camids,
        clusters_per_batch=config.batch_clusters,
        images_per_cluster=config.batch_images,
        iterations=_DRAWS,
        sampler=config.sampler if stage.has_cameras else "random",
        generator=generator,
    )
    for batch in batches:
        if picture in batch:
            return batch
    raise KitError(f"Picture {picture} is in none of {_DRAWS} batches: is it an outlier?")


def student_views(
    stage: Stage, pictures: np.ndarray, generator: torch.Generator
) -> torch.Tensor:
    """Training pictures (B,) by index as the student sees them: augmented as in training,
    float (B, 3, H, W).
    """
    config = stage.config
    return augment(
        stage.pictures("train").batch(pictures),
        generator,
        flip=config.flip,
        padding=config.padding,
        erasing=config.erasing,
    )
