from __future__ import annotations

import numpy as np
import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.evaluation import match_curve, match_curve_within, open_set
from dkdmpl_kit.evaluation import thresholds as module


def with_similarity(*values: float) -> np.ndarray:
    """Rows of norm 1 whose inner product with (1, 0) is each of the values."""
    rows = np.array([[v, np.sqrt(1 - v * v)] for v in values])
    return rows.astype(np.float32)


QUERY = np.float32([[1, 0]])


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def by_hand():
    """One query of identity 1, camera 0, against seven pictures.

    Same identity, other camera: 0.75, 0.25. Same camera: 0.9, left out. Junk: 1.0, left
    out. Others: 0.5, 0.25, 0.0, -0.5.
    """
    gallery = with_similarity(0.75, 0.25, 0.9, 1.0, 0.5, 0.25, 0.0, -0.5)
    return (
        QUERY,
        gallery,
        ids(1),
        ids(1, 1, 1, -1, 2, 3, 0, 2),
        ids(0),
        ids(1, 2, 0, 1, 0, 1, 1, 2),
    )


def test_rates_worked_by_hand():
    curve = match_curve(*by_hand())
    assert (curve.n_same, curve.n_different) == (2, 4)
    assert curve.rates(-1.0) == (1.0, 1.0)
    assert curve.rates(-0.25) == (0.75, 1.0)
    assert curve.rates(0.25) == (0.5, 1.0)  # at the threshold counts as believed
    assert curve.rates(0.26) == (0.25, 0.5)
    assert curve.rates(0.5) == (0.25, 0.5)
    assert curve.rates(0.51) == (0.0, 0.5)
    assert curve.rates(1.0) == (0.0, 0.0)
    # at most one stranger of four: the first step above 0.25
    assert curve.threshold(0.25) == 0.25 + module.STEP
    assert curve.threshold(0.5) == 0.0 + module.STEP
    assert curve.threshold(0.99) == -0.5 + module.STEP


def test_open_set_worked_by_hand():
    """Two queries: one finds its mate at 0.75 before a stranger at 0.5; the other has its
    mate at 0.25 behind a stranger at 0.5.
    """
    gallery = with_similarity(0.75, 0.25, 0.5, 0.9)
    found = open_set(
        np.repeat(QUERY, 3, axis=0),
        gallery,
        ids(1, 2, 9),  # 9 has no match
        ids(1, 2, 3, -1),
        ids(0, 0, 0),
        ids(1, 1, 1, 1),
    )
    # of query 2, the strangers are 0.75 and 0.5
    np.testing.assert_allclose(found.mate, [0.75, 0.25])
    np.testing.assert_allclose(found.stranger, [0.5, 0.75])
    assert found.identified(0.6) == 0.5 and found.identified(0.8) == 0.0
    assert found.false_alarms(0.5) == 1.0 and found.false_alarms(0.6) == 0.5
    assert found.rank1_with_rejection(0.6) == (0.5 + 0.5) / 2
    assert found.false_alarms(found.threshold(0.0)) == 0.0
    assert found.identified(found.threshold(0.0)) == 0.0
    assert found.false_alarms(found.threshold(0.5)) == 0.5
    assert found.identified(found.threshold(0.5)) == 0.5


def test_within_one_set_no_picture_meets_itself():
    features = with_similarity(1.0, 0.75, 0.25)
    curve = match_curve_within(features, ids(0, 0, 1), ids(-1, -1, -1))
    assert (curve.n_same, curve.n_different) == (2, 4)  # each pair from both ends
    assert curve.rates(0.75) == (0.5, 1.0)
    outlier = match_curve_within(features, ids(0, 1, -1), ids(0, 1, 1))
    assert (outlier.n_same, outlier.n_different) == (0, 2)
    assert np.isnan(outlier.tpr).all()


def test_outliers_become_clusters_of_their_own():
    labels = ids(1, -1, 0, -1)
    assert module.outliers_apart(labels).tolist() == [1, 2, 0, 3]
    assert labels.tolist() == [1, -1, 0, -1]
    assert module.outliers_apart(ids(-1, -1)).tolist() == [0, 1]


def random_case(seed: int):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((90, 6))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    pids, camids = rng.integers(-1, 12, 90), rng.integers(-1, 3, 90)
    q = slice(0, 30)
    g = slice(30, 90)
    features = features.astype(np.float32)
    return features[q], features[g], pids[q], pids[g], camids[q], camids[g]


@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_a_plain_loop(seed, monkeypatch):
    query, gallery, query_pids, gallery_pids, query_camids, gallery_camids = args = (
        random_case(seed)
    )
    same, different, mates, strangers = [], [], [], []
    for q in range(30):
        own, others = [], []
        for g in range(60):
            if query_pids[q] < 0 or gallery_pids[g] < 0:
                continue
            s = float(query[q] @ gallery[g])
            if query_pids[q] != gallery_pids[g]:
                others.append(s)
            elif query_camids[q] < 0 or query_camids[q] != gallery_camids[g]:
                own.append(s)
        same += own
        different += others
        if own and others:
            mates.append(max(own))
            strangers.append(max(others))
    monkeypatch.setattr(module, "ROWS", 7)
    curve = match_curve(*args)
    assert (curve.n_same, curve.n_different) == (len(same), len(different))
    for threshold in (-0.7, 0.0, 0.31, 0.8):
        rounded = np.ceil((threshold + 1) / module.STEP) * module.STEP - 1
        expected = np.mean(np.array(different) >= rounded), np.mean(np.array(same) >= rounded)
        assert curve.rates(threshold) == pytest.approx(expected)
    found = open_set(*args)
    np.testing.assert_allclose(found.mate, mates, atol=1e-6)
    np.testing.assert_allclose(found.stranger, strangers, atol=1e-6)


def test_the_bootstrap_covers_the_rate_of_all_identities():
    """Of many samples of identities, about 95% of the intervals hold the true rate."""
    rng = np.random.default_rng(0)

    def sample(n_people: int):
        centres = rng.standard_normal((n_people, 3))
        features = np.repeat(centres, 4, axis=0) + 0.3 * rng.standard_normal(
            (4 * n_people, 3)
        )
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        labels = np.repeat(np.arange(n_people), 4)
        unknown = np.full(len(labels), -1)
        return match_curve_within(features.astype(np.float32), labels, unknown)

    true = sample(400).rates(0.5)[0]
    intervals = [sample(40).fpr_interval(0.5, times=100) for _ in range(40)]
    held = np.mean([low <= true <= high for low, high in intervals])
    assert 0.85 <= held <= 1.0
    assert np.median([high - low for low, high in intervals]) < 0.2


def test_the_interval_holds_the_threshold_and_narrows_with_more_identities():
    args = random_case(5)
    curve = match_curve(*args)
    low, high = curve.threshold_interval(0.1)
    assert low <= curve.threshold(0.1) <= high and low < high
    assert curve.threshold_interval(0.1) == (low, high)  # the seed decides
    assert curve.threshold_interval(0.1, seed=1) != (low, high)


def test_many_identities_share_rows_and_count_the_same(monkeypatch):
    args = random_case(5)
    curve = match_curve(*args)
    monkeypatch.setattr(module, "GROUPS", 5)
    grouped = match_curve(*args)
    assert len(curve.different) == curve.n_identities == grouped.n_identities > 5
    assert len(grouped.different) == 5
    np.testing.assert_array_equal(grouped.fpr, curve.fpr)
    np.testing.assert_array_equal(grouped.tpr, curve.tpr)


def test_one_large_identity_leaves_the_interval_finite():
    """A cluster that has swallowed most others is drawn or not: no interval may break."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((120, 3))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    labels = np.r_[np.zeros(108, int), np.repeat([1, 2, 3], 4)]
    curve = match_curve_within(features.astype(np.float32), labels, np.full(120, -1))
    low, high = curve.threshold_interval(0.05)
    assert curve.threshold(0.05) - 0.3 < low <= curve.threshold(0.05) <= high <= 1


def test_what_cannot_be_told_is_refused():
    curve = match_curve(*by_hand())
    with pytest.raises(KitError, match="4 pairs of different"):
        curve.threshold(0.1)
    with pytest.raises(KitError, match="between 0 and 1"):
        curve.threshold(1.5)
    with pytest.raises(KitError, match="between 0 and 1"):
        curve.threshold(float("nan"))
    with pytest.raises(KitError, match="from -1 to 1"):
        curve.rates(1.2)
    with pytest.raises(KitError, match="at least two identities"):
        match_curve_within(with_similarity(1, 0.5), ids(3, 3), ids(0, 1))
    same = np.repeat(QUERY, 4, axis=0)
    with pytest.raises(KitError, match="do not tell these pictures apart"):
        match_curve_within(same, ids(0, 0, 1, 1), ids(0, 1, 0, 1)).threshold(0.5)
    with pytest.raises(KitError, match="both a match and a stranger"):
        open_set(QUERY, QUERY, ids(1), ids(2), ids(0), ids(1))
    with pytest.raises(KitError, match="false_alarms"):
        open_set(*random_case(0)).threshold(1.0)
