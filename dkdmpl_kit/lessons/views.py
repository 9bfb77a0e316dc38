"""What the lessons on the losses (03, 04) need around the one picture that they follow: the
clustering's soft labels, a batch that holds the picture, and the batch as the student sees
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import csr_array

from dkdmpl_kit.clustering import PseudoLabels, jaccard_of, rows_of
from dkdmpl_kit.data import augment, pk_batches
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.example import running_example
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.losses import carry_posterior, teacher_logits
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.noise import true_clusters
from dkdmpl_kit.training.extraction import neighbourhoods_of, soft_labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DRAWS = 5000  # batches to look through: a picture of a large cluster is drawn seldom


@dataclass(frozen=True, eq=False)
class Followed:
    """The picture that a lesson follows (`running_example`), and what is known of it.

    index  its number among the training pictures
    hard   the cluster of its hard label
    other  a second cluster: its true one where the label is wrong, otherwise the one with
           most of the other votes
    true   its true cluster, -1 where there is none or it is unknown
    votes  the clustering's soft labels of all pictures, (N, K), sparse
    star   (N,) the true clusters of all pictures, None where identities are unknown
    """

    index: int
    hard: int
    other: int
    true: int
    votes: csr_array
    star: np.ndarray | None

    @property
    def sentence(self) -> str:
        said = (
            f"We follow picture {self.index}. Its label is cluster {self.hard}; the second "
            f"cluster is {self.other}. "
        )
        if self.star is None:
            return said + "Its true cluster is not known."
        if self.true < 0:
            return said + "Its identity has no cluster of its own."
        if self.true == self.hard:
            return said + f"Its true cluster is {self.true}, so the label is right."
        return said + (
            f"Its true cluster, its identity's own, is {self.true}, so the label is wrong."
        )


def follow(stage: Stage, features: np.ndarray, labels: np.ndarray) -> Followed:
    """The picture to follow among features (N, d) with hard labels (N,)."""
    votes = soft_labels_of(stage, features, labels, "vote")
    star = true_clusters(labels, stage.pids) if stage.has_truth else None
    i = running_example(votes, labels, star)
    hard = int(labels[i])
    true = -1 if star is None else int(star[i])
    rest = rows_of(votes, np.array([i]), labels)[0]
    rest[hard] = -1
    other = true if true not in (-1, hard) else int(rest.argmax())
    return Followed(i, hard, other, true, votes, star)


def followed_sheet(
    stage: Stage, picture: Followed, labels: np.ndarray, columns: int = 8
) -> tuple[Figure, str]:
    """The followed picture above pictures of its cluster and of the second one, and the
    sentence that reads it. Green frames: the same identity, where identities are known.
    """
    from dkdmpl_kit import viz

    members = [np.flatnonzero(labels == k) for k in (picture.hard, picture.other)]
    groups = [group[group != picture.index][:columns] for group in members]
    shown = np.concatenate([[picture.index], *groups])
    rows = np.repeat(["1: picture", "2: label", "3: second"], [1, *map(len, groups)])
    said = f"Row 2 shows cluster {picture.hard}, row 3 cluster {picture.other}."
    frames = None
    if stage.has_truth:
        same = stage.pids[shown] == stage.pids[picture.index]
        colours = [viz.PALETTE["right" if yes else "wrong"] for yes in same]
        frames = [None, *colours[1:]]
        found = [int((stage.pids[g] == stage.pids[picture.index]).sum()) for g in groups]
        said += (
            f" Green frames show the same identity as the picture: {found[0]} of "
            f"{len(groups[0])} in row 2 and {found[1]} of {len(groups[1])} in row 3."
        )
    figure = viz.contact_sheet(
        stage.pictures("train").pixels[shown],
        rows=rows,
        row_name="",
        frames=frames,
        max_columns=columns,
        title="The picture, its cluster, and the second cluster",
    )
    return figure, said


def more_teachers(
    stage: Stage, features: np.ndarray, pseudo: PseudoLabels, temperature: float
) -> dict[str, torch.Tensor]:
    """{name: soft labels (n, K) of the n clustered pictures} of the teachers "cluster",
    "consensus" (from the untrained encoder, or from now where its features have no
    clusters) and "neighbourhood".
    """
    v = torch.from_numpy(features)
    labels = torch.from_numpy(pseudo.labels)
    index = np.flatnonzero(pseudo.labels >= 0)
    C = ClusterMemory(v, labels).centroids
    cluster = teacher_logits(
        "cluster", labels=labels[index], centroids=C, temperature=temperature
    )
    v_before = torch.from_numpy(stage.features())
    before = stage.cluster(v_before.numpy())
    if before.n_clusters < 2:
        v_before, before = v, pseudo
    C_before = ClusterMemory(v_before, torch.from_numpy(before.labels)).centroids
    e_before = torch.softmax(v_before @ C_before.T / temperature, dim=1)
    shares = soft_labels_of(stage, features, pseudo.labels, "neighbourhood")
    return {
        "cluster": torch.softmax(cluster, dim=1),
        "consensus": carry_posterior(e_before, before.labels, pseudo.labels)[index],
        "neighbourhood": torch.from_numpy(rows_of(shares, index, pseudo.labels)),
    }


def soft_labels_of(
    stage: Stage, features: np.ndarray, labels: np.ndarray, teacher: str = "vote"
) -> csr_array:
    """Soft labels (N, K), sparse, of features (N, d) and hard labels (N,), whoever made
    these: what `stage.cluster(features, gkd_teacher=teacher).soft` is for the clustering's
    own ones. teacher: "vote" or "neighbourhood".
    """
    config = stage.config.replace(gkd_teacher=teacher)
    neighbourhoods = neighbourhoods_of(config, features, stage.camids)
    distances = jaccard_of(neighbourhoods, config.max_distance)
    return soft_labels(config, distances, neighbourhoods, labels, stage.camids)


def lesson_batches(
    stage: Stage, labels: np.ndarray, generator: torch.Generator, count: int
) -> Iterator[np.ndarray]:
    """`count` batches (B,) of indices, drawn as in training from hard labels (N,)."""
    config = stage.config
    return pk_batches(
        labels,
        stage.camids,
        clusters_per_batch=config.batch_clusters,
        images_per_cluster=config.batch_images,
        iterations=count,
        sampler=config.sampler if stage.has_cameras else "random",
        generator=generator,
    )


def batch_with(
    picture: int, stage: Stage, labels: np.ndarray, generator: torch.Generator
) -> np.ndarray:
    """(B,) indices of the first of `lesson_batches` that holds `picture`. KitError where
    there is none.
    """
    for batch in lesson_batches(stage, labels, generator, _DRAWS):
        if picture in batch:
            return batch
    raise KitError(f"Picture {picture} is in none of {_DRAWS} batches: is it an outlier?")


def student_views(
    stage: Stage, pictures: np.ndarray, generator: torch.Generator
) -> torch.Tensor:
    """Training pictures (B,) by index as the student sees them: augmented as in training,
    float (B, 3, H, W).
    """
    config = stage.config
    return augment(
        stage.pictures("train").batch(pictures),
        generator,
        flip=config.flip,
        padding=config.padding,
        erasing=config.erasing,
    )
