"""Batches: which pictures, how they look, and their features with the gradient."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dkdmpl_kit.clustering import PseudoLabels
from dkdmpl_kit.data import augment, pk_batches
from dkdmpl_kit.experiment import Config
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.models import Encoder, autocast
from dkdmpl_kit.training import processes
from dkdmpl_kit.training.run import Run
from dkdmpl_kit.training.seeds import generator_for


def draw_batches(
    run: Run, memory: ClusterMemory, pseudo: PseudoLabels, epoch: int, draws: torch.Generator
) -> Iterator[np.ndarray]:
    """The epoch's batches of image indices (B,): PK batches, and outliers that the memory
    keeps as classes of their own, or that the clustering's soft labels teach.
    """
    config = run.config
    batches = pk_batches(
        pseudo.labels,
        run.images.camids,
        clusters_per_batch=config.batch_clusters,
        images_per_cluster=config.batch_images,
        iterations=config.iterations,
        sampler=config.sampler,
        generator=generator_for(config.seed, epoch, "sampler"),
    )
    outliers = memory.outliers.cpu().numpy()
    if config.outliers == "teach" and pseudo.soft is not None:
        voted_on = np.diff(pseudo.soft.indptr) > 0
        outliers = np.flatnonzero((pseudo.labels < 0) & voted_on)
    return with_outliers(batches, outliers, len(pseudo.labels), config.batch_images, draws)


def with_outliers(
    batches: Iterable[np.ndarray],
    outliers: np.ndarray,
    count: int,
    group: int,
    generator: torch.Generator,
) -> Iterator[np.ndarray]:
    """Outliers take the places of whole clusters of `group` images (SpCL's sampler).

    outliers: image indices; their share of a batch is their share of all `count` images,
    at most half. Without outliers the batches stay as they are.
    """
    for batch in batches:
        share = min(0.5, len(outliers) / count)
        places = min(len(outliers), int(len(batch) * share) // group * group)
        drawn = torch.randperm(len(outliers), generator=generator)[:places].numpy()
        yield np.concatenate([batch[: len(batch) - places], outliers[drawn]])


def augmented(run: Run, batch: np.ndarray, draws: torch.Generator) -> Tensor:
    """(B, 3, H, W) float in [0, 1] on the run's device: one augmented look at a batch.

    Of several processes each gets its share, looking as it does in the whole batch.
    """
    config = run.config
    part = share_of(config, len(batch))
    # bytes are a quarter of the transfer; the device then augments them
    pictures = run.store.batch(batch[part]).to(config.device)
    return augment(
        pictures,
        draws,
        flip=config.flip,
        padding=config.padding,
        erasing=config.erasing,
        among=(part.start, len(batch)),
    )


def features_of(config: Config, encoder: Encoder, pictures: Tensor, count: int) -> Tensor:
    """This process' augmented pictures -> z (count, d) of the whole batch, with gradient.

    With `accumulation` > 1 the pictures pass in so many parts, of whole groups of
    `samples_per_bn`, each without a graph and once more when its gradient is due (as in
    GradCache: Gao et al. 2021): the memory of one part, the loss of the whole batch.
    Parts with a loss of their own would save the second pass, but objectives that
    compare clusters (MMT's triplets, ICE's negatives) would be others then.
    """
    unit = config.samples_per_bn or 1
    with autocast(config.precision, pictures.device):
        if config.accumulation == 1:
            z = encoder(pictures).float()
        else:
            # the second pass meets batch norm's groups again, all of them, which leaves
            # their mean as it is
            cuts = processes.cut(len(pictures), config.accumulation, unit)
            parts = [pictures[cut] for cut in cuts if cut.start < cut.stop]
            passes = [checkpoint(encoder, part, use_reentrant=False) for part in parts]
            z = torch.cat([features.float() for features in passes])
    return processes.gather(z, count, share_of(config, count))


@torch.no_grad()
def ema_features(config: Config, ema: Encoder, pictures: Tensor, count: int) -> Tensor:
    """Features (count, d) of the whole batch by the EMA encoder, without gradient."""
    with autocast(config.precision, pictures.device):
        features = ema(pictures).float()
    return processes.gather(features, count, share_of(config, count))


def share_of(config: Config, count: int) -> slice:
    """The part of a batch that this process looks at: whole groups of `samples_per_bn`."""
    return processes.share(count, config.samples_per_bn or 1)
