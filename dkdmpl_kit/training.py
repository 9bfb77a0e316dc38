"""The visible loop: extract, cluster, rebuild the memory, train, record; a checkpoint after every epoch.

What trains sees `TrainingImages`: paths and cameras. True identities live in `Monitor`, which only measures.
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

from .checkpoint import TrainingState, load_checkpoint, save_checkpoint, save_epoch
from .clustering import PseudoLabels, centre_by_camera, jaccard_distances, pseudo_labels, require_clusters
from .control import RunControl
from .data import ImageStore, ReIDDataset, TrainingImages, arrays_of, pk_batches
from .errors import KitError
from .evaluation import evaluate_ranking
from .experiment import Config, open_run, pick_device, read_json, write_json
from .losses import dkdmpl_loss
from .machine import FORMATS, StageClock, choose_precision, peak_memory_mb
from .memory import ClusterMemory
from .models import Encoder, autocast, build_encoder, extract_features
from .neighbors import knn_graph
from .noise import cluster_agreement
from .objectives import NEEDS, HybridMemory, neighbour_loss
from .seeding import generator_for, seed_everything
from .views import anchors, augmented, carried_labels, follow, needs_ema, neighbour_views, teacher, with_outliers

UNMEASURED = {"mAP": None, "rank1": None, "mINP": None}


@dataclass(frozen=True)
class FitResult:
    """`history`: one record an epoch; `final`: the trained encoder's measures; `run_dir`: where all of it lies."""

    history: tuple[dict, ...]
    final: dict
    run_dir: Path
    encoder: Encoder


class Monitor:
    """The only holder of true identities: nothing that it returns reaches the loss, the labels or the sampler."""

    def __init__(self, config: Config, dataset: ReIDDataset) -> None:
        self.pids = arrays_of(dataset.train)[1]
        self.config, self.splits, self.stores = config, (dataset.query, dataset.gallery), None
        self.blind = _why_blind(dataset)

    def agreement(self, labels: np.ndarray) -> dict:
        """ARI, NMI and purity of labels (N,) against the true identities, None where those are unknown."""
        found = cluster_agreement(labels, self.pids)
        return {"ari": found.ari, "nmi": found.nmi, "purity": found.purity}

    def ranking(self, encoder: Encoder) -> dict:
        """mAP, Rank-1 and mINP of the query and gallery splits; None where there are none or nothing can be matched."""
        if self.blind:
            return dict(UNMEASURED)
        config = self.config
        if self.stores is None:
            self.stores = [_store(config, arrays_of(split)[0]) for split in self.splits]
        query, gallery = (extract(config, encoder, store) for store in self.stores)
        (_, query_pids, query_cams), (_, gallery_pids, gallery_cams) = (arrays_of(s) for s in self.splits)
        result = evaluate_ranking(query, gallery, query_pids, gallery_pids, query_cams, gallery_cams)
        return {"mAP": result.mAP, "rank1": result.cmc[1], "mINP": result.mINP}


def fit(config: Config, dataset: ReIDDataset, *, resume: bool = False, progress: bool = True,
        on_epoch: Callable[[dict], None] | None = None, control: RunControl | None = None) -> FitResult:
    """Train an encoder on `dataset.train` without its identities.

    `resume` continues a run from its last whole epoch to the result that the uninterrupted run reaches, bit for bit
    on a CPU with the same number of threads; a finished run is read, not repeated. `on_epoch(record)` is called after
    each epoch; `control` pauses or stops the loop between two batches, from another thread (then `RunStopped` is raised).
    Only `method="supervised"`, the reference row, trains on true identities, and its record says so.
    Raises `KitError` for settings and data that cannot be trained on, and when the loss is no longer finite.
    """
    images = dataset.unlabelled()
    if config.sampler == "camera" and (images.camids < 0).any():
        raise KitError(f"sampler=camera needs every camera, and {int((images.camids < 0).sum())} are unknown: "
                       "use sampler=random (--sampler random), or a pattern with the group camid.")
    run_dir = open_run(config, dataset.fingerprint(), resume=resume)
    config = _settle_run(config, run_dir)
    seed_everything(config.seed)
    device = pick_device(config.device)
    monitor = Monitor(config, dataset)
    true_labels = _identity_labels(dataset) if config.method == "supervised" else None
    state = new_state(config, device)
    load_checkpoint(run_dir, state)
    store = _store(config, images.paths, progress=progress, cache_dir=run_dir / "cache")
    epochs = tqdm(range(state.epoch, config.epochs), desc=config.name, unit="epoch", disable=not progress,
                  initial=state.epoch, total=config.epochs)
    for epoch in epochs:
        clock = StageClock()
        with clock("extract"):
            features = extract(config, state.encoder, store)
        with clock("cluster"):
            pseudo = cluster_epoch(config, features, images.camids) if true_labels is None else true_labels
            require_clusters(pseudo)
        with clock("train"):
            losses = train_epoch(config, state, store, images, features, pseudo, clock, control)
        with clock("evaluate"):
            due = (epoch + 1) % config.evaluate_every == 0 or epoch + 1 == config.epochs
            ranking = monitor.ranking(state.encoder) if due else dict(UNMEASURED)
        record = {"epoch": epoch, **losses, **_counts(pseudo), **monitor.agreement(pseudo.labels), **ranking,
                  "seconds": clock.seconds, "peak_memory_mb": peak_memory_mb()}
        state.history.append(record)
        state.epoch = epoch + 1
        save_epoch(run_dir, epoch, pseudo.labels, features if config.keep_features else None)
        save_checkpoint(run_dir, state)
        epochs.set_postfix_str(_one_line(record))
        if on_epoch:
            on_epoch(record)
    final = read_json(run_dir / "result.json")["final"] if (run_dir / "result.json").exists() else _finish(
        config, run_dir, state, store, images, monitor, dataset.fingerprint())
    return FitResult(tuple(state.history), final, run_dir, state.encoder)


def cluster_epoch(config: Config, features: np.ndarray, camids: np.ndarray) -> PseudoLabels:
    """Pseudo labels of features (N, d): k-NN graph, k-reciprocal Jaccard distance, DBSCAN."""
    if config.centre_cameras:  # an option of ours for strong camera shift, not in the paper
        features = centre_by_camera(features, camids)
    graph = knn_graph(features, min(config.k1, len(features)), exact=config.knn == "exact")
    distances = jaccard_distances(graph, k1=config.k1, k2=config.k2, max_distance=config.max_distance)
    return pseudo_labels(distances, method=config.cluster_method, eps=config.eps, min_samples=config.min_samples)


def train_epoch(config: Config, state: TrainingState, store: ImageStore, images: TrainingImages, features: np.ndarray,
                pseudo: PseudoLabels, clock: StageClock, control: RunControl | None = None) -> dict:
    """One epoch over PK batches; returns the mean of each loss. `features` (N, d) are this epoch's frozen v."""
    device = next(state.encoder.parameters()).device
    v = torch.from_numpy(features).to(device)
    labels = torch.from_numpy(pseudo.labels).to(device)
    hybrid, neighbour = config.method == "spcl", config.method in NEEDS
    memory = HybridMemory(v, labels) if hybrid else ClusterMemory(v, labels, momentum=config.memory_momentum,
                                                                  update=config.memory_update)
    classes = memory.classes if hybrid else labels  # SpCL: each outlier is a class of its own
    gkd_weight, skd_weight = config.loss_weights(state.epoch)
    teach = teacher(config, state, memory, v, pseudo.labels) if gkd_weight else None
    carried = carried_labels(config, state, memory, v, pseudo.labels) if config.method == "rlcc" else None
    rate = learning_rate(config, state.epoch)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    draws = generator_for(config.seed, state.epoch, "augmentation")
    batches = pk_batches(pseudo.labels, images.camids, clusters_per_batch=config.batch_clusters,
                         images_per_cluster=config.batch_images, iterations=config.iterations, sampler=config.sampler,
                         generator=generator_for(config.seed, state.epoch, "sampler"))
    if hybrid:
        batches = with_outliers(batches, pseudo.labels, config.batch_images, draws)
    losses = []
    state.encoder.train()
    for batch in control.follow(batches, state.epoch, config.iterations) if control else batches:
        with clock("load"):
            view = augmented(config, store, batch, draws, device)
        y = classes[batch]
        with autocast(config.precision, device):
            z = state.encoder(view).float()
        _require_finite(z, "features", state.epoch)
        logits, anchor_logits = memory.logits(z, config.temperature), None
        if skd_weight:
            anchor_logits = memory.logits(anchors(config, state, store, batch, view, z, y, draws), config.temperature)
        if neighbour:
            views = neighbour_views(config, state, memory, store, batch, z, draws)
            loss = neighbour_loss(config.method, logits, y, views | {"carried": None if carried is None else carried[batch]})
        else:
            loss = dkdmpl_loss(logits, y, teacher_logits=teach(batch) if teach else None, anchor_logits=anchor_logits,
                               gkd_weight=gkd_weight, skd_weight=skd_weight, temperature=config.distillation_temperature,
                               divergence=config.skd_divergence)
        _require_finite(loss.total, "loss", state.epoch)
        state.optimiser.zero_grad(set_to_none=True)
        loss.total.backward()
        state.optimiser.step()
        memory.update(z.detach(), torch.as_tensor(batch) if hybrid else y)  # explicit, after the step: never in a backward
        follow(state, config.ema_momentum)
        losses.append(torch.stack([loss.total, loss.cluster_contrast, loss.gkd, loss.skd]).detach())
    means = torch.stack(losses).cpu().double().mean(0).tolist()  # read once an epoch: each read waits for the device
    return {**dict(zip(("loss", "loss_cc", "loss_gkd", "loss_skd"), means)), "learning_rate": rate,
            "gkd_weight": gkd_weight, "skd_weight": skd_weight}


def _require_finite(value: torch.Tensor, what: str, epoch: int) -> None:
    if not torch.isfinite(value).all():
        raise KitError(f"The {what} of epoch {epoch} is not finite; the last good checkpoint is kept: "
                       "lower learning_rate, or use precision=fp32, and start a new run.")


def learning_rate(config: Config, epoch: int) -> float:
    """The rate of `epoch` (from 0): cosine to zero over the run, or x0.1 every `step_epochs`, or constant."""
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / config.epochs))
    return config.learning_rate * (0.1 ** (epoch // config.step_epochs) if config.schedule == "step" else 1.0)


def settle(config: Config, known: dict | None = None) -> tuple[Config, dict]:
    """`config` with every "auto" of precision and memory format decided, and the record of how (`choose_precision`'s).

    known: that record from an earlier part of the run, which then decides, so that a resumed run repeats the first part's
    arithmetic. Without one, what is "auto" is measured.
    """
    precision = config.extraction_precision
    record = known or choose_precision(
        (config.batch_clusters * config.batch_images, 3, config.height, config.width), device=pick_device(config.device),
        precision=config.precision, memory_format=config.memory_format, backbone=config.backbone, pooling=config.pooling,
        last_stride=config.last_stride, freeze_stages=config.freeze_stages,
        extraction_precision=config.precision if precision == "same" else precision)
    return config.replace(**{name: record[name] for name in ("precision", "memory_format", "extraction_precision")}), record


def _settle_run(config: Config, run_dir: Path) -> Config:
    """`settle` for a run: by environment.json where it was written down, which it is before anything else happens."""
    found = read_json(run_dir / "environment.json")
    settled, record = settle(config, found.get("compute"))
    if "compute" not in found:
        write_json(run_dir / "environment.json", found | {"compute": record})
    return settled


def new_state(config: Config, device: str) -> TrainingState:
    """Encoder, its EMA where a setting needs one, and Adam over the parameters that train."""
    config, _ = settle(config)
    encoder = build_encoder(config.backbone, weights=config.weights, pooling=config.pooling,
                            last_stride=config.last_stride, freeze_stages=config.freeze_stages)
    encoder = encoder.to(device, memory_format=FORMATS[config.memory_format])
    ema = None
    if needs_ema(config):
        ema = copy.deepcopy(encoder).requires_grad_(False).eval()
    trained = [p for p in encoder.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
    return TrainingState(encoder, optimiser, ema)


def _why_blind(dataset: ReIDDataset) -> str | None:
    """The sentence that says why no ranking can be measured on this data set, or None where it can."""
    if not dataset.query or not dataset.gallery:
        return "no query or gallery split with known identities: rankings are not measured"
    seen: dict[int, set[int]] = {}
    for image in dataset.gallery:
        seen.setdefault(image.pid, set()).add(image.camid)
    if any(seen.get(image.pid, set()) - ({image.camid} if image.camid is not None else set()) for image in dataset.query):
        return None
    return "nothing can be matched: no query has a picture from another camera in the gallery, so rankings are not measured"


def _store(config: Config, paths, **options) -> ImageStore:
    return ImageStore(paths, config.height, config.width, **({"progress": False} | options))


def extract(config: Config, encoder: Encoder, store: ImageStore) -> np.ndarray:
    """Features (N, d) of the pictures in a store, eval mode, on the configured device and precision."""
    precision = settle(config)[0].extraction_precision
    return extract_features(encoder, store, device=pick_device(config.device), precision=precision)


def _counts(pseudo: PseudoLabels) -> dict:
    return {"n_clusters": pseudo.n_clusters, "outlier_fraction": pseudo.outlier_fraction}


def _identity_labels(dataset: ReIDDataset) -> PseudoLabels:
    """True identities in the place of pseudo labels, for the supervised reference row alone."""
    pids = arrays_of(dataset.train)[1]
    if (pids < 0).any():
        raise KitError("method=supervised needs the identity of every training picture, and this data set lacks some.")
    labels = np.unique(pids, return_inverse=True)[1].astype(np.int64)
    return PseudoLabels(labels=labels, n_clusters=int(labels.max()) + 1, outlier_fraction=0.0)


def assess(config: Config, encoder: Encoder, store: ImageStore, images: TrainingImages, monitor: Monitor) -> dict:
    """Measure an encoder once: ranking of the test split, clustering of the training split under the same settings."""
    pseudo = cluster_epoch(config, extract(config, encoder, store), images.camids)
    return {**monitor.ranking(encoder), **monitor.agreement(pseudo.labels), **_counts(pseudo)}


def assess_untrained(config: Config, dataset: ReIDDataset) -> dict:
    """`assess` for the encoder as it is before any training: the first row of every table."""
    images = dataset.unlabelled()
    store = _store(config, images.paths)
    encoder = new_state(config, pick_device(config.device)).encoder
    return assess(config, encoder, store, images, Monitor(config, dataset))


def _finish(config: Config, run_dir: Path, state: TrainingState, store: ImageStore, images: TrainingImages,
            monitor: Monitor, fingerprint: str) -> dict:
    """Write result.json: the last epoch's measures, and the best epoch's mAP under that name only."""
    measured = [r["mAP"] for r in state.history if r["mAP"] is not None]
    final = assess(config, state.encoder, store, images, monitor)
    final["best_epoch_mAP"] = max(measured, default=None)
    labels = "true identities" if config.method == "supervised" else "pseudo labels"
    write_json(run_dir / "result.json", {"final": final, "labels": labels, "sampler": config.sampler,
                                         "note": monitor.blind, "data_fingerprint": fingerprint})
    return final


def load_encoder(run_dir: str | Path) -> tuple[Config, Encoder]:
    """The configuration, with precision and memory format as the run had them, and the trained encoder of a run folder."""
    run_dir = Path(run_dir)
    config, _ = settle(Config().replace(**read_json(run_dir / "config.json")["settings"]),
                       read_json(run_dir / "environment.json").get("compute"))
    state = new_state(config, pick_device(config.device))
    if not (run_dir / "checkpoint.json").exists():
        raise KitError(f"{run_dir} holds no checkpoint: train at least one epoch first.")
    load_checkpoint(run_dir, state)
    return config, state.encoder


def _one_line(record: dict) -> str:
    shown = {"loss": record["loss"], "clusters": record["n_clusters"], "outliers": record["outlier_fraction"],
             "ARI": record["ari"], "mAP": record["mAP"]}
    return ", ".join(f"{k} {v:.3g}" for k, v in shown.items() if v is not None)
