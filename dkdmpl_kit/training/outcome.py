"""What a run leaves: a record an epoch, the result, and the trained encoder read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from dkdmpl_kit.clustering import PseudoLabels, percolation_warning
from dkdmpl_kit.clustering.constraints import Constraints
from dkdmpl_kit.data import ImageStore, ReIDDataset, TrainingImages
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import (
    CHECKPOINT,
    Config,
    pick_device,
    read_record,
    started,
    write_json,
)
from dkdmpl_kit.losses.dkdmpl import DKDMPLLoss
from dkdmpl_kit.models import Encoder
from dkdmpl_kit.training import processes
from dkdmpl_kit.training.checkpoint import (
    TrainingState,
    load_checkpoint,
    save_checkpoint,
    save_epoch,
)
from dkdmpl_kit.training.corrections import constraints_of, own_corrections
from dkdmpl_kit.training.extraction import (
    cluster_epoch,
    extract,
    known_compute,
    open_store,
    resolve_auto,
)
from dkdmpl_kit.training.optimisation import learning_rate, new_state
from dkdmpl_kit.training.precision import StageClock, peak_memory_mb, return_freed_memory
from dkdmpl_kit.training.probe import repeats_the_label
from dkdmpl_kit.training.run import Run
from dkdmpl_kit.training.truth import UNMEASURED, Monitor


@dataclass(frozen=True)
class FitResult:
    """What `fit` returns.

    history: one record an epoch. final: the trained encoder's measures. run_dir: where
    all of it lies. best: {"epoch", "mAP", "rank1", "mINP", "chosen_on"} of the measured
    epoch of highest mAP, None where none was measured; it was chosen on the test split,
    so it is not a result to report as `final` is.
    """

    history: tuple[dict, ...]
    final: dict
    run_dir: Path
    encoder: Encoder
    best: dict | None = None


def mean_losses(config: Config, epoch: int, losses: Sequence[DKDMPLLoss]) -> dict:
    """{"loss", "loss_cc", "loss_gkd", "loss_skd"}: means over batches; rate and weights."""
    # read once an epoch: each read waits for the device
    rows = [torch.stack([x.total, x.cluster_contrast, x.gkd, x.skd]).detach() for x in losses]
    total, contrast, gkd, skd = torch.stack(rows).cpu().double().mean(0).tolist()
    gkd_weight, skd_weight = config.loss_weights(epoch)
    return {
        "loss": total,
        "loss_cc": contrast,
        "loss_gkd": gkd,
        "loss_skd": skd,
        "learning_rate": learning_rate(config, epoch),
        "gkd_weight": gkd_weight,
        "skd_weight": skd_weight,
    }


def cluster_counts(pseudo: PseudoLabels) -> dict:
    """What a record says of a clustering without any truth."""
    return {
        "n_clusters": pseudo.n_clusters,
        "outlier_fraction": pseudo.outlier_fraction,
        "largest_share": pseudo.largest_share,
        "eps": pseudo.eps,
    }


def clustering_record(pseudo: PseudoLabels) -> dict:
    """`cluster_counts`, the sweep that chose eps where one did, and what to warn of."""
    return cluster_counts(pseudo) | {
        "eps_sweep": pseudo.sweep,
        "percolation": percolation_warning(pseudo.labels, pseudo.eps),
    }


def keep_epoch(
    run: Run,
    state: TrainingState,
    measures: dict,
    clock: StageClock,
    labels: np.ndarray,
    features: np.ndarray,
) -> dict:
    """Write the epoch's labels, features and checkpoint; its record, in every process.

    The record has no ranking yet: `measure_epoch` adds it.
    """
    epoch = state.epoch
    record = {
        "epoch": epoch,
        **measures,
        **UNMEASURED,
        "processes": processes.world_size(),
        "seconds": clock.seconds | {"evaluate": 0.0},
        "peak_memory_mb": peak_memory_mb(),
    }
    # each process has its own times: the first one's count
    record = processes.once(lambda: record)
    if run.progress:
        tell_news(record, state.history[-1] if state.history else {})
    state.history.append(record)
    state.epoch = epoch + 1
    kept = features if run.config.keep_features else None
    processes.once(save_epoch, run.folder, epoch, labels, kept)
    processes.once(save_checkpoint, run.folder, state)
    return_freed_memory()
    return record


def measure_epoch(run: Run, state: TrainingState, monitor: Monitor) -> dict | None:
    """Rank the test split where the last epoch of the history is due and was not ranked;
    its record, None before the first epoch.

    It comes after the epoch's checkpoint, and writes another one: what fails here (a test
    split larger than the memory, a killed machine) loses no epoch, and a resumed run
    measures what is missing first.
    """
    if not state.history:
        return None
    record = state.history[-1]
    if record["mAP"] is not None:
        return record
    clock = StageClock()
    with clock("evaluate"):
        ranking = monitor.ranking_if_due(state.encoder, record["epoch"])
    if ranking != UNMEASURED:
        # each process has its own times: the first one's count
        seconds, peak = processes.once(lambda: (clock.seconds, peak_memory_mb()))
        record.update(ranking, peak_memory_mb=peak)
        record["seconds"] = record["seconds"] | seconds
        processes.once(save_checkpoint, run.folder, state)
    return record


def tell_news(record: dict, before: dict) -> None:
    """Say above the progress bar what is wrong in an epoch and was not in the one before:
    clusters that have grown together, a teacher that repeats the label.
    """
    for find in (lambda one: one.get("percolation"), repeats_the_label):
        sentence = find(record)
        if sentence and not find(before):
            tqdm.write(f"epoch {record['epoch']}: {sentence}")


def one_line(record: dict) -> str:
    """An epoch's record for the progress bar."""
    names = {
        "loss": "loss",
        "clusters": "n_clusters",
        "outliers": "outlier_fraction",
        "ARI": "ari",
        "mAP": "mAP",
    }
    known = {label: record[name] for label, name in names.items() if record[name] is not None}
    return ", ".join(f"{label} {value:.3g}" for label, value in known.items())


def finish(run: Run, state: TrainingState, monitor: Monitor) -> FitResult:
    """Write result.json, or read it where it stands: the last epoch's measures as "final",
    those of the best epoch under "best" only.
    """
    result = processes.once(_written, run.folder) or _write_result(run, state, monitor)
    return FitResult(
        tuple(state.history), result["final"], run.folder, state.encoder, result.get("best")
    )


def _written(folder: Path) -> dict | None:
    path = folder / "result.json"
    return read_record(path, {"final": dict}) if path.exists() else None


def _write_result(run: Run, state: TrainingState, monitor: Monitor) -> dict:
    config = run.config
    measured = [record for record in state.history if record["mAP"] is not None]
    best = max(measured, key=lambda record: record["mAP"], default=None)
    ranking = {name: state.history[-1][name] for name in UNMEASURED}  # always due
    final = assess(
        config, state.encoder, run.store, run.images, monitor, ranking, run.constraints
    )
    final["best_epoch_mAP"] = best and best["mAP"]
    if best:
        best = {name: best[name] for name in ("epoch", *UNMEASURED)}
        best["chosen_on"] = "the test split"
    result = {
        "final": final,
        "best": best,
        "labels": "true identities" if run.reference else "pseudo labels",
        "sampler": config.sampler,
        "samples_per_bn": config.samples_per_bn
        or config.batch_clusters * config.batch_images,
        "processes": sorted({record.get("processes", 1) for record in state.history}),
        "note": monitor.blind,
        "data_fingerprint": run.fingerprint,
    }
    processes.once(write_json, run.folder / "result.json", result)
    return result


def assess(
    config: Config,
    encoder: Encoder,
    store: ImageStore,
    images: TrainingImages,
    monitor: Monitor,
    ranking: dict | None = None,
    constraints: Constraints | None = None,
) -> dict:
    """Measure an encoder once: ranking of the test split (`ranking` where it was measured
    already), clustering of the training split under the same settings and constraints.
    """
    features = extract(config, encoder, store)
    known = (images.camids, constraints)
    pseudo = processes.once(cluster_epoch, config, features, *known)
    agreement = monitor.agreement(pseudo.labels)
    return {**(ranking or monitor.ranking(encoder)), **agreement, **cluster_counts(pseudo)}


def assess_untrained(config: Config, dataset: ReIDDataset) -> dict:
    """`assess` for the encoder as it is before any training: the first row of every table."""
    images = dataset.unlabelled()
    store = open_store(config, images.paths)
    encoder = new_state(config, pick_device(config.device)).encoder
    constraints = constraints_of(config, dataset.root, images)
    monitor = Monitor(config, dataset)
    return assess(config, encoder, store, images, monitor, constraints=constraints)


def continued(run_dir: str | Path, **changes) -> Config:
    """The settings of a new run that starts from the encoder of a finished one.

    They are the finished run's, with `changes`. The new run has its own folder beside
    the other, which is left as it is; its name tells both: "<run>-plus-<epochs>". It
    takes over the encoder alone: optimiser, learning-rate schedule and warm-up start
    anew, so it is not the run that more epochs in one piece would have been.
    KitError: a run that is not finished, or a change that its encoder does not fit.
    """
    run_dir = Path(run_dir)
    config = own_corrections(started(run_dir)["config"], run_dir)
    if _written(run_dir) is None:
        raise KitError(
            f"{run_dir} is not finished: go on with it (train --resume and its settings), "
            "and continue from it afterwards."
        )
    checkpoint = read_record(run_dir / "checkpoint.json", CHECKPOINT)
    if "weights" in changes:
        raise KitError(f"A run that continues {run_dir} has its weights: leave weights out.")
    new = config.replace(**changes)
    for name in ("backbone", "normalisation", "pooling", "last_stride"):
        if getattr(new, name) != getattr(config, name):
            raise KitError(
                f"{name}={changes[name]} does not fit a run that continues {run_dir}, whose "
                f"encoder has {name}={getattr(config, name)}: leave it out."
            )
    own = {
        "out_dir": str(run_dir.absolute().parents[1]),
        "run_name": f"{config.name}-plus-{new.epochs}",
    }
    weights = str(run_dir.absolute() / checkpoint["weights"])
    return new.replace(weights=weights, **(own | changes))


def load_encoder(run_dir: str | Path, device: str | None = None) -> tuple[Config, Encoder]:
    """The configuration, with precision and memory format as the run had them, and the
    trained encoder of a run folder.

    device: where it is wanted, in place of where the run was trained.
    """
    run_dir = Path(run_dir)
    config = own_corrections(started(run_dir)["config"], run_dir)
    config = config.replace(device=device) if device else config
    config, _ = resolve_auto(config, known_compute(run_dir))
    if not (run_dir / "checkpoint.json").exists():
        raise KitError(f"{run_dir} holds no checkpoint: train at least one epoch first.")
    # the weights that the run started from may be gone
    state = new_state(config.replace(weights="random"), pick_device(config.device))
    load_checkpoint(run_dir, state)
    state.encoder.weights = config.weights
    return config, state.encoder
