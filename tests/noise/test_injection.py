"""Noise of a known rate and kind."""

from __future__ import annotations

import numpy as np
import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise import (
    NOISE_KINDS,
    inject_noise,
    label_report,
    noise_causes,
    noise_response,
)

RNG = np.random.default_rng(0)
LABELS = RNG.permutation(np.repeat(2 * np.arange(12) + 3, RNG.integers(12, 20, 12)))
CAMIDS = RNG.integers(0, 5, len(LABELS))
FEATURES = RNG.normal(size=(len(LABELS), 6))


def injected(rate, kind, seed=0):
    return inject_noise(
        LABELS,
        rate,
        kind=kind,
        seed=seed,
        camids=CAMIDS,
        features=FEATURES if kind == "look_alike" else None,
    )


@pytest.mark.parametrize(
    ("kind", "rate"),
    [
        ("symmetric", 0),
        ("symmetric", 0.1),
        ("look_alike", 0.37),
        ("camera_split", 0.1),
        ("camera_split", 0.6),
        ("outlier", 0.37),
    ],
)
def test_exactly_the_rate_is_changed_and_the_mask_says_which(kind, rate):
    before = LABELS.copy()
    noisy = injected(rate, kind)
    assert noisy.changed.sum() == round(rate * len(LABELS))
    assert np.array_equal(noisy.changed, noisy.labels != LABELS)
    assert np.array_equal(LABELS, before)


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_a_seed_repeats_and_a_higher_rate_keeps_what_a_lower_one_changed(kind):
    low, again, high, other = (
        injected(0.2, kind),
        injected(0.2, kind),
        injected(0.5, kind),
        injected(0.2, kind, seed=1),
    )
    assert np.array_equal(low.labels, again.labels)
    assert not np.array_equal(low.labels, other.labels)
    assert np.array_equal(high.labels[low.changed], low.labels[low.changed])


def test_symmetric_noise_goes_to_every_other_identity_alike():
    labels = np.repeat([1, 4, 6, 7], 5000)
    noisy = inject_noise(labels, 1.0).labels
    for own in (1, 4, 6, 7):
        values, counts = np.unique(noisy[labels == own], return_counts=True)
        assert values.tolist() == [x for x in (1, 4, 6, 7) if x != own]
        assert np.abs(counts - 5000 / 3).max() < 5 * np.sqrt(5000 * (1 / 3) * (2 / 3))


def test_look_alike_noise_goes_to_the_identity_nearest_by_mean_feature():
    labels = np.array([9, 9, 5, 5, 2, 2])
    features = np.array([[1, 0.1], [1, -0.1], [0.9, 0.5], [0.9, 0.3], [0, 1], [-0.2, 1]])
    assert inject_noise(
        labels, 1.0, kind="look_alike", features=features
    ).labels.tolist() == [5, 5, 9, 9, 5, 5]
    longer = features * [[7], [7], [1], [1], [50], [50]]  # direction counts, not length
    assert inject_noise(labels, 1.0, kind="look_alike", features=longer).labels.tolist() == [
        5,
        5,
        9,
        9,
        5,
        5,
    ]


def test_look_alike_noise_follows_a_given_similarity():
    similarity = np.array([[9, 1, 2], [3, 9, 1], [1, 2, 9]])  # rows: identities 2, 5, 8
    noisy = inject_noise([8, 5, 2], 1.0, kind="look_alike", similarity=similarity)
    assert noisy.labels.tolist() == [5, 2, 8]
    assert similarity[0, 0] == 9


def test_a_camera_split_gives_groups_labels_of_their_own():
    labels, camids = np.array([0, 0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 2, 3])
    noisy = inject_noise(labels, 3 / 7, kind="camera_split", camids=camids)
    # the largest group stays
    assert noisy.changed.tolist() == [
        False,
        False,
        True,
        False,
        False,
        True,
        True,
    ]
    assert noisy.labels.min() >= 0
    assert len(set(noisy.labels[noisy.changed])) == 3
    assert set(noisy.labels[noisy.changed]).isdisjoint(labels)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6])
def test_the_wrong_share_after_a_camera_split_is_the_rate(rate):
    noisy = injected(rate, "camera_split")
    report = label_report(noisy.labels, LABELS)
    assert report.wrong_share == pytest.approx(noisy.changed.mean())
    assert report.pair_precision == 1
    assert report.merged_clusters == 0
    groups = {
        label: set(zip(LABELS[noisy.labels == label], CAMIDS[noisy.labels == label]))
        for label in set(noisy.labels[noisy.changed])
    }
    # one identity under one camera each
    assert all(len(group) == 1 for group in groups.values())


def test_outliers_are_minus_one():
    assert set(injected(0.3, "outlier").labels[injected(0.3, "outlier").changed]) == {-1}


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(rate=1.1), "between 0 and 1"),
        (dict(rate=float("nan")), "between 0 and 1"),
        (dict(kind="asymmetric"), "symmetric, look_alike, camera_split, outlier"),
        (dict(labels=[0, -1]), "true label"),
        (dict(labels=[]), "true label"),
        (dict(labels=[0.5, 1]), "true label"),
        (dict(labels=[4, 4]), "only one"),
        (dict(labels=[4, 4], kind="look_alike"), "only one"),
        (dict(kind="look_alike"), "who looks alike"),
        (
            dict(kind="look_alike", features=np.ones((3, 2)), similarity=np.ones((2, 2))),
            "who looks alike",
        ),
        (dict(kind="look_alike", similarity=np.ones((3, 3))), "shape"),
        (dict(kind="look_alike", features=np.ones((2, 2))), "shape"),
        (dict(kind="look_alike", features=np.ones(3)), "shape"),
        (dict(kind="look_alike", features=np.full((3, 2), np.nan)), "finite"),
        (dict(kind="camera_split"), "camera of every image"),
        (dict(kind="camera_split", camids=[0, 1, -1]), "camera of every image"),
        (dict(kind="camera_split", camids=[0, 0, 0]), "0.000 at most"),
    ],
)
def test_what_cannot_be_injected_is_refused(arguments, words):
    with pytest.raises(KitError, match=words):
        inject_noise(**{"labels": [0, 0, 1], "rate": 0.5, **arguments})


def test_the_response_holds_at_each_rate_what_the_injected_labels_give():
    table = noise_response(
        LABELS, [0, 0.2, 0.4], noise="camera_split", kind="split", camids=CAMIDS, seed=3
    )
    assert table["rate"].tolist() == [0, 0.2, 0.4]
    for place, rate in enumerate((0, 0.2, 0.4)):
        labels = inject_noise(LABELS, rate, kind="camera_split", camids=CAMIDS, seed=3).labels
        report = label_report(labels, LABELS)
        assert [table[name][place] for name in ("ari", "pair_precision", "pair_recall")] == [
            report.ari,
            report.pair_precision,
            report.pair_recall,
        ]
        odds = noise_causes(
            labels, LABELS, camids=CAMIDS, kind="split", max_pairs=3000, resamples=0, seed=3
        ).odds_ratio
        assert (
            table["same camera"][place] == odds[0] < 0.1
            if rate
            else np.isnan(table["same camera"][place])
        )


def test_the_response_stops_where_the_kind_can_do_no_more_and_knows_no_odds_without_causes():
    table = noise_response(LABELS, [0.1, 0.99], noise="camera_split", camids=CAMIDS)
    assert table["rate"].tolist() == [0.1]
    assert list(noise_response(LABELS, [0.1, 0.5])) == [
        "rate",
        "ari",
        "pair_precision",
        "pair_recall",
    ]
    with pytest.raises(KitError, match="camera of every image"):
        noise_response(LABELS, [0.1], noise="camera_split")
