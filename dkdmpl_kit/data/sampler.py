"""The P x K sampler: batches of P clusters, each with K of its images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from dkdmpl_kit.errors import KitError, check_option


def pk_batches(
    labels,
    camids,
    *,
    clusters_per_batch: int,
    images_per_cluster: int,
    iterations: int,
    sampler: str = "camera",
    generator: torch.Generator,
) -> Iterator[np.ndarray]:
    """Yield `iterations` batches of P clusters x K images, as int64 indices (P K,).

    A cluster's images stand side by side. labels: (N,) clusters, -1 for outliers, which
    are never drawn. camids: (N,), read by sampler="camera" alone: for a random anchor
    image it takes the others from the cluster's other cameras, where it has any (as
    Cluster Contrast, Dai et al. 2021, does); "random" takes any. An image comes twice
    only when all that may be taken are in. All clusters pass in random order before one
    returns; P shrinks to their number. One number is drawn from `generator`, at the
    call. Raises `KitError` below two clusters, and for "camera" with an unknown (-1)
    camera.
    """
    check_option("sampler", sampler, ("camera", "random"))
    if min(clusters_per_batch, images_per_cluster, iterations) < 1:
        raise KitError(
            "clusters_per_batch, images_per_cluster and iterations must be at least 1."
        )
    labels = np.asarray(labels)
    camids = np.asarray(camids)
    if labels.ndim != 1 or labels.shape != camids.shape:
        raise KitError(
            f"labels and camids must be two (N,) arrays, not {labels.shape} and "
            f"{camids.shape}."
        )
    clusters = [np.flatnonzero(labels == label) for label in np.unique(labels[labels >= 0])]
    if len(clusters) < 2:
        raise KitError(
            f"the clustering found {len(clusters)} clusters among {len(labels)} images "
            f"({int((labels < 0).sum())} outliers) and training needs two: if most are "
            "outliers raise eps or lower min_samples, if all fell into one cluster lower "
            "eps or k1."
        )
    if sampler == "camera" and (camids[labels >= 0] < 0).any():
        raise KitError(
            'sampler="camera" needs every camera, and some are unknown: use sampler="random".'
        )
    seed = torch.randint(2**62, (1,), generator=generator, device=generator.device)
    return _draw_batches(
        clusters,
        camids if sampler == "camera" else None,
        min(clusters_per_batch, len(clusters)),
        images_per_cluster,
        iterations,
        np.random.default_rng(int(seed)),
    )


def _draw_batches(
    clusters: list[np.ndarray],
    camids: np.ndarray | None,
    p: int,
    k: int,
    iterations: int,
    rng: np.random.Generator,
) -> Iterator[np.ndarray]:
    waiting: list[int] = []
    for _ in range(iterations):
        batch = waiting[:p]
        waiting = waiting[p:]
        # the next round of all clusters; those of this batch stay in line
        if len(batch) < p:
            order = rng.permutation(len(clusters)).tolist()
            fresh = [cluster for cluster in order if cluster not in batch][: p - len(batch)]
            waiting = [cluster for cluster in order if cluster not in fresh]
            batch = batch + fresh
        images = [_draw_images(clusters[cluster], camids, k, rng) for cluster in batch]
        yield np.concatenate(images)


def _draw_images(
    members: np.ndarray, camids: np.ndarray | None, k: int, rng: np.random.Generator
) -> np.ndarray:
    """K of a cluster's images, the anchor first.

    Those that may be taken come once each before any comes again.
    """
    shuffled = rng.permutation(members)
    anchor = shuffled[:1]
    others = shuffled[1:]
    again = shuffled  # may come a second time
    if camids is not None and len(others):
        elsewhere = others[camids[others] != camids[anchor]]
        if len(elsewhere):
            others = elsewhere
        again = others
    more = rng.choice(again, max(0, k - 1 - len(others)))
    return np.concatenate([anchor, others[: k - 1], more]).astype(np.int64)
