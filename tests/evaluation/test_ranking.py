from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference.evaluation import brute_force_ranking, ranked_gallery

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.evaluation import evaluate_ranking, top_matches
from dkdmpl_kit.evaluation import ranking as evaluation


def at(*degrees: float) -> np.ndarray:
    """Unit vectors at these angles: a query at 0 ranks the gallery by rising angle."""
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def case(
    seed: int,
    n_queries: int = 12,
    n_gallery: int = 60,
    n_pids: int = 8,
    n_cameras: int = 3,
    ties: bool = True,
):
    """Random queries and gallery with junk (-1), distractors (0), unknown cameras;
    products exact, so ties are ties.
    """
    rng = np.random.default_rng(seed)
    exact = np.concatenate([np.eye(4), -np.eye(4), rng.choice([-0.5, 0.5], (12, 4))])
    pool = exact if ties else rng.standard_normal((200, 16))
    pool = (pool / np.linalg.norm(pool, axis=1, keepdims=True)).astype(np.float32)
    # without ties no row twice: a processor may round one product in two ways
    drawn = rng.integers(0, len(pool), n_gallery) if ties else rng.permutation(len(pool))
    query = pool[rng.integers(0, len(pool), n_queries)]
    gallery = pool[drawn[:n_gallery]]
    return (
        query,
        gallery,
        rng.integers(1, n_pids + 2, n_queries),
        rng.integers(-1, n_pids, n_gallery),
        rng.integers(-1, n_cameras, n_queries),
        rng.integers(-1, n_cameras, n_gallery),
    )


def test_average_precision_cmc_and_minp_worked_by_hand():
    # ranking: right, wrong, right, wrong, wrong, right, wrong -> AP = (1/1 + 2/3 + 3/6)
    # / 3, last match at rank 6 of 3
    gallery_pids = ids(1, 2, 1, 3, 2, 1, 4)
    result = evaluate_ranking(
        at(0), at(10, 20, 30, 40, 50, 60, 70), ids(1), gallery_pids, ids(0), ids(*[1] * 7)
    )
    assert result.mAP == pytest.approx((1 + 2 / 3 + 3 / 6) / 3)
    assert result.mINP == pytest.approx(3 / 6)
    assert result.cmc == {1: 1.0, 5: 1.0, 10: 1.0}
    assert result.n_valid_queries == 1


def test_means_over_two_queries_and_cmc_between_zero_and_one_worked_by_hand():
    # query at 0: wrong, right; query at 90: right first
    result = evaluate_ranking(
        at(0, 90),
        at(10, 40, 80),
        ids(1, 2),
        ids(3, 1, 2),
        ids(0, 0),
        ids(1, 1, 1),
        topk=(1, 2),
    )
    assert result.average_precision.tolist() == pytest.approx([1 / 2, 1.0])
    assert result.mAP == pytest.approx(0.75) and result.mINP == pytest.approx(0.75)
    assert result.cmc == {1: 0.5, 2: 1.0}


def test_the_same_identity_in_the_same_camera_is_taken_out_of_the_ranking():
    # the best image is the query's own camera: dropped; another identity in that camera
    # stays and counts as wrong
    result = evaluate_ranking(
        at(0), at(5, 10, 20), ids(1), ids(1, 2, 1), ids(0), ids(0, 0, 1)
    )
    assert result.average_precision.tolist() == pytest.approx([1 / 2])


def test_junk_is_dropped_and_distractors_are_wrong():
    junk = evaluate_ranking(at(0), at(10, 20), ids(1), ids(-1, 1), ids(0), ids(1, 1))
    distractor = evaluate_ranking(at(0), at(10, 20), ids(1), ids(0, 1), ids(0), ids(1, 1))
    assert (junk.mAP, distractor.mAP) == pytest.approx((1.0, 0.5))


def test_queries_without_a_match_or_of_unknown_identity_are_skipped():
    result = evaluate_ranking(
        at(0, 0, 0), at(10, 20), ids(1, 9, -1), ids(2, 1), ids(0, 0, 0), ids(1, 1)
    )
    assert result.n_valid_queries == 1 and result.mAP == pytest.approx(0.5)
    assert np.isnan(result.average_precision).tolist() == [False, True, True]


def test_unknown_cameras_take_nothing_out():
    result = evaluate_ranking(at(0), at(10, 20), ids(1), ids(1, 2), ids(-1), ids(-1, -1))
    assert result.mAP == 1.0


def test_of_equal_similarities_the_smaller_gallery_index_ranks_first():
    match_first = evaluate_ranking(at(0), at(30, 30), ids(1), ids(1, 2), ids(0), ids(1, 1))
    match_last = evaluate_ranking(at(0), at(30, 30), ids(1), ids(2, 1), ids(0), ids(1, 1))
    assert (match_first.mAP, match_last.mAP) == pytest.approx((1.0, 0.5))


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 10**6),
    n_gallery=st.integers(1, 40),
    n_pids=st.integers(1, 8),
    n_cameras=st.integers(1, 3),
    ties=st.booleans(),
)
def test_every_figure_equals_the_brute_force_oracle(seed, n_gallery, n_pids, n_cameras, ties):
    arrays = case(seed, 6, n_gallery, n_pids, n_cameras, ties)
    expected = brute_force_ranking(*arrays)
    assume(expected["n_valid"] > 0)
    result = evaluate_ranking(*arrays)
    np.testing.assert_allclose(result.average_precision, expected["ap"], atol=1e-12)
    assert result.mAP == pytest.approx(expected["mAP"]) and result.mINP == pytest.approx(
        expected["mINP"]
    )
    assert (
        result.cmc == pytest.approx(expected["cmc"])
        and result.n_valid_queries == expected["n_valid"]
    )


@pytest.mark.parametrize("entries, threads", [(1, 1), (500, 2), (2**24, 2)])
def test_blocks_threads_and_torch_input_change_nothing(entries, threads, monkeypatch):
    arrays, before = case(5, 90, 200), torch.get_num_threads()
    expected = evaluate_ranking(*arrays)
    monkeypatch.setattr(evaluation, "BLOCK_ENTRIES", entries)
    try:
        torch.set_num_threads(threads)
        result = evaluate_ranking(*(torch.from_numpy(array) for array in arrays))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(result.average_precision, expected.average_precision)
    assert (result.mAP, result.mINP, result.cmc) == (
        expected.mAP,
        expected.mINP,
        expected.cmc,
    )


def test_the_top_of_a_ranking_worked_by_hand():
    # by rising angle: junk, own camera, wrong, right, distractor
    gallery_pids, gallery_camids = ids(0, 1, 2, 1, -1), ids(1, 1, 0, 0, 1)
    indices, matches = top_matches(
        at(0), at(50, 40, 30, 20, 10), ids(1), gallery_pids, ids(0), gallery_camids, top=4
    )
    assert indices.tolist() == [[2, 1, 0, -1]]
    assert matches.tolist() == [[False, True, False, False]]


def test_the_top_of_a_ranking_equals_the_sorted_gallery_with_ties(monkeypatch):
    query, gallery, query_pids, gallery_pids, query_camids, gallery_camids = arrays = case(
        11, 20, 50
    )
    monkeypatch.setattr(evaluation, "BLOCK_ENTRIES", 7 * 50)
    indices, matches = top_matches(*arrays, top=60)
    for i in range(20):
        expected = ranked_gallery(
            query[i] @ gallery.T, query_pids[i], query_camids[i], gallery_pids, gallery_camids
        )
        assert indices[i, : len(expected)].tolist() == expected
        assert (indices[i, len(expected) :] == -1).all() and not matches[
            i, len(expected) :
        ].any()
        np.testing.assert_array_equal(
            matches[i, : len(expected)], gallery_pids[expected] == query_pids[i]
        )


def test_one_camera_only_is_told_apart_from_identities_that_are_not_there():
    with pytest.raises(KitError, match="taken by its own camera"):
        evaluate_ranking(at(0, 5), at(10, 20), ids(1, 2), ids(1, 2), ids(0, 0), ids(0, 0))
    with pytest.raises(KitError, match="no query's identity is in the gallery"):
        evaluate_ranking(at(0, 5), at(10, 20), ids(1, 2), ids(3, -1), ids(0, 0), ids(1, 1))


@pytest.mark.parametrize(
    "change, message",
    [
        ({0: at(0) * np.nan}, "query_features must be finite"),
        ({1: at(10, 20) * 2}, "gallery_features must be finite with rows of norm 1"),
        ({1: np.eye(3, dtype=np.float32)[:2]}, "2 columns but gallery_features 3"),
        ({2: ids(1, 1)}, "query_pids must be 1 integers"),
        ({3: ids(1)}, "gallery_pids must be 2 integers"),
        ({4: np.array([0.5])}, "query_camids must be 1 integers"),
        ({5: np.array([[1, 1]])}, "gallery_camids must be 2 integers"),
        ({0: at()}, "query_features must be numbers of shape"),
    ],
)
def test_input_that_does_not_fit_together_is_refused_in_a_sentence(change, message):
    arrays = (
        dict(enumerate([at(0), at(10, 20), ids(1), ids(1, 2), ids(0), ids(1, 1)])) | change
    )
    with pytest.raises(KitError, match=message):
        evaluate_ranking(*arrays.values())


def test_ranks_start_at_one():
    arrays = at(0), at(10, 20), ids(1), ids(1, 2), ids(0), ids(1, 1)
    with pytest.raises(KitError, match="ranks start at 1"):
        evaluate_ranking(*arrays, topk=(0, 5))
    with pytest.raises(KitError, match="at least one rank"):
        evaluate_ranking(*arrays, topk=())
    with pytest.raises(KitError, match="top=0"):
        top_matches(*arrays, top=0)


def test_the_result_is_frozen():
    result = evaluate_ranking(at(0), at(10), ids(1), ids(1), ids(0), ids(1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.mAP = 0.0


def test_a_distractor_of_pid_0_is_wrong_and_never_junk():
    query = np.array([1.0, 0.0])
    gallery = np.array([[1.0, 0.0], [0.8, 0.6]])
    _, kinds = evaluation.ranked_gallery(
        query, gallery, 3, np.array([0, -1]), 1, np.array([1, 2])
    )
    assert kinds.tolist() == ["wrong", "junk"]
