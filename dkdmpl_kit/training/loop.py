"""The visible loop: extract, cluster, rebuild the memory, train, record; a checkpoint
after every epoch.

What trains sees `TrainingImages`: paths and cameras. True identities live in `Monitor`,
which only measures. Under torchrun every process runs this loop on the same batches,
each with its share of the pictures (`processes`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from dkdmpl_kit.clustering import (
    PseudoLabels,
    centre_by_camera,
    jaccard_distances,
    pseudo_labels,
    require_clusters,
)
from dkdmpl_kit.data import ImageStore, ReIDDataset, TrainingImages, arrays_of, pk_batches
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import Config, open_run, pick_device, read_json, write_json
from dkdmpl_kit.losses import DKDMPLLoss, dkdmpl_loss
from dkdmpl_kit.losses.rivals import NEEDS, HybridMemory, rival_loss
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.models import Encoder, build_encoder
from dkdmpl_kit.models.batch_norm import set_samples_per_bn, update_running_statistics
from dkdmpl_kit.neighbors import knn_graph
from dkdmpl_kit.training import processes
from dkdmpl_kit.training.batches import (
    anchors,
    augmented,
    carried_labels,
    encode,
    follow,
    needs_ema,
    rival_views,
    teacher,
    with_outliers,
)
from dkdmpl_kit.training.checkpoint import (
    TrainingState,
    load_checkpoint,
    save_checkpoint,
    save_epoch,
)
from dkdmpl_kit.training.control import RunControl
from dkdmpl_kit.training.extraction import extract, open_store, resolve_auto, resolve_run
from dkdmpl_kit.training.precision import FORMATS, StageClock, peak_memory_mb
from dkdmpl_kit.training.seeds import generator_for, seed_everything
from dkdmpl_kit.training.truth import UNMEASURED, Monitor


@dataclass(frozen=True)
class FitResult:
    """`history`: one record an epoch; `final`: the trained encoder's measures;
    `run_dir`: where all of it lies.

    best: {"epoch", "mAP", "rank1", "mINP", "chosen_on"} of the measured epoch of
    highest mAP, None where none was measured. It was chosen on the test split, so it is
    no result to report as `final` is.
    """

    history: tuple[dict, ...]
    final: dict
    run_dir: Path
    encoder: Encoder
    best: dict | None = None


def fit(
    config: Config,
    dataset: ReIDDataset,
    *,
    resume: bool = False,
    progress: bool = True,
    on_epoch: Callable[[dict], None] | None = None,
    control: RunControl | None = None,
) -> FitResult:
    """Train an encoder on `dataset.train` without its identities.

    `resume` continues a run from its last whole epoch to the result that the
    uninterrupted run reaches, bit for bit on a CPU with the same number of threads; a
    finished run is read, not repeated. `on_epoch(record)` is called after each epoch;
    `control` pauses or stops the loop between two batches, from another thread (then
    `RunStopped` is raised). Under torchrun every process calls it with the same
    arguments: one writes, shows progress and calls `on_epoch`, all return; the same
    global batch gives the same losses as one process (to rounding, which training
    amplifies), also after a resume with another number of processes. Only
    `method="supervised"`, the reference row, trains on true identities, and its record
    says so. Raises `KitError` for settings and data that cannot be trained on, when the
    loss is no longer finite, and when another process is lost.
    """
    images = dataset.unlabelled()
    device = processes.start(pick_device(config.device))
    _refuse_unfit(config, images, control)
    fingerprint = processes.once(dataset.fingerprint)
    run_dir = processes.once(open_run, config, fingerprint, resume=resume)
    processes.once(
        write_json,
        run_dir / "data.json",
        {  # what a report knows the pictures by
            "name": dataset.name,
            "statistics": dataset.statistics(),
            "fingerprint": fingerprint,
        },
    )
    config = processes.once(resolve_run, config, run_dir).replace(device=device)
    seed_everything(config.seed)
    monitor = Monitor(config, dataset)
    true_labels = _identity_labels(dataset) if config.method == "supervised" else None
    state = new_state(config, device)
    load_checkpoint(run_dir, state)
    shown = progress and processes.rank() == 0
    store = processes.main_first(
        open_store, config, images.paths, progress=shown, cache_dir=run_dir / "cache"
    )
    epochs = tqdm(
        range(state.epoch, config.epochs),
        desc=config.name,
        unit="epoch",
        disable=not shown,
        initial=state.epoch,
        total=config.epochs,
    )
    with processes.partners(lambda: f"epoch {state.epoch}"):
        for _ in epochs:
            record = _epoch(
                config, run_dir, state, store, images, monitor, true_labels, control
            )
            epochs.set_postfix_str(_one_line(record))
            if on_epoch and processes.rank() == 0:
                on_epoch(record)
        result = processes.once(_written, run_dir) or _finish(
            config, run_dir, state, store, images, monitor, fingerprint
        )
    return FitResult(
        tuple(state.history), result["final"], run_dir, state.encoder, result.get("best")
    )


def _refuse_unfit(config: Config, images: TrainingImages, control: RunControl | None) -> None:
    """KitError for what cannot be trained, before a folder is made."""
    if config.sampler == "camera" and (images.camids < 0).any():
        raise KitError(
            f"sampler=camera needs every camera, and {int((images.camids < 0).sum())} "
            "are unknown: "
            "use sampler=random (--sampler random), or a pattern with the group camid."
        )
    if config.accumulation > 1 and not config.samples_per_bn:
        raise KitError(
            f"accumulation={config.accumulation} with samples_per_bn=0 would normalise "
            "each part of a batch by "
            f"itself: set samples_per_bn, such as samples_per_bn={config.batch_images} "
            "(batch_images)."
        )
    if control is not None and processes.world_size() > 1:
        raise KitError(
            "A RunControl pauses and stops a single process: train with several "
            "processes without control=."
        )


def _epoch(
    config: Config,
    run_dir: Path,
    state: TrainingState,
    store: ImageStore,
    images: TrainingImages,
    monitor: Monitor,
    true_labels: PseudoLabels | None,
    control: RunControl | None,
) -> dict:
    """One turn of the loop, and its files; returns the record, which is the first
    process' in all.
    """
    clock = StageClock()
    epoch = state.epoch
    with clock("extract"):
        features = extract(config, state.encoder, store)
    with clock("cluster"):
        pseudo = true_labels or processes.once(cluster_epoch, config, features, images.camids)
        require_clusters(pseudo)
    with clock("train"):
        losses = train_epoch(config, state, store, images, features, pseudo, clock, control)
    with clock("evaluate"):
        due = (epoch + 1) % config.evaluate_every == 0 or epoch + 1 == config.epochs
        ranking = monitor.ranking(state.encoder) if due else dict(UNMEASURED)
    record = processes.once(
        lambda: {
            "epoch": epoch,
            **losses,
            **_counts(pseudo),
            **monitor.agreement(pseudo.labels),
            **ranking,
            "processes": processes.world_size(),
            "seconds": clock.seconds,
            "peak_memory_mb": peak_memory_mb(),
        }
    )
    state.history.append(record)
    state.epoch = epoch + 1
    processes.once(
        save_epoch, run_dir, epoch, pseudo.labels, features if config.keep_features else None
    )
    processes.once(save_checkpoint, run_dir, state)
    return record


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


def train_epoch(
    config: Config,
    state: TrainingState,
    store: ImageStore,
    images: TrainingImages,
    features: np.ndarray,
    pseudo: PseudoLabels,
    clock: StageClock,
    control: RunControl | None = None,
) -> dict:
    """One epoch over PK batches; returns the mean of each loss. `features` (N, d) are
    this epoch's frozen v.
    """
    device = next(state.encoder.parameters()).device
    v = torch.from_numpy(features).to(device)
    labels = torch.from_numpy(pseudo.labels).to(device)
    hybrid = config.method == "spcl"
    memory = (
        HybridMemory(v, labels)
        if hybrid
        else ClusterMemory(
            v, labels, momentum=config.memory_momentum, update=config.memory_update
        )
    )
    # SpCL: each outlier is a class of its own
    classes = memory.classes if hybrid else labels
    rate = learning_rate(config, state.epoch)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    draws = generator_for(config.seed, state.epoch, "augmentation")
    batches = pk_batches(
        pseudo.labels,
        images.camids,
        clusters_per_batch=config.batch_clusters,
        images_per_cluster=config.batch_images,
        iterations=config.iterations,
        sampler=config.sampler,
        generator=generator_for(config.seed, state.epoch, "sampler"),
    )
    if hybrid:
        batches = with_outliers(batches, pseudo.labels, config.batch_images, draws)
    objective = _objective(config, state, store, memory, v, pseudo.labels, draws)
    losses = []
    state.encoder.train()
    for batch in (
        control.follow(batches, state.epoch, config.iterations) if control else batches
    ):
        with clock("load"):
            view = augmented(config, store, batch, draws, device)
        y = classes[batch]
        z = encode(config, state.encoder, view, len(batch))
        _require_finite(z, "features", state.epoch)
        loss = objective(batch, view, z, y)
        _require_finite(loss.total, "loss", state.epoch)
        state.optimiser.zero_grad(set_to_none=True)
        loss.total.backward()
        processes.add_gradients(
            p for group in state.optimiser.param_groups for p in group["params"]
        )
        state.optimiser.step()
        update_running_statistics(
            state.encoder
        )  # those of samples_per_bn; a plain batch norm moved its own
        memory.update(
            z.detach(), torch.as_tensor(batch) if hybrid else y
        )  # explicit, after the step: never in a backward
        follow(state, config.ema_momentum)
        losses.append(
            torch.stack([loss.total, loss.cluster_contrast, loss.gkd, loss.skd]).detach()
        )
    means = (
        torch.stack(losses).cpu().double().mean(0).tolist()
    )  # read once an epoch: each read waits for the device
    weights = dict(zip(("gkd_weight", "skd_weight"), config.loss_weights(state.epoch)))
    return {
        **dict(zip(("loss", "loss_cc", "loss_gkd", "loss_skd"), means)),
        "learning_rate": rate,
        **weights,
    }


def _objective(
    config: Config,
    state: TrainingState,
    store: ImageStore,
    memory: ClusterMemory,
    v: torch.Tensor,
    labels: np.ndarray,
    draws: torch.Generator,
) -> Callable[..., DKDMPLLoss]:
    """The epoch's loss as a function of a batch: its indices (B,), this process'
    pictures, z (B, d) and classes (B,).
    """
    gkd_weight, skd_weight = config.loss_weights(state.epoch)
    teach = teacher(config, state, memory, v, labels) if gkd_weight else None
    carried = (
        carried_labels(config, state, memory, v, labels) if config.method == "rlcc" else None
    )

    def objective(
        batch: np.ndarray, view: torch.Tensor, z: torch.Tensor, y: torch.Tensor
    ) -> DKDMPLLoss:
        logits = memory.logits(z, config.temperature)
        anchor_logits = None
        if config.method in NEEDS:
            views = rival_views(config, state, memory, store, batch, z, draws)
            return rival_loss(
                config.method,
                logits,
                y,
                views | {"carried": None if carried is None else carried[batch]},
            )
        if skd_weight:
            anchor_logits = memory.logits(
                anchors(config, state, store, batch, view, z, y, draws), config.temperature
            )
        return dkdmpl_loss(
            logits,
            y,
            teacher_logits=teach(batch) if teach else None,
            anchor_logits=anchor_logits,
            gkd_weight=gkd_weight,
            skd_weight=skd_weight,
            temperature=config.distillation_temperature,
            divergence=config.skd_divergence,
        )

    return objective


def _require_finite(value: torch.Tensor, what: str, epoch: int) -> None:
    if not torch.isfinite(value).all():
        raise KitError(
            f"The {what} of epoch {epoch} is not finite; the last good checkpoint is "
            "kept: "
            "lower learning_rate, or use precision=fp32, and start a new run."
        )


def learning_rate(config: Config, epoch: int) -> float:
    """The rate of `epoch` (from 0): cosine to zero over the run, or x0.1 every
    `step_epochs`, or constant.
    """
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / config.epochs))
    return config.learning_rate * (
        0.1 ** (epoch // config.step_epochs) if config.schedule == "step" else 1.0
    )


def new_state(config: Config, device: str) -> TrainingState:
    """Encoder, its EMA where a setting needs one, and Adam over the parameters that
    train.
    """
    config, _ = resolve_auto(config)
    encoder = build_encoder(
        config.backbone,
        weights=config.weights,
        pooling=config.pooling,
        last_stride=config.last_stride,
        freeze_stages=config.freeze_stages,
    )
    encoder = encoder.to(device, memory_format=FORMATS[config.memory_format])
    set_samples_per_bn(encoder, config.samples_per_bn)
    ema = None
    if needs_ema(config):
        ema = copy.deepcopy(encoder).requires_grad_(False).eval()
    trained = [p for p in encoder.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(
        trained, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    return TrainingState(encoder, optimiser, ema)


def _counts(pseudo: PseudoLabels) -> dict:
    return {"n_clusters": pseudo.n_clusters, "outlier_fraction": pseudo.outlier_fraction}


def _identity_labels(dataset: ReIDDataset) -> PseudoLabels:
    """True identities in the place of pseudo labels, for the supervised reference row
    alone.
    """
    pids = arrays_of(dataset.train)[1]
    if (pids < 0).any():
        raise KitError(
            "method=supervised needs the identity of every training picture, and this "
            "data set lacks some."
        )
    labels = np.unique(pids, return_inverse=True)[1].astype(np.int64)
    return PseudoLabels(labels=labels, n_clusters=int(labels.max()) + 1, outlier_fraction=0.0)


def assess(
    config: Config,
    encoder: Encoder,
    store: ImageStore,
    images: TrainingImages,
    monitor: Monitor,
) -> dict:
    """Measure an encoder once: ranking of the test split, clustering of the training
    split under the same settings.
    """
    pseudo = processes.once(
        cluster_epoch, config, extract(config, encoder, store), images.camids
    )
    return {**monitor.ranking(encoder), **monitor.agreement(pseudo.labels), **_counts(pseudo)}


def assess_untrained(config: Config, dataset: ReIDDataset) -> dict:
    """`assess` for the encoder as it is before any training: the first row of every
    table.
    """
    images = dataset.unlabelled()
    store = open_store(config, images.paths)
    encoder = new_state(config, pick_device(config.device)).encoder
    return assess(config, encoder, store, images, Monitor(config, dataset))


def _finish(
    config: Config,
    run_dir: Path,
    state: TrainingState,
    store: ImageStore,
    images: TrainingImages,
    monitor: Monitor,
    fingerprint: str,
) -> dict:
    """Write result.json and return it: the last epoch's measures as "final", those of
    the best epoch under "best" only.
    """
    measured = [r for r in state.history if r["mAP"] is not None]
    best = max(measured, key=lambda r: r["mAP"], default=None)
    final = assess(config, state.encoder, store, images, monitor)
    final["best_epoch_mAP"] = best and best["mAP"]
    result = {
        "final": final,
        "best": best
        and {**{k: best[k] for k in ("epoch", *UNMEASURED)}, "chosen_on": "the test split"},
        "labels": "true identities" if config.method == "supervised" else "pseudo labels",
        "sampler": config.sampler,
        "samples_per_bn": config.samples_per_bn
        or config.batch_clusters * config.batch_images,
        "processes": sorted({r.get("processes", 1) for r in state.history}),
        "note": monitor.blind,
        "data_fingerprint": fingerprint,
    }
    processes.once(write_json, run_dir / "result.json", result)
    return result


def _written(run_dir: Path) -> dict | None:
    return read_json(run_dir / "result.json") if (run_dir / "result.json").exists() else None


def load_encoder(run_dir: str | Path) -> tuple[Config, Encoder]:
    """The configuration, with precision and memory format as the run had them, and the
    trained encoder of a run folder.
    """
    run_dir = Path(run_dir)
    config, _ = resolve_auto(
        Config().replace(**read_json(run_dir / "config.json")["settings"]),
        read_json(run_dir / "environment.json").get("compute"),
    )
    if not (run_dir / "checkpoint.json").exists():
        raise KitError(f"{run_dir} holds no checkpoint: train at least one epoch first.")
    state = new_state(
        config.replace(weights="random"), pick_device(config.device)
    )  # where it started from may be gone
    load_checkpoint(run_dir, state)
    state.encoder.weights = config.weights
    return config, state.encoder


def _one_line(record: dict) -> str:
    shown = {
        "loss": record["loss"],
        "clusters": record["n_clusters"],
        "outliers": record["outlier_fraction"],
        "ARI": record["ari"],
        "mAP": record["mAP"],
    }
    return ", ".join(f"{k} {v:.3g}" for k, v in shown.items() if v is not None)
