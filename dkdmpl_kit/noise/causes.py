"""Why pseudo labels go wrong: what wrong pairs of images have in common that right
pairs have not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dkdmpl_kit.errors import KitError, check_option
from dkdmpl_kit.noise.tables import Contingency, checked, contingency, pairs

_PAIR_NAMES = {
    "merged": ("wrongly together", "rightly apart"),
    "split": ("wrongly apart", "rightly together"),
}
ALIKE_RGB = 40.0  # mean distance of the clothes' colours, in 0..441 of the RGB cube
_CLOTHES = {"id_top_rgb": ("id_top_rgb", "id_bottom_rgb"), "id_paint_rgb": ("id_paint_rgb",)}
_ENUMERATED = 2_000_000  # pairs within groups looked at; beyond, so many are drawn
_FEW = 20
NEARLY_ALL = 0.95  # of the right pairs: what they have too is no cause of errors
NO_CAUSE = "none of these"
_WITHOUT = {
    "same camera": "another camera",
    "same view": "another view",
    "same clothes": "other clothes",
    "look-alike": "no look-alike",
    "one occluded": "both or neither occluded",
    "same occluder": "no same occluder",
}


@dataclass(frozen=True)
class NoiseCauses:
    """Odds ratios of F factors: by how much the odds that a pair is wrong grow where
    the factor holds, others equal.

    names             (F,) the factors
    odds_ratio        (F,) 1: no effect; low, high (F,): its 95 % bootstrap interval
    share_wrong, share_right  (F,) how often the factor holds among wrong and right pairs
    n_wrong, n_right  pairs compared
    note              one sentence on what could not be said, or empty
    """

    kind: str
    names: tuple[str, ...]
    odds_ratio: np.ndarray
    low: np.ndarray
    high: np.ndarray
    share_wrong: np.ndarray
    share_right: np.ndarray
    n_wrong: int
    n_right: int
    note: str = ""


def noise_causes(
    labels: np.ndarray,
    pids: np.ndarray,
    *,
    camids: np.ndarray | None = None,
    factors: Sequence[dict] | None = None,
    kind: str = "merged",
    max_pairs: int = 20_000,
    resamples: int = 200,
    seed: int = 0,
) -> NoiseCauses:
    """Regress "this pair is wrong" on what its two images share (`pair_factors`), over
    clustered images of known identity.

    kind "merged"  pairs of two identities in one cluster, against pairs of two
                   identities rightly in two clusters
         "split"   pairs of one identity in two clusters, against pairs of one identity
                   rightly in one

    labels (N,), -1 for outliers; pids (N,); camids (N,), -1 unknown, and/or the
    renderer's factors, N dicts. Of each side at most max_pairs are drawn; odds ratios
    do not depend on how many of either (Prentice & Pyke 1979). Logistic regression with
    a very weak ridge (a normal prior of sd 10 on each log odds ratio), which keeps
    factors that never fail finite. Intervals: percentiles over `resamples` bootstraps
    of whole identities, as pairs that share one are not independent (a pair counts as
    often as its identities are drawn: the product of their two counts). A factor that a
    resample lacks has no effect there. Factors that go together (a look-alike's
    clothes) share the credit. Factors that are the same in all pairs are left out.
    Nothing to compare: no factors, and a note that says why. KitError: neither camids
    nor factors, lists of different lengths, an unknown kind.
    """
    check_option("kind", kind, _PAIR_NAMES)
    labels, pids = checked(labels, pids)
    if camids is None and factors is None:
        raise KitError(
            "noise_causes has nothing to explain by: give camids, or the renderer's "
            "factors, or both."
        )
    for name, given in (("camids", camids), ("factors", factors)):
        if given is not None and len(given) != len(labels):
            raise KitError(
                f"{name} are of {len(given)} images and labels of {len(labels)}: give "
                "both of the same."
            )
    table = contingency(labels, pids)
    rng = np.random.default_rng(seed)
    if not len(table.images):
        note = "No clustered image has a known identity, so no pair can be called wrong."
        return _nothing(kind, 0, 0, note)
    wrong, right = _sampled_pairs(table, kind, max_pairs, rng)
    if not len(wrong) or not len(right):
        wrong_name, right_name = _PAIR_NAMES[kind]
        missing = right_name if len(wrong) else wrong_name
        note = f"There is no pair {missing}, so there is nothing to compare."
        return _nothing(kind, len(wrong), len(right), note)
    i, j = table.images[np.concatenate([wrong, right])].T
    is_wrong = np.arange(len(i)) < len(wrong)
    columns = {
        name: holds
        for name, holds in pair_factors(i, j, camids, factors).items()
        if 0 < holds.sum() < len(i)
    }
    if not columns:
        return _nothing(
            kind,
            len(wrong),
            len(right),
            "Every factor is the same in all pairs, so none explains a difference.",
        )
    x = np.stack(list(columns.values()), axis=1)
    odds, low, high = _odds_ratios(x, is_wrong, pids[i], pids[j], resamples, rng)
    note = ""
    if len(wrong) < _FEW:
        note = f"Only {len(wrong)} wrong pairs: read the intervals, not the ratios."
    return NoiseCauses(
        kind,
        tuple(columns),
        odds,
        low,
        high,
        x[is_wrong].mean(0),
        x[~is_wrong].mean(0),
        len(wrong),
        len(right),
        note,
    )


@dataclass(frozen=True)
class PairCauses:
    """Wrong pairs one by one, what holds for each, and how many of them it may have caused.

    pairs    (M, 2) image indices; M is at most `max_pairs` of the n_wrong that there are;
             n_right: as many rightly apart (of "split": rightly together)
    names    (F,) each factor by the side that makes errors likelier: "same camera", or
             "another camera" where sharing it protects; odds_ratio, low, high (F,) of
             that side; holds (M, F) bool; among_right (F,) how often it holds in right pairs
    note     what could not be said, and whether pairs were left out; or empty
    """

    kind: str
    pairs: np.ndarray
    n_wrong: int
    n_right: int
    names: tuple[str, ...]
    odds_ratio: np.ndarray
    low: np.ndarray
    high: np.ndarray
    holds: np.ndarray
    among_right: np.ndarray
    note: str = ""

    @property
    def clear(self) -> np.ndarray:
        """(F,) bool: the interval of the odds ratio lies above 1, and not nearly every
        right pair has it too: the lack of what is rare protects nobody and causes nothing.
        """
        return (self.low > 1) & (self.among_right <= NEARLY_ALL)

    @property
    def among_wrong(self) -> np.ndarray:
        """(F,) how often each side holds among the wrong pairs."""
        return self.holds.sum(axis=0) / max(len(self.pairs), 1)

    def attributable(self, odds_ratio: np.ndarray) -> np.ndarray:
        """(F,) share of the wrong pairs that each side explains at these odds ratios:
        `attributable_fraction` with the counts of all pairs.
        """
        return attributable_fraction(
            odds_ratio, self.among_wrong, self.among_right, self.n_wrong, self.n_right
        )

    @property
    def unexplained(self) -> float:
        """The share of the wrong pairs that would be left without any clear side: the mean
        over them of the product of 1 / risk ratio of the clear sides that hold.
        """
        if not len(self.pairs):
            return 1.0
        ratio = risk_ratio(
            self.odds_ratio, self.among_wrong, self.among_right, self.n_wrong, self.n_right
        )
        left = np.where(self.holds & self.clear, 1 / np.maximum(ratio, 1.0), 1.0)
        return float(left.prod(axis=1).mean())

    def table(self) -> dict[str, list]:
        """Columns, a row a cause, clear ones first, by what they explain; NO_CAUSE last.

        "cause"; "pairs" for which it holds (of NO_CAUSE: for which no clear one does), and
        "holds", their share; "clear"; "explains", the attributable fraction, with the ends
        "from" and "to" that the odds ratio's interval gives (of NO_CAUSE: `unexplained`);
        "odds_ratio", "low", "high". Two causes can hold for one pair, so that shares add
        up to more than 1.
        """
        bare = ~(self.holds & self.clear).any(axis=1)
        explains = self.attributable(self.odds_ratio)
        columns = {
            "cause": list(self.names),
            "pairs": self.holds.sum(axis=0).tolist(),
            "holds": self.among_wrong.tolist(),
            "clear": self.clear.tolist(),
            "explains": explains.tolist(),
            "from": self.attributable(self.low).tolist(),
            "to": self.attributable(self.high).tolist(),
        }
        columns |= {n: getattr(self, n).tolist() for n in ("odds_ratio", "low", "high")}
        order = np.lexsort((-explains, ~self.clear))
        last = {"cause": NO_CAUSE, "pairs": int(bare.sum()), "clear": False}
        last["holds"] = bare.sum() / max(len(bare), 1)
        last["explains"] = self.unexplained
        return {
            name: [*(column[place] for place in order), last.get(name, np.nan)]
            for name, column in columns.items()
        }


def risk_ratio(
    odds_ratio: np.ndarray,
    among_wrong: np.ndarray,
    among_right: np.ndarray,
    n_wrong: int,
    n_right: int,
) -> np.ndarray:
    """(F,) by how much a factor multiplies the risk of an error, from its odds ratio.

    among_wrong, among_right (F,): how often it holds in the n_wrong wrong and the n_right
    right pairs. With p the share of wrong pairs among those that have it, the ratio of the
    risks is OR (1 - p) + p: near the odds ratio where errors are rare, and nearer to 1
    where they are common (Zhang & Yu 1998, written for the exposed). Where p is 1 it is
    the ratio of the counted risks.
    """
    odds = np.asarray(odds_ratio, float)
    with_it = [np.asarray(x, float) for x in (among_wrong, among_right)]
    risks = []
    for wrong, right in (with_it, [1 - x for x in with_it]):
        wrong, right = n_wrong * wrong, n_right * right
        risks.append(wrong / np.maximum(wrong + right, 1e-12))
    always = risks[0] >= 1  # every pair that has it is wrong: the ratio as counted
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(always, 1 / risks[1], odds * (1 - risks[0]) + risks[0])


def attributable_fraction(
    odds_ratio: np.ndarray,
    among_wrong: np.ndarray,
    among_right: np.ndarray,
    n_wrong: int,
    n_right: int,
) -> np.ndarray:
    """(F,) in [0, 1]: the share of the wrong pairs that would be right if the factor had no
    effect, others as they are: among_wrong (1 - 1 / `risk_ratio`) (Miettinen 1974).

    A factor of ratio 1.7 that holds in all wrong pairs explains 41 % of them, and not all.
    0 where the ratio is 1 or less. Of two factors that hold together the fractions overlap.
    """
    ratio = risk_ratio(odds_ratio, among_wrong, among_right, n_wrong, n_right)
    return np.asarray(among_wrong, float) * (1 - 1 / np.maximum(ratio, 1.0))


def pair_causes(
    labels: np.ndarray,
    pids: np.ndarray,
    *,
    camids: np.ndarray | None = None,
    factors: Sequence[dict] | None = None,
    kind: str = "merged",
    max_pairs: int = 20_000,
    resamples: int = 200,
    seed: int = 0,
) -> PairCauses:
    """Every wrong pair of a kind with the causes that hold for it; arguments as in
    `noise_causes`, which gives the odds.

    A cause is an association over all pairs: for one pair it proves nothing. Without
    cameras and factors the pairs come without causes, and the note says so.
    """
    check_option("kind", kind, _PAIR_NAMES)
    labels, pids = checked(labels, pids)
    table = contingency(labels, pids)
    both = pairs(table.counts.data)  # of one identity in one cluster
    together, same = (pairs(table.counts.sum(axis=axis)) for axis in (1, 0))
    n_wrong = (together if kind == "merged" else same) - both
    n_right = pairs(np.array([len(table.images)])) - together - same + both
    if kind == "split":
        n_right = both
    wrong = (
        _sampled_pairs(table, kind, max_pairs, np.random.default_rng(seed))[0]
        if n_wrong
        else np.zeros((0, 2), int)
    )
    i, j = table.images[wrong].T
    notes = []
    if len(wrong) < n_wrong:
        notes.append(f"Looked at {len(wrong):,} of {n_wrong:,} wrong pairs, drawn at random.")
    if camids is None and factors is None:
        note = (
            "Neither cameras nor the renderer's record are known: pairs have no cause here."
        )
        found = _nothing(kind, len(wrong), 0, note)
    else:
        found = noise_causes(
            labels,
            pids,
            camids=camids,
            factors=factors,
            kind=kind,
            max_pairs=max_pairs,
            resamples=resamples,
            seed=seed,
        )
    if found.note:
        notes.append(found.note)
    holding = pair_factors(i, j, camids, factors) if found.names else {}
    likelier = found.odds_ratio >= 1
    holds = np.array(
        [holding[name] == up for name, up in zip(found.names, likelier)], dtype=bool
    )
    holds = holds.reshape(len(found.names), len(i)).T
    if camids is not None and "same camera" in found.names:
        camids = np.asarray(camids)
        known = (camids[i] >= 0) & (camids[j] >= 0)  # an unknown camera is neither side
        holds[:, found.names.index("same camera")] &= known
    with np.errstate(divide="ignore"):  # where a factor protects: the odds of its absence
        odds = np.where(likelier, found.odds_ratio, 1 / found.odds_ratio)
        low = np.where(likelier, found.low, 1 / found.high)
        high = np.where(likelier, found.high, 1 / found.low)
    among_right = np.where(likelier, found.share_right, 1 - found.share_right)
    names = tuple(name if up else _WITHOUT[name] for name, up in zip(found.names, likelier))
    return PairCauses(
        kind,
        np.stack([i, j], axis=1),
        int(n_wrong),
        int(n_right),
        names,
        odds,
        low,
        high,
        holds,
        among_right,
        " ".join(notes),
    )


def pair_factors(
    i: np.ndarray,
    j: np.ndarray,
    camids: np.ndarray | None = None,
    factors: Sequence[dict] | None = None,
) -> dict[str, np.ndarray]:
    """{factor: (M,) bool} of the pairs of images i, j (M,), from camids (N,) and/or the
    renderer's factors (N dicts).

    same camera     of two known ones (camids, or the factors' "camera")
    same view       both from the front, the right, the back or the left
    same clothes    the colours of top and bottom (vehicles: of the paint) are alike:
                    mean RGB distance at most 40 of 441
    look-alike      two identities, of which one borrows the other's clothes, or both
                    borrow the same ones
    same occluder   the same thing stands in front of both; one occluded: something
                    stands in front of exactly one
    """
    found = {}
    if camids is None and factors is not None:
        camids = np.array([f.get("camera", -1) for f in factors])
    if camids is not None:
        camids = np.asarray(camids)
        found["same camera"] = (camids[i] == camids[j]) & (camids[i] >= 0)
    if not factors:
        return found
    view = np.array([f.get("pic_view", "none") for f in factors])
    occluder = np.array([f.get("pic_occluder", "none") for f in factors])
    found["same view"] = (view[i] == view[j]) & (view[i] != "none")
    keys = next((keys for key, keys in _CLOTHES.items() if key in factors[0]), ())
    if keys:
        rgb = np.array([[f[key] for key in keys] for f in factors], dtype=float)
        found["same clothes"] = (
            np.linalg.norm(rgb[i] - rgb[j], axis=2).mean(axis=1) <= ALIKE_RGB
        )
    numbers = np.array([f.get("number", -1) for f in factors])
    models = [f.get("id_lookalike_of") for f in factors]
    model = np.array([-2 if number is None else number for number in models])
    related = (
        (model[i] == numbers[j])
        | (model[j] == numbers[i])
        | ((model[i] == model[j]) & (model[i] >= 0))
    )
    free = occluder == "none"
    return found | {
        "look-alike": related & (numbers[i] != numbers[j]),
        "one occluded": free[i] != free[j],
        "same occluder": (occluder[i] == occluder[j]) & ~free[i],
    }


def _sampled_pairs(
    table: Contingency, kind: str, most: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(wrong (W, 2), right (R, 2)) pairs of places among the counted images, at most
    `most` of each, without repeats.
    """
    cluster = table.row_of
    identity = table.column_of
    if kind == "split":
        found = _pairs_within(identity, rng)
        is_wrong = cluster[found[:, 0]] != cluster[found[:, 1]]
        wrong = found[is_wrong]
        right = found[~is_wrong]
    else:
        wrong = _pairs_within(cluster, rng)
        wrong = wrong[identity[wrong[:, 0]] != identity[wrong[:, 1]]]
        # most pairs are rightly apart, so that drawing finds enough of them
        drawn = np.sort(rng.integers(len(cluster), size=(4 * most, 2)), axis=1)
        first, second = np.divmod(np.unique(drawn @ [len(cluster), 1]), len(cluster))
        apart = (cluster[first] != cluster[second]) & (identity[first] != identity[second])
        right = np.stack([first, second], axis=1)[apart]
    return _at_most(wrong, most, rng), _at_most(right, most, rng)


def _at_most(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """`most` of the rows, drawn at random and left in their order; all, if there are
    fewer.
    """
    return rows[np.sort(rng.choice(len(rows), min(most, len(rows)), replace=False))]


def _pairs_within(group_of: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(M, 2) pairs of places of the same group (n,), first < second in the sorted
    order: all, or _ENUMERATED drawn.
    """
    order = np.argsort(group_of, kind="stable")
    sizes = np.bincount(group_of)
    total = pairs(sizes)
    number = np.arange(total)
    if total > _ENUMERATED:
        number = np.unique(rng.integers(total, size=_ENUMERATED))
    # a member at place p of its group has p partners before it: pairs are numbered by
    # their second member
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    until = np.cumsum(place)
    second = np.searchsorted(until, number, side="right")
    first = second - (until[second] - number)
    return np.stack([order[first], order[second]], axis=1)


def _odds_ratios(
    x: np.ndarray,
    wrong: np.ndarray,
    pid_i: np.ndarray,
    pid_j: np.ndarray,
    resamples: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ratio, low, high) (F,) each; pairs of equal factors and outcome are one weighted
    row, so that refits are cheap.
    """
    from sklearn.linear_model import LogisticRegression

    rows, row_of = np.unique(np.column_stack([x, wrong]), axis=0, return_inverse=True)
    row_of = row_of.ravel()
    model = LogisticRegression(C=100.0, solver="newton-cholesky")

    def log_odds(weights: np.ndarray) -> np.ndarray:
        summed = np.bincount(row_of, weights, len(rows))
        used = summed > 0
        return model.fit(rows[used, :-1], rows[used, -1], summed[used]).coef_[0]

    identities, place = np.unique([pid_i, pid_j], return_inverse=True)
    first, second = place.reshape(2, -1)
    drawn = []
    for _ in range(resamples):
        sample = rng.integers(len(identities), size=len(identities))
        times = np.bincount(sample, minlength=len(identities))
        weights = (times[first] * np.where(first == second, 1, times[second])).astype(float)
        if weights[wrong].any() and weights[~wrong].any():
            drawn.append(log_odds(weights))
    ratio = np.exp(log_odds(np.ones(len(x))))
    if not drawn:
        unknown = np.full(len(ratio), np.nan)
        return ratio, unknown, unknown
    low, high = np.exp(np.percentile(drawn, (2.5, 97.5), axis=0))
    return ratio, low, high


def _nothing(kind: str, n_wrong: int, n_right: int, note: str) -> NoiseCauses:
    none = np.zeros(0)
    return NoiseCauses(kind, (), none, none, none, none, none, n_wrong, n_right, note)
