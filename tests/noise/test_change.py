"""What happened to clusters and images between two epochs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise import change_table, label_change, label_repairs
from dkdmpl_kit.noise.flows import label_tracks, track_changes

BEFORE = [0, 0, 0, 0, 1, 1, 2, 2, -1, 3, 3]
AFTER = [5, 5, 7, 7, 7, 7, -1, -1, 8, 5, 8]


def test_a_change_worked_by_hand():
    change = label_change(BEFORE, AFTER)
    # overlaps: 0-5 2/5, 0-7 2/6, 1-7 2/4, 3-5 1/4, 3-8 1/3; the best sum takes 0-5,
    # 1-7, 3-8
    assert list(zip(change.before, change.after)) == [(0, 5), (1, 7), (3, 8)]
    assert change.iou == pytest.approx([2 / 5, 2 / 4, 1 / 3])
    assert (change.births.tolist(), change.deaths.tolist()) == ([], [2])
    assert (change.splits.tolist(), change.merges.tolist()) == ([0, 3], [5, 7])
    assert np.flatnonzero(change.flipped).tolist() == [2, 3, 9]
    assert np.flatnonzero(change.became_outlier).tolist() == [6, 7]
    assert np.flatnonzero(change.stopped_outlier).tolist() == [8]


def test_a_part_must_be_large_enough_to_be_a_split_or_a_merge():
    change = label_change(BEFORE, AFTER, part=0.4)
    # a third of cluster 5 is no part
    assert (change.splits.tolist(), change.merges.tolist()) == (
        [0, 3],
        [7],
    )
    assert label_change([0] * 10, [0] * 9 + [1]).splits.tolist() == []  # a stray image
    assert label_change([0] * 9 + [1], [0] * 10).merges.tolist() == []
    # exactly the share counts
    assert label_change([0] * 10, [0] * 8 + [1] * 2).splits.tolist() == [0]


def test_new_numbers_for_the_same_clusters_are_no_change():
    change = label_change([4, 4, 2, 2, -1], [0, 0, 9, 9, -1])
    assert not (change.flipped | change.became_outlier | change.stopped_outlier).any()
    assert change.iou.tolist() == [1, 1]
    assert not sum(map(len, (change.births, change.deaths, change.splits, change.merges)))


def test_back_in_time_births_are_deaths_and_splits_are_merges():
    rng = np.random.default_rng(1)
    before, after = rng.integers(-1, 12, 150), rng.integers(-1, 9, 150)
    there, back = label_change(before, after), label_change(after, before)
    assert there.births.tolist() == back.deaths.tolist()
    assert there.splits.tolist() == back.merges.tolist()
    assert there.became_outlier.tolist() == back.stopped_outlier.tolist()
    assert there.iou.sum() == pytest.approx(back.iou.sum())
    assert there.births.tolist() + sorted(there.after) != []
    assert set(there.births) | set(there.after) == set(range(9))


def test_the_match_has_the_greatest_sum_of_overlaps():
    rng = np.random.default_rng(2)
    before, after = rng.integers(-1, 10, 80), rng.integers(-1, 10, 80)
    iou = np.array(
        [
            [
                (((before == a) & (after == b)).sum() / ((before == a) | (after == b)).sum())
                for b in range(10)
            ]
            for a in range(10)
        ]
    )
    change = label_change(before, after, least_iou=0)
    assert change.iou == pytest.approx(iou[change.before, change.after])
    assert change.iou.sum() == pytest.approx(
        iou[linear_sum_assignment(iou, maximize=True)].sum()
    )


def test_a_pair_that_overlaps_too_little_is_a_death_and_a_birth():
    # 0 shares one picture of ten with 5, and one of two with 6
    before, after = [0, 0, -1, *[1] * 8], [5, 6, 6, *[5] * 8]
    change = label_change(before, after)
    assert list(zip(change.before, change.after)) == [(0, 6), (1, 5)]
    strict = label_change(before, after, least_iou=0.5)
    assert list(zip(strict.before, strict.after)) == [(1, 5)]
    assert (strict.deaths.tolist(), strict.births.tolist()) == ([0], [6])
    assert np.flatnonzero(strict.flipped).tolist() == [0, 1]


def test_the_tracks_of_a_run_and_its_table_of_changes_count_the_same_births_and_flips():
    rng = np.random.default_rng(4)
    epochs = [rng.integers(-1, 12, 60) for _ in range(4)]
    tracks, table = track_changes(label_tracks(epochs)), change_table(epochs)
    for one, other in (("born", "births"), ("died", "deaths"), ("moved", "flips")):
        assert tracks[one].tolist() == table[other].tolist()
    assert sum(tracks["born"]) > 0


def test_epochs_of_outliers_alone_have_no_clusters_to_match():
    gone = label_change([0, 0, 1], [-1, -1, -1])
    assert (gone.deaths.tolist(), gone.became_outlier.tolist(), len(gone.iou)) == (
        [0, 1],
        [True] * 3,
        0,
    )
    born = label_change([-1, -1, -1], [0, 0, 1])
    assert (born.births.tolist(), born.stopped_outlier.tolist(), born.flipped.any()) == (
        [0, 1],
        [True] * 3,
        False,
    )
    assert len(label_change([-1], [-1]).deaths) == 0


def test_the_table_has_one_row_a_step():
    table = change_table([BEFORE, AFTER, [-1] * 11])
    row = {
        "epoch": 1,
        "n_clusters": 3,
        "matched": 3,
        "births": 0,
        "deaths": 1,
        "splits": 2,
        "merges": 2,
        "mean_iou": pytest.approx((2 / 5 + 1 / 2 + 1 / 3) / 3),
        "flips": 3,
        "flip_share": pytest.approx(3 / 8),
        "became_outliers": 2,
        "stopped_outliers": 1,
    }
    assert {name: values[0] for name, values in table.items()} == row
    last = {name: values[1] for name, values in table.items()}
    assert (last["epoch"], last["n_clusters"], last["deaths"], last["flip_share"]) == (
        2,
        0,
        3,
        0,
    )
    assert np.isnan(last["mean_iou"])


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(KitError, match="two epochs"):
        change_table([[0, 1]])
    with pytest.raises(KitError, match="same length"):
        label_change([0, 1], [0])
    for part in (0, 1.2):
        with pytest.raises(KitError, match="part="):
            label_change([0], [0], part=part)


def test_repairs_and_losses_of_a_run_worked_by_hand():
    pids = np.array([1, 1, 1, 2, 2, 2, 2])
    bad = np.array([0, 0, 1, 1, 1, 1, 0])  # the third and the last picture are wrong
    good = np.array([0, 0, 0, 1, 1, 1, 1])
    assert label_repairs([bad, good], pids) == (2, 0)
    assert label_repairs([good, bad], pids) == (0, 2)
    assert label_repairs([bad, good, bad], pids) == (2, 2)
    assert label_repairs([good, 1 - good], pids) == (0, 0)  # other numbers, same clusters
    outlier = np.where(np.arange(7) == 2, -1, bad)
    assert label_repairs([outlier, good], pids) == (1, 0)  # it was clustered once only
