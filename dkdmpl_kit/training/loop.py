"""The loop at one sight: extract, cluster, remember; then, batch by batch, look, encode,
lose, step, remember; and record. A checkpoint follows every epoch.

What trains sees paths and cameras. True identities are measured with by `Monitor`, and
reach the training only as `reference_labels` that the caller hands in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from dkdmpl_kit.clustering import PseudoLabels, require_clusters
from dkdmpl_kit.data import ReIDDataset
from dkdmpl_kit.errors import shortage_named
from dkdmpl_kit.experiment import Config
from dkdmpl_kit.training import processes
from dkdmpl_kit.training.batches import augmented, draw_batches, features_of
from dkdmpl_kit.training.checkpoint import TrainingState, load_checkpoint
from dkdmpl_kit.training.control import RunControl
from dkdmpl_kit.training.extraction import cluster_epoch, extract
from dkdmpl_kit.training.objective import Objective, new_memory
from dkdmpl_kit.training.optimisation import new_state, start_epoch, step
from dkdmpl_kit.training.outcome import (
    FitResult,
    clustering_record,
    finish,
    keep_epoch,
    mean_losses,
    measure_epoch,
    one_line,
)
from dkdmpl_kit.training.precision import StageClock
from dkdmpl_kit.training.probe import Probe
from dkdmpl_kit.training.run import Run, open_training
from dkdmpl_kit.training.seeds import generator_for
from dkdmpl_kit.training.truth import Monitor


def fit(
    config: Config,
    dataset: ReIDDataset,
    *,
    reference_labels: Sequence[int] | np.ndarray | None = None,
    resume: bool = False,
    wait: bool = False,
    progress: bool = True,
    on_epoch: Callable[[dict], None] | None = None,
    control: RunControl | None = None,
) -> FitResult:
    """Train an encoder on `dataset.train` without its identities.

    reference_labels: (N,) integers to train on in place of pseudo labels, for
    `method="supervised"`, the reference row, alone (`identity_labels(dataset)`).
    resume: continue from the last whole epoch, to the result of the uninterrupted run,
    bit for bit on a CPU with the same number of threads; a finished run is read, not
    repeated. wait: for the end of another process that writes this run, in place of a
    KitError. on_epoch: called with each epoch's record. control: pauses or stops the loop
    between two batches, from another thread (`RunStopped` is raised).

    Under torchrun every process calls it with the same arguments: one writes, shows
    progress and calls `on_epoch`; all return. The same global batch gives the same
    losses as one process (to rounding, which training amplifies).

    KitError: settings or data that cannot be trained on, a loss that is not finite, a
    lost process.
    """
    with shortage_named(), open_training(
        config,
        dataset,
        reference_labels=reference_labels,
        resume=resume,
        wait=wait,
        progress=progress,
        control=control,
    ) as run:
        return train_run(run, dataset, on_epoch, control)


def train_run(
    run: Run,
    dataset: ReIDDataset,
    on_epoch: Callable[[dict], None] | None = None,
    control: RunControl | None = None,
) -> FitResult:
    """The epochs of an opened run, from the last whole one on (arguments as `fit`'s)."""
    monitor = Monitor(run.config, dataset)  # measures, and hands nothing to what follows
    state = new_state(run.config, run.config.device)
    load_checkpoint(run.folder, state)
    measure_epoch(run, state, monitor)  # where the run ended while it was measuring
    with processes.partners(lambda: f"epoch {state.epoch}"):
        epochs = run.epochs(state.epoch)
        for _ in epochs:
            clock = StageClock()
            with clock("extract"):
                features = extract(run.config, state.encoder, run.store)  # v
            with clock("cluster"):
                pseudo = run.reference or processes.once(  # y
                    cluster_epoch, run.config, features, run.images.camids, run.constraints
                )
                require_clusters(pseudo)
            probe = Probe()  # what the distillations add to cluster contrast
            with clock("train"):
                losses = train_epoch(run, state, features, pseudo, clock, probe, control)
            truth = monitor.agreement(pseudo.labels) | monitor.teacher(probe, pseudo.labels)
            measures = losses | probe.record() | clustering_record(pseudo) | truth
            keep_epoch(run, state, measures, clock, pseudo.labels, features)
            record = measure_epoch(run, state, monitor)
            epochs.set_postfix_str(one_line(record))
            if on_epoch and processes.rank() == 0:
                on_epoch(record)
        return finish(run, state, monitor)


def train_epoch(
    run: Run,
    state: TrainingState,
    features: np.ndarray,
    pseudo: PseudoLabels,
    clock: StageClock,
    probe: Probe,
    control: RunControl | None = None,
) -> dict:
    """Train on the epoch's batches -> {"loss", "loss_cc", ...}, means over them.

    features: (N, d), this epoch's frozen v. pseudo: labels (N,), -1 for outliers. probe:
    looks at the first batches.
    """
    config = run.config
    v = torch.from_numpy(features).to(config.device)
    labels = torch.from_numpy(pseudo.labels).to(config.device)
    memory = new_memory(run, v, labels)  # C, and M = C
    draws = generator_for(config.seed, state.epoch, "augmentation")
    objective = Objective(run, state, memory, v, pseudo, draws, probe)
    start_epoch(config, state)
    batches = draw_batches(run, memory, pseudo, state.epoch, draws)
    if control:
        batches = control.between(batches, state.epoch, config.iterations)
    losses = []
    for batch in batches:
        with clock("load"):
            pictures = augmented(run, batch, draws)
        z = features_of(config, state.encoder, pictures, len(batch))
        loss = objective(batch, pictures, z)  # L = L_CC + lambda_g L_GKD + lambda_s L_SKD
        step(config, state, loss.total)
        memory.remember(z.detach(), torch.from_numpy(batch))  # M_k <- m M_k + (1 - m) z
        losses.append(loss)
    return mean_losses(config, state.epoch, losses)
