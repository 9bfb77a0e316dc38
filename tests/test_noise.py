from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise import cluster_agreement, error_kinds


def test_agreement_worked_by_hand():
    # two clusters of two; identities 1 1 1 2: pairs together in both partitions: 1; in labels 2, in identities 3, of 6
    agreement = cluster_agreement([0, 0, 1, 1, -1], [1, 1, 1, 2, 2])
    expected_index = 2 * 3 / 6
    assert agreement.ari == pytest.approx((1 - expected_index) / ((2 + 3) / 2 - expected_index))
    labels_entropy = np.log(2)
    pids_entropy = -0.75 * np.log(0.75) - 0.25 * np.log(0.25)
    mutual = 0.5 * np.log(0.5 / (0.5 * 0.75)) + 0.25 * np.log(0.25 / (0.5 * 0.75)) + 0.25 * np.log(0.25 / (0.5 * 0.25))
    assert agreement.nmi == pytest.approx(mutual / ((labels_entropy + pids_entropy) / 2))
    assert agreement.purity == pytest.approx(3 / 4)
    assert (agreement.n_clusters, agreement.n_outliers, agreement.outlier_fraction) == (2, 1, 1 / 5)


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
    assert agreement.ari is None and agreement.nmi is None and agreement.purity is None


def test_kinds_of_error_worked_by_hand():
    #         cluster 0: a a a b   cluster 1: a a b   cluster 2: b b   cluster 3: c   outliers
    labels = [0, 0, 0, 0,          1, 1, 1,           2, 2,            3,             -1, -1]
    pids = [10, 10, 10, 20,        10, 10, 20,        20, 20,          30,            10, -1]
    expected = "right right right merged split split merged right right right outlier outlier"
    assert error_kinds(labels, pids).tolist() == expected.split()


def test_an_identity_whose_larger_part_sits_among_somebody_else_is_split_where_it_leads():
    assert error_kinds([0] * 8 + [1, 1], [5] * 5 + [6] * 3 + [6, 6]).tolist() == (
        ["right"] * 5 + ["merged"] * 3 + ["split"] * 2)


def test_ties_go_to_the_smaller_pid_and_to_the_smaller_label():
    assert error_kinds([0, 0], [2, 1]).tolist() == ["merged", "right"]
    assert error_kinds([1, 0], [4, 4]).tolist() == ["split", "right"]


def test_clustered_images_of_unknown_identity_are_unknown_and_move_no_majority():
    assert error_kinds([0, 0, 0, -1], [-1, -1, 3, -1]).tolist() == ["unknown", "unknown", "right", "outlier"]
    assert error_kinds([0, -1], [-1, -1]).tolist() == ["unknown", "outlier"]


def test_purity_is_the_share_of_images_that_are_not_merged():
    rng = np.random.default_rng(0)
    labels, pids = rng.integers(0, 12, 300), rng.integers(0, 9, 300)
    kinds = error_kinds(labels, pids)
    assert cluster_agreement(labels, pids).purity == pytest.approx(1 - np.mean(kinds == "merged"))


@pytest.mark.parametrize("function", [cluster_agreement, error_kinds])
@pytest.mark.parametrize("labels, pids", [([0, 1], [0]), ([], []), ([[0, 1]], [[0, 1]])])
def test_lists_that_do_not_belong_together_are_refused(function, labels, pids):
    with pytest.raises(KitError, match="same length"):
        function(labels, pids)


def test_the_agreement_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        cluster_agreement([0, 0], [1, 1]).ari = 0.5
