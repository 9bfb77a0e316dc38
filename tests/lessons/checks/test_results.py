"""Notebook 05b's checks, attacked: wrong answers get no "right", right ones in any form do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from dkdmpl_kit.lessons.checks import results

HISTORY = [
    {"loss_cc": 3.9, "n_clusters": 68},
    {"loss_cc": 3.1, "n_clusters": 75},
    {"loss_cc": 2.2, "n_clusters": 71},
]
COST, K = np.array([3.9, 3.1, 2.2]), np.array([68, 75, 71])
SHARES = COST / np.log(K)
check = results.checks(HISTORY)


@pytest.mark.parametrize(
    "answer",
    [
        COST / np.log2(K),
        COST / np.log10(K),
        COST / K,
        COST,
        np.log(K) / COST,
        COST - np.log(K),
        COST / np.log(K + 1),
        COST / np.log(K - 1),
        COST / np.log(68),  # the clusters of the first epoch for all
        100 * SHARES,
        SHARES[::-1],
        SHARES[1:],
        SHARES.mean(),
        np.exp(COST) / K,
        SHARES / 3,
        -SHARES,
        np.log(COST) / np.log(K),
        SHARES[:, None],
        None,
    ],
)
def test_other_numbers_than_the_loss_over_that_of_guessing_are_not_right(answer):
    assert not check(1, answer)


@pytest.mark.parametrize(
    "answer",
    [SHARES, SHARES.tolist(), tuple(SHARES), torch.tensor(SHARES), SHARES.astype("float32")],
)
def test_the_loss_over_that_of_guessing_is_right_in_any_form(answer):
    assert check(1, answer)


def ends(values, factor=None, ddof=1, root=None, level=0.975):
    n = len(values)
    factor = stats.t.ppf(level, n - 1) if factor is None else factor
    half = factor * np.std(values, ddof=ddof) / (np.sqrt(n) if root is None else root)
    return np.mean(values) - half, np.mean(values) + half


def shuffled(values):
    boot = np.random.default_rng(0).choice(values, (1000, len(values))).mean(1)
    return np.quantile(boot, (0.025, 0.975))


@pytest.mark.parametrize(
    "answer",
    [
        (-3.0, 7.0),
        lambda v: (-3.0, 7.0),
        lambda v: ends(v, factor=1.96),
        lambda v: ends(v, factor=2),
        lambda v: ends(v, factor=4.303),  # that of three seeds
        lambda v: ends(v, ddof=0),
        lambda v: ends(v, root=1),
        lambda v: ends(v, root=len(v)),
        lambda v: ends(v, root=np.sqrt(len(v) - 1)),
        lambda v: ends(v, level=0.95),
        lambda v: ends(v, level=0.995),
        lambda v: ends(v)[::-1],
        lambda v: ends(v)[1],
        lambda v: (ends(v)[1] - ends(v)[0]) / 2,
        lambda v: np.array(ends(v)) - np.mean(v),
        lambda v: np.array(ends(v)) - np.mean(v) + np.median(v),
        lambda v: ends(v, factor=stats.t.ppf(0.975, len(v))),
        lambda v: (min(v), max(v)),
        lambda v: np.quantile(v, (0.025, 0.975)),
        shuffled,
        lambda v: np.array(ends(v)) / 100,
        None,
    ],
)
def test_another_interval_is_not_right(answer):
    assert not check(2, answer)


@pytest.mark.parametrize(
    "answer",
    [
        ends,
        lambda v: np.array(ends(v)),
        lambda v: torch.tensor(ends(v)),
        lambda v: stats.t.interval(0.95, len(v) - 1, np.mean(v), stats.sem(v)),
    ],
)
def test_students_interval_is_right_in_any_form(answer):
    assert check(2, answer)


@pytest.mark.parametrize(
    "answer",
    [
        (25.2, 7),
        (0.75, 7),
        (0.505, 7),
        (0.5, 7),
        (2 / 3, 7),
        (0.067, 7),
        (stats.norm.cdf(-2 / 9), 7),
        (0.2525, 6),
        (0.2525, 8),
        (0.2525, 9),
        (0.2525, 6.09),
        (0.2525, 10),
        (0.05, 7),
        (7, 0.2525),
        (0.2525,),
        0.2525,
        (0.2525, 7, 1),
        (0.23, 7),
        None,
    ],
)
def test_another_share_or_number_of_pairs_is_not_right(answer):
    assert not check(3, answer)


thrown = (np.random.default_rng(0).normal(2, 3, 20000) < 0).mean()


@pytest.mark.parametrize(
    "answer",
    [
        (stats.norm.cdf(-2 / 3), 7),
        [0.2525, 7.0],
        np.array([0.25, 7]),
        (float(thrown), np.int64(7)),
    ],
)
def test_the_share_and_the_number_are_right_in_any_form(answer):
    assert check(3, answer)
