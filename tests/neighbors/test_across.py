from __future__ import annotations

import numpy as np
import pytest
import torch
from reference.neighbors import dense_neighbors

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.neighbors import graph as exact
from dkdmpl_kit.neighbors import knn_across


def unit_rows(n: int, d: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def with_duplicates(n: int = 160, distinct: int = 6, d: int = 16) -> np.ndarray:
    return unit_rows(distinct, d)[np.random.default_rng(1).integers(0, distinct, n)]


def by_sorting(features: np.ndarray, k: int, groups: np.ndarray) -> list[list[int]]:
    """The row itself, others of other groups by falling similarity, itself again."""
    lists = []
    for i, order in enumerate(dense_neighbors(features).tolist()):
        row = [i, *(j for j in order if groups[j] != groups[i])][:k]
        lists.append(row + [i] * (k - len(row)))
    return lists


GROUPS = np.random.default_rng(2).integers(0, 4, 160)


@pytest.mark.parametrize(
    "features", [unit_rows(160, 32), with_duplicates()], ids=["random", "duplicates"]
)
@pytest.mark.parametrize("k", [1, 2, 12, 170])
def test_the_lists_equal_the_dense_sort_with_ties_by_index(features, k):
    found = knn_across(features, k, GROUPS)
    assert found.indices.tolist() == by_sorting(features, k, GROUPS)
    expected = np.take_along_axis(features @ features.T, found.indices, 1)
    short = found.similarities == -2
    assert short.sum() == (found.indices[:, 1:] == np.arange(160)[:, None]).sum()
    np.testing.assert_allclose(found.similarities[~short], expected[~short], atol=1e-6)


def test_lists_worked_by_hand():
    features = np.array([[1, 0], [0.6, 0.8], [0.8, 0.6], [-1, 0]], np.float32)
    found = knn_across(features, 4, [0, 0, 1, 1])
    assert found.indices.tolist() == [[0, 2, 3, 0], [1, 2, 3, 1], [2, 1, 0, 2], [3, 1, 0, 3]]
    np.testing.assert_allclose(found.similarities[2], [1, 0.96, 0.8, -2], atol=1e-6)


def test_rows_of_one_group_have_nobody():
    found = knn_across(unit_rows(5, 4), 3, np.zeros(5))
    assert found.indices.tolist() == [[i] * 3 for i in range(5)]
    assert (found.similarities[:, 1:] == -2).all()


@pytest.mark.parametrize(
    "features", [unit_rows(160, 32), with_duplicates()], ids=["random", "duplicates"]
)
def test_neither_block_size_nor_precision_nor_doubt_change_the_lists(features, monkeypatch):
    expected = knn_across(features, 9, GROUPS)

    def same() -> bool:
        found = knn_across(torch.from_numpy(features), 9, GROUPS)
        return all(
            getattr(found, name).tobytes() == getattr(expected, name).tobytes()
            for name in ("indices", "similarities")
        )

    for entries, rows in ((160, 1), (7 * 160, 16), (2**24, 1024)):
        monkeypatch.setattr(exact, "BLOCK_ENTRIES", entries)
        monkeypatch.setattr(exact, "BLOCK_ROWS", rows)
        assert same()
    # so wide a bound that nothing proposed is believed, and every row is searched again
    wide = exact.ProductError(np.full(160, 3.0), 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(exact, "_float32_error", lambda n, d: wide)
        assert same()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"k": 0}, "k of at least 1"),
        ({"groups": np.zeros(3)}, "groups has shape"),
        ({"features": np.zeros((160, 4))}, "norm 1"),
    ],
)
def test_bad_input_is_one_sentence(change, sentence):
    with pytest.raises(KitError, match=sentence):
        knn_across(**{"features": unit_rows(160, 4), "k": 3, "groups": GROUPS} | change)
