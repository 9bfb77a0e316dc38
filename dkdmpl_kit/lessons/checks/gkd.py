"""The checks of notebook 03, global knowledge distillation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dkdmpl_kit.lessons.exercises import Test, exercises, value


def checks(
    *,
    student: Tensor,
    teacher: Tensor,
    v: Tensor,
    labels: Tensor,
    C: Tensor,
    tau: float,
    tau_t: float,
) -> Callable[[int, Any], bool]:
    """`check(number, answer)` of: 1 the gradient of KL(q || e), 2 soft labels without the
    picture itself, 3 how sure the sample teacher is of outliers.

    student, teacher (B, K) logits of the batch; v (N, d) features, labels (N,) with -1 for
    outliers, C (K, d) their centroids.
    """
    return exercises(
        {
            1: _reverse(student, teacher),
            2: _left_out(v, labels, C, tau, tau_t),
            3: _sure_of_outliers(v, labels, C, tau, tau_t),
        }
    )


def _reverse(student: Tensor, teacher: Tensor) -> Test:
    leaf = student.detach().double().requires_grad_()
    log_q = torch.log_softmax(leaf, dim=1)
    log_e = torch.log_softmax(teacher.detach().double(), dim=1)
    loss = (log_q.exp() * (log_q - log_e)).sum(dim=1).mean()
    (right,) = torch.autograd.grad(loss, leaf)
    q = log_q.detach().exp()
    g = log_q.detach() - log_e
    n = len(q)
    return value(
        right,
        batch=n,
        mistakes={
            "that is the gradient of KL(e || q), the direction that the kit uses.": (
                q - log_e.exp()
            )
            / n,
            "the second term is missing: each row of g must lose its mean under q.": q
            * g
            / n,
            "sum over the clusters of each picture by itself, not over the whole batch.": q
            * (g - (q * g).sum())
            / n,
            "g loses its mean under q, and not its plain mean over the clusters.": q
            * (g - g.mean(dim=1, keepdim=True))
            / n,
            "g is log q - log e, not log e - log q; and mind the second term.": -q * g / n,
        },
    )


def _left_out(v: Tensor, labels: Tensor, C: Tensor, tau: float, tau_t: float) -> Test:
    index = (labels >= 0).nonzero()[:, 0]
    features = v[index].double()
    yc = labels[index]
    everywhere = torch.arange(len(yc))
    plain = features @ C.double().T
    sums = torch.zeros(C.shape, dtype=torch.double).index_add_(0, yc, features)
    sizes = torch.bincount(yc, minlength=len(C))[yc]
    judged = sizes > 1  # who is alone in a cluster leaves no centroid behind

    def softened(own: Tensor, temperature: float = tau_t) -> Tensor:
        """(n, K) soft labels with other centroids (n, d) in the place of the own ones."""
        logits = plain.clone()
        logits[everywhere, yc] = (features * own).sum(dim=1)
        return torch.softmax(logits / temperature, dim=1)

    left = sums[yc] - features
    without = F.normalize(left, dim=1)
    right = softened(without)
    mistakes = {
        "that is the teacher with the picture itself; nothing was left out.": torch.softmax(
            plain / tau_t, dim=1
        ),
        "the temperature is tau_t, not tau.": softened(without, tau),
        "the logits were not divided by the temperature tau_t.": softened(without, 1.0),
        "bring the centroid without the picture back to length 1.": softened(
            left / (sizes - 1).clamp_min(1)[:, None]
        ),
        "bring the sum without the picture back to length 1.": softened(left),
        "C holds means of length 1; take the picture out of the sum of its cluster's "
        "features.": softened(F.normalize(C.double()[yc] - features, dim=1)),
        "leave the own cluster in; only the picture itself is left out of it.": softened(
            torch.full_like(left, 0.0)
        ),
    }

    def test(answer: Any) -> str:
        answer = torch.as_tensor(answer).detach().cpu().double()
        if answer.shape != right.shape:
            return (
                f"its shape is {tuple(answer.shape)}; a row for each clustered picture, "
                f"{tuple(right.shape)}, is asked for."
            )
        if not torch.allclose(
            answer.sum(dim=1), torch.ones(len(answer), dtype=torch.double), atol=1e-3
        ):
            return "its rows do not sum to 1: they should be probabilities."
        off = (answer - right).abs().amax(dim=1)
        bad = ~(off <= 1e-4) & judged
        if not bad.any():
            return ""
        if (answer.amax(dim=1) == 1.0).all():
            return (
                "those are hard labels to the last digit: either no softmax was taken, or the "
                "centroid without the picture was not brought back to length 1."
            )
        for hint, wrong in mistakes.items():
            if torch.allclose(answer[judged], wrong[judged], atol=1e-4):
                return hint
        first = int(bad.nonzero()[0, 0])
        return (
            f"{int(bad.sum())} of its {len(bad)} rows differ, the first at index {first}, "
            f"by up to {off[first]:.2g}."
        )

    return test


def _sure_of_outliers(
    v: Tensor, labels: Tensor, C: Tensor, tau: float, tau_t: float
) -> Test | None:
    out = labels < 0
    if not out.any():
        return None
    similarity = v.double() @ C.double().T
    e = torch.softmax(similarity / tau_t, dim=1)
    sure = e.max(dim=1).values
    return value(
        sure[out].mean(),
        mistakes={
            "those are the clustered pictures; take the others.": sure[~out].mean(),
            "those are all pictures; take the outliers.": sure.mean(),
            "that is the mean over all clusters; take the largest probability of each "
            "picture.": e[out].mean(),
            "the temperature is tau_t, not tau.": torch.softmax(similarity[out] / tau, dim=1)
            .max(dim=1)
            .values.mean(),
            "that is the similarity; the probability of the favourite is asked for.": (
                similarity[out].max(dim=1).values.mean()
            ),
            "that is the sum; take the mean over the outliers.": sure[out].sum(),
        },
    )
