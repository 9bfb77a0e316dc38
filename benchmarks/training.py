"""Rows on training: whole steps of the kit's own loop, the memory's update, loading.

Variants take turns within one run and the best of each counts, so that the ratio, not
the machine's mood, is what is left. The pictures are noise and the encoders' weights
random: neither changes the time of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.measure import measured, row
from dkdmpl_kit.clustering import PseudoLabels
from dkdmpl_kit.data import TrainingImages
from dkdmpl_kit.experiment import Config, preset
from dkdmpl_kit.losses import anchor_features, dkdmpl_loss, teacher_logits
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.training import Run, new_state, resolve_auto, train_epoch
from dkdmpl_kit.training.precision import StageClock
from dkdmpl_kit.training.probe import Probe

IMAGES_PER_CLUSTER = 4
UPDATES = 20


class Noise:
    """Stands in for an ImageStore: any number of pictures over the same few of noise."""

    def __init__(self, height: int, width: int) -> None:
        self.pixels = torch.randint(256, (512, 3, height, width), dtype=torch.uint8)

    def batch(self, indices: np.ndarray) -> torch.Tensor:
        """(B,) indices -> (B, 3, height, width) uint8."""
        return self.pixels[torch.as_tensor(indices) % len(self.pixels)]


def stepper(config: Config, n_clusters: int) -> Callable[[], dict[str, float]]:
    """A function that trains one epoch and returns its seconds {"load", "train"}."""
    state = new_state(config, "cpu")
    store = Noise(config.height, config.width)
    labels = np.arange(n_clusters).repeat(IMAGES_PER_CLUSTER)
    images = TrainingImages(
        (Path("noise"),) * len(labels), np.arange(len(labels)) % IMAGES_PER_CLUSTER
    )
    features = F.normalize(torch.randn(len(labels), state.encoder.dim), dim=1).numpy()
    pseudo = PseudoLabels(labels=labels, n_clusters=n_clusters, outlier_fraction=0.0)

    run = Run(config, None, images, store)

    def step() -> dict[str, float]:
        clock = StageClock()
        with clock("train"):
            train_epoch(run, state, features, pseudo, clock, Probe())
        return clock.seconds

    return step


def in_turn(
    works: dict[str, Callable], rounds: int, repeats: int = 1
) -> dict[str, tuple[dict, object]]:
    """{name: (measures, result)} of the fastest of `rounds` after a warm-up.

    The works take turns, each `repeats` times.
    """
    for work in works.values():
        work()
    found = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(measured(work, repeats))
    return {
        name: min(measures, key=lambda m: m[0]["seconds"]) for name, measures in found.items()
    }


def sequential_update(
    memory: torch.Tensor, z: torch.Tensor, labels: torch.Tensor, momentum: float
) -> None:
    """The instance rule as it is usually written: one row of the batch at a time."""
    for member, k in zip(z, labels.tolist()):
        memory[k] = F.normalize(momentum * memory[k] + (1 - momentum) * member, dim=0)


def step_rows(config: Config, n_clusters: int, rounds: int) -> Iterator[dict]:
    """The probed precision against plain fp32, DKD-MPL against cluster contrast, loading."""
    chosen, _ = resolve_auto(config.replace(precision="auto", memory_format="auto"))
    plain = chosen.replace(precision="fp32", memory_format="contiguous")
    (kit, _), (other, _) = in_turn(
        {"kit": stepper(chosen, n_clusters), "plain": stepper(plain, n_clusters)},
        max(1, rounds - 1),
    ).values()
    batch = config.batch_clusters * config.batch_images
    size = f"{config.backbone} {config.height}x{config.width}, B {batch}, K {n_clusters}"
    yield row(
        f"training step, {size}",
        kit,
        "plain fp32, default memory format",
        other,
        f"{batch / kit['seconds']:.1f} images/s against "
        f"{batch / other['seconds']:.1f}; the probe chose "
        f"{chosen.precision}, {chosen.memory_format}",
    )
    (kit, clock), (other, _) = in_turn(
        {
            m: stepper(chosen.replace(method=m), n_clusters)
            for m in ("dkdmpl", "cluster_contrast")
        },
        rounds,
    ).values()
    (mine, _), (theirs, _) = in_turn(
        {
            m: losses_alone(chosen.replace(method=m), batch, n_clusters)
            for m in ("dkdmpl", "cluster_contrast")
        },
        3,
        5,
    ).values()
    extra = (mine["seconds"] - theirs["seconds"]) / other["seconds"]
    yield row(
        f"DKD-MPL's training step, {size}",
        kit,
        "cluster contrast's step",
        other,
        f"its losses alone add {extra:.1%} of cluster contrast's step",
    )
    yield load_row(size, clock)


def losses_alone(
    config: Config, batch: int, n_clusters: int, d: int = 2048
) -> Callable[[], None]:
    """A step's losses, forward and backward to z, without the encoder.

    Their difference is steadier than that of whole steps.
    """
    z, v, rows = (F.normalize(torch.randn(n, d), dim=1) for n in (batch, batch, n_clusters))
    memory = ClusterMemory(rows, torch.arange(n_clusters))
    labels = torch.arange(batch) // IMAGES_PER_CLUSTER
    gkd, skd = config.loss_weights(0)

    def step() -> None:
        view = z.clone().requires_grad_()
        anchors = (
            memory.logits(anchor_features(view, labels), config.temperature) if skd else None
        )
        teacher = (
            teacher_logits(
                "sample",
                centroids=memory.centroids,
                features=v,
                temperature=config.teacher_temperature,
            )
            if gkd
            else None
        )
        dkdmpl_loss(
            memory.logits(view, config.temperature),
            labels,
            teacher_logits=teacher,
            anchor_logits=anchors,
            gkd_weight=gkd,
            skd_weight=skd,
        ).total.backward()

    return step


def load_row(size: str, seconds: dict[str, float]) -> dict:
    """What loading (gather, augment, to float) takes of a step, by the loop's own clock."""
    step = seconds["load"] + seconds["train"]
    return row(
        f"loading, {size}",
        {"seconds": seconds["load"], "peak_mb": None},
        "the whole training step",
        {"seconds": step, "peak_mb": None},
        f"{seconds['load'] / step:.1%} of the step",
    )


def memory_row() -> dict:
    """The update of 16 clusters by 16 members each against the loop over the batch."""
    draws = torch.Generator().manual_seed(0)
    rows, z = (F.normalize(torch.randn(n, 2048, generator=draws), dim=1) for n in (2000, 256))
    labels = torch.randperm(2000, generator=draws)[:16].repeat_interleave(16)
    memory = ClusterMemory(rows, torch.arange(2000))
    plain = rows.clone()

    def many(update: Callable[[], None]) -> Callable[[], None]:
        def work() -> None:
            # one after the other: measured() gives memory back before each call
            for _ in range(UPDATES):
                update()

        return work

    works = {
        "kit": many(lambda: memory.update(z, labels)),
        "loop": many(lambda: sequential_update(plain, z, labels, memory.momentum)),
    }
    kit, other = (
        {**found, "seconds": found["seconds"] / UPDATES}
        for found, _ in in_turn(works, 5).values()
    )
    fresh = ClusterMemory(rows, torch.arange(2000))
    expected = rows.clone()
    fresh.update(z, labels)
    sequential_update(expected, z, labels, fresh.momentum)
    return row(
        "memory update, B 256, K 2,000, d 2,048",
        kit,
        "one row of the batch at a time",
        other,
        f"differs by {(fresh.features - expected).abs().max().item():.0e}",
    )


def rows(size: str) -> Iterator[dict]:
    """Yield the rows, one measurement after the other.

    Small takes seconds, full about two minutes.
    """
    torch.manual_seed(0)
    full = size == "full"
    shape = (
        {"height": 256, "width": 128, "batch_clusters": 16}
        if full
        else {"height": 96, "width": 48, "batch_clusters": 2}
    )
    config = Config(backbone="resnet50", weights="random", iterations=1, **shape)
    yield from step_rows(config, 700 if full else 50, rounds=3 if full else 2)
    demo = preset("demo", iterations=4 if full else 1)
    _, clock = in_turn({"demo": stepper(demo, 68)}, 2)["demo"]
    yield load_row(f"preset demo: {demo.backbone} {demo.height}x{demo.width}, B 64", clock)
    yield memory_row()
