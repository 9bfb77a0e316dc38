from __future__ import annotations

import numpy as np
import pytest
import torch
from reference.clustering import dense_neighbors

from dkdmpl_kit import neighbors
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.neighbors import as_features, knn_graph


def unit_rows(n: int, d: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def with_duplicates(n: int = 120, distinct: int = 6, d: int = 16) -> np.ndarray:
    """Every row appears about n / distinct times: far more ties than the margin of candidates."""
    return unit_rows(distinct, d)[np.random.default_rng(1).integers(0, distinct, n)]


@pytest.mark.parametrize("backend", ["torch", "faiss"])
@pytest.mark.parametrize("features", [unit_rows(150, 32), with_duplicates()], ids=["random", "duplicates"])
def test_the_graph_equals_the_dense_sort_with_ties_by_index(features, backend):
    graph = knn_graph(features, 12, backend=backend)
    expected = dense_neighbors(features)[:, :12]
    np.testing.assert_array_equal(graph.indices, expected)
    np.testing.assert_allclose(graph.similarities, np.take_along_axis(features @ features.T, expected, 1), atol=1e-6)
    assert graph.indices.dtype == np.int32 and graph.similarities.dtype == np.float32


def test_similarities_worked_by_hand_including_negative_ones():
    features = np.array([[1, 0], [0, 1], [-1, 0], [0.6, 0.8], [-0.6, -0.8]], np.float32)
    graph = knn_graph(features, 5)
    assert graph.indices[0].tolist() == [0, 3, 1, 4, 2]
    np.testing.assert_allclose(graph.similarities[0], [1, 0.6, 0, -0.6, -1], atol=1e-7)


def test_a_similarity_that_underflows_to_minus_zero_ties_with_zero():
    features = np.array([[1, 1e-30, 0, 0], [0, -1e-30, 1, 0], [0, 0, 0, 1]], np.float32)
    assert knn_graph(features, 3).indices[0].tolist() == [0, 1, 2]


def test_all_identical_rows_list_themselves_first_and_then_the_smallest_indices():
    graph = knn_graph(np.tile(np.float32([0.6, 0.8]), (50, 1)), 4)
    assert graph.indices[:, 0].tolist() == list(range(50))
    assert graph.indices[0].tolist() == [0, 1, 2, 3] and graph.indices[2].tolist() == [2, 0, 1, 3]
    assert (graph.indices[4:, 1:] == [0, 1, 2]).all()


@pytest.mark.parametrize("features", [unit_rows(300, 24), with_duplicates(300)], ids=["random", "duplicates"])
def test_neither_block_size_nor_threads_nor_kind_of_array_change_the_graph(features, monkeypatch):
    threads = torch.get_num_threads()
    expected = knn_graph(features, 10)
    try:
        for entries, count in [(300, 1), (7 * 300, 2), (2**24, 2)]:
            monkeypatch.setattr(neighbors, "BLOCK_ENTRIES", entries)
            torch.set_num_threads(count)
            graph = knn_graph(torch.from_numpy(features), 10)
            assert graph.indices.tobytes() == expected.indices.tobytes()
            assert graph.similarities.tobytes() == expected.similarities.tobytes()
    finally:
        torch.set_num_threads(threads)


def test_rows_that_rounding_could_have_changed_are_searched_again(monkeypatch):
    searched = []
    again = neighbors._search_again
    monkeypatch.setattr(neighbors, "_search_again", lambda graph, tensor, rows, slack: (
        searched.append(len(rows)), again(graph, tensor, rows, slack)))
    knn_graph(unit_rows(200, 32), 10)
    assert sum(searched) == 0
    monkeypatch.setattr(neighbors, "_rounding", lambda d: 3.0)  # nothing the product says can be believed
    graph = knn_graph(unit_rows(200, 32), 10)
    assert sum(searched) == 200
    np.testing.assert_array_equal(graph.indices, dense_neighbors(unit_rows(200, 32))[:, :10])


def test_a_wrong_proposal_is_repaired_when_its_bound_admits_it(monkeypatch):
    features = unit_rows(200, 32)

    def last_columns(tensor, width):
        yield 0, np.tile(np.arange(200 - width, 200), (200, 1)), np.ones(200, np.float32)

    monkeypatch.setattr(neighbors, "_torch_candidates", last_columns)
    np.testing.assert_array_equal(knn_graph(features, 10).indices, dense_neighbors(features)[:, :10])


def test_the_error_bound_covers_the_products_that_torch_computes():
    features = torch.from_numpy(unit_rows(256, 512))
    error = ((features @ features.T).double() - features.double() @ features.double().T).abs().max()
    assert 0 < error < neighbors._rounding(512)


def test_approximate_search_finds_nearly_all_neighbours_and_itself_first():
    centres, rng = unit_rows(60, 32), np.random.default_rng(3)
    features = centres[rng.integers(0, 60, 1500)] + 0.1 * rng.standard_normal((1500, 32)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    exact, approximate = knn_graph(features, 20), knn_graph(features, 20, exact=False)
    hits = np.mean([len(set(a) & set(b)) / 20 for a, b in zip(exact.indices, approximate.indices, strict=True)])
    assert hits > 0.98
    assert (approximate.indices[:, 0] == np.arange(1500)).all()
    assert (np.diff(approximate.similarities[:, 1:]) <= 0).all()


def test_an_approximate_search_that_comes_back_short_is_completed_exactly(monkeypatch):
    features = unit_rows(200, 32)
    monkeypatch.setattr(neighbors, "_faiss_candidates",
                        lambda host, width, exact: iter([(0, np.full((200, width), -1), np.full(200, -1.0))]))
    graph = knn_graph(features, 10, exact=False)
    np.testing.assert_array_equal(graph.indices, dense_neighbors(features)[:, :10])


def test_all_rows_may_be_asked_for_and_one_column_is_the_row_itself():
    features = unit_rows(20, 8)
    np.testing.assert_array_equal(knn_graph(features, 20).indices, dense_neighbors(features))
    assert knn_graph(features, 1).indices.ravel().tolist() == list(range(20))


@pytest.mark.parametrize("change, message", [
    (lambda f: f * np.nan, "finite"),
    (lambda f: f * np.float32(1.01), "norm 1.01"),
    (lambda f: np.where(np.arange(30)[:, None] == 7, np.inf, f), "row 7"),
    (lambda f: f[0], "shape"),
    (lambda f: f[:0], "shape"),
    (lambda f: f.astype(str), "shape"),
])
def test_features_that_cannot_be_compared_are_refused_in_a_sentence(change, message):
    with pytest.raises(KitError, match=message):
        knn_graph(change(unit_rows(30, 8)), 5)


@pytest.mark.parametrize("k", [0, -1, 31])
def test_k_outside_the_number_of_rows_is_refused(k):
    with pytest.raises(KitError, match="from 1 to 30"):
        knn_graph(unit_rows(30, 8), k)


def test_unknown_backends_and_approximate_torch_are_refused():
    with pytest.raises(KitError, match="auto, torch, faiss"):
        knn_graph(unit_rows(30, 8), 5, backend="annoy")
    with pytest.raises(KitError, match="faiss"):
        knn_graph(unit_rows(30, 8), 5, backend="torch", exact=False)


def test_half_precision_and_read_only_features_are_taken():
    features = unit_rows(30, 8)
    features.setflags(write=False)
    assert as_features(features).dtype == torch.float32
    assert knn_graph(torch.tensor(features).half(), 5).indices.shape == (30, 5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_graph_is_the_same_on_a_gpu():
    for features in (unit_rows(300, 64), with_duplicates(300)):
        there, here = knn_graph(torch.from_numpy(features).cuda(), 10), knn_graph(features, 10)
        assert there.indices.tobytes() == here.indices.tobytes()
        assert there.similarities.tobytes() == here.similarities.tobytes()
