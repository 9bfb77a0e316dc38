"""Why pairs are wrong: the regression against tables counted by hand, planted causes,
and what it says of nothing.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from reference import noise as naive

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise import (
    NO_CAUSE,
    attributable_fraction,
    label_report,
    noise_causes,
    pair_causes,
    pair_factors,
    risk_ratio,
)


def world(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(-1, 4, n), rng.integers(0, 5, n), rng.integers(0, 2, n)


@pytest.mark.parametrize("kind", ["merged", "split"])
def test_the_odds_ratio_of_one_factor_is_that_of_its_table(kind):
    labels, pids, camids = world()
    same_side = {
        "merged": lambda i, j: pids[i] != pids[j],
        "split": lambda i, j: pids[i] == pids[j],
    }[kind]
    pairs = [
        (i, j) for i, j in combinations(np.flatnonzero(labels >= 0), 2) if same_side(i, j)
    ]
    wrong = {
        "merged": lambda i, j: labels[i] == labels[j],
        "split": lambda i, j: labels[i] != labels[j],
    }[kind]
    causes = noise_causes(labels, pids, camids=camids, kind=kind, resamples=20)
    assert causes.names == ("same camera",)
    assert (causes.n_wrong, causes.n_right) == (
        sum(wrong(*p) for p in pairs),
        sum(not wrong(*p) for p in pairs),
    )
    expected = naive.odds_ratio(pairs, wrong, lambda i, j: camids[i] == camids[j])
    assert causes.odds_ratio == pytest.approx([expected], rel=2e-3)
    held = [
        np.mean([camids[i] == camids[j] for i, j in pairs if bool(wrong(i, j)) is side])
        for side in (True, False)
    ]
    assert [causes.share_wrong[0], causes.share_right[0]] == pytest.approx(held)


def person(number, camera, view="front", occluder="none", model=None, rgb=(200, 0, 0)):
    return {
        "number": number,
        "camera": camera,
        "pic_view": view,
        "pic_occluder": occluder,
        "id_lookalike_of": model,
        "id_top_rgb": list(rgb),
        "id_bottom_rgb": [9, 9, 9],
    }


def test_factors_of_pairs_worked_by_hand():
    people = [
        person(1, 1, occluder="pole"),
        person(3, 1, "back", "pole", model=1, rgb=(200, 80, 0)),
        person(5, 2, "front", model=1, rgb=(200, 0, 81)),
        person(7, 2, model=3),
        person(9, 3, occluder="bush"),
    ]
    i, j = np.array(list(combinations(range(5), 2))).T  # 01 02 03 04 12 13 14 23 24 34
    found = {
        name: "".join("01"[int(x)] for x in holds)
        for name, holds in pair_factors(i, j, factors=people).items()
    }
    assert found == {
        "same camera": "1000000100",
        "same view": "0111000111",
        "same clothes": "1011011001",
        "look-alike": "1100110000",
        "one occluded": "0110110011",
        "same occluder": "1000000000",
    }

    twice = pair_factors(np.array([0]), np.array([1]), factors=[people[1], people[1]])
    assert not twice["look-alike"].any()  # nobody looks like themselves


def test_vehicles_have_paint_for_clothes():
    cars = [{"id_paint_rgb": rgb} for rgb in ([200, 0, 0], [200, 39, 0], [200, 41, 0])]
    found = pair_factors(np.array([0, 0]), np.array([1, 2]), factors=cars)
    assert found.pop("same clothes").tolist() == [True, False]
    assert set(found) >= {"same camera", "same view", "look-alike"}
    assert not any(holds.any() for holds in found.values())  # nothing else is known


def test_unknown_cameras_are_nobodys_same_camera():
    found = pair_factors(np.array([0, 2]), np.array([1, 3]), camids=np.array([-1, -1, 4, 4]))
    assert {name: holds.tolist() for name, holds in found.items()} == {
        "same camera": [False, True]
    }


def planted(n=900, seed=1):
    """Clusters made of (a fifth of the identities, camera): merging goes by camera;
    views go with cameras by 85 %.
    """
    rng = np.random.default_rng(seed)
    pids, camids = np.arange(n) % 60, rng.integers(0, 3, n)
    view = np.where(rng.random(n) < 0.85, camids, rng.integers(0, 3, n))
    labels = (pids // 5) * 3 + np.where(rng.random(n) < 0.6, camids, rng.integers(0, 3, n))
    factors = [
        person(
            int(p),
            int(c),
            view=str(v),
            rgb=(int(p) * 4, 0, 0),
            occluder="pole" if rng.random() < 0.3 else "none",
        )
        for p, c, v in zip(pids, camids, view)
    ]
    return labels, pids, camids, factors


@pytest.mark.parametrize("kind, direction", [("merged", 1), ("split", -1)])
def test_a_planted_cause_is_found_and_its_companion_is_not_blamed(kind, direction):
    labels, pids, camids, factors = planted()
    causes = noise_causes(
        labels, pids, camids=camids, factors=factors, kind=kind, resamples=60
    )
    place = {name: causes.names.index(name) for name in ("same camera", "same view")}
    camera, view = place["same camera"], place["same view"]
    outside = causes.low[camera] > 1.5 if direction > 0 else causes.high[camera] < 0.67
    assert outside
    assert causes.low[view] < 1 < causes.high[view]
    gap = causes.share_wrong[view] - causes.share_right[view]
    assert gap * direction > 0.1  # although it goes with wrong pairs
    assert ((causes.low < causes.odds_ratio) & (causes.odds_ratio < causes.high)).all()
    assert "look-alike" not in causes.names  # the same in all pairs


def test_more_pictures_of_the_same_people_do_not_feign_certainty():
    labels, pids, camids, _ = planted(240)
    once = noise_causes(labels, pids, camids=camids, kind="merged")
    thrice = noise_causes(
        *(np.tile(x, 3) for x in (labels, pids)), camids=np.tile(camids, 3), kind="merged"
    )
    widths = [np.log(c.high / c.low)[0] for c in (once, thrice)]
    assert thrice.n_wrong == 9 * once.n_wrong
    assert widths[1] > 0.7 * widths[0]


@pytest.mark.parametrize("kind", ["merged", "split"])
def test_the_interval_is_that_of_a_naive_bootstrap_of_identities(kind):
    labels, pids, camids, _ = planted(240)
    causes = noise_causes(labels, pids, camids=camids, kind=kind, resamples=600)
    i, j = np.array(list(combinations(range(240), 2))).T
    i, j = np.stack([i, j])[:, (pids[i] == pids[j]) == (kind == "split")]
    wrong, near = (labels[i] == labels[j]) == (kind == "merged"), camids[i] == camids[j]
    rng, drawn = np.random.default_rng(9), []
    for _ in range(600):
        times = np.bincount(rng.integers(60, size=60), minlength=60)
        weights = times[pids[i]] * (times[pids[j]] if kind == "merged" else 1)
        table = np.bincount(2 * wrong + near, weights, 4)
        drawn.append(np.log(table[3] * table[0] / (table[2] * table[1])))
    low, high = np.percentile(drawn, (2.5, 97.5))
    assert np.log(causes.high / causes.low)[0] == pytest.approx(high - low, rel=0.17)
    assert np.log(causes.low[0]) == pytest.approx(low, abs=0.17 * (high - low))


def test_a_seed_repeats_and_pairs_are_limited():
    labels, pids, camids, factors = planted()
    one, two = (
        noise_causes(labels, pids, camids=camids, max_pairs=500, resamples=10, seed=3)
        for _ in range(2)
    )
    assert (one.n_wrong, one.n_right) == (500, 500)
    assert one.odds_ratio.tolist() == two.odds_ratio.tolist()
    assert one.low.tolist() == two.low.tolist()
    other = noise_causes(labels, pids, camids=camids, max_pairs=500, resamples=10, seed=4)
    assert one.odds_ratio.tolist() != other.odds_ratio.tolist()


def test_drawn_pairs_tell_what_all_pairs_tell(monkeypatch):
    labels, pids, camids, _ = planted()
    whole = noise_causes(labels, pids, camids=camids, kind="split", resamples=2)
    monkeypatch.setattr("dkdmpl_kit.noise.causes._ENUMERATED", 4000)
    drawn = noise_causes(labels, pids, camids=camids, kind="split", resamples=2)
    assert drawn.n_wrong < whole.n_wrong
    assert np.abs(np.log(drawn.odds_ratio / whole.odds_ratio)) < 0.25


def test_a_factor_that_never_fails_stays_finite():
    labels, pids, camids = [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1]
    causes = noise_causes(labels, pids, camids=camids, resamples=30)
    assert causes.odds_ratio[0] > 10
    assert np.isfinite(causes.high).all()
    assert causes.note.startswith("Only 4 wrong pairs")


@pytest.mark.parametrize(
    "labels, pids, camids, kind, words",
    [
        ([0, 0, 1], [-1, -1, -1], [0, 1, 0], "merged", "known identity"),
        ([-1, -1, -1], [0, 0, 1], [0, 1, 0], "split", "known identity"),
        ([0, 0, 1], [5, 5, 6], [0, 1, 0], "merged", "no pair wrongly together"),
        ([0, 0, 0], [5, 5, 6], [0, 1, 0], "merged", "no pair rightly apart"),
        ([0, 0, 1], [5, 5, 6], [0, 1, 0], "split", "no pair wrongly apart"),
        ([0, 1, 2], [5, 5, 6], [0, 1, 0], "split", "no pair rightly together"),
        ([0, 0, 1, 1], [5, 6, 5, 6], [2, 2, 2, 2], "merged", "the same in all pairs"),
    ],
)
def test_where_nothing_can_be_compared_a_sentence_says_so(labels, pids, camids, kind, words):
    causes = noise_causes(labels, pids, camids=camids, kind=kind)
    assert causes.names == ()
    assert len(causes.odds_ratio) == 0
    assert words in causes.note
    assert causes.note.endswith(".")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(camids=None), "nothing to explain by"),
        (dict(camids=[0]), "camids are of 1"),
        (dict(factors=[{}]), "factors are of 1"),
        (dict(kind="outlier"), "merged, split"),
        (dict(pids=[0]), "same length"),
    ],
)
def test_bad_input_is_refused(arguments, words):
    with pytest.raises(KitError, match=words):
        noise_causes(
            **{"labels": [0, 0, 1], "pids": [0, 1, 1], "camids": [0, 0, 1], **arguments}
        )


# --- pair by pair ---


def merged_and_split_by_camera():
    """40 identities, 4 cameras, 3 pictures each: camera 0 merges people three by three,
    camera 3 is split off.
    """
    pids, camids = np.repeat(np.arange(40), 12), np.tile(np.repeat(np.arange(4), 3), 40)
    labels = np.where(camids == 0, 1000 + pids // 3, np.where(camids == 3, 2000 + pids, pids))
    return labels, pids, camids


@pytest.mark.parametrize(
    "kind, cause", [("merged", "same camera"), ("split", "another camera")]
)
def test_every_wrong_pair_is_there_with_the_planted_cause(kind, cause):
    labels, pids, camids = merged_and_split_by_camera()
    found = pair_causes(labels, pids, camids=camids, kind=kind, resamples=50)
    wrong = [
        (i, j)
        for i, j in combinations(range(len(labels)), 2)
        if (labels[i] == labels[j]) != (pids[i] == pids[j])
        and (labels[i] == labels[j]) == (kind == "merged")
    ]
    assert {tuple(sorted(pair)) for pair in found.pairs.tolist()} == set(wrong)
    assert found.n_wrong == len(wrong)
    assert found.names == (cause,)
    assert found.low[0] > 1
    assert found.clear.all()
    assert found.note == ""
    together = camids[found.pairs[:, 0]] == camids[found.pairs[:, 1]]
    assert (found.holds[:, 0] == (together if kind == "merged" else ~together)).all()
    odds = noise_causes(labels, pids, camids=camids, kind=kind, resamples=50)
    turned = (
        (odds.odds_ratio, odds.low, odds.high)
        if kind == "merged"
        else (1 / odds.odds_ratio, 1 / odds.high, 1 / odds.low)
    )
    np.testing.assert_allclose((found.odds_ratio, found.low, found.high), turned)


def test_what_nearly_every_right_pair_has_too_is_no_clear_cause():
    labels, pids, camids = merged_and_split_by_camera()
    found = pair_causes(labels, pids, camids=camids, kind="split", resamples=50)
    assert found.clear.all()
    everywhere = replace(found, among_right=np.array([0.96]))
    assert not everywhere.clear.any()
    assert everywhere.unexplained == 1
    assert replace(found, among_right=np.array([0.95])).clear.all()


def test_the_table_orders_clear_causes_by_what_they_explain():
    people = [
        person(k // 6, k % 3, view=("front", "back")[k % 2], rgb=(k // 6 * 60, 0, 0))
        for k in range(36)
    ]
    pids, camids = (
        np.array([p["number"] for p in people]),
        np.array([p["camera"] for p in people]),
    )
    labels = np.where(camids == 1, pids // 2, pids + 10)
    found = pair_causes(labels, pids, camids=camids, factors=people, resamples=50)
    table = found.table()
    assert table["cause"][-1] == NO_CAUSE
    assert np.isnan(table["odds_ratio"][-1])
    n_clear = sum(table["clear"])
    assert table["clear"] == [True] * n_clear + [False] * (len(table["clear"]) - n_clear)
    assert table["explains"][:n_clear] == sorted(table["explains"][:n_clear], reverse=True)
    rows = zip(table["cause"][:-1], table["pairs"], table["holds"], table["odds_ratio"])
    for name, count, held, ratio in rows:
        place = found.names.index(name)
        assert held == found.holds[:, place].mean()
        assert count == found.holds[:, place].sum()
        assert ratio == found.odds_ratio[place] >= 1
    bare = [
        not any(row[f] and found.low[f] > 1 for f in range(len(row))) for row in found.holds
    ]
    assert table["pairs"][-1] == sum(bare)


def test_a_cause_that_holds_in_all_wrong_pairs_explains_only_what_its_odds_ratio_says():
    # errors are rare: the risk ratio is the odds ratio, and 1 - 1 / 1.7 = 0.41
    rare = attributable_fraction([1.7, 56, 0.6], [1, 0.5, 1], [0.9, 0.1, 1], 1, 10_000_000)
    assert rare == pytest.approx([1 - 1 / 1.7, 0.5 * (1 - 1 / 56), 0], abs=1e-4)


@pytest.mark.parametrize("a, b, c, d", [(30, 70, 10, 90), (300, 20, 40, 90), (5, 0, 10, 40)])
def test_the_fraction_is_the_textbooks_of_a_counted_table(a, b, c, d):
    """a wrong and b right pairs have the factor, c wrong and d right ones have it not."""
    odds = a * d / (b * c) if b else 99.0
    counts = (a / (a + c), b / (b + d), a + c, b + d)
    risk, without = a / (a + b), c / (c + d)
    assert risk_ratio([odds], *counts) == pytest.approx([risk / without])
    overall = (a + c) / (a + b + c + d)
    expected = (overall - without) / overall  # Levin's: wrong pairs fewer if all lacked it
    assert attributable_fraction([odds], *counts) == pytest.approx([expected])


@pytest.mark.parametrize("kind", ["merged", "split"])
def test_causes_of_pairs_explain_what_counted_risks_say_and_leave_the_rest(kind):
    labels, pids, camids, _ = planted(240)
    found = pair_causes(labels, pids, camids=camids, kind=kind, resamples=40)
    i, j = np.array(list(combinations(range(240), 2))).T
    i, j = np.stack([i, j])[:, (pids[i] == pids[j]) == (kind == "split")]
    wrong, side = (labels[i] == labels[j]) == (kind == "merged"), camids[i] == camids[j]
    side = side if kind == "merged" else ~side
    assert (found.n_wrong, found.n_right) == (wrong.sum(), (~wrong).sum())
    expected = 1 - wrong[~side].mean() / wrong.mean()
    assert found.clear.all()
    assert found.attributable(found.odds_ratio) == pytest.approx([expected], abs=0.01)
    table = found.table()
    assert table["from"][0] < table["explains"][0] < table["to"][0] <= 1
    assert table["explains"][1] == found.unexplained == pytest.approx(1 - expected, abs=0.01)


def test_a_factor_whose_interval_holds_1_is_no_cause():
    rng = np.random.default_rng(1)
    pids, camids = np.repeat(np.arange(30), 8), rng.integers(0, 4, 240)
    found = pair_causes(rng.permutation(pids), pids, camids=camids, resamples=100)
    assert found.low[0] < 1
    table = found.table()
    assert table["clear"] == [False, False]
    assert table["from"][0] == 0
    assert table["explains"][1] == 1
    assert table["pairs"][1] == len(found.pairs)


def test_what_cannot_be_known_of_pairs_is_a_note():
    labels, pids, camids = merged_and_split_by_camera()
    alone = pair_causes(labels, pids)
    assert alone.names == ()
    assert len(alone.pairs) == alone.n_wrong > 0
    assert "Neither cameras nor" in alone.note
    assert alone.table()["cause"] == [NO_CAUSE]
    assert alone.table()["pairs"] == [alone.n_wrong]
    capped = pair_causes(labels, pids, camids=camids, max_pairs=10)
    assert len(capped.pairs) == 10
    assert capped.n_wrong == alone.n_wrong
    assert "Looked at 10 of" in capped.note
    for unknown, note in (
        (np.full_like(pids, -1), "known identity"),
        (pids, "no pair wrongly together"),
    ):
        nothing = pair_causes(pids, unknown, camids=camids)
        assert nothing.pairs.shape == (0, 2)
        assert nothing.n_wrong == 0
        assert note in nothing.note
        assert nothing.table() == {
            **nothing.table(),
            "cause": [NO_CAUSE],
            "pairs": [0],
            "explains": [1.0],
        }
    with pytest.raises(KitError, match="kind"):
        pair_causes(labels, pids, kind="both")


def test_an_unknown_camera_is_neither_the_same_nor_another():
    labels, pids, camids = merged_and_split_by_camera()
    found = pair_causes(
        labels, pids, camids=np.where(camids == 2, -1, camids), kind="split", resamples=20
    )
    unknown = (camids[found.pairs] == 2).any(axis=1)
    assert found.names == ("another camera",)
    assert unknown.any()
    assert not found.holds[unknown].any()
    assert found.holds.any()


def test_the_number_of_wrong_pairs_is_that_of_the_report():
    labels, pids, camids = world(200)
    report, known = label_report(labels, pids), labels >= 0
    together = sum(n * (n - 1) // 2 for n in np.bincount(labels[known]))
    same = sum(n * (n - 1) // 2 for n in np.bincount(pids[known]))
    assert pair_causes(labels, pids, camids=camids, resamples=1).n_wrong == round(
        together * (1 - report.pair_precision)
    )
    assert pair_causes(
        labels, pids, camids=camids, kind="split", resamples=1
    ).n_wrong == round(same * (1 - report.pair_recall))
