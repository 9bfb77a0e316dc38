"""The checks of notebook 10."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dkdmpl_kit.clustering.constraints import Constraints
from dkdmpl_kit.lessons.exercises import Test, exercises
from dkdmpl_kit.training.corrections import ACTIONS, Correction, constraints_said

# the low ends of the changes of across and of mixing, 0 for the start itself
CURVES = (
    ([0.0, -0.01, 0.05, 0.20], [0.0, 0.10, 0.02, 0.30]),
    ([0.0, 0.10, 0.07, -0.10], [0.0, -0.02, 0.04, -0.09]),
    ([0.0, 0.03, 0.02, 0.01], [0.0, -0.03, -0.02, -0.30]),
    ([0.0, 0.001, 0.13, 0.05], [0.0, 0.002, -0.13, 0.0]),
    ([0.0, 0.0, 0.02], [0.0, 0.4, 0.01]),
)
# similarities of queries to a gallery, each query's own place in it, and a threshold
SEARCHES = (
    ([[1.0, 0.2, 0.7], [0.2, 1.0, 0.3], [0.7, 0.3, 1.0]], [0, 1, 2], 0.5),
    ([[0.4, 1.0, 0.5, 0.1], [0.2, 0.4, 0.3, 1.0]], [1, 3], 0.5),
    (
        [[0.45, 0.6, 1.0], [0.9, 1.0, 0.1], [1.0, 0.2, 1.0], [0.3, 0.8, 1.0]],
        [2, 1, 2, 2],
        0.8,
    ),
    ([[1.0, -0.1], [-0.1, 1.0]], [0, 1], 0.0),
)


def checks(names: Sequence[str]) -> Callable[[int, Any], bool]:
    """`check` for the pictures called `names`."""
    return exercises({1: _kept, 2: _corrected(names), 3: _nobody})


def _kept(answer: Any) -> str:
    for across, mixing in CURVES:
        right = [e for e in range(len(across)) if across[e] > 0 and mixing[e] > 0]
        given = np.asarray(answer(np.array(across), np.array(mixing)))
        if given.dtype == bool:
            return "it gives true and false; the numbers of the epochs are asked for."
        if given.ndim != 1:
            return "it gives no list; a list of epochs is asked for."
        found = sorted(given.tolist())
        case = f"for across {across} and mixing {mixing} it gives {found}"
        if found == [0, *right]:
            return f"{case}; epoch 0 is the start, and did not rise."
        if found != right:
            rule = "both low ends must lie above 0"
            return f"{case}, and {right} is right: {rule}."
    return ""


def _corrected(names: Sequence[str]) -> Test:
    rows = [(name, "", "") for name in names[:3]]
    right = constraints_said(
        [
            Correction("merge", (rows[0], rows[1])),
            Correction("different", (rows[0], rows[2])),
        ],
        names,
    )

    def test(answer: Any) -> str:
        said = [answer] if isinstance(answer, Correction) else list(answer)
        if not all(isinstance(correction, Correction) for correction in said):
            return "a list of Correction is asked for."
        if strange := {correction.action for correction in said} - set(ACTIONS):
            return f"{strange} is unknown; the actions are {', '.join(ACTIONS)}."
        given = constraints_said(said, names)
        if not np.array_equal(given.units, right.units):
            return "the first two pictures are one, and no others: merge these."
        if _apart(given) != _apart(right):
            return "the third picture shows somebody else than the first two: different."
        return ""

    return test


def _apart(known: Constraints) -> set[tuple[int, ...]]:
    """The pairs of units that are never in one cluster."""
    return {
        tuple(sorted((int(known.units[i]), int(known.units[j]))))
        for one, other in known.apart
        for i in one
        for j in other
    }


def _nobody(answer: Any) -> str:
    for similarities, own, threshold in SEARCHES:
        others = np.array(similarities)
        others[np.arange(len(own)), own] = -np.inf
        right = (others < threshold).all(axis=1)
        given = answer(np.array(similarities), np.array(own), threshold)
        found = np.asarray(given.tolist() if hasattr(given, "tolist") else given)
        case = (
            f"for similarities {similarities}, own places {own} and a threshold of {threshold} "
            f"it gives {found.tolist()}"
        )
        if found.shape != right.shape or found.dtype.kind not in "bi":
            return f"{case}; True or False for each query is asked for."
        if np.array_equal(found.astype(bool), ~right):
            return f"{case}, which is true where somebody is found."
        if not np.array_equal(found, right):
            rule = (
                "a query's own picture is not an answer, and a similarity equal to the "
                "threshold is believed"
            )
            return f"{case}, and {right.tolist()} is right: {rule}."
    return ""
