"""The table of labels: by hand, and equal to the silhouette that it names."""

from __future__ import annotations

import numpy as np
import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise import centroid_silhouette, label_table, most_suspect


def test_by_hand():
    # means: cluster 0 lies on (1, 0), cluster 4 on (0, 1); the fourth is an outlier between
    features = np.array([[1, 0], [1, 0], [0, 1], [0.8, 0.6]], np.float32)
    table = label_table(features, np.array([0, 0, 4, -1]))
    assert table.cluster.tolist() == [0, 0, 4, -1] and len(table) == 4
    np.testing.assert_allclose(table.similarity, [1, 1, 1, np.nan])
    assert table.nearest_cluster.tolist() == [4, 4, 0, 0]
    np.testing.assert_allclose(table.nearest_similarity, [0, 0, 0, 0.8], atol=1e-7)
    # the third picture is alone in its cluster
    np.testing.assert_allclose(table.quality, [1, 1, 0, np.nan])
    assert table.suspect.tolist() == [False] * 4


def test_a_picture_in_the_wrong_cluster_is_suspect():
    features = np.array([[1, 0]] * 3 + [[0, 1]] * 3 + [[0.6, 0.8]], np.float32)
    table = label_table(features, np.array([0, 0, 0, 1, 1, 1, 0]))
    assert table.suspect.tolist() == [False] * 6 + [True]
    assert table.nearest_cluster[6] == 1 and table.quality[6] < 0
    assert table.nearest_similarity[6] > table.similarity[6]
    assert most_suspect(table, 5).tolist() == [6] and not len(most_suspect(table, 0))


def test_it_is_the_silhouette_over_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 5)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    labels = rng.integers(-1, 9, 80)
    whole = label_table(features, labels)
    monkeypatch.setattr("dkdmpl_kit.noise.labelled.BLOCK_ROWS", 7)
    table = label_table(features, labels)
    expected = centroid_silhouette(features, labels)
    np.testing.assert_allclose(table.quality, expected, atol=1e-5)
    np.testing.assert_array_equal(table.suspect, np.nan_to_num(expected) < 0)
    np.testing.assert_allclose(table.similarity, whole.similarity, atol=1e-6)
    order = most_suspect(table, 80)
    assert len(order) == table.suspect.sum() and (np.diff(table.quality[order]) >= 0).all()


def test_one_cluster_or_none_has_no_other():
    features = np.eye(3, dtype=np.float32)
    one = label_table(features, np.array([0, 0, -1]))
    assert one.nearest_cluster.tolist() == [-1, -1, 0]
    assert one.quality[:2].tolist() == [0, 0] and np.isnan(one.quality[2])
    none = label_table(features, np.full(3, -1))
    assert none.nearest_cluster.tolist() == [-1] * 3 and np.isnan(none.similarity).all()
    assert not none.suspect.any()


@pytest.mark.parametrize("features", [np.zeros((2, 3)), np.full((3, 3), np.nan), np.ones(3)])
def test_features_that_do_not_fit_are_refused(features):
    with pytest.raises(KitError, match="finite numbers"):
        label_table(features, np.array([0, 0, 1]))
