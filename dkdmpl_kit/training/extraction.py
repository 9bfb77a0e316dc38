"""Features of pictures, in the precision that a run has settled on, split between
processes where there are several.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dkdmpl_kit.clustering import (
    PseudoLabels,
    centre_by_camera,
    jaccard_distances,
    pseudo_labels,
)
from dkdmpl_kit.data import ImageStore
from dkdmpl_kit.experiment import Config, pick_device, read_json, write_json
from dkdmpl_kit.models import Encoder, extract_features
from dkdmpl_kit.neighbors import knn_graph
from dkdmpl_kit.training import processes
from dkdmpl_kit.training.precision import choose_precision


def resolve_auto(config: Config, known: dict | None = None) -> tuple[Config, dict]:
    """`config` with every "auto" of precision and memory format decided, and the record
    of how (`choose_precision`'s).

    known: that record from an earlier part of the run, which then decides, so that a
    resumed run repeats the first part's arithmetic. Without one, what is "auto" is
    measured.
    """
    precision = config.extraction_precision
    record = known or choose_precision(
        (config.batch_clusters * config.batch_images, 3, config.height, config.width),
        device=pick_device(config.device),
        precision=config.precision,
        memory_format=config.memory_format,
        backbone=config.backbone,
        pooling=config.pooling,
        last_stride=config.last_stride,
        freeze_stages=config.freeze_stages,
        extraction_precision=config.precision if precision == "same" else precision,
    )
    return config.replace(
        **{
            name: record[name]
            for name in ("precision", "memory_format", "extraction_precision")
        }
    ), record


def resolve_run(config: Config, run_dir: Path) -> Config:
    """`resolve_auto` for a run: by environment.json where it was written down, which it is
    before anything else happens.
    """
    found = read_json(run_dir / "environment.json")
    settled, record = resolve_auto(config, found.get("compute"))
    if "compute" not in found:
        # each epoch's record has its own count
        began = {
            "count": processes.world_size(),
            "backend": processes.backend(),
        }
        write_json(
            run_dir / "environment.json", found | {"compute": record, "processes": began}
        )
    return settled


def open_store(config: Config, paths, **options) -> ImageStore:
    """The pictures at `paths` in the configured size; without a progress bar unless
    `options` ask for one.
    """
    return ImageStore(paths, config.height, config.width, **({"progress": False} | options))


def extract(config: Config, encoder: Encoder, store: ImageStore) -> np.ndarray:
    """Features (N, d) of the pictures in a store, eval mode, on the configured device
    and precision, in every process.

    Of several processes, which must all call it, each extracts its share; fewer
    pictures than processes are not split.
    """
    device = pick_device(config.device)
    precision = resolve_auto(config)[0].extraction_precision
    if processes.world_size() == 1 or len(store) < processes.world_size():
        return extract_features(encoder, store, device=device, precision=precision)
    part = processes.share(len(store))
    own = extract_features(encoder, _Stretch(store, part), device=device, precision=precision)
    return processes.gather(torch.from_numpy(own).to(device), len(store), part).cpu().numpy()


def cluster_epoch(config: Config, features: np.ndarray, camids: np.ndarray) -> PseudoLabels:
    """Pseudo labels of features (N, d): k-NN graph, k-reciprocal Jaccard distance,
    DBSCAN.
    """
    # an option of ours for strong camera shift, not in the paper
    if config.centre_cameras:
        features = centre_by_camera(features, camids)
    graph = knn_graph(features, min(config.k1, len(features)), exact=config.knn == "exact")
    distances = jaccard_distances(
        graph, k1=config.k1, k2=config.k2, max_distance=config.max_distance
    )
    return pseudo_labels(
        distances,
        method=config.cluster_method,
        eps=config.eps,
        min_samples=config.min_samples,
    )


class _Stretch:
    """A part of a store, as a store."""

    def __init__(self, store: ImageStore, part: slice) -> None:
        self.store = store
        self.part = part

    def __len__(self) -> int:
        return self.part.stop - self.part.start

    def batch(self, indices: np.ndarray) -> torch.Tensor:
        """(B,) indices within the part -> (B, 3, H, W) torch.uint8."""
        return self.store.batch(np.asarray(indices) + self.part.start)
