from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from reference.neighbors import dense_neighbors

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.neighbors import as_features, knn_graph, recall
from dkdmpl_kit.neighbors import graph as neighbors


def unit_rows(n: int, d: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def with_duplicates(n: int = 120, distinct: int = 6, d: int = 16) -> np.ndarray:
    """Every row appears about n / distinct times: far more ties than the margin of
    candidates.
    """
    return unit_rows(distinct, d)[np.random.default_rng(1).integers(0, distinct, n)]


@pytest.mark.parametrize("backend", ["torch", "faiss"])
@pytest.mark.parametrize(
    "features", [unit_rows(150, 32), with_duplicates()], ids=["random", "duplicates"]
)
def test_the_graph_equals_the_dense_sort_with_ties_by_index(features, backend):
    graph = knn_graph(features, 12, backend=backend)
    expected = dense_neighbors(features)[:, :12]
    np.testing.assert_array_equal(graph.indices, expected)
    np.testing.assert_allclose(
        graph.similarities, np.take_along_axis(features @ features.T, expected, 1), atol=1e-6
    )
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
    assert graph.indices[0].tolist() == [0, 1, 2, 3] and graph.indices[2].tolist() == [
        2,
        0,
        1,
        3,
    ]
    assert (graph.indices[4:, 1:] == [0, 1, 2]).all()


@pytest.mark.parametrize(
    "features", [unit_rows(300, 24), with_duplicates(300)], ids=["random", "duplicates"]
)
def test_neither_block_size_nor_threads_nor_kind_of_array_change_the_graph(
    features, monkeypatch
):
    threads = torch.get_num_threads()
    expected = knn_graph(features, 10)
    try:
        for entries, block, count in [(300, 1, 1), (7 * 300, 64, 2), (2**24, 1024, 2)]:
            monkeypatch.setattr(neighbors, "BLOCK_ENTRIES", entries)
            monkeypatch.setattr(neighbors, "BLOCK_ROWS", block)
            torch.set_num_threads(count)
            graph = knn_graph(torch.from_numpy(features), 10)
            assert graph.indices.tobytes() == expected.indices.tobytes()
            assert graph.similarities.tobytes() == expected.similarities.tobytes()
    finally:
        torch.set_num_threads(threads)


def test_rows_that_rounding_could_have_changed_are_searched_again(monkeypatch):
    searched = []
    again = neighbors._search_again
    monkeypatch.setattr(
        neighbors,
        "_search_again",
        lambda graph, tensor, rows: (searched.append(len(rows)), again(graph, tensor, rows)),
    )
    knn_graph(unit_rows(200, 32), 10)
    assert sum(searched) == 0
    nothing_can_be_believed = neighbors.ProductError(np.full(200, 3.0), 0.0)
    monkeypatch.setattr(neighbors, "_float32_error", lambda n, d: nothing_can_be_believed)
    graph = knn_graph(unit_rows(200, 32), 10)
    assert sum(searched) == 200
    np.testing.assert_array_equal(graph.indices, dense_neighbors(unit_rows(200, 32))[:, :10])


def test_a_wrong_proposal_is_repaired_when_its_bound_admits_it(monkeypatch):
    features = unit_rows(200, 32)

    def last_columns(tensor, width, reduced):
        columns = np.tile(np.arange(200 - width, 200), (200, 1))
        yield (
            np.arange(200),
            columns,
            np.ones((200, width)),
            neighbors._float32_error(200, 32),
        )

    monkeypatch.setattr(neighbors, "_torch_candidates", last_columns)
    np.testing.assert_array_equal(
        knn_graph(features, 10).indices, dense_neighbors(features)[:, :10]
    )


def test_the_error_bound_covers_the_products_that_torch_computes():
    features = torch.from_numpy(unit_rows(256, 512))
    error = (
        ((features @ features.T).double() - features.double() @ features.double().T)
        .abs()
        .max()
    )
    assert 0 < error < neighbors._float32_error(1, 512).by_row[0]


@pytest.mark.parametrize(
    "features",
    [unit_rows(300, 64), with_duplicates(300), -np.abs(unit_rows(2, 64))[[0, 1] * 150]],
    ids=["random", "duplicates", "two rows"],
)
def test_bfloat16_proposals_give_the_very_graph_of_float32_ones(features, monkeypatch):
    graphs = []
    for reduced in (False, True):
        candidates = neighbors._torch_candidates
        with monkeypatch.context() as patch:
            patch.setattr(
                neighbors,
                "_torch_candidates",
                lambda tensor, width, _, ask=candidates, how=reduced: ask(tensor, width, how),
            )
            graphs.append(knn_graph(features, 12))
    assert graphs[0].indices.tobytes() == graphs[1].indices.tobytes()
    assert graphs[0].similarities.tobytes() == graphs[1].similarities.tobytes()


def test_neighbours_closer_together_than_bfloat16_can_tell_are_searched_again(monkeypatch):
    """300 rows within 1e-3 of one direction: bfloat16, with its 8 bits, calls all of
    them equal.
    """
    rng = np.random.default_rng(0)
    features = np.eye(1, 40) + 2e-4 * rng.standard_normal((300, 40))
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    searched, again, candidates = [], neighbors._search_again, neighbors._torch_candidates
    monkeypatch.setattr(
        neighbors,
        "_torch_candidates",
        lambda tensor, width, _: candidates(tensor, width, True),
    )
    monkeypatch.setattr(
        neighbors,
        "_search_again",
        lambda graph, tensor, rows: (searched.append(len(rows)), again(graph, tensor, rows)),
    )
    np.testing.assert_array_equal(
        knn_graph(features, 12).indices, dense_neighbors(features)[:, :12]
    )
    assert sum(searched) == 300


@pytest.mark.parametrize("d", [16, 2048])
def test_the_error_bound_covers_products_in_bfloat16(d):
    features = torch.from_numpy(
        np.concatenate([unit_rows(200, d), np.eye(3, d, dtype=np.float32)])
    )
    cut = features.bfloat16()
    found, true = (
        (cut @ cut.T).float().numpy(),
        (features.double() @ features.double().T).numpy(),
    )
    allowed = neighbors._bfloat16_error(features, cut).of(np.arange(203), found)
    assert (np.abs(found - true) <= allowed).all()
    # a bound of 1 would cover everything and prove nothing
    assert np.abs(found - true).max() > 0.02 * allowed.max()


@pytest.mark.parametrize(
    "dtype, compiled", [(torch.bfloat16, True), (torch.float32, True), (torch.float32, False)]
)
def test_the_largest_of_several_tiles_are_those_of_a_full_sort(dtype, compiled):
    draws = torch.Generator().manual_seed(0)
    # mostly negative ones
    similarities = (torch.rand(40, 700, generator=draws) - 0.7).to(dtype)
    similarities[1, 5:] = similarities[1, 5:].abs().neg()  # five above zero at most
    if compiled:
        similarities[
            0
        ] = -0.5  # all equal: the smaller columns; torch.topk promises nothing there
    largest = neighbors._Largest(40, 30, similarities, compiled=compiled)
    for names in torch.arange(700).split(137):
        largest.offer(similarities[:, names], names)
    columns, values = largest.read()
    order = torch.argsort(similarities.float(), dim=1, descending=True, stable=True)[:, :30]
    np.testing.assert_array_equal(np.sort(columns, 1), np.sort(order.numpy(), 1))
    np.testing.assert_array_equal(
        values, np.take_along_axis(similarities.float().numpy(), columns.astype(int), 1)
    )


@pytest.mark.parametrize("n", [799, 800, 801, 5003])
def test_no_column_of_a_long_tile_is_passed_over(n):
    """Tiles far longer than the lists are skimmed in groups, the last of which is
    shorter.
    """
    similarities = torch.rand(30, n, generator=torch.Generator().manual_seed(n))
    similarities[:, -3:] += 1  # the last columns, one row with the first as well
    similarities[0, :4] += 1
    largest = neighbors._Largest(30, 10, similarities)
    largest.offer(similarities, torch.arange(n))
    expected = torch.topk(similarities, 10, dim=1).indices.numpy()
    np.testing.assert_array_equal(np.sort(largest.read()[0], 1), np.sort(expected, 1))


def test_the_graph_of_more_rows_than_a_block_equals_the_dense_sort(monkeypatch):
    monkeypatch.setattr(neighbors, "bfloat16_is_faster", lambda: True)
    features = unit_rows(1311, 1024)  # enough numbers for bfloat16 to be thought of
    np.testing.assert_array_equal(
        knn_graph(features, 8).indices, dense_neighbors(features)[:, :8]
    )


@pytest.mark.parametrize("compiled", [True, False])
def test_rows_that_were_offered_too_few_columns_are_filled_with_none(compiled):
    similarities = torch.tensor([[0.5, 0.25], [-0.5, 0.0]])
    largest = neighbors._Largest(2, 4, similarities, compiled=compiled)
    largest.offer(similarities, torch.tensor([7, 9]))
    columns = largest.read()[0]
    assert [sorted(row) for row in columns.tolist()] == [[-1, -1, 7, 9]] * 2


@pytest.mark.parametrize("backend", ["auto", "faiss"])
def test_approximate_search_finds_nearly_all_neighbours_and_itself_first(backend):
    centres, rng = unit_rows(60, 32), np.random.default_rng(3)
    features = centres[rng.integers(0, 60, 1500)] + 0.1 * rng.standard_normal(
        (1500, 32)
    ).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    exact, approximate = (
        knn_graph(features, 20),
        knn_graph(features, 20, backend=backend, exact=False),
    )
    assert recall(exact, exact) == 1 and recall(approximate, exact) > 0.98
    assert (approximate.indices[:, 0] == np.arange(1500)).all()
    assert (np.diff(approximate.similarities[:, 1:]) <= 0).all()


def test_an_approximate_search_says_what_it_needs(monkeypatch):
    with pytest.raises(KitError, match="backend='torch' searches exactly"):
        knn_graph(unit_rows(30, 8), 5, backend="torch", exact=False)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(KitError, match="pip install faiss-cpu"):
        knn_graph(unit_rows(30, 8), 5, exact=False)
    assert knn_graph(unit_rows(30, 8), 5).k == 5


def test_recall_worked_by_hand_and_graphs_that_do_not_fit():
    def graph(*lists):
        return neighbors.NeighborGraph(
            np.array(lists, np.int32), np.zeros((2, 3), np.float32), np.zeros((2, 1))
        )

    assert recall(graph([0, 1, 2], [1, 0, 3]), graph([0, 2, 4], [1, 3, 0])) == 0.75
    with pytest.raises(KitError, match="same rows"):
        recall(knn_graph(unit_rows(9, 4), 3), knn_graph(unit_rows(9, 4), 4))


def test_an_approximate_search_that_comes_back_short_is_completed_exactly(monkeypatch):
    features = unit_rows(200, 32)
    monkeypatch.setattr(
        neighbors,
        "_faiss_candidates",
        lambda host, width, exact: iter(
            [
                (
                    np.arange(200),
                    np.full((200, width), -1),
                    np.full((200, width), -1.0),
                    neighbors._float32_error(200, 32),
                )
            ]
        ),
    )
    graph = knn_graph(features, 10, backend="faiss", exact=False)
    np.testing.assert_array_equal(graph.indices, dense_neighbors(features)[:, :10])


def test_all_rows_may_be_asked_for_and_one_column_is_the_row_itself():
    features = unit_rows(20, 8)
    np.testing.assert_array_equal(knn_graph(features, 20).indices, dense_neighbors(features))
    assert knn_graph(features, 1).indices.ravel().tolist() == list(range(20))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda f: f * np.nan, "finite"),
        (lambda f: f * np.float32(1.01), "norm 1.01"),
        (lambda f: np.where(np.arange(30)[:, None] == 7, np.inf, f), "row 7"),
        (lambda f: f[0], "shape"),
        (lambda f: f[:0], "shape"),
        (lambda f: f.astype(str), "shape"),
    ],
)
def test_features_that_cannot_be_compared_are_refused_in_a_sentence(change, message):
    with pytest.raises(KitError, match=message):
        knn_graph(change(unit_rows(30, 8)), 5)


@pytest.mark.parametrize("k", [0, -1, 31])
def test_k_outside_the_number_of_rows_is_refused(k):
    with pytest.raises(KitError, match="from 1 to 30"):
        knn_graph(unit_rows(30, 8), k)


def test_unknown_backends_are_refused():
    with pytest.raises(KitError, match="auto, torch, faiss"):
        knn_graph(unit_rows(30, 8), 5, backend="annoy")


def test_half_precision_and_read_only_features_are_taken():
    features = unit_rows(30, 8)
    features.setflags(write=False)
    assert as_features(features).dtype == torch.float32
    assert knn_graph(torch.tensor(features).half(), 5).indices.shape == (30, 5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_graph_is_the_same_on_a_gpu():
    for features in (unit_rows(300, 64), with_duplicates(300)):
        there, here = (
            knn_graph(torch.from_numpy(features).cuda(), 10),
            knn_graph(features, 10),
        )
        assert there.indices.tobytes() == here.indices.tobytes()
        assert there.similarities.tobytes() == here.similarities.tobytes()


@pytest.mark.parametrize("distinct", [1, 40])
def test_rows_that_are_many_times_the_same_are_found_by_both_searches(distinct):
    rng = np.random.default_rng(0)
    features = unit_rows(distinct, 16)[rng.integers(0, distinct, 800)]
    exact, approximate = knn_graph(features, 12), knn_graph(features, 12, exact=False)
    np.testing.assert_array_equal(approximate.indices[:, 0], np.arange(800))
    np.testing.assert_allclose(
        approximate.similarities.mean(), exact.similarities.mean(), atol=0.05
    )
