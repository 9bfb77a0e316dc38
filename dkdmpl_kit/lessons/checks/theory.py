"""Checks of notebook 08: the gradient at T = 3, the share of targets that are no label, the
weight with the least Brier score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dkdmpl_kit.lessons.exercises import exercises, value
from dkdmpl_kit.lessons.theory import gradient_of
from dkdmpl_kit.losses import dkdmpl_loss, skd_loss
from dkdmpl_kit.losses.rulers import brier, pull_of
from dkdmpl_kit.losses.theory import softened_gradient


def checks(
    real: Mapping[str, Tensor],
    random: Mapping[str, Tensor],
    world: tuple[Tensor, Tensor, Tensor],
    gkd_weight: float,
) -> Callable[[int, Any], bool]:
    """The `check(number, answer)` of notebook 08 from its two cases of logits ("l", "t",
    "l_a", "y"), a world (e, y, truth), and lambda_g.
    """
    return exercises(
        {1: _gradient(real, gkd_weight), 2: _no_labels(random), 3: _best_weight(*world)}
    )


def _gradient(case: Mapping[str, Tensor], weight: float) -> Callable[[Any], str]:
    def of(temperature: float, gkd_weight: float = weight) -> Tensor:
        def loss(logits: Tensor) -> Tensor:
            return dkdmpl_loss(
                logits,
                case["y"],
                teacher_logits=case["t"],
                gkd_weight=gkd_weight,
                skd_weight=0.0,
                temperature=temperature,
            ).total

        return gradient_of(loss, case["l"])

    rows, right = len(case["l"]), of(3.0)
    soft = softened_gradient(case["l"], case["t"], 3.0) / rows  # T (q^(T) - e^(T)) / B
    both = (case["l"] / 3).softmax(1) - F.one_hot(case["y"], case["l"].shape[1])
    return value(
        right,
        batch=rows,
        mistakes={
            "that is P1, which holds at T = 1 only.": of(1.0),
            "the gradient of the softened KL carries T, not T².": right + 2 * weight * soft,
            "the factor T is missing before q^(T) - e^(T).": right - weight * 2 / 3 * soft,
            "cluster contrast alone; the distillation is missing.": of(3.0, 0.0),
            "the distillation alone; cluster contrast is missing.": weight * soft,
            "the weight lambda_g is missing.": of(3.0, 1.0),
            "cluster contrast stays at T = 1.": both / rows + weight * soft,
        },
    )


def _no_labels(case: Mapping[str, Tensor]) -> Callable[[Any], str]:
    def share(divergence: str, factor: float = 1.0) -> tuple[float, float]:
        def loss(logits: Tensor) -> Tensor:
            return skd_loss(logits, case["l_a"], divergence=divergence)

        gradient = factor * len(case["l"]) * gradient_of(loss, case["l"])
        negative = case["l"].softmax(1) - gradient < 0
        return float(negative.any(1).double().mean()), float(negative.double().mean())

    right, entries = share("symmetric_kl")
    mean_kept = share("symmetric_kl", 1 / len(case["l"]))[0]
    return value(
        right,
        tol=1e-6,
        mistakes={
            "that is the share of negative entries; count the rows that hold one.": entries,
            "count the rows with a negative entry, not those without.": 1.0 - right,
            "a row's own gradient is asked for: undo the mean over the batch.": mean_kept,
            "that is the number of rows; give the share.": right * len(case["l"]),
            "that is for `js`.": share("js")[0],
        },
    )


def _best_weight(e: Tensor, labels: Tensor, truth: Tensor) -> Callable[[Any], str]:
    eta = float((labels != truth).double().mean())
    pull, loss = pull_of(e, labels, truth), float(brier(e, truth).mean())
    share = eta * (1 - pull) / (loss - 2 * eta * pull)
    mistakes = {
        "that is gamma; lambda_g is gamma / (1 - gamma).": share,
        "that is 1 - gamma; lambda_g is gamma / (1 - gamma).": 1 - share,
        "that is 1 / lambda_g.": (1 - share) / share,
    }
    return value(share / (1 - share), tol=1e-2, mistakes=mistakes)
