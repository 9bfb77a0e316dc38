from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from reference import noise as naive
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from sklearn import metrics

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise import (
    CameraPairErrors,
    best_matching,
    camera_pair_errors,
    cluster_agreement,
    contingency,
    error_kinds,
    label_report,
    matched_labels,
    true_clusters,
)


def test_agreement_worked_by_hand():
    # two clusters of two; identities 1 1 1 2: pairs together in both partitions: 1; in
    # labels 2, in identities 3, of 6
    agreement = cluster_agreement([0, 0, 1, 1, -1], [1, 1, 1, 2, 2])
    expected_index = 2 * 3 / 6
    assert agreement.ari == pytest.approx(
        (1 - expected_index) / ((2 + 3) / 2 - expected_index)
    )
    labels_entropy = np.log(2)
    pids_entropy = -0.75 * np.log(0.75) - 0.25 * np.log(0.25)
    mutual = (
        0.5 * np.log(0.5 / (0.5 * 0.75))
        + 0.25 * np.log(0.25 / (0.5 * 0.75))
        + 0.25 * np.log(0.25 / (0.5 * 0.25))
    )
    assert agreement.nmi == pytest.approx(mutual / ((labels_entropy + pids_entropy) / 2))
    assert agreement.purity == pytest.approx(3 / 4)
    assert (agreement.n_clusters, agreement.n_outliers, agreement.outlier_fraction) == (
        2,
        1,
        1 / 5,
    )


def test_perfect_clusters_agree_whatever_their_numbers():
    agreement = cluster_agreement(np.array([5, 5, 2, 2]), np.array([7, 7, 9, 9]))
    assert (agreement.ari, agreement.nmi, agreement.purity) == pytest.approx((1, 1, 1))


def test_unknown_identities_are_left_out_of_the_scores_but_counted_as_clustered():
    known = cluster_agreement([0, 0, 1, 1], [1, 1, 1, 2])
    mixed = cluster_agreement([0, 0, 1, 1, 2, 2, 0, -1], [1, 1, 1, 2, -1, -1, -1, -1])
    assert (mixed.ari, mixed.nmi, mixed.purity) == (known.ari, known.nmi, known.purity)
    assert (mixed.n_clusters, mixed.n_outliers) == (3, 1)


@pytest.mark.parametrize("labels, pids", [([-1, -1], [1, 2]), ([0, 0, 1], [-1, -1, -1])])
def test_nothing_is_said_where_nothing_is_known(labels, pids):
    agreement = cluster_agreement(labels, pids)
    assert agreement.ari is None
    assert agreement.nmi is None
    assert agreement.purity is None


def test_kinds_of_error_worked_by_hand():
    #         cluster 0: a a a b   cluster 1: a a b   cluster 2: b b   cluster 3: c
    #                              outliers
    labels = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, -1, -1]
    pids = [10, 10, 10, 20, 10, 10, 20, 20, 20, 30, 10, -1]
    expected = "right right right merged split split merged right right right outlier outlier"
    assert error_kinds(labels, pids).tolist() == expected.split()


def test_an_identity_whose_larger_part_sits_among_somebody_else_is_split_where_it_leads():
    assert error_kinds([0] * 8 + [1, 1], [5] * 5 + [6] * 3 + [6, 6]).tolist() == (
        ["right"] * 5 + ["merged"] * 3 + ["split"] * 2
    )


def test_ties_go_to_the_smaller_pid_and_to_the_smaller_label():
    assert error_kinds([0, 0], [2, 1]).tolist() == ["merged", "right"]
    assert error_kinds([1, 0], [4, 4]).tolist() == ["split", "right"]


def test_clustered_images_of_unknown_identity_are_unknown_and_move_no_majority():
    assert error_kinds([0, 0, 0, -1], [-1, -1, 3, -1]).tolist() == [
        "unknown",
        "unknown",
        "right",
        "outlier",
    ]
    assert error_kinds([0, -1], [-1, -1]).tolist() == ["unknown", "outlier"]


def test_purity_is_the_share_of_images_that_are_not_merged():
    rng = np.random.default_rng(0)
    labels, pids = rng.integers(0, 12, 300), rng.integers(0, 9, 300)
    kinds = error_kinds(labels, pids)
    assert cluster_agreement(labels, pids).purity == pytest.approx(
        1 - np.mean(kinds == "merged")
    )


@pytest.mark.parametrize(
    ("function", "labels", "pids"),
    [
        (cluster_agreement, [0, 1], [0]),
        (error_kinds, [], []),
        (label_report, [[0, 1]], [[0, 1]]),
        (matched_labels, [0, 1], [0]),
        (true_clusters, [0, 1], [0]),
    ],
)
def test_lists_that_do_not_belong_together_are_refused(function, labels, pids):
    with pytest.raises(KitError, match="same length"):
        function(labels, pids)


def test_the_agreement_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        cluster_agreement([0, 0], [1, 1]).ari = 0.5


# ---- the whole report
# --------------------------------------------------------------------------------------------

LABELS, PIDS, CAMIDS = [0, 0, 0, 1, 1, 2], [1, 1, 2, 2, 2, 1], [0, 0, 1, 1, 0, 1]


def test_the_report_worked_by_hand():
    report = label_report(LABELS, PIDS)
    # pairs in one cluster: 3 + 1 + 0; of one identity: 3 + 3; both: (0, 1) and (3, 4)
    assert (report.pair_precision, report.pair_recall, report.pair_f) == pytest.approx(
        (2 / 4, 2 / 6, 4 / 10)
    )
    precision, recall = (
        (2 / 3 + 2 / 3 + 1 / 3 + 1 + 1 + 1) / 6,
        (2 / 3 + 2 / 3 + 1 / 3 + 1 / 3 + 2 / 3 + 2 / 3) / 6,
    )
    assert (report.bcubed_precision, report.bcubed_recall) == pytest.approx(
        (precision, recall)
    )
    assert report.bcubed_f == pytest.approx(2 / (1 / precision + 1 / recall))
    assert report.purity == pytest.approx(5 / 6)
    assert (report.split_identities, report.merged_clusters) == (2, 1)
    # cluster 2 finds its identity taken
    assert report.wrong_share == pytest.approx(2 / 6)
    assert (report.n_images, report.n_clusters, report.n_identities) == (6, 3, 2)


def test_outliers_are_left_out_or_clusters_of_their_own():
    left_out = label_report(LABELS + [-1, -1], PIDS + [1, 3])
    assert left_out == label_report(LABELS, PIDS)
    alone = label_report(LABELS + [-1, -1], PIDS + [1, 3], outliers="singletons")
    assert alone == label_report(LABELS + [3, 4], PIDS + [1, 3])
    assert (alone.pair_precision, alone.pair_recall) == pytest.approx((2 / 4, 2 / 9))
    # identity 3 may have its single image
    assert alone.wrong_share == pytest.approx(3 / 8)
    with pytest.raises(KitError, match="left_out, singletons"):
        label_report(LABELS, PIDS, outliers="noise")


@pytest.mark.parametrize("seed", range(4))
def test_the_report_equals_scikit_learn_and_the_naive_loops(seed):
    rng = np.random.default_rng(seed)
    labels, pids = rng.integers(-1, 9, 120), rng.integers(-1, 7, 120)
    seen = (labels >= 0) & (pids >= 0)
    report, y, p = label_report(labels, pids), labels[seen], pids[seen]
    (_, merged), (split, both) = metrics.pair_confusion_matrix(p, y)
    assert (report.pair_precision, report.pair_recall) == pytest.approx(
        (both / (both + merged), both / (both + split))
    )
    assert report.pair_f == pytest.approx(2 * both / (2 * both + merged + split))
    assert naive.pair_counts(y, p) == (both // 2, (both + merged) // 2, (both + split) // 2)
    assert (report.bcubed_precision, report.bcubed_recall) == pytest.approx(
        naive.bcubed(y, p)
    )
    assert (report.homogeneity, report.completeness, report.v_measure) == pytest.approx(
        metrics.homogeneity_completeness_v_measure(p, y)
    )
    assert (report.ari, report.nmi) == pytest.approx(
        (metrics.adjusted_rand_score(p, y), report.v_measure)
    )
    known = cluster_agreement(labels, pids)
    assert (report.ari, report.nmi, report.purity) == pytest.approx(
        (known.ari, known.nmi, known.purity)
    )
    table = metrics.cluster.contingency_matrix(y, p)
    assert np.array_equal(contingency(labels, pids).counts.toarray(), table)
    rows, columns = linear_sum_assignment(table, maximize=True)
    assert report.wrong_share == pytest.approx(1 - table[rows, columns].sum() / len(y))
    assert (report.merged_clusters, report.split_identities) == (
        ((table > 0).sum(1) > 1).sum(),
        ((table > 0).sum(0) > 1).sum(),
    )


@pytest.mark.parametrize("labels, pids", [([-1, -1], [1, 2]), ([0, 0, 1], [-1, -1, -1])])
def test_the_report_of_nothing_known_says_nothing(labels, pids):
    report = dataclasses.asdict(label_report(labels, pids))
    assert {name for name, value in report.items() if value is not None} == {
        "n_images",
        "n_clusters",
        "n_identities",
        "split_identities",
        "merged_clusters",
    }
    assert report["n_images"] == 0


def test_one_cluster_of_everybody_has_full_recall_and_singletons_no_pair_to_judge():
    one = label_report([4] * 4, [1, 1, 2, 3])
    assert (
        one.pair_precision,
        one.pair_recall,
        one.completeness,
        one.homogeneity,
    ) == pytest.approx((1 / 6, 1, 1, 0))
    assert (one.wrong_share, one.merged_clusters, one.split_identities) == (0.5, 1, 0)
    alone = label_report([0, 1, 2], [1, 1, 2])
    assert (alone.pair_precision, alone.pair_recall, alone.pair_f) == (None, 0, 0)
    assert (label_report([0, 1], [5, 6]).pair_f, label_report([0, 1], [5, 6]).bcubed_f) == (
        None,
        1,
    )


def test_all_outliers_as_singletons_are_pure_and_found_by_nobody():
    report = label_report([-1] * 4, [1, 1, 2, 2], outliers="singletons")
    assert (report.n_clusters, report.purity, report.pair_recall, report.wrong_share) == (
        4,
        1,
        0,
        0.5,
    )


# ---- matching
# ----------------------------------------------------------------------------------------------------


def test_the_best_matching_is_not_the_greedy_one():
    # greedy takes 3 and is left with nothing: 3; the best takes 2 + 2
    assert best_matching(sparse.csr_array([[3, 2], [2, 0]])).tolist() == [1, 0]


@pytest.mark.parametrize("seed", range(5))
def test_the_best_matching_has_the_hungarian_algorithms_sum(seed):
    rng = np.random.default_rng(seed)
    weights = rng.random((rng.integers(1, 15), rng.integers(1, 15)))
    weights *= rng.random(weights.shape) < 0.4
    matched = best_matching(sparse.csr_array(weights))
    rows = np.flatnonzero(matched >= 0)
    assert len(set(matched[rows])) == len(rows)
    assert (weights[rows, matched[rows]] > 0).all()
    assert weights[rows, matched[rows]].sum() == pytest.approx(
        weights[linear_sum_assignment(weights, maximize=True)].sum()
    )


def test_nothing_matches_where_nothing_is_shared():
    assert best_matching(sparse.csr_array((3, 2))).tolist() == [-1, -1, -1]
    assert best_matching(sparse.csr_array((0, 2))).tolist() == []


def test_matched_labels_worked_by_hand():
    by_label, wrong = matched_labels(
        [7, 7, 7, 3, 3, 9, -1, 7, 5], [1, 1, 2, 2, 2, 1, 1, -1, -1]
    )
    assert by_label.tolist() == [1, 1, 1, 2, 2, -1, -1, 1, -1]
    assert wrong.tolist() == [False, False, True, False, False, True, False, False, False]
    by_label, wrong = matched_labels([-1, 0], [1, -1])
    assert by_label.tolist() == [-1, -1]
    assert not wrong.any()


# ---- cameras
# -----------------------------------------------------------------------------------------------------


def test_errors_by_camera_worked_by_hand():
    errors = camera_pair_errors(LABELS, PIDS, CAMIDS)
    assert errors.cameras.tolist() == [0, 1]
    assert errors.merged.tolist() == [[0, 2], [2, 0]]
    assert errors.together.tolist() == [
        [1, 3],
        [3, 0],
    ]
    assert errors.split.tolist() == [[0, 3], [3, 1]]
    assert errors.same.tolist() == [
        [1, 4],
        [4, 1],
    ]


def test_errors_by_camera_equal_the_naive_loop_and_add_up_to_the_report():
    rng = np.random.default_rng(3)
    labels, pids, camids = (
        rng.integers(-1, 6, 90),
        rng.integers(-1, 5, 90),
        rng.integers(-1, 4, 90),
    )
    errors = camera_pair_errors(labels, pids, camids)
    for (one, two), counts in naive.camera_pairs(labels, pids, camids).items():
        for x, y in ((one, two), (two, one)):
            assert [
                a[x, y] for a in (errors.merged, errors.together, errors.split, errors.same)
            ] == counts
    whole = camera_pair_errors(labels, pids, np.abs(camids), outliers="singletons")
    both, claimed, true = (
        np.triu(a).sum() for a in (whole.together - whole.merged, whole.together, whole.same)
    )
    report = label_report(labels, pids, outliers="singletons")
    assert (report.pair_precision, report.pair_recall) == pytest.approx(
        (both / claimed, both / true)
    )


def test_errors_by_camera_need_a_camera():
    with pytest.raises(KitError, match="none is known"):
        camera_pair_errors([0, 1], [0, 1], [-1, -1])
    for lists in (([0, 1], [0, 1], [0]), ([0, 1], [0], [0, 1])):
        with pytest.raises(KitError, match="same length"):
            camera_pair_errors(*lists)
    assert camera_pair_errors([-1, -1], [1, 1], [0, 1]).merged.shape == (0, 0)


@pytest.mark.parametrize(
    ("labels", "pids", "expected"),
    [
        # 9 is nowhere the most frequent; -1 is nobody; the outlier of 7 has a cluster
        ([0, 0, 0, 1, -1, 2, -1], [7, 7, 9, 7, 9, -1, 7], [0, 0, -1, 0, -1, -1, 0]),
        # most pictures of 2 lie in cluster 0, which is owned by 1: 2 still owns cluster 1
        ([0] * 7 + [1] * 2, [1] * 4 + [2] * 5, [0] * 4 + [1] * 5),
        # 3 owns clusters 0 and 1, and has most pictures in 1
        ([0, 0, 1, 1, 1], [3, 3, 3, 3, 3], [1] * 5),
        # ties: the smaller identity owns cluster 0; of two equal clusters the smaller label
        ([0, 0, 1, 2], [4, 5, 5, 5], [0, 1, 1, 1]),
        ([-1, -1], [1, 2], [-1, -1]),
        ([0, 0], [-1, -1], [-1, -1]),
    ],
)
def test_the_true_cluster_is_of_those_owned_the_one_with_most_pictures(
    labels, pids, expected
):
    np.testing.assert_array_equal(true_clusters(np.array(labels), np.array(pids)), expected)


def test_rates_within_and_between_cameras_add_up_the_counts():
    none = np.zeros((2, 2), int)
    merged, together = np.array([[1, 2], [2, 0]]), np.array([[2, 8], [8, 2]])
    found = CameraPairErrors(np.arange(2), merged, together, none, none)
    assert found.rates("merged") == (1 / 4, 2 / 8)
    assert np.isnan(found.rates("split")).all()
    with pytest.raises(KitError, match="merged, split"):
        found.rates("both")
