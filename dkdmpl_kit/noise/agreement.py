"""How wrong pseudo labels are, and in which way, measured against identities that
training never sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dkdmpl_kit.errors import KitError, check_option
from dkdmpl_kit.noise.tables import best_matching, checked, contingency, count_table, pairs

ERROR_KINDS = ("right", "merged", "split", "outlier", "unknown")


@dataclass(frozen=True)
class ClusterAgreement:
    """Agreement of clusters with identities, over the clustered images whose identity
    is known.

    ari     adjusted Rand index (Hubert & Arabie 1985): 1 equal partitions, about 0 by
            chance
    nmi     normalised mutual information, arithmetic mean, in [0, 1]
    purity  share of images whose identity is the most frequent one of their cluster, in
            (0, 1]

    These three are None where no clustered image has a known identity. The rest counts
    all images.
    """

    ari: float | None
    nmi: float | None
    purity: float | None
    n_clusters: int
    n_outliers: int
    outlier_fraction: float


def cluster_agreement(labels: np.ndarray, pids: np.ndarray) -> ClusterAgreement:
    """Compare pseudo labels (N,), -1 for outliers, with identities (N,), negative where
    unknown.
    """
    labels, pids = checked(labels, pids)
    n_outliers = int((labels < 0).sum())
    counted = (labels >= 0) & (pids >= 0)
    ari = nmi = purity = None
    if counted.any():
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

        ari = float(adjusted_rand_score(pids[counted], labels[counted]))
        nmi = float(normalized_mutual_info_score(pids[counted], labels[counted]))
        cells, _, counts = _cells(labels[counted], pids[counted])
        purity = float(counts[_leaders(cells, counts, 0)].sum() / counted.sum())
    return ClusterAgreement(
        ari,
        nmi,
        purity,
        len(np.unique(labels[labels >= 0])),
        n_outliers,
        n_outliers / len(labels),
    )


def error_kinds(labels: np.ndarray, pids: np.ndarray) -> np.ndarray:
    """What happened to each image: (N,) array of str, one of `ERROR_KINDS`.

    labels (N,), -1 for outliers; pids (N,), negative where unknown.

    "outlier"  not clustered
    "merged"   its identity is not its cluster's majority: it sits among images of
               somebody else
    "split"    its identity is its cluster's majority, but another cluster holds more
               images of this identity
    "right"    its identity is its cluster's majority, and this is the identity's
               largest cluster
    "unknown"  clustered, but of unknown identity (negative): left out of all counts

    Ties: of equally frequent identities the smaller pid is a cluster's majority; of
    clusters that hold equally many images of an identity the one with the smaller label
    is its largest.
    """
    labels, pids = checked(labels, pids)
    kinds = np.full(len(labels), "unknown", dtype="<U7")
    kinds[labels < 0] = "outlier"
    counted = np.flatnonzero((labels >= 0) & (pids >= 0))
    if len(counted) == 0:
        return kinds
    cells, cell_of, counts = _cells(labels[counted], pids[counted])
    majority = _leaders(cells, counts, 0)
    largest = _leaders(cells, counts, 1)
    cell_kinds = np.full(len(counts), "merged", dtype=kinds.dtype)
    cell_kinds[majority] = "split"
    cell_kinds[np.intersect1d(majority, largest)] = "right"
    kinds[counted] = cell_kinds[cell_of]
    return kinds


def cluster_owners(labels: np.ndarray, pids: np.ndarray) -> np.ndarray:
    """(K,) int64: each cluster's most frequent known identity, -1 where it has none.

    labels (N,) 0..K-1, -1 for outliers; pids (N,), negative where unknown. Of equal ones
    the smaller pid. KitError: lists of two lengths.
    """
    labels, pids = checked(labels, pids)
    owners = np.full(int(labels.max(initial=-1)) + 1, -1)
    counted = (labels >= 0) & (pids >= 0)
    if counted.any():
        cells, _, counts = _cells(labels[counted], pids[counted])
        clusters, people = cells[:, _leaders(cells, counts, 0)]
        owners[clusters] = people
    return owners


def true_clusters(labels: np.ndarray, pids: np.ndarray) -> np.ndarray:
    """(N,) int64: the true cluster y* of each picture, which is its identity's.

    An identity owns the clusters in which it is the most frequent one. Of these, its
    true cluster is the one with most of its pictures. -1 where the identity owns no
    cluster, or is unknown. labels (N,), -1 for outliers; pids (N,), negative where
    unknown. Ties are settled as in `error_kinds`. KitError: lists of two lengths.
    """
    labels, pids = checked(labels, pids)
    people, person_of = np.unique(pids, return_inverse=True)
    true_cluster = np.full(len(people), -1)
    counted = (labels >= 0) & (pids >= 0)
    if counted.any():
        cells, _, counts = _cells(labels[counted], pids[counted])
        owned = _leaders(cells, counts, 0)
        cells = cells[:, owned]
        clusters, owners = cells[:, _leaders(cells, counts[owned], 1)]
        true_cluster[np.searchsorted(people, owners)] = clusters
    return true_cluster[person_of]


@dataclass(frozen=True)
class LabelReport:
    """Pseudo labels against identities, over the counted images.

    A measure that has nothing to say is None.

    Pairs of images (sums over the contingency table, never N x N):
      pair_precision  of the pairs in one cluster, the share of one identity
      pair_recall     of the pairs of one identity, the share in one cluster
      pair_f          their harmonic mean: 2 TP over all pairs claimed and true
    Images (B-cubed, Bagga & Baldwin 1998: each judges its own cluster and identity):
      bcubed_precision  mean share of an image's cluster that has its identity
      bcubed_recall     mean share of an image's identity that is in its cluster
      bcubed_f          their harmonic mean
    Partitions:
      purity, ari, nmi  as in `ClusterAgreement`
      homogeneity, completeness  and their harmonic mean v_measure, which equals nmi
                                 (Rosenberg & Hirschberg 2007)
    Counts:
      split_identities  identities in more than one cluster
      merged_clusters   clusters of more than one identity
      wrong_share       share of the images outside the identity that their cluster is
                        matched to (`matched_labels`)
    """

    n_images: int
    n_clusters: int
    n_identities: int
    pair_precision: float | None = None
    pair_recall: float | None = None
    pair_f: float | None = None
    bcubed_precision: float | None = None
    bcubed_recall: float | None = None
    bcubed_f: float | None = None
    purity: float | None = None
    ari: float | None = None
    nmi: float | None = None
    homogeneity: float | None = None
    completeness: float | None = None
    v_measure: float | None = None
    split_identities: int = 0
    merged_clusters: int = 0
    wrong_share: float | None = None


def label_report(
    labels: np.ndarray, pids: np.ndarray, *, outliers: str = "left_out"
) -> LabelReport:
    """Every measure of pseudo labels (N,), -1 for outliers, against identities (N,),
    negative where unknown.

    outliers: "left_out" judges the clustered images alone (how clean is what is trained
    on?); "singletons" judges all, each outlier as a cluster of its own: precision rises
    and recall falls by them, their identities count as split. Images of unknown
    identity are left out either way.
    """
    from sklearn.metrics import (
        adjusted_rand_score,
        homogeneity_completeness_v_measure,
        normalized_mutual_info_score,
    )

    table = contingency(labels, pids, outliers=outliers)
    counts = table.counts
    n = len(table.images)
    if not n:
        return LabelReport(0, 0, 0)
    # images per cluster (K,), identity (P,)
    sizes = counts.sum(axis=1)
    totals = counts.sum(axis=0)
    both = pairs(counts.data)
    claimed = pairs(sizes)
    true = pairs(totals)
    cells = counts.tocoo()
    squares = cells.data.astype(float) ** 2
    bcubed = [
        float((squares / sizes[cells.row]).sum() / n),
        float((squares / totals[cells.col]).sum() / n),
    ]
    matched = best_matching(counts)[table.row_of]
    partition = (table.column_of, table.row_of)
    return LabelReport(
        n,
        len(sizes),
        len(totals),
        both / claimed if claimed else None,
        both / true if true else None,
        2 * both / (claimed + true) if claimed + true else None,
        *bcubed,
        2 * bcubed[0] * bcubed[1] / sum(bcubed),
        float(counts.max(axis=1).toarray().sum() / n),
        float(adjusted_rand_score(*partition)),
        float(normalized_mutual_info_score(*partition)),
        *(float(value) for value in homogeneity_completeness_v_measure(*partition)),
        int((np.bincount(cells.col) > 1).sum()),
        int((np.bincount(cells.row) > 1).sum()),
        float((matched != table.column_of).mean()),
    )


def matched_labels(labels: np.ndarray, pids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The identity of each image by its pseudo label (N,), and whether that is wrong
    (N,) bool.

    Each cluster takes one identity and each identity one cluster, so that most images
    are right (`best_matching`). The first is -1 for an outlier and in a cluster that
    stays without identity: all of those images are wrong, and so is every second part
    of a split identity. Outliers and images of unknown identity are not wrong, as
    nothing can be said of them: leave them out with (labels >= 0) & (pids >= 0).
    """
    table = contingency(labels, pids)
    identity = np.append(table.pids, -1)[best_matching(table.counts)]
    labels, pids = checked(labels, pids)
    by_label = np.full(len(labels), -1)
    wrong = np.zeros(len(labels), dtype=bool)
    in_table = np.isin(labels, table.clusters)  # unknown images in matched clusters too
    by_label[in_table] = identity[np.searchsorted(table.clusters, labels[in_table])]
    wrong[table.images] = by_label[table.images] != pids[table.images]
    return by_label, wrong


@dataclass(frozen=True)
class CameraPairErrors:
    """Pairs of images by their two cameras; every array (C, C) int64 and symmetric,
    each unordered pair counted once.

    cameras   (C,) camera ids
    merged    pairs of two identities, wrongly in one cluster
    together  all pairs in one cluster
    split     pairs of one identity, wrongly in two clusters
    same      all pairs of one identity

    So merged / together and split / same are the rates of error; the entries on and
    above the diagonal add up to the pairs of `label_report`.
    """

    cameras: np.ndarray
    merged: np.ndarray
    together: np.ndarray
    split: np.ndarray
    same: np.ndarray

    def rates(self, kind: str) -> tuple[float, float]:
        """(within, between): the share of wrong pairs of a kind, "merged" or "split", among
        the pairs within one camera and among those between two; NaN without such pairs.
        """
        check_option("kind", kind, ("merged", "split"))
        merged = kind == "merged"
        wrong, pairs = (self.merged, self.together) if merged else (self.split, self.same)
        above = np.triu_indices(len(self.cameras), 1)
        sums = [(x.trace(), x[above].sum()) for x in (wrong, pairs)]
        return tuple(float(w / p) if p else np.nan for w, p in zip(*sums))


def camera_pair_errors(
    labels: np.ndarray, pids: np.ndarray, camids: np.ndarray, *, outliers: str = "left_out"
) -> CameraPairErrors:
    """Wrongly merged and wrongly split pairs per pair of cameras; labels, pids, camids
    (N,), outliers as in `label_report`.

    Images whose identity or camera is unknown (negative) are left out. KitError where
    no camera is known.
    """
    labels, pids = checked(labels, pids)
    _, camids = checked(labels, camids, "labels and camids")
    if (camids < 0).all():
        raise KitError(
            "camera_pair_errors needs cameras and none is known: give a data set whose "
            "file names hold them."
        )
    table = contingency(labels, np.where(camids >= 0, pids, -1), outliers=outliers)
    cameras, camera_of = np.unique(camids[table.images], return_inverse=True)

    def by_camera(groups: np.ndarray) -> np.ndarray:
        """(C, C) pairs of images within the groups of a partition (n,)."""
        names, group_of = np.unique(groups, return_inverse=True)
        per_group = count_table(group_of, camera_of, (len(names), len(cameras)))
        met = (per_group.T @ per_group).toarray()  # sum over groups of n_c n_d
        itself = np.diag(per_group.sum(axis=0))
        return np.where(np.eye(len(cameras), dtype=bool), (met - itself) // 2, met)

    together = by_camera(table.row_of)
    same = by_camera(table.column_of)
    right = by_camera(table.row_of * len(table.pids) + table.column_of)
    return CameraPairErrors(cameras, together - right, together, same - right, same)


def _cells(labels: np.ndarray, pids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The contingency table's filled cells: (label, pid) (2, C), the cell of each image
    (N,), images per cell (C,).
    """
    cells, cell_of = np.unique(np.stack([labels, pids]), axis=1, return_inverse=True)
    cell_of = cell_of.ravel()
    return cells, cell_of, np.bincount(cell_of)


def _leaders(cells: np.ndarray, counts: np.ndarray, axis: int) -> np.ndarray:
    """Per label (axis 0) or per pid (axis 1) the cell with most images; ties: the
    smaller pid or label.
    """
    order = np.lexsort([cells[1 - axis], -counts, cells[axis]])
    _, first = np.unique(cells[axis][order], return_index=True)
    return order[first]
