"""Clusters tracked by hand through three epochs."""

from __future__ import annotations

import numpy as np
import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise.flows import choose_tracks, label_tracks, track_bands, track_changes

# ten pictures: cluster 0 splits in two, cluster 1 goes on under another number, then
# two merge and one dies
EPOCHS = [
    np.array([0, 0, 0, 0, 0, 1, 1, 1, -1, -1]),
    np.array([1, 1, 1, 2, 2, 0, 0, 0, -1, 3]),
    np.array([0, 0, 0, 0, 0, -1, -1, -1, -1, 1]),
]
TRACKS = [
    [0, 0, 0, 0, 0, 1, 1, 1, -1, -1],
    [0, 0, 0, 2, 2, 1, 1, 1, -1, 3],
    [0, 0, 0, 0, 0, -1, -1, -1, -1, 3],
]


def test_a_cluster_keeps_its_number_while_it_lives():
    np.testing.assert_array_equal(label_tracks(EPOCHS), TRACKS)


def test_a_partner_that_shares_too_little_is_another_cluster():
    before, after = np.array([0] * 9 + [1]), np.array([0] + [1] * 9)
    # overlap 8 of 10: the same; 0: born
    np.testing.assert_array_equal(label_tracks([before, after])[1], [2] + [0] * 9)
    np.testing.assert_array_equal(
        label_tracks([before, after], least_iou=0.9)[1], [2] + [3] * 9
    )


def test_births_deaths_and_moved_pictures_are_counted_step_by_step():
    found = track_changes(np.array(TRACKS))
    assert {name: values.tolist() for name, values in found.items()} == {
        "born": [2, 0],
        "died": [0, 2],
        "moved": [2, 2],
    }


def test_the_tracks_that_exchange_most_are_chosen_or_the_largest():
    tracks = np.array(TRACKS)
    assert sorted(choose_tracks(tracks, 2)) == [0, 2]  # the split and the merge
    assert sorted(choose_tracks(tracks, 2, by="size")) == [0, 1]
    assert sorted(choose_tracks(tracks, 99)) == [0, 1, 2, 3]
    with pytest.raises(KitError, match="by='length'"):
        choose_tracks(tracks, 2, by="length")


def test_partners_in_exchange_stand_side_by_side():
    one = np.array([0] * 10 + [1] * 10 + [2] * 10 + [3] * 10)
    # 0 gives to 3, 1 gives to 2
    two = np.array([0] * 6 + [3] * 4 + [1] * 7 + [2] * 3 + [2] * 10 + [3] * 10)
    order = choose_tracks(np.stack([one, two]), 4).tolist()
    assert abs(order.index(0) - order.index(3)) == 1
    assert abs(order.index(1) - order.index(2)) == 1


def test_bands_fold_the_rest_and_keep_outliers_apart():
    bands = track_bands(np.array(TRACKS), np.array([2, 0]))
    np.testing.assert_array_equal(bands[1], [1, 1, 1, 0, 0, 2, 2, 2, 3, 2])
    np.testing.assert_array_equal(bands[2], [1, 1, 1, 1, 1, 3, 3, 3, 3, 2])


def test_epochs_without_clusters_and_no_epochs_at_all():
    tracks = label_tracks([np.full(4, -1), np.array([0, 0, -1, -1]), np.full(4, -1)])
    np.testing.assert_array_equal(tracks, [[-1] * 4, [0, 0, -1, -1], [-1] * 4])
    nothing = np.full((2, 4), -1)
    assert choose_tracks(nothing, 3).tolist() == []
    np.testing.assert_array_equal(track_bands(nothing, np.array([], int)), np.ones((2, 4)))
    assert track_changes(tracks[:1])["born"].tolist() == []
    with pytest.raises(KitError, match="no epoch to track"):
        label_tracks([])
