"""The checks of notebook 09."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dkdmpl_kit.lessons.exercises import Test, exercises, value
from dkdmpl_kit.losses.rivals import probability_distillation_loss

MU = 0.999
HALF = 693  # the smallest n with 0.999^n <= 1/2


def checks(
    one_hot: Tensor, q: Tensor, p: Tensor, *, epochs: int, iterations: int
) -> Callable[[int, Any], bool]:
    """`check` for a batch's hard labels, the student's and the slow copy's predictions, each
    (B, K), and the steps of a run.
    """
    return exercises(
        {1: _sum(one_hot, q, p), 2: _gradient(q, p), 3: _slow(epochs, epochs * iterations)}
    )


def _sum(one_hot: Tensor, q: Tensor, p: Tensor) -> Test:
    divided = "that is the label divided by its sum; 1_y + lambda_g p itself is asked for."
    weight = "the weight is not 0.5: compare (1 - 0.5) : 0.5 with 1 : lambda_g."
    student = "the prediction of the slow copy is asked for, not the student's own."
    return value(
        one_hot + p,
        mistakes={divided: (one_hot + p) / 2, weight: one_hot + p / 2, student: one_hot + q},
    )


def _gradient(q: Tensor, p: Tensor) -> Test:
    leaf = q.log().requires_grad_()
    (right,) = torch.autograd.grad(probability_distillation_loss(leaf, p.log()), leaf)
    coupled = (
        "the softmax couples the clusters: subtract the mean of (q - p) under q, by row."
    )
    factor = "the square brings a factor 2."
    entropy = "that is the gradient of the cross entropy with p."
    by_q = "that is the gradient by q; multiply with the derivative of q by the logits."
    return value(
        right,
        batch=len(q),
        mistakes={
            coupled: 2 * q * (q - p) / len(q),
            factor: right / 2,
            entropy: (q - p) / len(q),
            by_q: 2 * (q - p) / len(q),
        },
    )


def _slow(epochs: int, steps: int) -> Test:
    by_epochs = "count the steps, not the epochs: the copy follows after each batch."
    learnt = "that is what the copy has learnt; what it still holds is asked for."
    # one step more or less changes the share by 1e-3
    share = value(
        MU**steps, tol=4e-4, mistakes={by_epochs: MU**epochs, learnt: 1 - MU**steps}
    )
    early = "after that many steps a little more than half is left; one more."
    half = value(HALF, mistakes={early: HALF - 1})

    def test(answer: Any) -> str:
        if not hasattr(answer, "__len__") or len(answer) != 2:
            return "two numbers are asked for: a share and a number of steps."
        for name, own, given in (("share", share, answer[0]), ("number", half, answer[1])):
            if hint := own(given):
                return f"the {name}: {hint}"
        return ""

    return test
