"""The checks of notebook 04, self-knowledge distillation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dkdmpl_kit.lessons.exercises import Test, exercises, value
from dkdmpl_kit.losses import SKD_DIVERGENCES, skd_loss


def checks(
    *, z: Tensor, y: Tensor, logits: Tensor, anchor_logits: Tensor, hardest: Tensor, row: int
) -> Callable[[int, Any], bool]:
    """`check(number, answer)` of: 1 the easiest anchors, 2 logits that know nothing and cost
    nothing, 3 by how much one absurd anchor raises each divergence.

    z (B, d) features of the batch, y (B,) its labels, logits and anchor_logits (B, K),
    hardest (B,) the hardest anchors, row: whose anchor becomes absurd.
    """
    return exercises(
        {
            1: _easiest(z, y, hardest),
            2: _collapse(logits, hardest),
            3: _absurd(logits, anchor_logits, y, row),
        }
    )


def _easiest(z: Tensor, y: Tensor, hardest: Tensor) -> Test:
    everyone = torch.arange(len(y))
    mates = (y[:, None] == y) & ~torch.eye(len(y), dtype=torch.bool)
    alone = ~mates.any(dim=1)
    similarity = z @ z.T
    best = similarity.masked_fill(~mates, -torch.inf).amax(dim=1)
    best[alone] = similarity.diagonal()[alone]

    def test(answer: Any) -> str:
        p = torch.as_tensor(answer).detach().cpu()
        if p.shape != y.shape or p.is_floating_point() or p.dtype == torch.bool:
            return (
                f"a whole number for each of the {len(y)} pictures of the batch is asked for: "
                "which row is its anchor."
            )
        p = p.long()
        if ((p < 0) | (p >= len(y))).any():
            return (
                f"rows of the batch, 0 to {len(y) - 1}, are asked for, not numbers of "
                "pictures in the data set."
            )
        if ((p == everyone) & ~alone).any():
            return (
                "a picture is its own anchor; with itself the similarity is always largest, "
                "so leave j = i out."
            )
        if (y[p] != y).any():
            return (
                "an anchor lies in another cluster; only batch mates with the same label may "
                "be chosen."
            )
        chosen = similarity[everyone, p]
        worse = chosen < best - 1e-5
        if not worse.any():
            return ""
        if torch.allclose(chosen, similarity[everyone, hardest], atol=1e-5):
            return "those are the hardest anchors; the easiest are the most similar ones."
        return f"{int(worse.sum())} pictures have a batch mate that is more similar."

    return test


def _collapse(logits: Tensor, hardest: Tensor) -> Test:
    def test(answer: Any) -> str:
        given = torch.as_tensor(answer).detach().cpu().double()
        if given.shape != logits.shape:
            return (
                f"its shape is {tuple(given.shape)}; logits of the batch, "
                f"{tuple(logits.shape)}, are asked for."
            )
        if not torch.isfinite(given).all():
            return "logits must be finite; you do not need infinity."
        loss = float(skd_loss(given, given[hardest]))
        if loss > 1e-8:
            return f"L_SKD with the hardest anchors is {loss:.3g} there, not 0."
        labels = torch.softmax(given, dim=1)
        if not torch.allclose(labels, labels[:1].expand_as(labels), atol=1e-6):
            return (
                "its labels still differ between pictures: that is knowledge. Find logits "
                "that know nothing about them."
            )
        return ""

    return test


def _absurd(logits: Tensor, anchor_logits: Tensor, y: Tensor, row: int) -> Test:
    def three(query: Tensor, anchor: Tensor) -> np.ndarray:
        return np.array(
            [float(skd_loss(query, anchor, divergence=d)) for d in SKD_DIVERGENCES]
        )

    def replaced(place: int, cluster: int) -> Tensor:
        """The anchors' logits, one of them sure of a cluster."""
        strange = anchor_logits.double().clone()
        strange[place] = -20.0
        strange[place, cluster % strange.shape[1]] = 20.0
        return strange

    query, anchor = logits.double(), anchor_logits.double()
    before = three(query, anchor)
    strange = replaced(row, int(y[row]) + 1)
    after = three(query, strange)
    return value(
        after - before,
        batch=len(y),
        mistakes={
            "that is the loss with the absurd anchor; subtract the loss without it.": after,
            "that is the loss without the absurd anchor; by how much does it rise?": before,
            "the query's logits come first in `skd_loss`, the anchor's second.": (
                three(strange, query) - three(anchor, query)
            ),
            "that is a ratio; the difference of the losses is asked for.": after
            / np.maximum(before, 1e-12),
            "the absurd anchor names the cluster after the query's own.": (
                three(query, replaced(row, int(y[row]))) - before
            ),
        },
    )
