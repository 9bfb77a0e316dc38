"""Exercises that check themselves: `check = exercises({1: value(...), 2: a_function})`,
then `check(1, answer_1)`.

A verdict is a printed sentence and a bool, never an exception, so that "Run all" goes
on over open and wrong answers. What is right is computed from the notebook's own data:
by `value` from the right result, or by a function (answer) -> hint that tests a
property of a right answer and returns "" where it holds. The headless runner sets
`STRICT` for notebooks that bring their solutions: there an answer that is not right
raises.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dkdmpl_kit.errors import KitError

STRICT = "DKDMPL_SOLUTIONS"  # environment variable
Test = Callable[[Any], "str | None"]


def exercises(tests: Mapping[int, Test | None]) -> Callable[[int, Any], bool]:
    """The `check(number, answer)` of a notebook: prints right, or why not, and returns
    whether the answer is right.

    A test of None stands for an exercise that these data cannot answer (no identities,
    no cameras ...); an answer of None is one that is still open. KitError: a number
    that the notebook does not have.
    """

    def check(number: int, answer: Any) -> bool:
        if number not in tests:
            raise KitError(
                f"There is no exercise {number!r} here; there are: "
                f"{', '.join(map(str, tests))}."
            )
        if tests[number] is None:
            print(
                f"Exercise {number} cannot be checked on these pictures: what it needs "
                "is not known or not there."
            )
            return False
        verdict = _verdict(number, tests[number], answer)
        if verdict and os.environ.get(STRICT):
            raise KitError(f"the notebook's own solution does not pass: {verdict}")
        print(verdict or f"Exercise {number}: right.")
        return not verdict

    return check


def _verdict(number: int, test: Test, answer: Any) -> str:
    """ "" for a right answer, else the sentence to print."""
    if answer is None:
        return (
            f"Exercise {number} is still open: set answer_{number}, and run this cell again."
        )
    try:
        hint = test(answer)
    # an answer may be anything: the learner hears what it broke
    except Exception as error:
        hint = (
            f"it could not be used ({type(error).__name__}: {error}); look again at what "
            "kind of answer is asked for."
        )
    return f"Exercise {number}: not yet. Your answer: {hint}" if hint else ""


def value(
    right: Any,
    *,
    tol: float = 1e-3,
    batch: int | None = None,
    mistakes: Mapping[str, Any] | None = None,
) -> Test:
    """A test for numbers: an answer is right when it equals `right` (a number, or an
    array of any shape, NaN allowed).

    tol: relative, for each entry (and a hundredth of it of the largest entry); whole
    numbers must be equal. batch: the B of a mean over the batch, for the hint that the
    mean was forgotten. mistakes: {hint: what that mistake gives}.
    """
    right = _array(right)

    def test(answer: Any) -> str:
        given = _array(answer)
        if given.dtype.kind not in "fiub":
            return f"it is a {type(answer).__name__}; {_kind(right)} is asked for."
        if given.shape != right.shape:
            return _shape_hint(given, right, tol)
        if (np.isnan(given) & ~np.isnan(right)).any():
            return (
                "it holds NaN (not a number): a division by zero, or the logarithm of zero?"
            )
        if _close(given, right, tol):
            return ""
        known = {**(mistakes or {}), **_common_mistakes(right, batch)}
        for hint, wrong in known.items():
            if _close(given, _array(wrong), tol):
                return hint
        return _difference(given, right, tol)

    return test


def no_function(answer: Any, of: str) -> str:
    """The hint for an answer that should be a function `of` something, and is none."""
    return (
        f"it is a {type(answer).__name__}; a function of {of} is asked for: set the answer "
        "to the function itself, without calling it."
    )


def _common_mistakes(right: np.ndarray, batch: int | None) -> dict[str, np.ndarray]:
    """{hint: what that mistake gives}."""
    known = {}
    if batch:
        too_large = (
            "it is too large by the size of the batch: the mean over the batch is missing."
        )
        too_small = "it is too small by the size of the batch: the mean was taken twice."
        known = {too_large: right * batch, too_small: right / batch}
    known["the sign is the other way round."] = -right
    known["it is in per cent; give a share from 0 to 1."] = 100 * right
    if right.ndim == 1:
        known["the numbers are right, in the opposite order."] = right[::-1]
    return known


def _array(x: Any) -> np.ndarray:
    """A number, list, array or tensor (detached, on the CPU) as an array."""
    return np.asarray(x.detach().cpu().numpy() if hasattr(x, "detach") else x)


def _kind(right: np.ndarray) -> str:
    if right.ndim > 1:
        return f"an array of shape {right.shape}"
    if right.ndim == 1:
        return f"a list of {right.size} numbers"
    return "a number"


def _wrong(given: np.ndarray, right: np.ndarray, tol: float) -> np.ndarray:
    """Which entries differ; arrays of one shape."""
    if right.dtype.kind in "iub":
        return given != right
    largest = np.nanmax(np.abs(right), initial=0.0, where=np.isfinite(right))
    return ~np.isclose(
        given, right, rtol=tol, atol=tol / 100 * largest + 1e-12, equal_nan=True
    )


def _close(given: np.ndarray, right: np.ndarray, tol: float) -> bool:
    return given.shape == right.shape and not _wrong(given, right, tol).any()


def _shape_hint(given: np.ndarray, right: np.ndarray, tol: float) -> str:
    if not right.ndim and given.size > 1:
        if _close(given.astype(float).mean(), right.astype(float), tol):
            return f"its {given.size} values are right, but the mean over them is missing."
        return f"it has shape {given.shape}, and one number is asked for."
    if not given.ndim:
        return f"it is one number; {_kind(right)} is asked for."
    if given.T.shape == right.shape:
        return f"its shape {given.shape} is transposed; {right.shape} is asked for."
    return f"its shape is {given.shape}; {_kind(right)} is asked for."


def _difference(given: np.ndarray, right: np.ndarray, tol: float) -> str:
    if right.dtype.kind in "iu" and (given % 1 != 0).any():
        return "it holds fractions; whole numbers are asked for."
    if not right.ndim:
        return f"{given.item():.6g} is too {'large' if given > right else 'small'}."
    wrong = _wrong(given, right, tol)
    where = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = where[0] if right.ndim == 1 else where
    return f"{wrong.sum()} of its {wrong.size} numbers differ, the first at index {place}."
