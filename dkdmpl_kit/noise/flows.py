"""Clusters tracked through the epochs of a run: one number a cluster as long as it
lives, and those worth a look.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dkdmpl_kit.errors import KitError, check_option
from dkdmpl_kit.noise.change import LEAST_IOU, label_change

ORDERS = ("change", "size")


def label_tracks(
    epoch_labels: Sequence[np.ndarray], *, least_iou: float = LEAST_IOU
) -> np.ndarray:
    """(E, N) int64: the labels (N,) of E epochs, renumbered so that a cluster keeps its
    number while it lives; -1 outliers.

    A cluster goes on in the one that `label_change` matches to it; it dies otherwise, and
    a cluster that continues none is born with the next free number. The first epoch keeps
    its order. KitError: no epoch, or epochs of different lengths.
    """
    if not len(epoch_labels):
        raise KitError("There is no epoch to track clusters through: train at least one.")
    first = np.asarray(epoch_labels[0])
    places = np.unique(first, return_inverse=True)[1]
    tracks = [places - 1 if (first < 0).any() else places]  # outliers have place 0
    born = int(tracks[0].max()) + 1
    for before, after in zip(epoch_labels[:-1], epoch_labels[1:]):
        change = label_change(before, after, least_iou=least_iou)
        after = np.asarray(after)
        names = np.full(max(int(after.max()) + 1, 1), -1)
        for old, new in zip(change.before, change.after):
            names[new] = tracks[-1][np.argmax(np.asarray(before) == old)]
        fresh = np.setdiff1d(after[after >= 0], np.flatnonzero(names >= 0))
        names[fresh] = born + np.arange(len(fresh))
        born += len(fresh)
        tracks.append(np.where(after >= 0, names[after], -1))
    return np.stack(tracks).astype(np.int64)


def choose_tracks(tracks: np.ndarray, top: int, *, by: str = "change") -> np.ndarray:
    """(at most top,) numbers of the tracks (E, N) that tell most, those that exchange
    pictures side by side.

    by: "change", whose pictures moved most often to or from another cluster (then the
    larger); or "size", the number of pictures summed over the epochs.
    """
    check_option("by", by, ORDERS)
    tracks = np.asarray(tracks)
    known = int(tracks.max()) + 1
    size = np.bincount(tracks[tracks >= 0], minlength=known)
    before = tracks[:-1].ravel()
    after = tracks[1:].ravel()
    moved = (before >= 0) & (after >= 0) & (before != after)
    exchanged = np.bincount(np.concatenate([before[moved], after[moved]]), minlength=known)
    told = exchanged if by == "change" else size
    chosen = np.lexsort((np.arange(known), -size, -told))[:top]
    return _side_by_side(np.sort(chosen), before[moved], after[moved])


def _side_by_side(chosen: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """`chosen` in the order of a dendrogram over how many pictures each two exchange."""
    if len(chosen) < 3:
        return chosen
    from scipy.cluster.hierarchy import leaves_list, linkage

    inside = np.isin(before, chosen) & np.isin(after, chosen)
    shared = np.zeros((len(chosen), len(chosen)))
    leave = np.searchsorted(chosen, before[inside])
    arrive = np.searchsorted(chosen, after[inside])
    np.add.at(shared, (leave, arrive), 1)
    apart = 1 / (1 + shared + shared.T)
    pairs = apart[np.triu_indices(len(chosen), 1)]
    return chosen[leaves_list(linkage(pairs, "average", optimal_ordering=True))]


def track_changes(tracks: np.ndarray) -> dict[str, np.ndarray]:
    """{"born", "died", "moved"}, each (E - 1,): clusters that begin and end, pictures
    that go from one cluster to another.

    tracks (E, N) of `label_tracks`; entry k is the step from epoch k to k + 1.
    """
    steps = list(zip(tracks[:-1], tracks[1:]))
    alive = [(np.unique(a[a >= 0]), np.unique(b[b >= 0])) for a, b in steps]
    return {
        "born": np.array([len(np.setdiff1d(b, a)) for a, b in alive], int),
        "died": np.array([len(np.setdiff1d(a, b)) for a, b in alive], int),
        "moved": np.array([((a >= 0) & (b >= 0) & (a != b)).sum() for a, b in steps], int),
    }


def track_bands(tracks: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(E, N) the place of each picture's track in `chosen` (T,): 0..T-1, T another
    cluster, T + 1 an outlier.
    """
    tracks = np.asarray(tracks)
    chosen = np.asarray(chosen, int)
    places = np.full(int(tracks.max()) + 2, len(chosen))
    places[chosen] = np.arange(len(chosen))
    places[-1] = len(chosen) + 1  # where -1 points to
    return places[tracks]
