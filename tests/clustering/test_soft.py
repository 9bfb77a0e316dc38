"""Soft labels of the clustering: worked by hand, and against dense loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from dkdmpl_kit.clustering import jaccard_distances
from dkdmpl_kit.clustering.soft import (
    jaccard_votes,
    neighbourhood_shares,
    rows_of,
    strongest,
)
from dkdmpl_kit.errors import KitError

LABELS = np.array([0, 0, 1, 1, -1])
CAMERAS = np.array([0, 1, 0, 1, 1])
DISTANCES = np.array(
    [
        [0.0, 0.2, 0.6, 0.9, 0.4],
        [0.2, 0.0, 0.9, 0.9, 0.5],
        [0.6, 0.9, 0.0, 0.1, 0.7],
        [0.9, 0.9, 0.1, 0.0, 0.9],
        [0.4, 0.5, 0.7, 0.9, 0.0],
    ]
)


def stored(dense, most=0.8):
    """The pairs at most `most` apart, the diagonal among them, as the kit stores them."""
    rows, columns = np.nonzero(dense <= most)
    return csr_array((dense[rows, columns], (rows, columns)), shape=dense.shape)


def naive(weights, labels, camids=None, *, itself):
    """(N, K) by loops over a dense (N, N) of weights."""
    e = np.zeros((len(labels), labels.max() + 1))
    for i in range(len(labels)):
        for j in range(len(labels)):
            other = camids is None or camids[i] != camids[j]
            if labels[j] >= 0 and other and (itself or i != j):
                e[i, labels[j]] += weights[i, j]
        e[i] /= e[i].sum() or 1
    return e


def test_votes_worked_by_hand():
    # picture 0: 0.8 for its own cluster (from 1), 0.4 for the other (from 2)
    # picture 3: one stored neighbour, 2. The outlier: 0.6 + 0.5 against 0.3
    e = jaccard_votes(stored(DISTANCES), LABELS).toarray()
    np.testing.assert_allclose(e[0], [2 / 3, 1 / 3])
    np.testing.assert_allclose(e[3], [0, 1])
    np.testing.assert_allclose(e[4], [1.1 / 1.4, 0.3 / 1.4])


def test_votes_of_other_cameras_worked_by_hand():
    e = jaccard_votes(stored(DISTANCES), LABELS, CAMERAS).toarray()
    np.testing.assert_allclose(e[0], [1, 0])  # 2 is of its own camera
    np.testing.assert_allclose(e[4], [0.6 / 0.9, 0.3 / 0.9])  # 0 and 2; 1 is of its camera


def test_shares_of_a_neighbourhood_count_the_picture_itself():
    v = csr_array(np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.1, 0.2, 0.7]]))
    labels = np.array([0, 1, -1])
    e = neighbourhood_shares(v, labels).toarray()
    np.testing.assert_allclose(e, [[2 / 3, 1 / 3], [0, 1], [1 / 3, 2 / 3]])
    alone = neighbourhood_shares(v, labels, np.array([0, 1, 1])).toarray()
    np.testing.assert_allclose(alone, [[0, 1], [0, 0], [1, 0]])


@pytest.mark.parametrize("by_camera", [False, True])
def test_votes_of_real_distances_are_those_of_a_loop(by_camera):
    draws = np.random.default_rng(0)
    features = draws.normal(size=(60, 8)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    distances = jaccard_distances(features, k1=12, k2=3, max_distance=0.9)
    labels = draws.integers(-1, 5, 60)
    camids = draws.integers(0, 3, 60) if by_camera else None
    similarity = np.zeros((60, 60))
    rows = np.repeat(np.arange(60), np.diff(distances.indptr))
    similarity[rows, distances.indices] = 1 - distances.data
    e = jaccard_votes(distances, labels, camids)
    np.testing.assert_allclose(
        e.toarray(), naive(similarity, labels, camids, itself=False), atol=1e-6
    )
    shares = neighbourhood_shares(csr_array(similarity), labels, camids)
    np.testing.assert_allclose(
        shares.toarray(), naive(similarity, labels, camids, itself=True), atol=1e-6
    )
    totals = e.sum(axis=1)
    assert (np.isclose(totals, 1) | (totals == 0)).all()


def test_a_row_without_a_vote_keeps_its_label_and_an_outlier_knows_nothing():
    lonely = csr_array((3, 2))
    rows = rows_of(lonely, np.array([2, 0, 1]), np.array([0, 1, -1]))
    np.testing.assert_array_equal(rows, [[0.5, 0.5], [1, 0], [0, 1]])
    assert rows.dtype == np.float32


def test_what_does_not_fit_is_one_sentence():
    with pytest.raises(KitError, match="with a cluster"):
        jaccard_votes(stored(DISTANCES), np.full(5, -1))
    with pytest.raises(KitError, match="camera of every picture"):
        jaccard_votes(stored(DISTANCES), LABELS, np.array([0, 1, -1, 0, 0]))
    with pytest.raises(KitError, match="N, N"):
        jaccard_votes(csr_array((2, 3)), LABELS)


def test_the_strongest_clusters_are_kept_and_sum_to_one():
    soft = csr_array(np.array([[0.5, 0.3, 0.2], [0.0, 0.0, 0.0], [0.25, 0.25, 0.5]]))
    cut = strongest(soft, 2).toarray()
    np.testing.assert_allclose(cut[0], [0.625, 0.375, 0.0])
    assert not cut[1].any()
    np.testing.assert_allclose(cut[2], [1 / 3, 0.0, 2 / 3])  # of equals the first
    np.testing.assert_allclose(strongest(soft, 3).toarray(), soft.toarray())
    with pytest.raises(KitError, match="count=0"):
        strongest(soft, 0)
