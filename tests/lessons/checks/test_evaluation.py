"""Notebook 06's checks, attacked: wrong answers get no "right", right ones in any form do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dkdmpl_kit.evaluation import evaluate_ranking
from dkdmpl_kit.lessons.checks import evaluation

RNG = np.random.default_rng(0)
PEOPLE = np.arange(8)
QUERY_PIDS = np.repeat(PEOPLE, 3)
GALLERY_PIDS = np.concatenate([np.repeat(PEOPLE, 4), np.full(10, 99)])
QUERY_CAMIDS = np.tile([0, 1, 2], 8)
GALLERY_CAMIDS = np.concatenate([np.tile([0, 1, 2, 3], 8), np.zeros(10, int)])
CENTRES = RNG.normal(size=(100, 6))


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


QUERY = unit(CENTRES[QUERY_PIDS] + 1.2 * RNG.normal(size=(24, 6)))
GALLERY = unit(CENTRES[GALLERY_PIDS] + 1.2 * RNG.normal(size=(42, 6)))
GALLERY[0], GALLERY[5] = QUERY[0], QUERY[4]
ITSELF = np.isin(np.arange(42), [0, 5])
IDS = (QUERY_PIDS, GALLERY_PIDS, QUERY_CAMIDS, GALLERY_CAMIDS)
AP = evaluate_ranking(QUERY, GALLERY, *IDS).average_precision.copy()
AP[[2, 7]] = np.nan
check = evaluation.checks((QUERY, GALLERY), *IDS, precision=AP, itself=ITSELF)

CAMERA = np.array([np.nanmean(AP[QUERY_CAMIDS == c]) for c in range(3)])


@pytest.mark.parametrize(
    "answer",
    [
        [np.nan_to_num(AP[QUERY_CAMIDS == c]).mean() for c in range(3)],
        [np.nanmedian(AP[QUERY_CAMIDS == c]) for c in range(3)],
        [np.nansum(AP[QUERY_CAMIDS == c]) for c in range(3)],
        [AP[QUERY_CAMIDS == c].mean() for c in range(3)],  # NaN spreads
        [np.nanmean(AP)] * 3,
        [np.nanmax(AP[QUERY_CAMIDS == c]) for c in range(3)],
        [np.nanmean(AP[QUERY_CAMIDS != c]) for c in range(3)],
        [np.nanmean(AP[QUERY_PIDS == p]) for p in PEOPLE],
        CAMERA[::-1],
        CAMERA[[1, 0, 2]],
        100 * CAMERA,
        CAMERA[:2],
        CAMERA.mean(),
        CAMERA[:, None],
        [(QUERY_CAMIDS == c).sum() for c in range(3)],
        [np.nanmean(AP[QUERY_CAMIDS == c] >= 0.5) for c in range(3)],
        None,
    ],
)
def test_other_numbers_than_the_mean_ap_of_each_camera_are_not_right(answer):
    assert not check(1, answer)


@pytest.mark.parametrize(
    "answer", [CAMERA, CAMERA.tolist(), torch.tensor(CAMERA), CAMERA.astype("float32")]
)
def test_the_mean_ap_of_each_camera_is_right_in_any_form(answer):
    assert check(1, answer)


def joined(
    *,
    by=lambda x: x.mean(axis=0),
    kept=~ITSELF,
    camids=None,
    measure="mAP",
    pids=PEOPLE,
):
    features = np.stack([by(QUERY[QUERY_PIDS == p]) for p in PEOPLE])
    features = unit(features)
    camids = np.full(8, -1) if camids is None else camids
    found = evaluate_ranking(
        features, GALLERY[kept], pids, GALLERY_PIDS[kept], camids, GALLERY_CAMIDS[kept]
    )
    return getattr(found, measure)


RIGHT = joined()
EVERYTHING = np.full(42, True)


@pytest.mark.parametrize(
    "answer",
    [
        evaluate_ranking(QUERY, GALLERY, *IDS).mAP,
        evaluate_ranking(
            QUERY,
            GALLERY[~ITSELF],
            QUERY_PIDS,
            GALLERY_PIDS[~ITSELF],
            np.full(24, -1),
            GALLERY_CAMIDS[~ITSELF],
        ).mAP,
        np.nanmean(AP),
        joined(kept=EVERYTHING),
        joined(by=lambda x: x[0]),
        joined(by=lambda x: x[-1]),
        joined(by=lambda x: x.max(axis=0)),
        joined(by=lambda x: x.min(axis=0)),
        joined(camids=np.zeros(8, int)),
        joined(measure="mINP"),
        joined(pids=np.roll(PEOPLE, 1)),
        joined(kept=~ITSELF & (GALLERY_PIDS < 99)),
        100 * RIGHT,
        1 - RIGHT,
        RIGHT + 0.02,
        [RIGHT] * 8,
        None,
    ],
)
def test_another_map_than_that_of_the_joined_queries_is_not_right(answer):
    assert not check(2, answer)


@pytest.mark.parametrize(
    "answer",
    [
        RIGHT,
        np.float32(RIGHT),
        torch.tensor(RIGHT),
        joined(by=lambda x: x.sum(axis=0)),
        joined(by=lambda x: np.median([x.mean(axis=0)], axis=0)),
    ],
)
def test_the_map_of_the_joined_queries_is_right_in_any_form(answer):
    assert check(2, answer)


def test_without_a_gallery_of_their_own_the_second_exercise_cannot_be_checked(capsys):
    alone = evaluation.checks((QUERY, GALLERY), *IDS, precision=AP, itself=GALLERY_PIDS < 99)
    assert not alone(2, 1.0)
    assert "cannot be checked" in capsys.readouterr().out


def bootstrap(values, *, draws=4000, share=0.95, size=None, of=np.mean, replace=True, seed=0):
    rng = np.random.default_rng(seed)
    size = len(values) if size is None else size
    if replace:
        drawn = rng.choice(values, (draws, size))
    else:
        drawn = rng.permuted(np.tile(values, (draws, 1)), axis=1)[:, :size]
    return np.quantile(of(drawn, axis=1), ((1 - share) / 2, (1 + share) / 2))


def of_twenty(values):
    rng = np.random.default_rng(0)
    means = rng.choice(values, (20, len(values))).mean(axis=1)
    return means.min(), means.max()


@pytest.mark.parametrize(
    "answer",
    [
        (0.4, 0.6),
        lambda v: (0.4, 0.6),
        lambda v: bootstrap(v, share=0.98),
        lambda v: bootstrap(v, share=0.9),
        lambda v: bootstrap(v, share=0.99),
        lambda v: bootstrap(v, share=0.68),
        lambda v: bootstrap(v, size=int(len(v) * 300 / 384)),
        lambda v: bootstrap(v, size=100),
        lambda v: bootstrap(v, size=2 * len(v)),
        of_twenty,
        lambda v: bootstrap(v, draws=20),
        lambda v: bootstrap(v, replace=False),
        lambda v: bootstrap(v, of=np.median),
        lambda v: bootstrap(v, of=np.std),
        lambda v: bootstrap(v)[::-1],
        lambda v: bootstrap(v) * 100,
        lambda v: bootstrap(v) - np.mean(v),
        lambda v: np.quantile(v, (0.025, 0.975)),
        lambda v: bootstrap(v[: len(v) // 2]),
        lambda v: (v.min(), v.max()),
        lambda v: (v.mean() - v.std(), v.mean() + v.std()),
        lambda v: bootstrap(v)[0],
        None,
    ],
)
def test_another_interval_than_the_bootstraps_is_not_right(answer):
    assert not check(3, answer)


def in_one_array(values):
    means = np.random.default_rng(11).choice(values, (2000, len(values))).mean(axis=1)
    return np.percentile(means, [2.5, 97.5])


def sorted_by_hand(values):
    drawn = torch.randint(
        len(values), (4000, len(values)), generator=torch.Generator().manual_seed(2)
    )
    means = torch.tensor(values)[drawn].mean(dim=1).sort().values
    return means[100].item(), means[3899].item()


@pytest.mark.parametrize(
    "answer",
    [
        bootstrap,
        in_one_array,
        sorted_by_hand,
        lambda v: bootstrap(v, draws=1000, seed=3),
        lambda v: bootstrap(v, seed=len(v)).tolist(),
    ],
)
def test_a_bootstrap_of_a_thousand_draws_or_more_is_right(answer):
    assert check(3, answer)
