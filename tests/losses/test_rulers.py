"""P2 in three rulers: closed forms against labels mixed by hand, and what follows."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.losses.rulers import (
    brier,
    brier_break_even,
    log_break_even,
    pull_of,
    rulers,
)
from dkdmpl_kit.losses.theory import break_even, teacher_quality


def drawn(seed, rows=40, clusters=6, wrong=0.3):
    draws = torch.Generator().manual_seed(seed)
    e = torch.randn(rows, clusters, generator=draws, dtype=torch.float64).mul(2).softmax(1)
    truth = torch.randint(clusters, (rows,), generator=draws)
    shift = torch.randint(1, clusters, (rows,), generator=draws)
    lies = torch.rand(rows, generator=draws) < wrong
    return e, torch.where(lies, (truth + shift) % clusters, truth), truth


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weight", [0.05, 0.5, 3.0])
def test_the_closed_forms_are_what_mixing_the_labels_gives(seed, weight):
    e, labels, truth = drawn(seed)
    e[::3] = F.one_hot(labels[::3], e.shape[1]).double()  # no mass on the truth where wrong
    found = rulers(e, labels, truth, weight)
    b = weight / (1 + weight)
    eta, e_c, e_w = teacher_quality(e, labels, truth)
    assert found.l1 == pytest.approx(2 * b * break_even(eta, e_c, e_w))
    pull = pull_of(e, labels, truth)
    closed = brier_break_even(eta, pull, float(brier(e, truth).mean()), weight)
    assert found.brier == pytest.approx(b * closed)
    assert found.log == pytest.approx(log_break_even(e, labels, truth, weight))


def test_by_hand_one_wrong_label_of_two():
    # K = 2, lambda_g = 1: picture 0 right, picture 1 wrong; e = (3/4, 1/4) for both
    e = torch.tensor([[0.75, 0.25], [0.75, 0.25]])
    found = rulers(e, torch.tensor([0, 1]), torch.tensor([0, 0]), 1.0)
    # r = (7/8, 1/8) and (3/8, 5/8): l1 0.25 and 1.25 for 0 and 2
    assert found.l1 == pytest.approx((0 + 2) / 2 - (0.25 + 1.25) / 2)
    assert found.brier == pytest.approx((0 + 2) / 2 - (2 / 64 + 50 / 64) / 2)
    # smoothed: (3/4, 1/4) and (1/4, 3/4)
    log = (math.log(7 / 8) - math.log(3 / 4) + math.log(3 / 8) - math.log(1 / 4)) / 2
    assert found.log == pytest.approx(log)


def test_a_calibrated_teacher_fails_the_l1_ruler_and_passes_the_proper_ones():
    """Ten pictures of a label that is right seven times in ten, and a teacher that says so."""
    e = torch.tensor([[0.7, 0.3, 0.0, 0.0, 0.0, 0.0]]).repeat(10, 1)
    truth = torch.tensor([0] * 7 + [1] * 3)
    found = rulers(e, torch.zeros(10, dtype=torch.long), truth, 0.5)
    assert found.l1 < 0 < found.brier
    assert found.log > 0


@pytest.mark.parametrize("seed", range(4))
def test_a_small_enough_weight_always_lowers_the_brier_score_where_labels_are_wrong(seed):
    e, labels, truth = drawn(seed)
    assert rulers(e, labels, truth, 1e-4).brier > 0
    # without a wrong label every doubt costs
    assert rulers(e, truth, truth, 1e-4).brier < 0


def test_a_teacher_that_repeats_the_label_moves_the_brier_score_and_the_l1_by_nothing():
    _, labels, truth = drawn(0)
    found = rulers(F.one_hot(labels, 6), labels, truth, 0.5)
    assert found.l1 == pytest.approx(0) and found.brier == pytest.approx(0)
    assert found.log < 0  # smoothing knows that labels err; this teacher does not


@pytest.mark.parametrize(
    ("e", "weight", "sentence"),
    [
        (torch.ones(3), 0.5, r"shape \(3,\)"),
        (torch.ones(2, 3) / 3, 0.0, "gkd_weight=0.0"),
        (torch.ones(3, 3) / 3, 0.5, r"integers \(3,\)"),
    ],
)
def test_input_that_cannot_be_measured_is_one_sentence(e, weight, sentence):
    with pytest.raises(KitError, match=sentence):
        rulers(e, torch.tensor([0, 1]), torch.tensor([0, 1]), weight)
