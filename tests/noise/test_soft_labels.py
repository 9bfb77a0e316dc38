"""The mass of soft labels, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.losses.theory import break_even, teacher_quality
from dkdmpl_kit.noise.agreement import cluster_owners
from dkdmpl_kit.noise.soft_labels import mass_balance, soft_label_mass

# clusters 0 and 1 belong to person 7, cluster 2 to person 8; person 9 owns none
LABELS = np.array([0, 0, 1, 1, 2, 2, 2, -1])
PIDS = np.array([7, 7, 7, 7, 8, 8, 9, 7])


def test_owners_are_the_most_frequent_identities():
    assert cluster_owners(LABELS, PIDS).tolist() == [7, 7, 8]
    assert cluster_owners(np.array([0, 0]), np.array([5, 3])).tolist() == [3]  # a tie
    assert cluster_owners(np.array([0, 1, 1]), np.array([-1, 4, -1])).tolist() == [-1, 4]


def test_masses_worked_by_hand():
    images = np.array([0, 4, 6])  # of persons 7, 8 and 9; the last owns nothing
    e = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.5, 0.2, 0.3]])
    found = soft_label_mass(e, images, LABELS, PIDS)
    assert found.counted == 2
    assert found.own == pytest.approx((0.7 + 0.8) / 2)
    assert found.truth == pytest.approx((0.9 + 0.8) / 2)
    assert found.siblings == pytest.approx(0.2)  # picture 0 alone has a sibling cluster
    assert found.strangers == pytest.approx((0.1 + 0.2) / 2)
    # of 0.3 off the own cluster 0.2 lies on the sibling; uniform: one of two clusters
    assert found.sibling_lift == pytest.approx((0.2 / 0.3) / 0.5)


def test_an_outlier_of_a_known_person_has_only_siblings():
    found = soft_label_mass(np.array([[0.6, 0.2, 0.2]]), np.array([7]), LABELS, PIDS)
    assert (found.own, found.truth, found.siblings) == pytest.approx((0, 0.8, 0.8))
    assert found.sibling_lift == pytest.approx(0.8 / (2 / 3))


def test_a_teacher_that_is_sure_has_no_lift_and_the_unknown_are_not_counted():
    sure = soft_label_mass(np.eye(3)[[0, 2]], np.array([0, 4]), LABELS, PIDS)
    assert sure.sibling_lift is None
    assert sure.own == 1
    assert sure.siblings == 0
    assert soft_label_mass(np.eye(3)[[0]], np.array([0]), LABELS, np.full(8, -1)) is None
    assert soft_label_mass(np.eye(3)[[0]], np.array([6]), LABELS, PIDS) is None


def test_shapes_that_do_not_fit_are_one_sentence():
    with pytest.raises(KitError, match="must be"):
        soft_label_mass(np.eye(2), np.array([0, 1]), LABELS, PIDS)


def test_a_balance_worked_by_hand():
    view = [[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [1.0, 0.0]]
    labels, truth = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 0])
    found = mass_balance(view, labels, truth, np.arange(4))
    assert found.gained == pytest.approx((0.7 + 1.0) / 4)
    assert found.lost == pytest.approx((0.1 + 0.4) / 4)
    assert found.margin == pytest.approx(1.2 / 4)
    assert found.low < found.margin < found.high


def test_the_margin_is_that_of_p2_and_its_interval_draws_whole_people():
    rng = np.random.default_rng(0)
    view = torch.from_numpy(rng.dirichlet(np.ones(5), 300))
    labels, truth = (torch.from_numpy(rng.integers(0, 5, 300)) for _ in range(2))
    found = mass_balance(view, labels, truth, np.arange(300) // 10)
    expected = break_even(*teacher_quality(view, labels, truth))
    assert found.margin == pytest.approx(expected)
    assert found.margin == pytest.approx(found.gained - found.lost)
    copies = [np.concatenate([x] * 3) for x in (view, labels, truth, np.arange(300) // 10)]
    again = mass_balance(*copies)
    assert (again.low, again.high) == pytest.approx((found.low, found.high)), (
        "copies of the same people say nothing new"
    )


@pytest.mark.parametrize(
    "view, word", [([1.0, 0.0], "undecided"), ([0.0, 1.0], "nearer"), ([0.5, 0.5], "nearer")]
)
def test_the_verdict_of_views_of_wrong_labels(view, word):
    labels, truth = np.zeros(20, int), np.ones(20, int)
    assert mass_balance([view] * 20, labels, truth, np.arange(20)).verdict == word
    right = mass_balance([view] * 20, labels, labels, np.arange(20)).verdict
    assert right == ("undecided" if view == [1.0, 0.0] else "further")


@pytest.mark.parametrize(
    "view, labels, words",
    [
        ([[1.0, 0.0]], [0, 1], "view must be"),
        (np.zeros((0, 2)), [], "."),
        ([[1.0]], [-1], "true"),
    ],
)
def test_a_balance_of_nothing_or_of_outliers_is_refused(view, labels, words):
    with pytest.raises(KitError, match=words):
        mass_balance(view, np.array(labels, int), np.array(labels, int), labels)
