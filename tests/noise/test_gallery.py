"""The clusters of a gallery, chosen by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise import doubt_rows, gallery_rows

PIDS = np.array([7, 7, 7, 7, 5, 5, 5, 5, 9, 9, 9, 9])


def test_the_purest_the_most_mixed_and_the_outliers():
    # 0 is pure; 1 holds 5, 5, 5, 9; 2 holds 5, 9
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 1, -1, -1])
    best, worst, outliers = gallery_rows(labels, PIDS, clusters_each=1)
    assert best.text == "purest:\ncluster 0\n4 pictures\npurity 1.00\n1 identity"
    assert worst.text == "most mixed:\ncluster 2\n2 pictures\npurity 0.50\n2 identities"
    assert outliers.text == "outliers:\n2 of 12\npictures"
    assert [row.cluster for row in (best, worst, outliers)] == [0, 2, -1]
    np.testing.assert_array_equal(outliers.images, [10, 11])


def test_unknown_identities_count_for_nobody():
    [row] = gallery_rows(np.zeros(4, int), np.array([7, 7, -1, 8]))
    assert "purity 0.67\n2 identities" in row.text
    np.testing.assert_array_equal(row.images, [0, 1, 3, 2])  # the unknown one comes last


@pytest.mark.parametrize(
    ("features", "words"),
    [(None, ("largest", "smallest")), (np.eye(12), ("most compact", "loosest"))],
)
def test_without_identities_the_order_is_that_of_what_is_given(features, words):
    labels = np.array([0] * 5 + [1] * 3 + [2] * 2 + [-1] * 2)
    rows = gallery_rows(labels, np.full(12, -1), features, clusters_each=1)
    assert [row.text.split(":")[0] for row in rows] == [*words, "outliers"]


def test_a_sample_is_spread_over_a_clusters_identities():
    [row] = gallery_rows(np.zeros(12, int), PIDS, per_cluster=3)
    assert sorted(PIDS[row.images]) == [5, 7, 9]


def test_lists_of_two_lengths_are_refused():
    with pytest.raises(KitError, match="labels and features"):
        gallery_rows([0, 0], None, np.eye(3))


def test_doubtful_images_come_first_each_with_the_least_doubtful_of_its_cluster():
    images = np.array([10, 11, 12, 13, 14, 15])
    labels = np.array([0, 0, 0, 1, 1, 1])
    score = np.array([0.1, 0.9, 0.5, 0.2, 0.3, 0.8])
    found = doubt_rows(images, labels, score, rows=2, mates=1)
    assert [row.tolist() for row in found] == [[10, 11], [13, 15]]
    found = doubt_rows(images, labels, score, first=13, rows=2, mates=9)
    assert [row.tolist() for row in found] == [[13, 15, 14], [10, 11, 12], [14, 15, 13]]
    assert len(doubt_rows(images, labels, score, first=99, rows=9)) == 6
    with pytest.raises(KitError, match="labels and score"):
        doubt_rows(images, labels, score[:2])
