"""Features of pictures, in the precision that a run has settled on, split between
processes where there are several.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_array

from dkdmpl_kit.clustering import (
    PseudoLabels,
    auto_labels,
    camera_neighbourhoods,
    centre_by_camera,
    jaccard_of,
    jaccard_votes,
    neighbourhood_shares,
    pseudo_labels,
    reciprocal_neighbourhoods,
    strongest,
)
from dkdmpl_kit.clustering.constraints import Constraints, corrected
from dkdmpl_kit.data import ImageStore
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import Config, check_record, pick_device, read_record, write_json
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


def known_compute(run_dir: Path) -> dict | None:
    """The record of how a run computes in its environment.json, None where it is not
    settled yet.
    """
    path = run_dir / "environment.json"
    record = read_record(path, {}).get("compute")
    if record is None:
        return None
    names = ("precision", "memory_format", "extraction_precision")
    return check_record(record, dict.fromkeys(names, str), f"{path} (its 'compute')")


def resolve_run(config: Config, run_dir: Path) -> Config:
    """`resolve_auto` for a run: by environment.json where it was written down, which it is
    before anything else happens.
    """
    settled, record = resolve_auto(config, known_compute(run_dir))
    found = read_record(run_dir / "environment.json", {})
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


def extract(
    config: Config, encoder: Encoder, store: ImageStore, *, progress: bool = False
) -> np.ndarray:
    """Features (N, d) of the pictures in a store, eval mode, on the configured device
    and precision, in every process.

    Of several processes, which must all call it, each extracts its share; fewer
    pictures than processes are not split.
    """
    device = pick_device(config.device)
    precision = resolve_auto(config)[0].extraction_precision
    if processes.world_size() == 1 or len(store) < processes.world_size():
        return extract_features(
            encoder, store, device=device, precision=precision, progress=progress
        )
    part = processes.share(len(store))
    own = extract_features(encoder, _Stretch(store, part), device=device, precision=precision)
    return processes.gather(torch.from_numpy(own).to(device), len(store), part).cpu().numpy()


def cluster_epoch(
    config: Config,
    features: np.ndarray,
    camids: np.ndarray,
    constraints: Constraints | None = None,
    *,
    progress: bool = False,
) -> PseudoLabels:
    """Pseudo labels of features (N, d): k-NN graph, k-reciprocal Jaccard distance,
    DBSCAN, and what is known of the pictures (`corrections.constraints_of`); with their
    soft labels where the method's teacher is made of them.

    KitError: settings with corrections, and no constraints.
    """
    if config.corrections and constraints is None:
        raise KitError(
            f"corrections={config.corrections!r} must be read before clustering: give their "
            "constraints (training.constraints_of), or leave corrections out."
        )
    neighbourhoods = neighbourhoods_of(config, features, camids, progress=progress)
    distances = jaccard_of(neighbourhoods, config.max_distance)
    if config.eps == "auto":
        pseudo = auto_labels(distances, min_samples=config.min_samples)
    else:
        pseudo = pseudo_labels(
            distances,
            method=config.cluster_method,
            eps=config.eps,
            min_samples=config.min_samples,
        )
    if constraints is not None:
        pseudo = corrected(pseudo, constraints, centred(config, features, camids))
    if not config.teaches_sparsely or pseudo.n_clusters == 0:
        return pseudo
    soft = soft_labels(config, distances, neighbourhoods, pseudo.labels, camids)
    return dataclasses.replace(pseudo, soft=soft)


def centred(config: Config, features: np.ndarray, camids: np.ndarray) -> np.ndarray:
    """Features (N, d) as they are clustered: without their camera's mean where that is set
    (an option of ours for strong camera shift, not in the paper).
    """
    return centre_by_camera(features, camids) if config.centre_cameras else features


def neighbourhoods_of(
    config: Config, features: np.ndarray, camids: np.ndarray, *, progress: bool = False
) -> csr_array:
    """V (N, N) of features (N, d) by the configured distance: `jaccard_of` makes the
    distances of it. KitError where it needs cameras (N,) that are not known.
    """
    features = centred(config, features, camids)
    if config.distance == "camera_jaccard":
        return camera_neighbourhoods(
            features,
            camids,
            k1_intra=config.k1_intra,
            k1_inter=config.k1_inter,
            k2_intra=config.k2_intra,
            k2_inter=config.k2_inter,
        )
    k1 = min(config.k1, len(features))
    graph = knn_graph(features, k1, exact=config.knn == "exact", progress=progress)
    return reciprocal_neighbourhoods(graph, k1=config.k1, k2=config.k2)


def soft_labels(
    config: Config,
    distances: csr_array,
    neighbourhoods: csr_array,
    labels: np.ndarray,
    camids: np.ndarray,
) -> csr_array:
    """The epoch view e of all pictures (N, K), sparse, by `gkd_teacher`: of Jaccard
    distances, or of the neighbourhoods V.
    """
    voters = camids if config.teacher_cameras == "other" else None
    if config.gkd_teacher == "vote":
        soft = jaccard_votes(distances, labels, voters)
    else:
        soft = neighbourhood_shares(neighbourhoods, labels, voters)
    return strongest(soft, config.teacher_clusters) if config.teacher_clusters else soft


class _Stretch:
    """A part of a store, as a store."""

    def __init__(self, store: ImageStore, part: slice) -> None:
        self.store = store
        self.part = part
        self.shape = (len(self), *store.shape[1:])

    def __len__(self) -> int:
        return self.part.stop - self.part.start

    def batch(self, indices: np.ndarray) -> torch.Tensor:
        """(B,) indices within the part -> (B, 3, H, W) torch.uint8."""
        return self.store.batch(np.asarray(indices) + self.part.start)
