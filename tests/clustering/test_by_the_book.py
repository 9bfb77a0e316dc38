"""The distance by the book, step by step on five pictures in the plane."""

from __future__ import annotations

import numpy as np
import pytest

from dkdmpl_kit.clustering.by_the_book import (
    expanded_query,
    expanded_sets,
    jaccard_by_the_book,
    neighbours_R,
    reciprocal_sets,
    shared_m,
    weights_V,
)

# three pictures within 20 degrees, two within 5, and a right angle between the groups
ANGLES = np.deg2rad([0.0, 10.0, 20.0, 110.0, 115.0])
FIVE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


def test_r_lists_the_picture_itself_and_then_the_nearest():
    R = neighbours_R(FIVE)
    assert R[0].tolist() == [0, 1, 2, 3, 4]
    assert R[1].tolist() == [1, 0, 2, 3, 4]  # 0 and 2 are equally near: the smaller index
    assert R[3].tolist() == [3, 4, 2, 1, 0]


def test_p_keeps_the_neighbours_that_agree():
    P = reciprocal_sets(neighbours_R(FIVE), 3)
    # 3 and 4 have 2 among their three, and 2 has 2, 1, 0: it does not agree
    assert P == [{0, 1, 2}, {0, 1, 2}, {0, 1, 2}, {3, 4}, {3, 4}]
    Q = reciprocal_sets(neighbours_R(FIVE), 2)
    assert Q == [{0, 1}, {0, 1}, {2}, {3, 4}, {3, 4}]


def test_a_half_set_is_taken_in_where_more_than_two_thirds_of_it_are_known():
    P = [{0, 1, 2}, {1}, {2}, {3}, {4}]
    three = [set(), {0, 1, 2, 3}, set(), set(), set()]  # 3 of 4 lie in P_0: more than 2/3
    two = [set(), {0, 1, 3}, set(), set(), set()]  # 2 of 3: exactly two thirds, too few
    assert expanded_sets(P, three)[0] == {0, 1, 2, 3}
    assert expanded_sets(P, two)[0] == {0, 1, 2}


def test_v_is_a_softmax_and_query_expansion_a_mean():
    V = weights_V(FIVE, [{0}, {0, 1}, {2}, {3, 4}, {4}])
    raw = np.exp([-(2 - 2 * np.cos(np.deg2rad(10))), 0.0])  # of 1: to 0, and to itself
    np.testing.assert_allclose(V[1, :2], raw / raw.sum())
    assert V[0].tolist() == [1, 0, 0, 0, 0]
    mean = expanded_query(V, neighbours_R(FIVE), 2)
    np.testing.assert_allclose(mean[0], (V[0] + V[1]) / 2)


def test_m_and_the_distance_worked_by_hand():
    V = np.array([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(shared_m(V), [[1, 0.75, 0], [0.75, 1, 0.25], [0, 0.25, 1]])
    d = jaccard_by_the_book(FIVE, 3, 1)
    # 0, 1 and 2 share one expanded set: near; nothing is shared with 3 and 4
    assert np.diag(d) == pytest.approx(0) and d[0, 3] == 1 and d[3, 4] < 0.05
    assert d[0, 1] < d[0, 2] < 0.2
    np.testing.assert_allclose(d, d.T)
