"""What the distillations add to cluster contrast, seen on the first batches of an epoch."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dkdmpl_kit.losses.dkdmpl import DKDMPLLoss

BATCHES = 4  # of an epoch: they are drawn anew each epoch, by the epoch's seed
REPEATS = 0.95  # a cosine above it: the term pulls where cluster contrast pulls already


class Probe:
    """Gradients and teachers of the first batches; nothing of it reaches the training.

    `look` takes a batch's z (B, d) with its graph, the loss, the teacher's logits (B, K) or
    None, and the labels (B,). `record()` are the means. What true identities can be held
    against: `seen`, image indices, and `soft`, soft labels (B, K), a batch each.
    """

    def __init__(self) -> None:
        self.sums: dict[str, list[float]] = {}
        self.seen: list[np.ndarray] = []
        self.soft: list[np.ndarray] = []

    @property
    def done(self) -> bool:
        return len(self.seen) >= BATCHES

    def look(
        self,
        batch: np.ndarray,
        z: Tensor,
        labels: Tensor,
        loss: DKDMPLLoss,
        teacher_logits: Tensor | None,
    ) -> None:
        """Take one batch in, unless there are enough; call it before the backward pass."""
        if self.done:
            return
        contrast = _gradient(loss.cluster_contrast, z)
        for name, term in (("gkd", loss.gkd), ("skd", loss.skd)):
            if term.requires_grad:
                gradient = _gradient(term, z)
                self._add(f"{name}_cosine", _cosine(gradient, contrast))
                self._add(f"{name}_norm_ratio", float(gradient.norm() / contrast.norm()))
        if teacher_logits is not None:
            e = teacher_logits.detach().double().softmax(dim=1)
            self._add("teacher_entropy", float(torch.special.entr(e).sum(1).mean()))
            own = e[labels >= 0].gather(1, labels[labels >= 0, None])
            self._add("teacher_own_mass", float(own.mean()))
            self.soft.append(e.float().cpu().numpy())
        self.seen.append(batch)

    def record(self) -> dict[str, float | None]:
        """Means over the batches; None where a term has no weight.

        gkd_cosine, skd_cosine: of the gradients by z with cluster contrast's, from -1 to 1;
        gkd_norm_ratio, skd_norm_ratio: of their lengths, before the weights;
        teacher_entropy: in nats; teacher_own_mass: e[y], the mass on the hard label.
        """
        names = (
            "gkd_cosine",
            "gkd_norm_ratio",
            "skd_cosine",
            "skd_norm_ratio",
            "teacher_entropy",
            "teacher_own_mass",
        )
        return {name: _mean(self.sums.get(name)) for name in names}

    def _add(self, name: str, value: float) -> None:
        if math.isfinite(value):  # a gradient of length 0 has no direction
            self.sums.setdefault(name, []).append(value)


def repeats_the_label(record: dict) -> str | None:
    """One sentence where GKD's gradient is cluster contrast's; None where it adds something."""
    cosine = record.get("gkd_cosine")
    if cosine is None or cosine <= REPEATS:
        return None
    return (
        "The teacher adds nothing: GKD pulls as cluster contrast does "
        f"(cosine of the gradients {cosine:.4f}, mass on the own label "
        f"{record['teacher_own_mass']:.3f}); gkd_teacher=vote can doubt."
    )


def _gradient(term: Tensor, z: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(term, z, retain_graph=True)
    return gradient.double().flatten()


def _cosine(x: Tensor, y: Tensor) -> float:
    return float(x @ y / (x.norm() * y.norm()))


def _mean(values: list[float] | None) -> float | None:
    return sum(values) / len(values) if values else None
