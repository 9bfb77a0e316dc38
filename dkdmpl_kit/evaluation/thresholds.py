"""From which similarity on two pictures are believed to show the same: counts of pairs,
thresholds with their uncertainty, and queries whose identity is not in the gallery.

Labels are true identities, or pseudo labels in their place. Similarities are counted in
steps of `STEP`; at each step the counts are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.evaluation.ranking import similarity_blocks, with_ids
from dkdmpl_kit.neighbors import map_ranges

STEPS = 2**12  # from -1 to 1
STEP = 2.0 / STEPS
GROUPS = 2048  # rows of a curve: more would take memory, and tell little more
ROWS = 256  # queries whose pairs are counted before they are added up


@dataclass(frozen=True, eq=False)
class MatchCurve:
    """Pairs that are at least as similar as each threshold.

    thresholds      (T,) float64, rising from -1 to 1
    same, different (C, T) int64: pairs of the same identity and of different ones, a row
                    for each identity of the queries; above `GROUPS` of them, a row for
                    each group of several
    n_identities    of the queries
    """

    thresholds: np.ndarray
    same: np.ndarray
    different: np.ndarray
    n_identities: int

    @property
    def n_same(self) -> int:
        return int(self.same[:, 0].sum())

    @property
    def n_different(self) -> int:
        return int(self.different[:, 0].sum())

    @property
    def tpr(self) -> np.ndarray:
        """(T,) true-positive rate: the share of pairs of one identity that are believed;
        NaN where there are no such pairs.
        """
        return _share(self.same.sum(axis=0))

    @property
    def fpr(self) -> np.ndarray:
        """(T,) false-positive rate: the share of pairs of different identities that are
        believed.
        """
        return _share(self.different.sum(axis=0))

    def threshold(self, fpr: float) -> float:
        """The lowest threshold whose false-positive rate is at most `fpr`, in (0, 1).

        KitError: `fpr` out of range or below one pair of all, or no such threshold.
        """
        self.require_rate(fpr)
        allowed = self.fpr <= fpr
        if not allowed.any():
            raise KitError(
                f"Even among pairs of similarity {self.thresholds[-1]:g}, more than the "
                f"share {fpr:g} of those of different identities are found: the features "
                "do not tell these pictures apart."
            )
        return float(self.thresholds[np.argmax(allowed)])

    def rates(self, threshold: float) -> tuple[float, float]:
        """(false-positive rate, true-positive rate) at a threshold from -1 to 1, which is
        rounded up to a whole step. KitError: out of range.
        """
        check_threshold(threshold)
        at = np.searchsorted(self.thresholds, threshold)
        return float(self.fpr[at]), float(self.tpr[at])

    def resampled_fpr(self, times: int = 200, seed: int = 0) -> np.ndarray:
        """(times, T) false-positive rates of a bootstrap that draws whole identities.

        Pictures of one identity resemble each other, so pairs are not independent, but
        identities are. An identity drawn w times counts w times as the first and w times
        as the second of a pair: to first order, its part in the rate moves by 2 (w - 1).
        """
        n = len(self.different)
        drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=times)
        # what each identity adds to the rate beyond its share of the pairs
        beyond = self.different - self.fpr * self.different[:, :1]
        moved = 2 * (drawn - 1) @ (beyond / self.n_different)
        return np.clip(self.fpr + moved, 0, 1)

    def threshold_interval(
        self, fpr: float, *, level: float = 0.95, times: int = 200, seed: int = 0
    ) -> tuple[float, float]:
        """Between which thresholds the one of `fpr` lies in `level` of the bootstrap."""
        self.require_rate(fpr)
        # the last threshold stands for one that is not reached
        allowed = self.resampled_fpr(times, seed)[:, :-1] <= fpr
        at = np.where(allowed.any(axis=1), allowed.argmax(axis=1), -1)
        return _middle(self.thresholds[at], level)

    def fpr_interval(
        self, threshold: float, *, level: float = 0.95, times: int = 200, seed: int = 0
    ) -> tuple[float, float]:
        """Between which false-positive rates the one at `threshold` lies, likewise."""
        check_threshold(threshold)
        at = np.searchsorted(self.thresholds, threshold)
        return _middle(self.resampled_fpr(times, seed)[:, at], level)

    def require_rate(self, fpr: float) -> None:
        """KitError unless `fpr` is a rate that these pairs can tell."""
        if not 0 < fpr < 1:
            raise KitError(f"fpr={fpr:g} must lie between 0 and 1.")
        if fpr * self.n_different < 1:
            raise KitError(
                f"fpr={fpr:g} cannot be told from {self.n_different:,} pairs of different "
                f"identities: give at least {1 / max(1, self.n_different):.2g}."
            )


def check_threshold(threshold: float) -> None:
    """KitError unless `threshold` is a similarity, from -1 to 1."""
    if not -1 <= threshold <= 1:
        raise KitError(f"threshold={threshold:g} must be a similarity, from -1 to 1.")


def _share(counts: np.ndarray) -> np.ndarray:
    return counts / counts[0] if counts[0] else np.full(len(counts), np.nan)


def _middle(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def match_curve(
    query_features: np.ndarray | torch.Tensor,
    gallery_features: np.ndarray | torch.Tensor,
    query_pids: np.ndarray,
    gallery_pids: np.ndarray,
    query_camids: np.ndarray,
    gallery_camids: np.ndarray,
) -> MatchCurve:
    """The pairs of queries (Q, d) and gallery (G, d), rows of norm 1, that the protocol of
    `evaluate_ranking` looks at: pid -1 is left out, and so are pairs of one identity and
    one known camera.

    KitError: as `evaluate_ranking`, and no pair of different identities.
    """
    return _count(
        query_features,
        gallery_features,
        query_pids,
        gallery_pids,
        query_camids,
        gallery_camids,
        skip_self=False,
    )


def match_curve_within(
    features: np.ndarray | torch.Tensor, labels: np.ndarray, camids: np.ndarray
) -> MatchCurve:
    """`match_curve` of one set (N, d) with itself, say of pseudo labels: label -1, and each
    picture with itself, are left out. Every pair counts once from each end.
    """
    return _count(features, features, labels, labels, camids, camids, skip_self=True)


def _count(*arrays, skip_self: bool) -> MatchCurve:
    from dkdmpl_kit.evaluation import kernels

    query, gallery, ids = with_ids(*arrays)
    query_pids, gallery_pids = ids[:2]
    # the pairs of a query without identity are none, whatever its row
    names, group = np.unique(query_pids, return_inverse=True)
    n_identities = int(np.sum(names >= 0))
    group = (group - (len(names) - n_identities)) % min(GROUPS, max(1, n_identities))
    totals = np.zeros((2, group.max() + 1, STEPS + 1), np.int64)
    for start, similarities in similarity_blocks(query, gallery, most_rows=ROWS):
        part = slice(start, start + len(similarities))
        counts = np.zeros((2, len(similarities), STEPS + 1), np.int32)
        map_ranges(
            lambda a, b, s=similarities, p=part, c=counts: kernels.count_pairs(
                s,
                ids[0][p],
                ids[2][p],
                ids[1],
                ids[3],
                p.start if skip_self else -len(s) - 1,
                a,
                b,
                *c,
            ),
            len(similarities),
            16,
        )
        for row, own_group in enumerate(group[part]):
            totals[:, own_group] += counts[:, row]
    # pairs in a step become pairs in it or in a higher one
    same, different = (
        np.ascontiguousarray(np.cumsum(total[:, ::-1], axis=1)[:, ::-1]) for total in totals
    )
    if not different.sum():
        raise KitError(
            "There is no pair of pictures of different identities, so nothing says how "
            "similar strangers are: a threshold needs at least two identities."
        )
    return MatchCurve(np.linspace(-1, 1, STEPS + 1), same, different, n_identities)


def outliers_apart(labels: np.ndarray) -> np.ndarray:
    """Pseudo labels (N,) in which each outlier (-1) is a cluster of its own: most pairs of
    an outlier with others are pairs of strangers, and the most alike of them count.
    """
    labels = np.asarray(labels).copy()
    outliers = labels < 0
    labels[outliers] = labels.max(initial=-1) + 1 + np.arange(outliers.sum())
    return labels


@dataclass(frozen=True, eq=False)
class OpenSet:
    """What each query finds, were its identity in the gallery, and were it not.

    mate, stranger  (V,) float64: the highest similarity of its own identity, and of all
                    others, for the V queries that have a match

    A threshold rejects a query whose best picture is below it ("nobody").
    """

    mate: np.ndarray
    stranger: np.ndarray

    def __len__(self) -> int:
        return len(self.mate)

    def identified(self, threshold: float) -> float:
        """Detection-and-identification rate (Grother et al.): the share of queries with a
        match that find it first and at `threshold` or above. Ties with a stranger are lost.
        """
        return float(np.mean((self.mate > self.stranger) & (self.mate >= threshold)))

    def false_alarms(self, threshold: float) -> float:
        """The share of queries that are told somebody although their identity's pictures
        were taken out of the gallery.
        """
        return float(np.mean(self.stranger >= threshold))

    def rank1_with_rejection(self, threshold: float) -> float:
        """The share of right answers where every query is asked twice: with its identity in
        the gallery (right: found first), and without (right: "nobody").
        """
        return (self.identified(threshold) + 1 - self.false_alarms(threshold)) / 2

    def threshold(self, false_alarms: float) -> float:
        """The lowest threshold with at most that share of false alarms, in [0, 1)."""
        if not 0 <= false_alarms < 1:
            raise KitError(f"false_alarms={false_alarms:g} must be at least 0 and below 1.")
        falling = np.sort(self.stranger)[::-1]
        allowed = int(false_alarms * len(falling) + 1e-9)
        return float(np.nextafter(falling[allowed], np.inf))


def open_set(
    query_features: np.ndarray | torch.Tensor,
    gallery_features: np.ndarray | torch.Tensor,
    query_pids: np.ndarray,
    gallery_pids: np.ndarray,
    query_camids: np.ndarray,
    gallery_camids: np.ndarray,
) -> OpenSet:
    """Each query's best mate and best stranger under the protocol of `evaluate_ranking`.

    KitError: as there, and no query with a match and a stranger.
    """
    from dkdmpl_kit.evaluation import kernels

    query, gallery, ids = with_ids(
        query_features,
        gallery_features,
        query_pids,
        gallery_pids,
        query_camids,
        gallery_camids,
    )
    best = np.full((len(query), 2), -np.inf)
    for start, similarities in similarity_blocks(query, gallery):
        part = slice(start, start + len(similarities))
        map_ranges(
            lambda a, b, s=similarities, p=part: kernels.best_of_both(
                s, ids[0][p], ids[2][p], ids[1], ids[3], a, b, best[p]
            ),
            len(similarities),
            16,
        )
    found = best[np.isfinite(best).all(axis=1)]
    if not len(found):
        raise KitError(
            "No query has both a match and a stranger in the gallery, so nothing says how "
            "often one is taken for the other."
        )
    return OpenSet(found[:, 0].copy(), found[:, 1].copy())
