"""How wrong pseudo labels are, and in which way, measured against identities that training never sees."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dkdmpl_kit.errors import KitError

ERROR_KINDS = ("right", "merged", "split", "outlier", "unknown")


@dataclass(frozen=True)
class ClusterAgreement:
    """Agreement of clusters with identities, over the clustered images whose identity is known.

    ari     adjusted Rand index (Hubert & Arabie 1985): 1 equal partitions, about 0 by chance
    nmi     normalised mutual information, arithmetic mean, in [0, 1]
    purity  share of images whose identity is the most frequent one of their cluster, in (0, 1]
    These three are None where no clustered image has a known identity. The rest counts all images.
    """

    ari: float | None
    nmi: float | None
    purity: float | None
    n_clusters: int
    n_outliers: int
    outlier_fraction: float


def cluster_agreement(labels: np.ndarray, pids: np.ndarray) -> ClusterAgreement:
    """Compare pseudo labels (N,), -1 for outliers, with identities (N,), negative where unknown."""
    labels, pids = _checked(labels, pids)
    n_outliers = int((labels < 0).sum())
    counted = (labels >= 0) & (pids >= 0)
    ari = nmi = purity = None
    if counted.any():
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

        ari = float(adjusted_rand_score(pids[counted], labels[counted]))
        nmi = float(normalized_mutual_info_score(pids[counted], labels[counted]))
        cells, _, counts = _cells(labels[counted], pids[counted])
        purity = float(counts[_leaders(cells, counts, 0)].sum() / counted.sum())
    return ClusterAgreement(ari, nmi, purity, len(np.unique(labels[labels >= 0])), n_outliers,
                            n_outliers / len(labels))


def error_kinds(labels: np.ndarray, pids: np.ndarray) -> np.ndarray:
    """What happened to each image: (N,) array of str, one of `ERROR_KINDS`.

    "outlier"  not clustered
    "merged"   its identity is not its cluster's majority: it sits among images of somebody else
    "split"    its identity is its cluster's majority, but another cluster holds more images of this identity
    "right"    its identity is its cluster's majority, and this is the identity's largest cluster
    "unknown"  clustered, but of unknown identity (negative): left out of all counts

    Ties: of equally frequent identities the smaller pid is a cluster's majority; of clusters that hold equally many
    images of an identity the one with the smaller label is its largest.
    """
    labels, pids = _checked(labels, pids)
    kinds = np.full(len(labels), "unknown", dtype="<U7")
    kinds[labels < 0] = "outlier"
    counted = np.flatnonzero((labels >= 0) & (pids >= 0))
    if len(counted) == 0:
        return kinds
    cells, cell_of, counts = _cells(labels[counted], pids[counted])
    majority, largest = _leaders(cells, counts, 0), _leaders(cells, counts, 1)
    cell_kinds = np.full(len(counts), "merged", dtype=kinds.dtype)
    cell_kinds[majority] = "split"
    cell_kinds[np.intersect1d(majority, largest)] = "right"
    kinds[counted] = cell_kinds[cell_of]
    return kinds


def _cells(labels: np.ndarray, pids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The contingency table's filled cells: (label, pid) (2, C), the cell of each image (N,), images per cell (C,)."""
    cells, cell_of = np.unique(np.stack([labels, pids]), axis=1, return_inverse=True)
    cell_of = cell_of.ravel()
    return cells, cell_of, np.bincount(cell_of)


def _leaders(cells: np.ndarray, counts: np.ndarray, axis: int) -> np.ndarray:
    """Per label (axis 0) or per pid (axis 1) the cell with most images; ties: the smaller pid or label."""
    order = np.lexsort([cells[1 - axis], -counts, cells[axis]])
    _, first = np.unique(cells[axis][order], return_index=True)
    return order[first]


def _checked(labels: np.ndarray, pids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, pids = np.asarray(labels), np.asarray(pids)
    if labels.ndim != 1 or labels.shape != pids.shape or len(labels) == 0:
        raise KitError(f"labels and pids must be two lists of the same length, not {labels.shape} and {pids.shape}.")
    return labels.astype(np.int64), pids.astype(np.int64)
