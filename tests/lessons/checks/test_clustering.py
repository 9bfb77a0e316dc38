"""Wrong answers to notebook 02's exercises are rejected, right variants accepted."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.cluster import DBSCAN

from dkdmpl_kit.clustering import jaccard_distances, pseudo_labels
from dkdmpl_kit.lessons.checks.clustering import checks, plain_distances

RNG = np.random.default_rng(3)
# eight groups of 3 to 9 pictures, some loose, and six pictures by themselves
SIZES = (9, 8, 7, 6, 5, 4, 3, 3, *[1] * 6)
CENTRES = RNG.normal(size=(len(SIZES), 12))
NOISE = np.repeat(RNG.uniform(0.2, 0.9, len(SIZES)), SIZES)[:, None]
FEATURES = np.repeat(CENTRES, SIZES, axis=0) + NOISE * RNG.normal(size=(sum(SIZES), 12))
FEATURES = (FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)).astype(np.float32)
N = len(FEATURES)
EPS, MIN_SAMPLES, K1, K2 = 0.4, 3, 8, 2


def cluster(features, k1=K1, k2=K2):
    found = jaccard_distances(features, k1=k1, k2=k2)
    return pseudo_labels(found, eps=EPS, min_samples=MIN_SAMPLES)


STAGE = SimpleNamespace(
    config=SimpleNamespace(k1=K1, k2=K2, min_samples=MIN_SAMPLES), cluster=cluster
)
DISTANCES = jaccard_distances(FEATURES, k1=K1, k2=K2)
CHECK = checks(STAGE, FEATURES, DISTANCES, EPS)

TRIED = [pseudo_labels(DISTANCES, eps=EPS, min_samples=m) for m in (2, 4, 8)]
OUTLIERS = [int((found.labels < 0).sum()) for found in TRIED]
WITH_K1 = [cluster(FEATURES, k1=k) for k in (4, 8, 16)]
CLUSTERS = [found.n_clusters for found in WITH_K1]
PLAIN = plain_distances(FEATURES)
TARGET = pseudo_labels(DISTANCES, eps=EPS, min_samples=MIN_SAMPLES).outlier_fraction


def outlier_share(radius: float) -> float:
    scan = DBSCAN(eps=radius, min_samples=MIN_SAMPLES, metric="precomputed")
    return float(np.mean(scan.fit_predict(PLAIN) < 0))


def bisect() -> float:
    low, high = 0.0, float(PLAIN.max()) + 1e-6
    for _ in range(16):
        middle = (low + high) / 2
        if outlier_share(middle) > TARGET:
            low = middle
        else:
            high = middle
    return high


RADIUS = bisect()
WRONG = {
    1: [
        [N - n for n in OUTLIERS],
        [found.n_clusters for found in TRIED],
        [n / N for n in OUTLIERS],
        [100 * n / N for n in OUTLIERS],
        OUTLIERS[::-1],
        OUTLIERS[:2],
        [OUTLIERS[1]] * 3,
        [n + 1 for n in OUTLIERS],
        sum(OUTLIERS),
        OUTLIERS[0],
        [OUTLIERS],
        np.cumsum(OUTLIERS),
        [
            int((pseudo_labels(DISTANCES, eps=EPS, min_samples=m).labels < 0).sum())
            for m in (3, 5, 9)
        ],
        [
            int((pseudo_labels(DISTANCES, eps=0.3, min_samples=m).labels < 0).sum())
            for m in (2, 4, 8)
        ],
        [0, 0, 0],
        "many",
    ],
    2: [
        2 * RADIUS,
        RADIUS / 2,
        EPS,
        TARGET,
        0.0,
        -RADIUS,
        1 - RADIUS,
        (2 * RADIUS) ** 0.5,
        RADIUS**2,
        100 * RADIUS,
        float(PLAIN.max()),
        float(PLAIN.mean()),
        np.inf,
        np.nan,
        [RADIUS, RADIUS],
        [RADIUS],
        True,
        outlier_share(RADIUS) * N,
        "small",
    ],
    3: [
        [int((found.labels < 0).sum()) for found in WITH_K1],
        [found.labels.max() for found in WITH_K1],
        [found.n_clusters + 1 for found in WITH_K1],
        CLUSTERS[::-1],
        CLUSTERS[:2],
        CLUSTERS[1],
        [CLUSTERS[1]] * 3,
        [4, 8, 16],
        [len(SIZES)] * 3,
        [8, 8, 8],
        [c / N for c in CLUSTERS],
        sum(CLUSTERS),
        [CLUSTERS],
        [found.outlier_fraction for found in WITH_K1],
        "fewer",
    ],
}
RIGHT = {
    1: [OUTLIERS, tuple(OUTLIERS), np.array(OUTLIERS), torch.tensor(OUTLIERS)],
    2: [RADIUS, np.float32(RADIUS), np.array(RADIUS), torch.tensor(RADIUS), 1.005 * RADIUS],
    3: [CLUSTERS, tuple(CLUSTERS), np.array(CLUSTERS, float), torch.tensor(CLUSTERS)],
}


def test_the_made_up_pictures_tell_the_answers_apart():
    assert len(set(OUTLIERS)) == 3
    assert len(set(CLUSTERS)) > 1
    assert CLUSTERS != CLUSTERS[::-1]
    assert 0.1 < TARGET < 0.6


@pytest.mark.parametrize("number", WRONG)
def test_wrong_answers_are_rejected(number):
    assert len(WRONG[number]) >= 10
    assert [a for a in WRONG[number] if CHECK(number, a)] == []


@pytest.mark.parametrize("number", RIGHT)
def test_right_answers_are_accepted_in_every_form(number):
    assert [a for a in RIGHT[number] if not CHECK(number, a)] == []


def test_a_mistake_gets_its_own_hint(capsys):
    CHECK(1, [found.n_clusters for found in TRIED])
    CHECK(2, RADIUS / 2)
    CHECK(2, 2 * RADIUS)
    CHECK(3, [int((found.labels < 0).sum()) for found in WITH_K1])
    said = capsys.readouterr().out
    for hint in (
        "count the outliers",
        "make it larger",
        "make it smaller",
        "count the clusters",
    ):
        assert hint in said


def test_the_plain_distance_of_a_picture_to_itself_is_zero_and_of_opposites_two():
    pair = np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32)
    assert plain_distances(pair).tolist() == [[0.0, 2.0], [2.0, 0.0]]
    assert plain_distances(np.ones((3001, 1), np.float32)).shape == (3000, 3000)
