"""One clustering in a line, names that stay, the last change, and a cluster seen from
its centroid; worked by hand.
"""

from __future__ import annotations

import numpy as np
import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise import (
    cluster_means,
    cluster_view,
    clustering_summary,
    kept_names,
    label_change,
    label_report,
    last_change,
)

LABELS = np.array([0, 0, 0, 1, 1, 2, 2, -1])
PIDS = np.array([5, 5, 7, 7, 7, 7, 7, 9])


def test_the_summary_counts_clusters_outliers_and_what_is_merged_and_split():
    found = clustering_summary(LABELS, PIDS)
    assert (found.n_clusters, found.n_outliers, found.outlier_fraction) == (3, 1, 1 / 8)
    # cluster 0 holds 5 and 7; 7 lies in all three
    assert (found.merged_clusters, found.split_identities) == (
        1,
        1,
    )
    report = label_report(LABELS, PIDS)
    assert found.ari == report.ari
    assert found.purity == pytest.approx(6 / 7)
    assert found.splits is None
    assert found.merges is None
    assert str(found) == (
        f"3 clusters · 1 outlier (12.5%) · ARI {report.ari:.3f} · purity 85.7% · 1 "
        "cluster of several "
        "identities · 1 identity in several clusters"
    )


def test_the_summary_counts_what_the_last_move_split_and_merged():
    # 0 fell apart into 0 and 1; 1 and 2 were put together
    before = np.array([0, 0, 0, 0, 0, 1, 2, 2])
    after = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    found = clustering_summary(after, None, before)
    assert (found.splits, found.merges) == (1, 1)
    assert str(found) == "3 clusters · 0 outliers (0.0%) · last move: 1 split, 1 merged"
    assert clustering_summary(before, None, after).merges == 1


def test_unknown_identities_and_no_clusters_leave_the_measures_out():
    unknown = clustering_summary(LABELS, np.full(8, -1))
    assert unknown.ari is None
    assert unknown.purity is None
    assert unknown.merged_clusters is None
    assert "ARI" not in str(unknown)
    nothing = clustering_summary(np.full(8, -1), PIDS)
    assert (nothing.n_clusters, nothing.n_outliers, nothing.ari) == (0, 8, None)
    assert str(nothing) == "0 clusters · 8 outliers (100.0%)"


def test_a_cluster_that_is_still_there_keeps_its_name_and_a_new_one_gets_a_new_name():
    before = np.array([4, 4, 4, 9, 9, 9, -1, -1])
    after = np.array([1, 1, 1, 0, 0, -1, 2, 2])
    np.testing.assert_array_equal(kept_names(before, after), [4, 4, 4, 9, 9, -1, 10, 10])


def test_names_describe_the_same_partition_and_follow_the_matching():
    rng = np.random.default_rng(0)
    for _ in range(20):
        before, after = rng.integers(-1, 6, (2, 40))
        named = kept_names(before, after)
        pairs = set(zip(after.tolist(), named.tolist()))
        # one to one
        assert (
            len(pairs) == len({new for new, _ in pairs}) == len({name for _, name in pairs})
        )
        assert ((named < 0) == (after < 0)).all()
        change = label_change(before, after)
        assert all(
            (new, old) in pairs
            for old, new in zip(change.before.tolist(), change.after.tolist())
        )
        assert {dict(pairs)[new] for new in change.births.tolist()}.isdisjoint(
            before.tolist()
        )


def test_names_survive_a_clustering_without_any_cluster():
    none, some = np.full(4, -1), np.array([0, 0, 1, 1])
    np.testing.assert_array_equal(kept_names(none, some), some)
    np.testing.assert_array_equal(kept_names(some, none), none)


def test_the_last_change_is_the_last_epoch_that_moved_an_image():
    epochs = [
        np.array([0, 0, 0, 1, 1, 1, -1]),
        np.array([1, 1, 1, 0, 0, 0, 0]),  # only names change; image 6 joins
        np.array([1, 1, 0, 0, 0, 0, 0]),
        np.array([1, 1, 0, 0, 0, -1, 0]),
    ]
    np.testing.assert_array_equal(last_change(epochs), [0, 0, 2, 0, 0, 3, 1])
    np.testing.assert_array_equal(last_change(epochs[:1]), np.zeros(7))
    with pytest.raises(KitError, match="at least one epoch"):
        last_change([])


def test_means_of_groups_have_norm_one_and_a_mean_of_zero_stays():
    features = np.array([[1, 0], [0, 1], [0.6, 0.8], [-0.6, -0.8]], np.float32)
    means = cluster_means(features, np.array([1, 1, 0, 0]))
    np.testing.assert_allclose(means, [[0, 0], [0.5**0.5, 0.5**0.5]], atol=1e-6)


def directions(*degrees):
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def test_a_cluster_is_seen_from_its_centroid_members_and_neighbours_nearest_first():
    #                     cluster 3: mean at 10     7: mean at 40  8: at 90  9: at 180
    #                         an outlier right beside
    features = directions(0, 12, 18, 30, 50, 90, 90, 180, 180, 10)
    labels = np.array([3, 3, 3, 7, 7, 8, 8, 9, 9, -1])
    pids = np.array([2, 1, 1, 1, 1, 4, 4, 5, 5, 1])
    camids = np.array([1, 0, 1, 0, 0, 0, 0, 0, 0, 0])
    view = cluster_view(features, labels, 3, pids=pids, camids=camids, nearest=2)
    # 2, 8 and 10 degrees from 10: their mean lies at 10.03
    np.testing.assert_array_equal(view.members, [1, 2, 0])
    np.testing.assert_array_equal(view.nearest, [7, 8])
    np.testing.assert_allclose(view.similarities, np.cos(np.deg2rad([30, 80])), atol=2e-3)
    assert (view.pid, view.n_identities, view.cameras) == (
        1,
        2,
        {1: 2, 0: 1},
    )
    assert view.purity == pytest.approx(2 / 3)
    assert (
        str(view)
        == "Cluster 3: 3 pictures · purity 67% (identity 1, 2 in all) · cameras 2 (2), "
        "1 (1)"
    )


def test_a_view_without_truth_cameras_or_another_cluster_says_less():
    view = cluster_view(directions(0, 5, 90), np.array([0, 0, -1]), 0, pids=np.full(3, -1))
    assert view.purity is None
    assert view.pid is None
    assert view.cameras == {}
    assert len(view.nearest) == 0
    assert str(view) == "Cluster 0: 2 pictures"
    with pytest.raises(KitError, match="no cluster 4 now; this clustering has 1"):
        cluster_view(directions(0, 5, 90), np.array([0, 0, -1]), 4)
    with pytest.raises(KitError, match="no cluster -1"):
        cluster_view(directions(0, 5, 90), np.array([0, 0, -1]), -1)
    with pytest.raises(KitError, match="2 features for 3 labels"):
        cluster_view(directions(0, 5), np.array([0, 0, -1]), 0)
