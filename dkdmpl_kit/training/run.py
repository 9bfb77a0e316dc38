"""One training run: what stays the same from its first batch to its last."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from dkdmpl_kit.clustering import PseudoLabels, require_cameras
from dkdmpl_kit.clustering.constraints import Constraints
from dkdmpl_kit.data import ImageStore, ReIDDataset, TrainingImages
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import Config, one_writer, open_run, pick_device, write_json
from dkdmpl_kit.models import BUNDLED_BACKBONE
from dkdmpl_kit.training import processes
from dkdmpl_kit.training.control import RunControl
from dkdmpl_kit.training.corrections import corrections_of_run, keep_copy, names_below
from dkdmpl_kit.training.extraction import open_store, resolve_run
from dkdmpl_kit.training.optimisation import encoder_by
from dkdmpl_kit.training.seeds import seed_everything


@dataclass(frozen=True)
class Run:
    """config: with every "auto" decided. folder: where all that the run leaves lies.
    images: paths and cameras, never identities. store: the decoded pictures.
    reference: labels from outside in place of the clustering, or None. constraints: what
    is known of the pictures (corrections, tracks), or None.
    """

    config: Config
    folder: Path | None
    images: TrainingImages
    store: ImageStore
    reference: PseudoLabels | None = None
    constraints: Constraints | None = None
    fingerprint: str = ""
    progress: bool = False

    def epochs(self, first: int) -> tqdm:
        """The epochs that are left, from `first` on, with a progress bar."""
        return tqdm(
            range(first, self.config.epochs),
            desc=self.config.name,
            unit="epoch",
            disable=not self.progress,
            initial=first,
            total=self.config.epochs,
        )


@contextlib.contextmanager
def open_training(
    config: Config,
    dataset: ReIDDataset,
    *,
    reference_labels: Sequence[int] | np.ndarray | None = None,
    resume: bool = False,
    wait: bool = False,
    progress: bool = True,
    control: RunControl | None = None,
) -> Iterator[Run]:
    """Check, seed, and open the folder and the pictures of a run (arguments as `fit`'s);
    the folder is this process' alone until the `with` ends.

    Nothing is written before the settings and the pictures are known to fit. KitError
    for what cannot be trained, and for a folder that holds another run.
    """
    images = dataset.unlabelled()
    device = processes.start(pick_device(config.device))
    reference = _reference(config, reference_labels, len(images.paths))
    refuse_unfit(config, images, control)
    refuse_unbuildable(config)
    constraints, said = processes.once(
        corrections_of_run, config, dataset.root, images, resume=resume
    )
    fingerprint = processes.once(dataset.fingerprint)
    with contextlib.ExitStack() as held:
        # of several processes the first one holds the folder for all
        processes.once(held.enter_context, one_writer(config.run_dir, wait=wait))
        about = said.fingerprint() if said else ""
        folder = processes.once(
            open_run, config, fingerprint, resume=resume, corrections=about
        )
        names = names_below(images.paths, dataset.root) if said else ()
        processes.once(keep_copy, folder, said, config, names)
        description = {
            "name": dataset.name,
            "statistics": dataset.statistics(),
            "fingerprint": fingerprint,
        }
        processes.once(write_json, folder / "data.json", description)
        config = processes.once(resolve_run, config, folder).replace(device=device)
        seed_everything(config.seed)
        shown = progress and processes.rank() == 0
        store = processes.main_first(
            open_store, config, images.paths, progress=shown, cache_dir=folder / "cache"
        )
        yield Run(config, folder, images, store, reference, constraints, fingerprint, shown)


def refuse_unfit(
    config: Config, images: TrainingImages, control: RunControl | None = None
) -> None:
    """KitError for what cannot be trained, before a folder is made."""
    unknown = int((images.camids < 0).sum())
    if config.sampler == "camera" and unknown:
        raise KitError(
            f"sampler=camera needs every camera, and {unknown} are unknown: use sampler=random "
            "(--sampler random), or name the cameras (a pattern's group camid, a table's column)."
        )
    if config.teaches_sparsely and config.teacher_cameras == "other" and unknown:
        raise KitError(
            f"teacher_cameras=other needs every camera, and {unknown} are unknown: use "
            "teacher_cameras=all, or name the cameras (a pattern's group camid, a table's column)."
        )
    if config.loss_weights(config.epochs)[1] and config.skd_anchor == "camera" and unknown:
        raise KitError(
            f"skd_anchor=camera needs every camera, and {unknown} are unknown: use "
            "skd_anchor=hardest, or name the cameras (a pattern's group camid, a table's column)."
        )
    if config.distance == "camera_jaccard" and config.method != "supervised":
        require_cameras(images.camids, len(images.paths))
    if config.corrections and config.method == "supervised":
        raise KitError(
            "corrections are of pseudo labels, and method=supervised trains on true "
            "identities: leave corrections out."
        )
    if config.accumulation > 1 and not config.samples_per_bn:
        raise KitError(
            f"accumulation={config.accumulation} with samples_per_bn=0 would normalise each "
            "part of a batch by itself: set samples_per_bn, such as "
            f"samples_per_bn={config.batch_images} (batch_images)."
        )
    if control is not None and processes.world_size() > 1:
        raise KitError(
            "A RunControl pauses and stops a single process: train with several processes "
            "without control=."
        )


def refuse_unbuildable(config: Config) -> None:
    """KitError for an encoder that cannot be built, before a folder is made.

    It costs one reading of the weights, but not for the bundled ones, which always fit.
    """
    bundled = (config.backbone, config.weights) == (BUNDLED_BACKBONE, "bundled")
    mapped = config.pooling in ("gem", "avg")
    if not (bundled and mapped and config.freeze_stages <= 7):  # it has 7 stages
        encoder_by(config)


def _reference(config: Config, labels, count: int) -> PseudoLabels | None:
    """Reference labels as the clustering's; only method=supervised takes them, and needs them."""
    if labels is None:
        if config.method == "supervised":
            raise KitError(
                "method=supervised needs reference_labels, which come from outside of the "
                "training: fit(..., reference_labels=identity_labels(dataset))."
            )
        return None
    if config.method != "supervised":
        raise KitError(
            f"reference_labels belong to method=supervised; method={config.method} trains on "
            "pseudo labels: leave them out."
        )
    labels = np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise KitError(
            f"reference_labels must be {count} integers of 0 or above, one a training picture, "
            f"got {labels.dtype} of shape {labels.shape}."
        )
    found, labels = np.unique(labels, return_inverse=True)
    return PseudoLabels(labels.astype(np.int64), n_clusters=len(found), outlier_fraction=0.0)
