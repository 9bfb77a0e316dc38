"""One cell of the experiment: a head trained on one set of noisy labels, and measured."""

from __future__ import annotations

import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dkdmpl_kit.data import pk_batches
from dkdmpl_kit.evaluation import evaluate_ranking
from dkdmpl_kit.experiment import Config
from dkdmpl_kit.losses import anchor_features, dkdmpl_loss, teacher_logits, theory
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.noise import inject_noise, label_report
from dkdmpl_kit.studies.label_noise.features import FrozenFeatures
from dkdmpl_kit.training import learning_rate
from dkdmpl_kit.training.seeds import generator_for

DIM = 256  # size of the head's features


class Head(nn.Module):
    """(B, d) -> (B, DIM) rows of norm 1: a linear layer without bias and a BNNeck
    (batch norm, its shift frozen at 0).
    """

    def __init__(self, inputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, DIM, bias=False)
        self.bnneck = nn.BatchNorm1d(DIM)
        self.bnneck.bias.requires_grad_(False)
        with torch.no_grad():
            self.linear.weight.copy_(
                torch.randn(DIM, inputs, generator=generator) / inputs**0.5
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.bnneck(self.linear(x)), dim=1)


def noisy_labels(
    frozen: FrozenFeatures, kind: str, rate: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(labels (N,) 0..K-1 without gaps, truth (N,): the label that each picture's
    identity has, -1 where it vanished).

    kind: "none" at rate 0, or a kind of `noise.inject_noise`; "look_alike" by the
    cosine of the frozen features.
    """
    true = np.unique(frozen.pids, return_inverse=True)[1]
    noisy = true
    if kind != "none":
        noisy = inject_noise(
            true,
            rate,
            kind=kind,
            seed=seed,
            features=frozen.plain if kind == "look_alike" else None,
            camids=frozen.camids if kind == "camera_split" else None,
        ).labels
    names, labels = np.unique(noisy, return_inverse=True)
    place = np.searchsorted(names, true).clip(max=len(names) - 1)
    return labels, np.where(names[place] == true, place, -1)


def train_cell(frozen: FrozenFeatures, config: Config, kind: str, rate: float) -> dict:
    """Train one head by config's method, seed and settings; its test ranking, and P2's
    quantities, as plain numbers.

    "first" and "last": (eta, e_c, e_w, break_even) of the sample teacher after the
    first and the last epoch (`theory`), over the pictures whose true label exists. The
    rest of the loop is training.train_epoch's, on features for pictures.
    """
    started = time.perf_counter()
    labels, truth = noisy_labels(frozen, kind, rate, config.seed)
    plain = torch.from_numpy(frozen.plain)
    y = torch.from_numpy(labels)
    head = Head(plain.shape[1], generator_for(config.seed, 0, "head"))
    optimiser = torch.optim.Adam(
        [p for p in head.parameters() if p.requires_grad], weight_decay=config.weight_decay
    )
    with torch.no_grad():
        head(plain)  # a first estimate for the batch norm's running statistics
    quality = {}
    for epoch in range(config.epochs):
        v = _encode(head, plain)
        memory = ClusterMemory(
            v, y, momentum=config.memory_momentum, update=config.memory_update
        )
        if epoch == 1:
            quality["first"] = _teacher_quality(memory, v, y, truth, config)
        _train_epoch(head, optimiser, memory, v, frozen, labels, config, epoch)
    v = _encode(head, plain)
    quality["last"] = _teacher_quality(ClusterMemory(v, y), v, y, truth, config)
    query, query_pids, query_camids = frozen.query
    gallery, gallery_pids, gallery_camids = frozen.gallery
    ranking = evaluate_ranking(
        _encode(head, query),
        _encode(head, gallery),
        query_pids,
        gallery_pids,
        query_camids,
        gallery_camids,
    )
    return {
        "kind": kind,
        "rate": rate,
        "method": config.method,
        "seed": config.seed,
        "mAP": ranking.mAP,
        "rank1": ranking.cmc[1],
        "mINP": ranking.mINP,
        "first": quality.get("first", quality["last"]),
        "last": quality["last"],
        "wrong_after_matching": label_report(labels, frozen.pids).wrong_share,
        "seconds": round(time.perf_counter() - started, 2),
    }


def _train_epoch(
    head: Head,
    optimiser: torch.optim.Optimizer,
    memory: ClusterMemory,
    v: Tensor,
    frozen: FrozenFeatures,
    labels: np.ndarray,
    config: Config,
    epoch: int,
) -> None:
    gkd_weight, skd_weight = config.loss_weights(epoch)
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(config, epoch)
    views = torch.from_numpy(frozen.views)
    draws = generator_for(config.seed, epoch, "views")
    head.train()
    for batch in pk_batches(
        labels,
        frozen.camids,
        clusters_per_batch=config.batch_clusters,
        images_per_cluster=config.batch_images,
        iterations=config.iterations,
        sampler="camera" if (frozen.camids >= 0).all() else "random",
        generator=generator_for(config.seed, epoch, "sampler"),
    ):
        y = torch.from_numpy(labels[batch])
        view = torch.randint(len(views), (len(batch),), generator=draws)
        z = head(views[view, torch.from_numpy(batch)])
        anchors = None
        if skd_weight:
            z_anchor = anchor_features(z, y, strategy=config.skd_anchor, generator=draws)
            anchors = memory.logits(z_anchor, config.temperature)
        teacher = None
        if gkd_weight:
            teacher = _sample_teacher(memory, v[batch], config)
        loss = dkdmpl_loss(
            memory.logits(z, config.temperature),
            y,
            teacher_logits=teacher,
            anchor_logits=anchors,
            gkd_weight=gkd_weight,
            skd_weight=skd_weight,
            temperature=config.distillation_temperature,
            divergence=config.skd_divergence,
        )
        optimiser.zero_grad(set_to_none=True)
        loss.total.backward()
        optimiser.step()
        memory.update(z.detach(), y)


def _sample_teacher(memory: ClusterMemory, v: Tensor, config: Config) -> Tensor:
    return teacher_logits(
        "sample",
        centroids=memory.centroids,
        features=v,
        temperature=config.teacher_temperature,
    )


@torch.no_grad()
def _encode(head: Head, features: Tensor | np.ndarray) -> Tensor:
    return head.eval()(torch.as_tensor(features))


def _teacher_quality(
    memory: ClusterMemory, v: Tensor, y: Tensor, truth: np.ndarray, config: Config
) -> dict[str, float]:
    """P2's quantities of the sample teacher over the pictures whose true label exists."""
    seen = torch.from_numpy(truth >= 0)
    e = _sample_teacher(memory, v[seen], config).double().softmax(1)
    eta, e_c, e_w = theory.teacher_quality(e, y[seen], torch.from_numpy(truth)[seen])
    margin = theory.break_even(eta, e_c, e_w)
    return {"eta": eta, "e_c": e_c, "e_w": e_w, "break_even": margin}
