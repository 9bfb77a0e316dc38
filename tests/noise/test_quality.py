"""Scores that need no truth: each equal to its definition, and worth something where
labels are wrong.
"""

from __future__ import annotations

import numpy as np
import pytest
from reference import noise as naive

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise import (
    auroc,
    centroid_silhouette,
    inject_noise,
    label_quality,
    neighbour_entropy,
    self_confidence,
    softmax_entropy,
    suspicion_curve,
    view_disagreement,
)


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_disagreement_worked_by_hand():
    e = [[1, 0, 0], [1, 0, 0], [0.5, 0.5, 0]]
    q = [[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]]
    a = [[1, 0, 0], [0, 0, 1], [0.5, 0.5, 0]]
    assert view_disagreement(e, q, a) == pytest.approx([0, 1, 0])
    # the mean is (2/3, 1/3), each view is sure
    two_to_one = (np.log(3) - 2 / 3 * np.log(2)) / np.log(3)
    assert view_disagreement([[1, 0]], [[1, 0]], [[0, 1]]) == pytest.approx([two_to_one])
    assert view_disagreement([[1, 0]], [[0, 1]]) == pytest.approx([1])


def test_disagreement_equals_the_naive_loop_and_no_view_comes_first():
    rng = np.random.default_rng(0)
    views = [softmax(rng.normal(size=(9, 5)) * 3) for _ in range(3)]
    expected = [naive.disagreement([view[i] for view in views]) for i in range(9)]
    assert view_disagreement(*views) == pytest.approx(expected)
    assert view_disagreement(*views[::-1]) == pytest.approx(expected)


@pytest.mark.parametrize(
    "views",
    [
        ([[1, 0]],),
        ([[1, 0]], [[1, 0, 0]]),
        ([[2, -1]], [[1, 0]]),
        ([[3.0, 1]], [[1, 0]]),
        ([1, 0], [1, 0]),
        ([[np.nan, 1]], [[1, 0]]),
    ],
)
def test_views_that_are_no_probabilities_are_refused(views):
    with pytest.raises(KitError, match="views of one shape|probabilities"):
        view_disagreement(*views)


def test_entropy_among_neighbours_worked_by_hand():
    labels = [0, 0, 1, 1, -1, -1]
    indices = [
        [0, 1, 1, 0],
        [1, 0, 2, 3],
        [2, 0, 1, 0],
        [3, 4, 5, 0],
        [4, 5, 0, 1],
        [5, 5, 4, 4],
    ]
    quarter = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75)) / np.log(4)
    # the image itself counts: row 2 sits among three of another cluster; each outlier
    # is a label of its own
    assert neighbour_entropy(labels, indices) == pytest.approx(
        [0, 0.5, quarter, 1, 0.75, 0.5]
    )


def test_entropy_among_neighbours_equals_the_naive_loop():
    rng = np.random.default_rng(1)
    labels, indices = rng.integers(-1, 4, 60), rng.integers(0, 60, (60, 9))
    assert neighbour_entropy(labels, indices) == pytest.approx(
        [naive.neighbour_entropy(labels, row) for row in indices]
    )


@pytest.mark.parametrize(
    "indices", [[[0], [1]], [[0, 2], [1, 0]], [[0, -1], [1, 0]], [[0, 1]], [0, 1]]
)
def test_neighbours_that_are_none_are_refused(indices):
    with pytest.raises(KitError, match="neighbours"):
        neighbour_entropy([0, 0], indices)


def test_silhouette_worked_by_hand():
    features = np.array([[1, 0], [0.8, 0.6], [0, 1], [0, 1], [-1, 0]])
    # cluster 0 lies along (1.8, 0.6), cluster 1 along (0, 1)
    a, b = 1 - 1.8 / np.hypot(1.8, 0.6), 1.0
    c, d = 1 - (0.8 * 1.8 + 0.6 * 0.6) / np.hypot(1.8, 0.6), 1 - 0.6
    s = centroid_silhouette(features, [0, 0, 1, 1, -1])
    assert s[:4] == pytest.approx([(b - a) / b, (d - c) / d, 1, 1], abs=1e-5)
    assert np.isnan(s[4])


def test_silhouette_equals_the_naive_loop_over_more_than_one_block(monkeypatch):
    monkeypatch.setattr("dkdmpl_kit.noise.quality.BLOCK_ROWS", 7)
    rng = np.random.default_rng(2)
    features, labels = unit(rng.normal(size=(40, 4))), rng.integers(-1, 5, 40)
    labels[3] = 9  # alone in its cluster
    s = centroid_silhouette(features, labels)
    expected = [
        naive.centroid_silhouette(features.tolist(), labels.tolist(), i)
        for i in np.flatnonzero(labels >= 0)
    ]
    assert s[labels >= 0] == pytest.approx(expected, abs=1e-5)
    assert s[3] == 0
    assert np.isnan(s[labels < 0]).all()
    assert s[labels >= 0].min() < 0 < s.max(initial=0, where=labels >= 0)


def test_silhouette_of_one_cluster_or_none():
    assert centroid_silhouette(np.eye(2), [3, 3]).tolist() == [0, 0]
    assert np.isnan(centroid_silhouette(np.eye(2), [-1, -1])).all()
    for features in (np.ones((3, 2)), np.full((2, 2), np.nan), np.ones(2)):
        with pytest.raises(KitError, match="features"):
            centroid_silhouette(features, [0, 1])


def test_self_confidence_is_the_probability_of_the_given_label():
    # Northcutt et al. 2021: of p(y = k; x) the entry of the label that is given
    p = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3]]
    assert self_confidence(p, [0, 1, -1])[:2].tolist() == [0.7, 0.3]
    assert np.isnan(self_confidence(p, [0, 1, -1])[2])
    with pytest.raises(KitError, match="label 3 has no column"):
        self_confidence(p, [0, 1, 3])
    with pytest.raises(KitError, match="2"):
        self_confidence(p, [0, 1])


def test_auroc_worked_by_hand_and_by_pairs():
    assert auroc([0.1, 0.4, 0.35, 0.8], [True, False, True, False]) == 1
    # wins 2 of 4 pairs
    assert auroc([0.1, 0.4, 0.35, 0.8], [True, False, False, True]) == 0.5
    assert auroc([0.5, 0.5, 0.1], [True, False, False]) == 0.25  # one tie, one lost
    rng = np.random.default_rng(4)
    score, wrong = rng.integers(0, 8, 80) / 8, rng.random(80) < 0.3
    assert auroc(score, wrong) == pytest.approx(naive.auroc(score, wrong))
    assert auroc(np.append(score, np.nan), np.append(wrong, True)) == auroc(score, wrong)


def test_auroc_says_nothing_without_both_kinds():
    assert auroc([0.1, 0.2], [False, False]) is None
    assert auroc([0.1, 0.2], [True, True]) is None
    assert auroc([0.1, np.nan], [False, True]) is None
    with pytest.raises(KitError, match="same length"):
        auroc([0.1], [True, False])


def noisy_world(rate=0.2):
    """(labels with wrong ones and two outliers, mask of wrong ones, features,
    neighbours, three views).
    """
    rng = np.random.default_rng(5)
    true = np.repeat(np.arange(10), 20)
    centres = unit(rng.normal(size=(10, 16)))
    features = unit(centres[true] + 0.15 * rng.normal(size=(200, 16)))
    labels, wrong = (x.copy() for x in vars(inject_noise(true, rate)).values())
    labels[[5, 77]], wrong[[5, 77]] = -1, False
    centroids = unit(np.stack([features[labels == k].mean(0) for k in range(10)]))
    logits = features @ centroids.T / 0.1
    views = [softmax(logits + rng.normal(size=logits.shape)) for _ in range(2)] + [
        softmax(logits[rng.permutation(200)])
    ]
    views[2][~wrong] = views[0][~wrong]  # the anchors of wrong labels are strangers
    return labels, wrong, features, np.argsort(-features @ features.T, axis=1)[:, :6], views


def test_the_score_is_the_mean_rank_of_its_parts():
    labels, _, features, indices, views = noisy_world()
    quality = label_quality(labels, views=views, indices=indices, features=features)
    seen = labels >= 0
    assert quality.agreement[seen] == pytest.approx(1 - view_disagreement(*views)[seen])
    assert quality.purity_nearby[seen] == pytest.approx(
        1 - neighbour_entropy(labels, indices)[seen]
    )
    assert quality.silhouette[seen] == pytest.approx(
        (1 + centroid_silhouette(features, labels)[seen]) / 2
    )
    parts = [quality.agreement, quality.purity_nearby, quality.silhouette]
    ranks = [
        [
            ((part[seen] < x).sum() + 0.5 * (part[seen] == x).sum()) / seen.sum()
            for x in part[seen]
        ]
        for part in parts
    ]
    assert quality.score[seen] == pytest.approx(np.mean(ranks, axis=0))
    assert all(
        np.isnan(x[~seen]).all() and (x[seen] >= 0).all() and (x[seen] <= 1).all()
        for x in (quality.score, *parts)
    )


def test_the_score_and_each_part_find_wrong_labels():
    labels, wrong, features, indices, views = noisy_world()
    quality = label_quality(labels, views=views, indices=indices, features=features)
    # it knows a disorder, not who made it
    assert auroc(quality.purity_nearby, wrong) > 0.7
    assert (
        min(
            auroc(part, wrong)
            for part in (quality.score, quality.agreement, quality.silhouette)
        )
        > 0.9
    )
    assert auroc(self_confidence(views[0], labels), wrong) > 0.8


def test_the_score_takes_what_there_is():
    labels, _, features, indices, _ = noisy_world()
    alone = label_quality(labels, features=features)
    assert alone.agreement is None
    assert alone.purity_nearby is None
    seen = labels >= 0
    assert np.array_equal(
        np.argsort(alone.score[seen], kind="stable"),
        np.argsort(alone.silhouette[seen], kind="stable"),
    )
    assert np.isnan(
        label_quality([-1, -1], features=np.eye(2), indices=[[0, 1], [1, 0]]).score
    ).all()
    assert label_quality([0, 0], features=np.eye(2)).score.tolist() == [0.5, 0.5]
    with pytest.raises(KitError, match="nothing to judge by"):
        label_quality(labels)
    with pytest.raises(KitError, match="views are of 1"):
        label_quality(labels, views=([[1, 0]], [[1, 0]]))


def test_looking_at_the_most_suspicious_first_worked_by_hand():
    score = np.array([0.1, 0.4, 0.2, np.nan, 0.4])
    wrong = np.array([True, True, False, True, False])
    looked, found = suspicion_curve(score, wrong)
    assert looked.tolist() == [0, 0.25, 0.5, 1]
    assert found.tolist() == [0, 0.5, 0.5, 1]
    assert suspicion_curve(score, ~np.isfinite(score)) is None  # only the outlier is wrong
    with pytest.raises(KitError, match="same length"):
        suspicion_curve(score, wrong[:2])


def test_entropy_is_zero_for_a_sharp_softmax_and_the_logarithm_of_k_for_a_flat_one():
    entropy = softmax_entropy([[1.0, 0.0, 0.0, 0.0]], [1e-3, 1e6])
    np.testing.assert_allclose(entropy[:, 0], [0, np.log(4)], atol=1e-9)
    p = np.exp([6.0, 2.0, 4.0])
    p /= p.sum()
    by_hand = -(p * np.log(p)).sum()
    assert np.isclose(softmax_entropy([[0.3, 0.1, 0.2]], [0.05])[0, 0], by_hand)
    with pytest.raises(KitError, match="above 0"):
        softmax_entropy([[1.0]], [0.0])
