"""Corrections are honoured exactly, and nothing else moves: by hand, against loops, and on
whatever hypothesis thinks of.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference.constraints import corrected_by_loops, units_by_loops

from dkdmpl_kit.clustering.algorithms import PseudoLabels
from dkdmpl_kit.clustering.constraints import Constraints, corrected, corrected_labels
from dkdmpl_kit.errors import KitError


def on_a_circle(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


# two clusters, around 0 and 90 degrees, and two outliers
LABELS = np.array([0, 0, 0, 1, 1, -1, -1])
FEATURES = on_a_circle(0, 2, 40, 90, 92, 45, 50)


def fixed(together=(), apart=(), labels=LABELS, features=FEATURES) -> list[int]:
    constraints = Constraints(len(labels), tuple(together), tuple(apart))
    return corrected_labels(labels, constraints, features).tolist()


def test_without_constraints_everything_stays():
    assert fixed() == LABELS.tolist()


def test_a_merge_of_two_whole_clusters_is_one_cluster():
    assert fixed([[0, 1, 2, 3, 4]]) == [0, 0, 0, 0, 0, -1, -1]


def test_a_merge_says_nothing_of_pictures_that_it_does_not_name():
    # most of the three lie in cluster 1; 0 and 1 stay where they are
    assert fixed([[2, 3, 4]]) == [0, 0, 1, 1, 1, -1, -1]


def test_of_equally_many_the_most_similar_centroid_takes_them():
    # 2 lies at 40 degrees, 3 at 90: their mean, 65, is nearer to 91 than to 14
    assert fixed([[2, 3]]) == [0, 0, 1, 1, 1, -1, -1]
    assert fixed([[0, 3]], features=on_a_circle(0, 2, 4, 45, 92, 0, 0))[3] == 0


def test_outliers_that_are_one_become_a_cluster_or_join_one():
    assert fixed([[5, 6]]) == [0, 0, 0, 1, 1, 2, 2]
    assert fixed([[3, 5]]) == [0, 0, 0, 1, 1, 1, -1]


def test_groups_that_share_a_picture_are_one():
    assert fixed([[5, 6], [6, 4]]) == [0, 0, 0, 1, 1, 1, 1]


def test_a_split_leaves_its_cluster_as_one():
    assert fixed([[0, 1]], [([0, 1], [2])]) == [0, 0, 1, 2, 2, -1, -1]


def test_two_that_are_not_the_same_take_the_others_by_the_nearest_mean():
    labels = np.zeros(6, int)
    features = on_a_circle(0, 90, 10, 80, 44, 46)
    assert fixed([], [([0], [1])], labels, features) == [0, 1, 0, 1, 0, 1]


def test_outliers_that_are_not_the_same_stay_outliers():
    assert fixed([], [([5], [6]), ([5], [0])]) == LABELS.tolist()


def test_three_that_differ_are_three():
    apart = [([0], [1]), ([1], [2]), ([0], [2])]
    assert fixed([], apart, np.zeros(3, int), FEATURES[:3]) == [0, 1, 2]


def test_a_side_is_not_one():
    # {0, 3} against {1}: 3 is nearer to 1, and must not be with it
    labels, features = np.zeros(4, int), on_a_circle(0, 90, 45, 89)
    assert fixed([], [([0, 3], [1])], labels, features)[3] == 0


@pytest.mark.parametrize(
    ("together", "apart", "words"),
    [
        ([[0, 1]], [([1], [0])], "line 2 and line 3 contradict each other"),
        ([[0, 1], [1, 2]], [([0], [2])], "line 2, line 3 and line 4 contradict"),
        ([[0, 1]], [([4], [4])], "line 3 says that a picture is not the same as itself"),
    ],
)
def test_a_contradiction_names_its_lines(together, apart, words):
    count = len(together) + len(apart)
    named = tuple(f"line {k + 2}" for k in range(count))
    with pytest.raises(KitError, match=words):
        Constraints(7, tuple(together), tuple(apart), named)


@pytest.mark.parametrize("group", [[7], [-1], []])
def test_an_index_outside_is_refused(group):
    with pytest.raises(KitError, match="indices below 7"):
        Constraints(7, (group,))


def test_labels_of_other_pictures_are_refused():
    with pytest.raises(KitError, match="7 pictures"):
        corrected_labels(LABELS[:5], Constraints(7), FEATURES[:5])


def test_the_counts_of_a_clustering_follow():
    pseudo = PseudoLabels(LABELS, 2, 2 / 7, eps=0.5, soft=object())
    constraints = Constraints(7, ([5, 6], [0, 1, 2, 3, 4]))
    found = corrected(pseudo, constraints, FEATURES)
    assert (found.n_clusters, found.outlier_fraction) == (2, 0.0)
    assert found.largest_share == pytest.approx(5 / 7)
    assert found.eps == 0.5 and found.soft is None
    assert corrected(pseudo, None, FEATURES) is pseudo


def test_the_fingerprint_is_of_what_is_said_alone():
    one = Constraints(7, ([1, 0], [3, 4]), (([5], [6]),))
    other = Constraints(7, ([4, 3], [0, 1]), (([6], [5]),), ("a", "b", "c"))
    assert one.fingerprint() == other.fingerprint()
    assert one.fingerprint() != Constraints(7, ([0, 1], [3, 4])).fingerprint()


@st.composite
def cases(draw):
    """(labels, together, apart, features): apart never contradicts together."""
    n = draw(st.integers(1, 12))
    labels = np.array(draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n)))
    group = st.lists(st.integers(0, n - 1), min_size=1, max_size=4)
    together = draw(st.lists(group, max_size=4))
    units = units_by_loops(n, together)
    apart = []
    for one, other in draw(st.lists(st.tuples(group, group), max_size=4)):
        if not {units[i] for i in one} & {units[j] for j in other}:
            apart.append((one, other))
    seed = draw(st.integers(0, 2**16))
    features = np.random.default_rng(seed).normal(size=(n, 3))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return labels, together, apart, features.astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_it_equals_the_loops(case):
    labels, together, apart, features = case
    expected = corrected_by_loops(labels, together, apart, features)
    found = fixed(together, apart, labels, features)
    if not together and not apart:
        assert found == labels.tolist()  # untouched, not even renumbered
    else:
        assert found == expected


@settings(max_examples=150, deadline=None)
@given(cases(), st.randoms())
def test_what_is_said_holds_and_nothing_else_moves(case, random):
    labels, together, apart, features = case
    assume(together or apart)
    found = np.array(fixed(together, apart, labels, features))
    for group in together:
        assert len(set(found[group])) == 1
        assert len(set(group)) == 1 or found[group[0]] >= 0
    for one, other in apart:
        assert not (set(found[one]) & set(found[other])) - {-1}
    # numbered by first appearance
    seen = list(dict.fromkeys(found[found >= 0].tolist()))
    assert seen == list(range(len(seen)))
    # pictures that no constraint names, in clusters that none touches, keep their company
    units = units_by_loops(len(labels), together)
    moved = {i for i, unit in enumerate(units) if len(unit) > 1}
    moved |= {i for pair in apart for side in pair for i in side}
    alone = [
        c for c in set(labels.tolist()) - {-1} if not moved & set(np.flatnonzero(labels == c))
    ]
    for cluster in alone:
        members = np.flatnonzero(labels == cluster)
        (new,) = set(found[members].tolist())
        assert set(np.flatnonzero(found == new)) - set(members) <= moved - set(members)
    for i in set(range(len(labels))) - moved:
        assert (found[i] >= 0) == (labels[i] >= 0)
    # in any order, and again
    random.shuffle(together)
    random.shuffle(apart)
    assert fixed(together, apart, labels, features) == found.tolist()
    assert fixed(together, apart, found, features) == found.tolist()
