"""Crops in, a better encoder out, or the start where training made nothing better."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dkdmpl_kit.clustering import PseudoLabels
from dkdmpl_kit.data import ImageStore, ReIDDataset, TrainingImages
from dkdmpl_kit.data.survey import Survey, survey
from dkdmpl_kit.experiment import (
    CHECKPOINT,
    Config,
    environment,
    one_writer,
    open_run,
    pick_device,
    read_record,
    write_atomic,
    write_json,
)
from dkdmpl_kit.models import Encoder
from dkdmpl_kit.noise.evidence import Evidence, evidence
from dkdmpl_kit.training.checkpoint import load_history, save_checkpoint
from dkdmpl_kit.training.control import RunStopped
from dkdmpl_kit.training.corrections import constraints_of
from dkdmpl_kit.training.extraction import cluster_epoch, extract, resolve_run
from dkdmpl_kit.training.guard import Verdict, held_out, hopeless, judged, verdict
from dkdmpl_kit.training.loop import fit
from dkdmpl_kit.training.optimisation import new_state
from dkdmpl_kit.training.outcome import cluster_counts
from dkdmpl_kit.training.seeds import seed_everything
from dkdmpl_kit.training.truth import UNMEASURED

TRAINING, ADAPTED = "training", "adapted"  # the two run folders below out_dir/runs
RECORD = "adapt.json"
PREFIX = "encoder."  # of the encoder's tensors in a checkpoint
FEW = 3000  # pictures below which the neighbourhoods of the paper reach too far
TALL, WIDE = 1.4, 0.7  # height / width of crops that stand, and of crops that lie
POOLINGS = {"osnet": "embedding", "vit": "token"}  # of weights that a file brings
SIDES = {"tf_efficientnet_lite0": 96}  # the bundled encoder works on small pictures
SIDE = 176  # of others: the root of the area 256 x 128 of the field
NOTHING = Verdict(0, "Kept the start: nothing was trained, as there are too few clusters.", ())
APART = 0.7  # mixing of the start, below which cameras get lists of their own
CLUSTERED = 0.1  # share of the pictures that clusters of four should hold at least


@dataclass(frozen=True)
class Choice:
    """A setting that `adapt` chose, and why."""

    name: str
    value: object
    why: str


@dataclass(frozen=True)
class Adaptation:
    """What `adapt` returns.

    run_dir: a run's folder with the encoder that was kept. verdict: which and why.
    choices: settings and reasons. features (N, d), pseudo: of the encoder that was kept,
    over the training pictures.
    """

    config: Config
    run_dir: Path
    verdict: Verdict
    choices: tuple[Choice, ...]
    encoder: Encoder
    features: np.ndarray
    pseudo: PseudoLabels


def chosen_settings(
    found: Survey, config: Config, given: Collection[str] = ()
) -> tuple[Choice, ...]:
    """What a survey says about settings, for the encoder that `config` names; `given` ones
    stay as they are in `config`.
    """
    n = len(found)
    height, width = picture_size(found.aspect, config.backbone)
    own_height = config.height if "height" in given else height
    size = f"crops are {found.height:g} x {found.width:g} pixels in the median"
    together = found.cameras > 1 and not found.unknown_cameras
    reid = config.weights not in ("bundled", "imagenet", "random")
    batch = config.batch_clusters * config.batch_images
    choices = (
        Choice("height", height, size),
        Choice("width", width, size),
        Choice("padding", max(2, own_height // 13), "a thirteenth of the height"),
        Choice("eps", "auto", "each epoch's own, where clusters are most"),
        Choice(
            "iterations",
            int(np.clip(n // batch, 20, 100)),
            "each picture about once an epoch, and at most 100 batches",
        ),
        Choice(
            "sampler",
            "camera" if together else "random",
            "every camera is known" if together else "not every camera is known",
        ),
        Choice(
            "learning_rate",
            3.5e-4 if reid else 1e-3,
            "weights that a file brings are changed gently"
            if reid
            else "ImageNet's classes are far from identities",
        ),
        Choice(
            "freeze_stages",
            0 if reid or config.backbone != "tf_efficientnet_lite0" else 2,
            "what the first stages see is general" if not reid else "all of it may adapt",
        ),
        Choice(
            "method",
            "cluster_contrast",
            "no distillation was shown to gain on photographs (docs/results.md)",
        ),
    )
    pooling = POOLINGS.get(config.backbone.split("_")[0])
    if pooling and reid:
        why = "what the weights of this family were trained with"
        choices += (Choice("pooling", pooling, why),)
    return tuple(choice for choice in choices if choice.name not in given)


def chosen_neighbours(
    found: Survey, config: Config, given: Collection[str], mixing: float | None
) -> tuple[Choice, ...]:
    """The distance, and the lengths of its lists of neighbours, by how well cameras are
    mixed among the neighbours of the start (`Evidence.mixing`); None: unknown.
    """
    together = found.cameras > 1 and not found.unknown_cameras and mixing is not None
    distance, why = "jaccard", "not every camera is known"
    if "distance" in given:
        distance = config.distance
    elif {"k1", "k2"} & set(given):
        why = "the lists that were asked for are its own"
    elif together and mixing < APART:
        distance = "camera_jaccard"
        why = f"other cameras are {mixing:.0%} as often among the nearest as without a trace"
    elif together:
        why = f"neighbours come from all cameras ({mixing:.0%} of what no trace gives)"
    choices = [Choice("distance", distance, why)]
    if distance == "jaccard":  # the other one's lists are as published
        choices += _lists(found)
    return tuple(choice for choice in choices if choice.name not in given)


def _lists(found: Survey) -> list[Choice]:
    """The lengths of the plain distance's lists of neighbours."""
    n = len(found)
    k1, k2 = (15, 4) if n < FEW else (30, 6)
    why = f"{n:,} pictures"
    longest = round(3 * found.burst_length)
    if longest > k1:
        k1, why = min(longest, 60), "bursts fill shorter lists of neighbours"
    return [Choice("k1", k1, why), Choice("k2", k2, why)]


def picture_size(aspect: float, backbone: str) -> tuple[int, int]:
    """(height, width) for crops of this height / width: twice as high as wide, twice as
    wide as high, or square, of about the area that the encoder is used to.
    """
    side = SIDES.get(backbone, SIDE)
    short = round(side / 2**0.5 / 32) * 32
    if aspect >= TALL:
        return 2 * short, short
    return (short, 2 * short) if aspect <= WIDE else (side, side)


def adapt(
    config: Config,
    dataset: ReIDDataset,
    *,
    given: Collection[str] = (),
    resume: bool = False,
    progress: bool = True,
    tell: Callable[[str], None] = lambda line: None,
) -> Adaptation:
    """Look at the crops of `dataset.train`, choose settings, train, and keep the best state
    or the start (`guard.verdict`), without any identity.

    config: the encoder to start from, and what `given` names was asked for and stays as it
    is; the rest is chosen (`chosen_settings`). resume: go on with an adaptation that was
    interrupted, to the same end. tell: called with each sentence for the user.

    Below config.out_dir: runs/training with a copy of the encoder after each epoch,
    runs/adapted, a run's folder with the encoder that was kept, and adapt.json.
    Fewer than two clusters are no error: the start is kept. KitError: as `fit`.
    """
    blind = without_identities(dataset)
    images = blind.unlabelled()
    found = survey(images, progress=progress)
    for line in found.lines():
        tell(line)
    choices = chosen_settings(found, config, given)
    config = config.replace(
        **{choice.name: choice.value for choice in choices}, run_name=TRAINING
    )
    seed_everything(config.seed)  # random weights are those that the training starts from
    encoder = new_state(config, pick_device(config.device)).encoder
    features = _features(config, encoder, images, progress)
    mixing = None
    if not {"distance", "k1", "k2"} & set(given):
        mixing = evidence(features, images.camids, groups=found.burst).means()["mixing"]
    lists = chosen_neighbours(found, config, given, mixing)
    config = config.replace(**{choice.name: choice.value for choice in lists})
    choices += lists
    pseudo = _labels(config, blind, features)
    if pseudo.outlier_fraction > 1 - CLUSTERED and "min_samples" not in given:
        pairs = config.replace(min_samples=2)
        other = _labels(pairs, blind, features)
        if other.outlier_fraction < pseudo.outlier_fraction:
            why = f"clusters of four hold {1 - pseudo.outlier_fraction:.0%} of the pictures"
            choices += (Choice("min_samples", 2, why),)
            config, pseudo = pairs, other
    for choice in choices:
        tell(f"{choice.name} = {choice.value}: {choice.why}")
    tell(f"the start: {pseudo.n_clusters} clusters, {pseudo.outlier_fraction:.0%} outliers")
    apart = held_out(pseudo.labels, seed=config.seed)
    tell(f"{apart.sum():,} pictures are held out of the training, for the guard")
    if len(np.unique(images.camids[images.camids >= 0])) < 2:
        tell(
            "fewer than two cameras are known, so the guard cannot judge and will keep the "
            "start: name the cameras by --pattern or in a table"
        )
    states = _States(config, blind, apart, found.burst, tell)
    kept = states.train(resume, progress, worth=pseudo.n_clusters > 1 and apart.sum() > 3)
    if kept.epoch:
        encoder = states.load(kept.epoch)
        features = _features(config, encoder, images, progress)
        pseudo = _labels(config, blind, features)
    run_dir = _keep_run(config, blind, encoder, kept.epoch, pseudo, resume)
    record = {
        **kept.record(),
        "held_out": int(apart.sum()),
        "choices": {c.name: {"value": c.value, "why": c.why} for c in choices},
        "survey": found.record(),
        "settings": dataclasses.asdict(config),
        "data_fingerprint": blind.fingerprint(),
        "environment": environment(),
    }
    write_json(Path(config.out_dir) / RECORD, record)
    return Adaptation(config, run_dir, kept, choices, encoder, features, pseudo)


def _labels(config: Config, dataset: ReIDDataset, features: np.ndarray) -> PseudoLabels:
    """The pseudo labels of all training pictures, by their features (N, d)."""
    images = dataset.unlabelled()
    constraints = constraints_of(config, dataset.root, images)
    return cluster_epoch(config, features, images.camids, constraints)


def without_identities(dataset: ReIDDataset) -> ReIDDataset:
    """The training pictures alone, and nobody's identity: what cannot be looked up cannot
    help to choose.
    """
    blind = tuple(dataclasses.replace(image, pid=None) for image in dataset.train)
    return dataclasses.replace(dataset, train=blind, query=(), gallery=(), pid_names={})


def _features(
    config: Config, encoder: Encoder, images: TrainingImages, progress: bool
) -> np.ndarray:
    store = ImageStore(images.paths, config.height, config.width, keep=False)
    return extract(config, encoder, store, progress=progress)


class _States:
    """The training, with a copy of the encoder after each epoch, and what the guard sees of
    it on the pictures held out, `apart` (N,) bool; all from files, so that a resumed
    adaptation sees the same.
    """

    def __init__(
        self,
        config: Config,
        dataset: ReIDDataset,
        apart: np.ndarray,
        bursts: np.ndarray,
        tell: Callable[[str], None],
    ) -> None:
        self.config = config
        self.trained = _part(dataset, ~apart)
        self.judges = _part(dataset, apart)
        self.bursts = bursts[apart]
        self.tell = tell
        self.evidence: list[Evidence] = []

    def train(self, resume: bool, progress: bool, *, worth: bool) -> Verdict:
        """Train until the last epoch, or until the guard ends it -> which state to keep.
        worth: whether there is anything to train on and to judge with.
        """
        if not worth:
            return NOTHING
        self._look_at(0)
        checkpoint = self.config.run_dir / "checkpoint.json"
        if resume and checkpoint.exists():
            done = read_record(checkpoint, CHECKPOINT)["epoch"]
            self._copy(done)  # a kill may have come before it
            for epoch in range(1, done + 1):
                self._look_at(epoch)
        if not hopeless(judged(self.evidence)):
            try:
                fit(
                    self.config,
                    self.trained,
                    resume=resume,
                    progress=progress,
                    on_epoch=self._epoch,
                )
            except RunStopped:
                self.tell("stopped: three epochs in a row are surely worse than the start")
        return verdict(judged(self.evidence))

    def load(self, epoch: int) -> Encoder:
        """The encoder after so many epochs."""
        from safetensors.torch import load_file

        seed_everything(self.config.seed)
        encoder = new_state(self.config, pick_device(self.config.device)).encoder
        if epoch:
            encoder.load_state_dict(load_file(self._path(epoch)))
        return encoder

    def _path(self, epoch: int) -> Path:
        return self.config.run_dir / "states" / f"epoch_{epoch:03d}.safetensors"

    def _epoch(self, record: dict) -> None:
        """Called by `fit` after each epoch."""
        done = record["epoch"] + 1
        self._copy(done)
        kept = torch.get_rng_state()  # to look changes nothing of what follows
        self._look_at(done)
        torch.set_rng_state(kept)
        if done < self.config.epochs and hopeless(judged(self.evidence)):
            raise RunStopped

    def _look_at(self, epoch: int) -> None:
        """Take down the evidence of a state."""
        images = self.judges.unlabelled()
        features = _features(self.config, self.load(epoch), images, progress=False)
        found = evidence(features, images.camids, groups=self.bursts)
        self.evidence.append(found)
        means = (
            f"{name} {mean:.3f}" for name, mean in found.means().items() if mean is not None
        )
        self.tell(f"{f'after epoch {epoch}' if epoch else 'before'}: {', '.join(means)}")

    def _copy(self, epoch: int) -> None:
        """The encoder of the newest checkpoint, whole or not at all."""
        if self._path(epoch).exists():
            return
        from safetensors.torch import load_file, save

        found = read_record(self.config.run_dir / "checkpoint.json", CHECKPOINT)
        tensors = load_file(self.config.run_dir / found["weights"])
        own = {k.removeprefix(PREFIX): v for k, v in tensors.items() if k.startswith(PREFIX)}
        write_atomic(self._path(epoch), save(own))


def _part(dataset: ReIDDataset, kept: np.ndarray) -> ReIDDataset:
    """`dataset` with the training pictures that are kept, (N,) bool."""
    train = tuple(dataset.train[index] for index in np.flatnonzero(kept))
    return dataclasses.replace(dataset, train=train)


def _keep_run(
    config: Config,
    dataset: ReIDDataset,
    encoder: Encoder,
    epoch: int,
    pseudo: PseudoLabels,
    resume: bool,
) -> Path:
    """A finished run's folder with this encoder, for everything that takes --run."""
    kept = config.replace(run_name=ADAPTED)
    fingerprint = dataset.fingerprint()
    with one_writer(kept.run_dir):
        folder = open_run(kept, fingerprint, resume=resume)
        resolve_run(kept, folder)
        write_json(
            folder / "data.json",
            {
                "name": dataset.name,
                "statistics": dataset.statistics(),
                "fingerprint": fingerprint,
            },
        )
        state = new_state(kept, pick_device(kept.device))
        state.encoder = encoder
        state.epoch = epoch
        state.history = load_history(config.run_dir)[:epoch]
        save_checkpoint(folder, state)
        write_json(folder / "result.json", {"final": UNMEASURED | cluster_counts(pseudo)})
    return folder
