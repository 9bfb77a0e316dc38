"""How pseudo labels change from one epoch to the next: clusters matched, born and gone,
images that change sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise.agreement import true_clusters
from dkdmpl_kit.noise.tables import best_matching, checked, count_table

LEAST_IOU = 0.2  # of two clusters that are the same one at two epochs


@dataclass(frozen=True)
class LabelChange:
    """What happened between two clusterings of the same N images; M clusters are
    matched.

    before, after   (M,) labels of the matched clusters, one to one; iou (M,) their
                    overlap, |A and B| / |A or B|
    births, deaths  labels of the new (old) clusters without a match
    splits, merges  labels of the old (new) clusters that fell apart (were put together)
    flipped         (N,) bool: clustered both times, but not in the cluster matched to
                    the old one
    became_outlier, stopped_outlier  (N,) bool
    """

    before: np.ndarray
    after: np.ndarray
    iou: np.ndarray
    births: np.ndarray
    deaths: np.ndarray
    splits: np.ndarray
    merges: np.ndarray
    flipped: np.ndarray
    became_outlier: np.ndarray
    stopped_outlier: np.ndarray


def label_change(
    before: np.ndarray, after: np.ndarray, *, part: float = 0.2, least_iou: float = LEAST_IOU
) -> LabelChange:
    """Compare the labels (N,) of two epochs, -1 for outliers; label numbers need not
    agree.

    Clusters are matched one to one so that the intersections over union have the
    greatest sum (the Hungarian algorithm's assignment). Of these pairs, one that overlaps
    by less than `least_iou` is not the same cluster: the old one died, the new one was
    born. Clusters that share no image never match. part: in (0, 1]; an old cluster is split
    where at least two new ones each take that share of its images, a new one is merged where
    at least two old ones each make up that share of it. So one stray image is not a split.
    KitError: lists of two lengths, a part outside (0, 1].
    """
    before, after = checked(before, after, "the labels of two epochs")
    if not 0 < part <= 1:
        raise KitError(
            f"part={part} must lie above 0 and at most at 1: the share of a cluster "
            "that makes a part of it."
        )
    old, size_old = np.unique(before[before >= 0], return_counts=True)
    new, size_new = np.unique(after[after >= 0], return_counts=True)
    both = (before >= 0) & (after >= 0)
    row = np.searchsorted(old, before[both])
    column = np.searchsorted(new, after[both])
    shared = count_table(row, column, (len(old), len(new)))
    cells = shared.tocoo()
    overlap = shared.astype(float)
    overlap.data = cells.data / (size_old[cells.row] + size_new[cells.col] - cells.data)
    match = best_matching(overlap)
    matched = match[cells.row] == cells.col  # a match is always a stored cell
    too_little = matched & (overlap.data < least_iou)
    match[cells.row[too_little]] = -1
    matched &= ~too_little
    flipped = np.zeros(len(before), dtype=bool)
    flipped[both] = match[row] != column
    taken = cells.row[cells.data >= part * size_old[cells.row]]
    split = np.bincount(taken, minlength=len(old)) > 1
    gained = cells.col[cells.data >= part * size_new[cells.col]]
    merged = np.bincount(gained, minlength=len(new)) > 1
    return LabelChange(
        before=old[cells.row[matched]],
        after=new[cells.col[matched]],
        iou=overlap.data[matched],
        births=np.delete(new, cells.col[matched]),
        deaths=old[match < 0],
        splits=old[split],
        merges=new[merged],
        flipped=flipped,
        became_outlier=(before >= 0) & (after < 0),
        stopped_outlier=(before < 0) & (after >= 0),
    )


def change_table(
    epoch_labels: Sequence[np.ndarray], *, part: float = 0.2
) -> dict[str, np.ndarray]:
    """One row for each step of a run, as columns (E - 1,): from the labels (N,) of its
    E epochs in order.

    epoch        of the later clustering, from 1
    n_clusters   then; matched, births, deaths, splits, merges: clusters, as in
                 `label_change`
    mean_iou     of the matched clusters, NaN without any
    flips, became_outliers, stopped_outliers: images; flip_share: flips among the images
    clustered both times KitError: fewer than two epochs, or epochs of different
    lengths.
    """
    if len(epoch_labels) < 2:
        raise KitError(
            f"A change takes the labels of two epochs, and there are "
            f"{len(epoch_labels)}: train longer."
        )
    columns: dict[str, list[float]] = {}
    for epoch, (before, after) in enumerate(
        zip(epoch_labels[:-1], epoch_labels[1:]), start=1
    ):
        change = label_change(before, after, part=part)
        stayed = int(((np.asarray(before) >= 0) & (np.asarray(after) >= 0)).sum())
        flips = int(change.flipped.sum())
        row = {
            "epoch": epoch,
            "n_clusters": len(change.after) + len(change.births),
            "matched": len(change.after),
            "births": len(change.births),
            "deaths": len(change.deaths),
            "splits": len(change.splits),
            "merges": len(change.merges),
            "mean_iou": float(change.iou.mean()) if len(change.iou) else np.nan,
            "flips": flips,
            "flip_share": flips / stayed if stayed else 0.0,
            "became_outliers": int(change.became_outlier.sum()),
            "stopped_outliers": int(change.stopped_outlier.sum()),
        }
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in columns.items()}


def label_repairs(epoch_labels: Sequence[np.ndarray], pids: np.ndarray) -> tuple[int, int]:
    """(repaired, spoilt): labels that changed sides between two epochs and became right, or
    stopped being right, added up over a run's epochs.

    epoch_labels: E arrays (N,), -1 for outliers; pids (N,), negative where unknown. Right is
    a label that is the picture's true cluster (`true_clusters`).
    """
    right = [(y >= 0) & (y == true_clusters(y, pids)) for y in map(np.asarray, epoch_labels)]
    repaired = spoilt = 0
    for step, (before, after) in enumerate(zip(epoch_labels[:-1], epoch_labels[1:])):
        moved = label_change(before, after).flipped
        repaired += int((moved & ~right[step] & right[step + 1]).sum())
        spoilt += int((moved & right[step] & ~right[step + 1]).sum())
    return repaired, spoilt
