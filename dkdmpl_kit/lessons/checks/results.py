"""Checks of notebook 05b: reading results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dkdmpl_kit.lessons.exercises import Test, exercises, no_function, value

GAIN, DEVIATION = 2.0, 3.0  # of exercise 3, in points of mAP


def checks(history: Sequence[dict]):
    """The notebook's `check`: the records of the run `cluster_contrast`, one an epoch."""
    return exercises({1: _guessing(history), 2: _interval, 3: _seeds})


def _guessing(history: Sequence[dict]) -> Test:
    cost, found = (
        np.array([record[key] for record in history], float)
        for key in ("loss_cc", "n_clusters")
    )
    return value(
        cost / np.log(found),
        mistakes={
            "divide by the natural logarithm: losses are in nats.": cost / np.log2(found),
            "divide by the natural logarithm, not by log10.": cost / np.log10(found),
            "divide by log K, not by K.": cost / found,
            "divide by log K; that is the loss itself.": cost,
            "that is log K over the loss; turn it round.": np.log(found) / cost,
            "that is the difference; give the quotient.": cost - np.log(found),
        },
    )


def _ends(values: np.ndarray, *, share: float = 0.95, ddof: int = 1, **changes) -> np.ndarray:
    """The two ends; changes: `factor` in place of Student's t, `root` in place of sqrt(n)."""
    from scipy.stats import t

    n = len(values)
    factor = changes.get("factor", t.ppf((1 + share) / 2, changes.get("freedom", n - 1)))
    half = factor * np.std(values, ddof=ddof) / changes.get("root", np.sqrt(n))
    return np.mean(values) + np.array([-half, half])


def _interval(answer) -> str | None:
    """Differences drawn here, so that two numbers cannot stand for the function."""
    if not callable(answer):
        return no_function(answer, "the differences")
    rng = np.random.default_rng(3)
    for n in (3, 5, 12):
        values = rng.normal(1.0, 3.0, n)
        test = value(
            _ends(values),
            mistakes={
                "take Student's t with n - 1; 1.96 is for very many seeds.": _ends(
                    values, factor=1.959964
                ),
                "take Student's t with n - 1; 2 is for many seeds.": _ends(
                    values, factor=2.0
                ),
                "the standard deviation divides by n - 1 here (ddof=1).": _ends(
                    values, ddof=0
                ),
                "the root of n is missing: that is the spread of single differences.": _ends(
                    values, root=1.0
                ),
                "divide by the root of n, not by n.": _ends(values, root=float(n)),
                "t has n - 1 degrees of freedom, not n.": _ends(values, freedom=n),
                "that holds 90 %: of 5 % outside, 2.5 % lie at each side (0.975).": _ends(
                    values, share=0.9
                ),
                "that holds 99 %.": _ends(values, share=0.99),
                "those are the smallest and the largest difference.": np.array(
                    [values.min(), values.max()]
                ),
                "that is the interval round 0; add the mean.": _ends(values) - values.mean(),
            },
        )
        if hint := test(answer(values.tolist())):
            return hint
    return None


def _seeds(answer) -> str | None:
    from scipy.stats import norm

    def wrong(n: int) -> float:
        return norm.cdf(-GAIN * np.sqrt(n) / DEVIATION)

    def fewest(limit: float) -> int:
        return next(n for n in range(1, 1000) if wrong(n) < limit)

    share, n = (float(x) for x in answer)
    if abs(share - wrong(1)) > 0.012:  # a simulation may stand for the formula
        known = {
            100 * wrong(1): "the share is in per cent; give it from 0 to 1.",
            1 - wrong(1): "that is the share of pairs with the right sign.",
            2 * wrong(1): "only one of the two tails has the wrong sign.",
            norm.cdf(
                -DEVIATION / GAIN
            ): "the mean is 2 and the deviation 3, not the other way.",
            norm.cdf(
                -GAIN / DEVIATION**2
            ): "3 is the standard deviation, not the variance's root: divide by 3.",
        }
        near = (hint for x, hint in known.items() if abs(share - x) < 0.005 * max(1, x))
        return next(
            near,
            "the share of single pairs with the wrong sign is off: how often is a normal "
            "number of mean 2 and deviation 3 below 0?",
        )
    if n == fewest(0.025):
        return "that many are needed for 2.5 %; only one of the two signs is wrong."
    if n != fewest(0.05):
        side = "few" if n < fewest(0.05) else "many"
        return f"{n:g} pairs are too {side}: the mean of n scatters with 3 / sqrt(n)."
    return None
