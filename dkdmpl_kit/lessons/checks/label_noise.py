"""Checks of notebook 07's exercises."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dkdmpl_kit.lessons.exercises import exercises, value
from dkdmpl_kit.losses.theory import break_even, teacher_quality


def checks(
    *,
    eta: float,
    logits: Tensor,
    labels: Tensor,
    judged: Tensor,
    goal: Tensor,
    e: Tensor,
    q: Tensor,
) -> Callable[[int, object], bool]:
    """The `check` of notebook 07: eta, the share of wrong labels; logits (M, K) of the
    teacher, labels (M,), judged (M,) bool, goal: true clusters of the judged; views e, q.
    """
    hard, true = labels[judged], goal

    def margin(of: Tensor) -> float:
        return break_even(*teacher_quality(of.softmax(1)[judged], hard, true))

    entropy_of = [torch.special.entr(p).sum(1) for p in ((e + q) / 2, e, q)]
    between = entropy_of[0] - (entropy_of[1] + entropy_of[2]) / 2
    tests = {
        1: value(
            eta,
            tol=1e-5,
            mistakes={
                "that is its accuracy; it claims 1, so the gap is what is missing to 1.": 1
                - eta
            },
        ),
        2: value(
            margin(logits / 4),
            tol=1e-5,
            mistakes={
                "that is the margin of the teacher as it is; soften it first.": margin(
                    logits
                ),
                "that is a sharper teacher: a larger temperature divides the logits.": margin(
                    4 * logits
                ),
                "divide the logits, not the margin.": margin(logits) / 4,
            },
        ),
        3: value(
            between / np.log(2),
            tol=1e-4,
            mistakes={
                "divide by log 2, the greatest value, so that it runs from 0 to 1.": between,
                "take the mean of the two entropies, not their sum.": (
                    entropy_of[0] - entropy_of[1] - entropy_of[2]
                )
                / np.log(2),
                "that is 1 less the disagreement.": 1 - between / np.log(2),
            },
        ),
    }
    return exercises(tests)
