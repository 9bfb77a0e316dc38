"""Notebook 09: one batch as every objective needs it, and what each paper brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dkdmpl_kit.clustering.soft import rows_of
from dkdmpl_kit.data import to_float
from dkdmpl_kit.experiment import METHOD_LABELS, Config
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.lessons.views import lesson_batches, soft_labels_of
from dkdmpl_kit.losses import (
    carry_posterior,
    cluster_contrast_loss,
    dkdmpl_loss,
    positive_anchors,
    teacher_logits,
)
from dkdmpl_kit.losses.rivals import NEEDS, refined_labels, rival_loss
from dkdmpl_kit.memory import ClusterMemory, HybridMemory
from dkdmpl_kit.studies.results import by_method
from dkdmpl_kit.training.batches import augmented
from dkdmpl_kit.training.checkpoint import TrainingState
from dkdmpl_kit.training.optimisation import needs_ema, update_ema
from dkdmpl_kit.training.run import Run
from dkdmpl_kit.training.seeds import generator_for

VOTE = "dkdmpl_vote"  # DKD-MPL with the teacher that can doubt
LABELS = {**METHOD_LABELS, VOTE: "DKD-MPL, vote teacher", "louder": "cluster contrast, twice"}
# method: (the idea, its paper, what is simpler here)
IDEAS = {
    "cluster_contrast": (
        "train on the hard label; one memory row a cluster",
        "Dai et al., *Cluster Contrast*, 2021",
        "the kit's encoder and clustering",
    ),
    "label_smoothing": (
        "give a little to every other cluster",
        "Szegedy et al., *Inception v3*, CVPR 2016",
        "nothing; it was made for true labels",
    ),
    "mmt": (
        "take a soft label, and soft distances, from a slow copy of the encoder",
        "Ge, Chen, Li, *Mutual Mean-Teaching*, ICLR 2020",
        "one network and its copy; theirs are two that teach each other",
    ),
    "rlcc": (
        "give a little to where the picture stood in the last clustering",
        "Zhang et al., *Refining Pseudo Labels with Clustering Consensus*, CVPR 2021",
        "only the labels, not the rest of their training",
    ),
    "hdcpd": (
        "two augmentations of a picture should get the same probabilities",
        "Cheng et al., *Hybrid Dynamic Contrast and Probability Distillation*, arXiv 2021",
        "cluster contrast stands for their own contrast",
    ),
    "ice": (
        "two augmentations should rank the other pictures of the batch alike",
        "Chen, Lagadec, Bremond, *Inter-instance Contrastive Encoding*, ICCV 2021",
        "no camera terms; cluster contrast stands for their class contrast",
    ),
    "spcl": (
        "let outliers take part, each as a class of its own",
        "Ge et al., *Self-paced Contrastive Learning*, NeurIPS 2020",
        "a new memory each epoch; no test of how reliable a cluster is",
    ),
    "dkdmpl": (
        "take soft labels from the epoch's clustering and from a batch mate",
        "Zhu, Peng, Yan, *DKD-MPL*, TMM 2024",
        "unknown: this is a reading of the abstract",
    ),
}


def costs(records: Sequence[dict], config: Config) -> dict[int, list[float]]:
    """{passes: for each method of so many the median seconds of an epoch of training,
    divided by those of cluster contrast}.
    """
    seconds = {
        method: np.median(
            [
                epoch["seconds"].get("load", 0.0) + epoch["seconds"]["train"]
                for run in runs.values()
                for epoch in run["history"]
            ]
        )
        for method, runs in by_method(records).items()
        if method != "untrained"
    }
    found: dict[int, list[float]] = {}
    for method, own in seconds.items():
        passes = passes_of(method, config) if method in IDEAS else 1
        found.setdefault(passes, []).append(float(own / seconds["cluster_contrast"]))
    return dict(sorted(found.items()))


def labels_table(
    targets: Mapping[str, Tensor], y: Tensor, y_star: Tensor
) -> dict[str, dict[str, float | None]]:
    """{name: what a label (B, K) does}: entropy in nats, mean mass on the hard label y (B,),
    pictures for which another cluster comes first, and the mean mass on the true cluster
    y_star (B,), -1 where unknown, over right and over wrong hard labels (None: there are
    none).
    """
    right, wrong = (y_star >= 0) & (y == y_star), (y_star >= 0) & (y != y_star)
    rows = torch.arange(len(y))
    return {
        name: {
            "entropy (nats)": float(torch.special.entr(label).sum(1).mean()),
            "on the hard label": float(label[rows, y].mean()),
            "names another": int((label.argmax(1) != y).sum()),
            "on the truth, label right": _mean(label[rows[right], y_star[right]]),
            "on the truth, label wrong": _mean(label[rows[wrong], y_star[wrong]]),
        }
        for name, label in targets.items()
    }


def example_row(targets: Mapping[str, Tensor], y: Tensor, y_star: Tensor) -> int:
    """The row of the batch whose labels (B, K) are shown: of those known to be wrong the one
    whose labels give the truth the most on average, and without such the one whose labels
    give the hard label y (B,) the least.
    """
    labels = torch.stack(list(targets.values())).mean(0)
    rows = torch.arange(len(y))
    wrong = (y_star >= 0) & (y != y_star)
    if not wrong.any():
        return int(labels[rows, y].argmin())
    return int(torch.where(wrong, labels[rows, y_star.clamp_min(0)], -1).argmax())


def _mean(x: Tensor) -> float | None:
    return float(x.mean()) if len(x) else None


def part_across(more: Tensor, base: Tensor) -> tuple[float, float, float]:
    """Of an addition to a gradient, both of one shape: its length in lengths of `base`, its
    cosine to it (NaN for an addition of nothing), and the length of its part across it.
    """
    length = float(more.norm() / base.norm())
    if length < 1e-12:
        return 0.0, float("nan"), 0.0
    cosine = float((more * base).sum() / (more.norm() * base.norm()))
    return length, cosine, length * max(1 - cosine**2, 0.0) ** 0.5


def adams_move(gradient: Tensor, steps: int = 10) -> Tensor:
    """Where Adam moves a weight from 0 that gets the same gradient, of any shape, at each
    step; the rate is 1e-3.
    """
    weight = torch.zeros_like(gradient, requires_grad=True)
    adam = torch.optim.Adam([weight], lr=1e-3)
    for _ in range(steps):
        weight.grad = gradient.clone()
        adam.step()
    return weight.detach()


def half_width(values: Sequence[float], wrong: float = 0.05) -> float:
    """Half of Student's interval of the mean of two values or more, which misses the truth
    in the share `wrong` of all cases.
    """
    from scipy.stats import t

    n = len(values)
    return float(t.ppf(1 - wrong / 2, n - 1) * np.std(values, ddof=1) / n**0.5)


def needs_of(method: str, config: Config) -> list[str]:
    """What an objective needs beside one look at the batch and its labels, in words."""
    views = set(NEEDS.get(method, ()))
    own = method == "dkdmpl"
    needs = {
        "second augmentation": views & {"ema_z", "ema_logits"}
        or (own and config.skd_anchor in ("augmentation", "ema")),
        "plain pictures": "plain_z" in views,
        "slow copy": needs_ema(config.replace(method=method)),
        "last clustering": "carried" in views or (own and config.gkd_teacher == "consensus"),
        "a memory row a picture": method == "spcl",
    }
    return [name for name, needed in needs.items() if needed]


def passes_of(method: str, config: Config) -> int:
    """How often a batch goes through an encoder; the first pass alone is also run back."""
    return 1 + len({"second augmentation", "plain pictures"} & set(needs_of(method, config)))


def ideas_table(config: Config) -> str:
    """The objectives in Markdown: idea, paper, needs, passes and what is simpler here."""
    heads = ("method", "idea", "paper", "needs", "passes", "simpler here")
    rows = [heads, ("---",) * len(heads)]
    for method, (idea, paper, simpler) in IDEAS.items():
        needs = ", ".join(needs_of(method, config)) or "–"
        passes = str(passes_of(method, config))
        rows.append((f"`{method}`", idea, paper, needs, passes, simpler))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


@dataclass(frozen=True)
class Bench:
    """One batch of B pictures as training draws it, in 64-bit numbers; K clusters.

    v (N, d), labels (N,): of all training pictures. batch, y (B,): indices and labels.
    memory, hybrid: as an epoch begins. z, ema_z, plain_z (B, d): features of an augmented
    look, of another one by the slow copy, and of the plain pictures by it. carried (B, K):
    labels of the untrained features' clustering, carried over. teacher, vote (B, K):
    logits of the teachers that DKD-MPL can have. steps: of the warm run.
    """

    config: Config
    v: Tensor
    labels: Tensor
    batch: np.ndarray
    y: Tensor
    memory: ClusterMemory
    hybrid: HybridMemory
    z: Tensor
    ema_z: Tensor
    plain_z: Tensor
    carried: Tensor
    teacher: Tensor
    vote: Tensor
    steps: int

    @property
    def logits(self) -> Tensor:
        return self.memory.logits(self.z, self.config.temperature)

    @property
    def ema_logits(self) -> Tensor:
        return self.memory.logits(self.ema_z, self.config.temperature)

    @property
    def weights(self) -> tuple[float, float]:
        """lambda_g and lambda_s after the warm-up."""
        return self.config.gkd_weight or 0.5, self.config.skd_weight or 0.5

    @property
    def methods(self) -> list[str]:
        return [*IDEAS, VOTE]

    def loss(self, method: str, z: Tensor, logits: Tensor | None = None) -> Tensor:
        """The total of a method as a function of features (B, d), or with logits (B, K) as
        a function of these.
        """
        config = self.config
        if method == "spcl":  # another memory: other logits, and more classes
            wide = self.hybrid.logits(z, config.temperature)
            return cluster_contrast_loss(wide, self.hybrid.classes[self.batch])
        if logits is None:
            logits = self.memory.logits(z, config.temperature)
        if method == "cluster_contrast":
            return cluster_contrast_loss(logits, self.y)
        if method in ("dkdmpl", VOTE):
            return dkdmpl_loss(
                logits,
                self.y,
                teacher_logits=self.vote if method == VOTE else self.teacher,
                anchor_logits=logits[positive_anchors(self.z, self.y, strategy="hardest")],
                gkd_weight=self.weights[0],
                skd_weight=self.weights[1],
                temperature=config.distillation_temperature,
                divergence=config.skd_divergence,
            ).total
        views = {"z": z, "ema_z": self.ema_z, "ema_logits": self.ema_logits}
        views |= {"plain_z": self.plain_z, "carried": self.carried}
        return rival_loss(method, logits, self.y, views).total

    def by_features(self, method: str) -> Tensor:
        """(B, d) gradient of a method by z, without the part along z: a feature has length
        1, and only the rest turns it.
        """
        leaf = self.z.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.loss(method, leaf), leaf)
        return gradient - (gradient * self.z).sum(1, keepdim=True) * self.z

    def by_logits(self, method: str) -> Tensor | None:
        """(B, K) gradient by the memory's logits: what passes through the label over
        clusters. None for "spcl", whose logits are others.
        """
        if method == "spcl":
            return None
        leaf = self.logits.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.loss(method, self.z, leaf), leaf)
        return gradient

    def added_by_logits(self, method: str) -> float | None:
        """The length that a method adds to cluster contrast's gradient by the logits, in
        lengths of that; "louder" is cluster contrast twice.
        """
        if method == "louder":
            return 1.0
        own, base = self.by_logits(method), self.by_logits("cluster_contrast")
        return None if own is None else part_across(own - base, base)[0]


def bench(stage: Stage) -> Bench:
    """The bench of a stage after the warm run.

    The slow copy mixes the untrained and the present encoder by the share that a copy kept
    during the warm run would hold; training moves it step by step.
    """
    encoder, features, pseudo = stage.warm_start()
    encoder = encoder.cpu()
    config, store = stage.config.replace(device="cpu"), stage.pictures("train")
    v = _unit(torch.from_numpy(features))
    labels = torch.from_numpy(pseudo.labels)
    memory = ClusterMemory(v, labels, momentum=config.memory_momentum)
    draws = generator_for(config.seed, 0, "neighbours")
    batch = next(lesson_batches(stage, pseudo.labels, draws, 1))
    steps = min(4, config.epochs) * config.iterations
    state = TrainingState(encoder, None, ema=stage.encoder().cpu())
    update_ema(state, config.ema_momentum**steps)
    slow = state.ema.eval()
    encoder.train()
    run = Run(config, None, stage.dataset.unlabelled(), store)
    with torch.no_grad():
        z = _unit(encoder(augmented(run, batch, draws)))
        ema_z = _unit(slow(augmented(run, batch, draws)))
        plain_z = _unit(slow(to_float(store.batch(batch))))
    soft = soft_labels_of(stage, features, pseudo.labels, "vote")
    posterior = torch.from_numpy(rows_of(soft, batch, pseudo.labels)).double()
    return Bench(
        config=config,
        v=v,
        labels=labels,
        batch=batch,
        y=labels[batch],
        memory=memory,
        hybrid=HybridMemory(v, labels),
        z=z,
        ema_z=ema_z,
        plain_z=plain_z,
        carried=_carried(stage, pseudo.labels)[batch],
        teacher=teacher_logits(
            "sample",
            centroids=memory.centroids,
            features=v[batch],
            temperature=config.teacher_temperature,
        ),
        vote=teacher_logits("vote", posterior=posterior),
        steps=steps,
    )


def _carried(stage: Stage, labels: np.ndarray) -> Tensor:
    """(N, K) labels of the untrained features' clustering, carried over; even ones where
    it has fewer than two clusters.
    """
    features = stage.features()
    old = stage.cluster(features)
    n_clusters = int(labels.max()) + 1
    if old.n_clusters < 2:
        return torch.full((len(labels), n_clusters), 1 / n_clusters, dtype=torch.float64)
    v, before = _unit(torch.from_numpy(features)), torch.from_numpy(old.labels)
    logits = teacher_logits(
        "sample",
        centroids=ClusterMemory(v, before).centroids,
        features=v,
        temperature=stage.config.teacher_temperature,
    )
    return carry_posterior(refined_labels(before, logits.softmax(1)), old.labels, labels)


def _unit(x: Tensor) -> Tensor:
    """Rows (B, d) of length 1 in 64-bit numbers."""
    return F.normalize(x.double(), dim=1)
