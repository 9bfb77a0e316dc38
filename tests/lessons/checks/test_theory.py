"""Wrong answers that a learner of notebook 08 may give, and right ones in other forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dkdmpl_kit.lessons.checks.theory import checks
from dkdmpl_kit.lessons.theory import gradient_of, invented_worlds, random_case
from dkdmpl_kit.losses import mixed_target, skd_loss
from dkdmpl_kit.losses.rulers import rulers

LAM = 0.3
DICE = torch.Generator().manual_seed(0)
REAL = random_case(DICE, rows=16, clusters=7)
RANDOM = random_case(DICE)
WORLD = invented_worlds(DICE)["30 % wrong"]


@pytest.fixture(scope="module")
def check():
    return checks(REAL, RANDOM, WORLD, LAM)


def parts(T=3.0):
    student, teacher = REAL["l"], REAL["t"]
    hard = student.softmax(1) - F.one_hot(REAL["y"], 7)
    return hard, (student / T).softmax(1) - (teacher / T).softmax(1)


HARD, SOFT = parts()
GRADIENT = (HARD + LAM * 3 * SOFT) / 16
OF_L_AND_T = REAL["l"].softmax(1) - REAL["t"].softmax(1)


@pytest.mark.parametrize(
    "right",
    [
        GRADIENT,
        GRADIENT.tolist(),
        GRADIENT.numpy(),
        GRADIENT.float(),
        GRADIENT.clone().requires_grad_(),
    ],
)
def test_1_the_gradient_in_any_form_is_right(check, right):
    assert check(1, right)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (GRADIENT * 16, "mean over the batch is missing"),
        (GRADIENT / 16, "mean was taken twice"),
        (-GRADIENT, "sign"),
        ((HARD + LAM * 9 * SOFT) / 16, "T, not T²"),
        ((HARD + LAM * SOFT) / 16, "factor T is missing"),
        ((HARD + LAM * SOFT / 3) / 16, ""),
        ((HARD + LAM * OF_L_AND_T) / 16, "P1, which holds at T = 1"),
        ((HARD + 3 * SOFT) / 16, "weight lambda_g"),
        (HARD / 16, "distillation is missing"),
        (LAM * 3 * SOFT / 16, "cluster contrast is missing"),
        (
            ((REAL["l"] / 3).softmax(1) - F.one_hot(REAL["y"], 7) + LAM * 3 * SOFT) / 16,
            "stays",
        ),
        ((HARD + LAM * 3 * parts(1 / 3)[1]) / 16, ""),
        ((HARD - LAM * 3 * SOFT) / 16, ""),
        (GRADIENT.T, "transposed"),
        (GRADIENT.mean(0), "its shape"),
        (GRADIENT.norm(), "one number"),
        (GRADIENT[:8], "its shape"),
        (torch.randn(16, 7, generator=torch.Generator().manual_seed(5)), ""),
        (torch.zeros(16, 7), ""),
    ],
)
def test_1_a_wrong_gradient_is_rejected(check, capsys, wrong, hint):
    assert not check(1, wrong)
    assert hint in capsys.readouterr().out


def negatives(divergence="symmetric_kl", factor=64.0, anchor="l_a"):
    def loss(x):
        return skd_loss(x, RANDOM[anchor], divergence=divergence)

    return RANDOM["l"].softmax(1) - factor * gradient_of(loss, RANDOM["l"]) < 0


def by_hand():
    """The same share without autograd."""
    q, a = (RANDOM[name].softmax(1) for name in ("l", "l_a"))
    g = q.log() - a.log()
    rho = q - 0.5 * (q - a) - 0.5 * q * (g - (q * g).sum(1, keepdim=True))
    return (rho < 0).any(1)


SHARE = float(negatives().any(1).double().mean())


@pytest.mark.parametrize(
    "right",
    [
        SHARE,
        torch.tensor(SHARE),
        np.float32(SHARE),
        by_hand().double().mean(),
        int(by_hand().sum()) / 64,
    ],
)
def test_2_the_share_in_any_form_is_right(check, right):
    assert check(2, right)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (float(negatives().double().mean()), "share of negative entries"),
        (1 - SHARE, "not those without"),
        (100 * SHARE, "per cent"),
        (64 * SHARE, "number of rows"),
        (float(negatives(factor=1.0).any(1).double().mean()), "undo the mean"),
        (float(negatives("kl").any(1).double().mean()), ""),
        (float(negatives("js").any(1).double().mean()), ""),
        (float(negatives(factor=128.0).any(1).double().mean()), ""),
        (float(negatives(anchor="t").any(1).double().mean()), ""),
        (float(negatives().any(0).double().mean()), ""),
        (float(negatives().all(1).double().mean()), ""),
        (float(negatives().sum(1).double().mean()), ""),
        (SHARE + 1 / 64, "too large"),
        (SHARE - 1 / 64, "too small"),
        (round(SHARE, 1), ""),
        (1.0, ""),
        (0.5, ""),
        (negatives().any(1).double(), "mean over them is missing"),
    ],
)
def test_2_a_wrong_share_is_rejected(check, capsys, wrong, hint):
    assert not check(2, wrong)
    assert hint in capsys.readouterr().out


def best_on(grid) -> float:
    return float(max(grid, key=lambda weight: rulers(*WORLD, float(weight)).brier))


FINE = np.geomspace(0.1, 20, 3000)
BEST = best_on(FINE)


def with_teacher_and(loss) -> float:
    """The weight of a grid with the least mean of a loss (n,) of the mixed label."""
    e, labels, truth = WORLD
    goal = F.one_hot(truth, 12)

    def mean(weight):
        return float(loss(mixed_target(labels, e, e, float(weight), 0.0), goal).mean())

    return float(min(FINE, key=mean))


@pytest.mark.parametrize(
    "right",
    [BEST, torch.tensor(BEST), [BEST][0] * 1.004, np.float32(BEST), best_on(FINE[1::2])],
)
def test_3_the_weight_by_formula_or_grid_is_right(check, right):
    assert check(3, right)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (BEST / (1 + BEST), "that is gamma"),
        (1 / (1 + BEST), "1 - gamma"),
        (1 / BEST, "1 / lambda_g"),
        (2 * BEST, ""),
        (BEST / 2, ""),
        (BEST * 1.05, "too large"),
        (BEST * 0.95, "too small"),
        (BEST + 1, ""),
        (LAM, ""),
        (1.0, ""),
        (0.0, ""),
        (20.0, ""),
        (float("inf"), ""),
        (best_on([0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20]), ""),
        (with_teacher_and(lambda r, goal: (r - goal).abs().sum(1)), ""),
        (with_teacher_and(lambda r, goal: -(r * goal).sum(1).log()), ""),
        (with_teacher_and(lambda r, goal: -(r - goal).square().sum(1)), ""),
        (rulers(*WORLD, BEST).brier, ""),
        ([BEST, BEST + 1], "one number"),
    ],
)
def test_3_a_wrong_weight_is_rejected(check, capsys, wrong, hint):
    assert not check(3, wrong)
    assert hint in capsys.readouterr().out
