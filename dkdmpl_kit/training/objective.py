"""The loss of a batch: which views of its labels it needs, and where they come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from dkdmpl_kit.clustering import PseudoLabels, rows_of
from dkdmpl_kit.data import to_float
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.losses.anchors import anchor_features
from dkdmpl_kit.losses.dkdmpl import DKDMPLLoss, dkdmpl_loss
from dkdmpl_kit.losses.rivals import NEEDS, refined_labels, rival_loss
from dkdmpl_kit.losses.teachers import carry_posterior, teacher_logits
from dkdmpl_kit.memory import ClusterMemory, HybridMemory
from dkdmpl_kit.training.batches import augmented, ema_features, features_of, share_of
from dkdmpl_kit.training.checkpoint import TrainingState
from dkdmpl_kit.training.probe import Probe
from dkdmpl_kit.training.run import Run


def new_memory(run: Run, v: Tensor, labels: Tensor) -> ClusterMemory:
    """The memory of an epoch, C and M, from v (N, d) and labels (N,); SpCL's for "spcl"."""
    config = run.config
    if config.method == "spcl":
        return HybridMemory(v, labels)
    return ClusterMemory(
        v, labels, momentum=config.memory_momentum, update=config.memory_update
    )


class Objective:
    """The loss of an epoch's batches, by `config.method`.

    memory: the epoch's. v: (N, d) frozen features. pseudo: the epoch's pseudo labels,
    (N,), with soft ones where the teacher is made of them. draws: the epoch's generator.
    probe: looks at the terms before the step. Called with a batch's indices (B,), this
    process' pictures and z (B, d); KitError where z or the loss is not finite.
    """

    def __init__(
        self,
        run: Run,
        state: TrainingState,
        memory: ClusterMemory,
        v: Tensor,
        pseudo: PseudoLabels,
        draws: torch.Generator,
        probe: Probe,
    ) -> None:
        self.run = run
        self.state = state
        self.memory = memory
        self.v = v
        self.pseudo = pseudo
        self.labels = torch.from_numpy(pseudo.labels).to(v.device)
        self.draws = draws
        self.probe = probe
        self.gkd_weight, self.skd_weight = run.config.loss_weights(state.epoch)
        self.posterior = None  # (N, K): the consensus teacher's, or RLCC's refined labels
        if self.gkd_weight and run.config.gkd_teacher == "consensus":
            carried, own = self._carried(lambda old_labels, posterior: posterior)
            self.posterior = own if carried is None else carried
        if run.config.method == "rlcc":
            self.posterior, _ = self._carried(refined_labels)

    def __call__(self, batch: np.ndarray, pictures: Tensor, z: Tensor) -> DKDMPLLoss:
        self._require_finite(z, "features")
        config = self.run.config
        y = self.memory.classes[batch]
        logits = self.memory.logits(z, config.temperature)
        if config.method in NEEDS:
            teacher = None
            loss = rival_loss(config.method, logits, y, self.rival_views(batch, z))
        else:
            teacher = self.teacher(batch) if self.gkd_weight else None
            loss = dkdmpl_loss(
                logits,
                y,
                teacher_logits=teacher,
                anchor_logits=self.anchors(batch, pictures, z) if self.skd_weight else None,
                gkd_weight=self.gkd_weight,
                skd_weight=self.skd_weight,
                temperature=config.distillation_temperature,
                divergence=config.skd_divergence,
            )
        self._require_finite(loss.total, "loss")
        self.probe.look(batch, z, y, loss, teacher)
        return replace(loss, total=config.loss_scale * loss.total)

    def teacher(self, batch: np.ndarray) -> Tensor:
        """The epoch view e_i as logits (B, K), by `gkd_teacher`."""
        return teacher_logits(
            self.run.config.gkd_teacher,
            centroids=self.memory.centroids,
            features=self.v[batch],
            labels=self.labels[batch],
            temperature=self.run.config.teacher_temperature,
            posterior=self.posterior_of(batch),
        )

    def posterior_of(self, batch: np.ndarray) -> Tensor | None:
        """(B, K) probabilities: the clustering's soft labels, or a posterior carried over."""
        if self.pseudo.soft is not None:
            rows = rows_of(self.pseudo.soft, batch, self.pseudo.labels)
            return torch.from_numpy(rows).to(self.v.device)
        return None if self.posterior is None else self.posterior[batch]

    def anchors(self, batch: np.ndarray, pictures: Tensor, z: Tensor) -> Tensor:
        """The anchor view a_i as logits (B, K), by `skd_anchor`: batch mates, a second
        augmentation, or the same pictures through the EMA encoder.
        """
        config = self.run.config
        if config.skd_anchor == "augmentation":
            again = augmented(self.run, batch, self.draws)
            second = features_of(config, self.state.encoder, again, len(batch))
        elif config.skd_anchor == "ema":
            second = ema_features(config, self.state.ema, pictures, len(batch))
        else:
            y = self.memory.classes[batch]
            alone = self.memory.n_clusters + torch.arange(len(y), device=y.device)
            second = anchor_features(
                z,
                torch.where(y < 0, alone, y),  # an outlier has no mate
                strategy=config.skd_anchor,
                generator=self.draws,
                cameras=torch.from_numpy(self.run.images.camids[batch]),
            )
        return self.memory.logits(second, config.temperature)

    def rival_views(self, batch: np.ndarray, z: Tensor) -> dict[str, Tensor | None]:
        """What `NEEDS` names for the method: views of the batch by the EMA encoder, their
        logits, and last epoch's refined labels.
        """
        config = self.run.config
        wanted = set(NEEDS[config.method])
        views = {"z": z}
        if wanted & {"ema_z", "ema_logits"}:
            again = augmented(self.run, batch, self.draws)
            views["ema_z"] = ema_features(config, self.state.ema, again, len(batch))
        if "plain_z" in wanted:
            own = batch[share_of(config, len(batch))]
            plain = to_float(self.run.store.batch(own).to(z.device))
            views["plain_z"] = ema_features(config, self.state.ema, plain, len(batch))
        if "ema_logits" in wanted:
            views["ema_logits"] = self.memory.logits(views["ema_z"], config.temperature)
        if "carried" in wanted:
            views["carried"] = None if self.posterior is None else self.posterior[batch]
        return views

    def _carried(self, refine: Callable) -> tuple[Tensor | None, Tensor]:
        """(last epoch's refined posterior in this epoch's clusters, or None; this epoch's).

        This epoch's is kept in `state` for the next one.
        """
        labels = self.labels.cpu().numpy()
        own = teacher_logits(
            "sample",
            centroids=self.memory.centroids,
            features=self.v,
            temperature=self.run.config.teacher_temperature,
        ).softmax(dim=1)
        carried = None
        if self.state.previous is not None:
            before, kept = self.state.previous
            posterior = torch.from_numpy(kept).to(self.v.device)
            refined = refine(torch.from_numpy(before).to(self.v.device), posterior)
            carried = carry_posterior(refined, before, labels)
        self.state.previous = (labels, own.cpu().numpy())
        return carried, own

    def _require_finite(self, value: Tensor, what: str) -> None:
        if not torch.isfinite(value).all():
            raise KitError(
                f"The {what} of epoch {self.state.epoch} is not finite; the last good "
                "checkpoint is kept: lower learning_rate, or use precision=fp32, and start "
                "a new run."
            )
