from __future__ import annotations

import numpy as np
import pytest
import torch
from reference.evaluation import brute_force_ranking
from reference.reranking import naive_reranking

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.evaluation import Reranking, evaluate_ranking, reranked_distances
from dkdmpl_kit.evaluation import reranking as module


def people(n_queries: int, n_gallery: int, seed: int, n_people: int = 8, dim: int = 12):
    """Features around a few centres, and their pids."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n_people, dim))
    pids = rng.integers(0, n_people, n_queries + n_gallery)
    features = centres[pids] + 0.6 * rng.standard_normal((len(pids), dim))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return np.split(features.astype(np.float32), [n_queries]), np.split(pids, [n_queries])


PAPER = Reranking()


def dense(query, gallery, settings=PAPER) -> np.ndarray:
    return np.concatenate([d for _, d in reranked_distances(query, gallery, settings)])


@pytest.mark.parametrize(
    ("sizes", "settings"),
    [
        ((9, 60), (20, 6, 0.3)),
        ((20, 90), (20, 6, 0.3)),
        ((9, 60), (21, 6, 0.3)),  # round(10.5) is 10: the published rounding
        ((9, 60), (7, 1, 0.3)),
        ((9, 60), (5, 3, 0.0)),
        ((9, 60), (5, 3, 1.0)),
        ((3, 8), (20, 6, 0.3)),  # fewer pictures than neighbours
        ((1, 30), (6, 3, 0.3)),
    ],
)
def test_equals_the_published_algorithm(sizes, settings):
    for seed in range(3):
        (query, gallery), _ = people(*sizes, seed)
        expected = naive_reranking(query, gallery, *settings)
        found = dense(query, gallery, Reranking(*settings))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_blocks_of_queries_and_of_rows_do_not_change_it(monkeypatch):
    (query, gallery), _ = people(20, 70, 0)
    whole = dense(query, gallery)
    monkeypatch.setattr(module, "BLOCK_ENTRIES", 3 * 70)
    monkeypatch.setattr(module, "BLOCK_ROWS", 13)
    starts = [start for start, _ in reranked_distances(query, gallery)]
    assert starts == list(range(0, 20, 3))
    np.testing.assert_allclose(dense(query, gallery), whole, atol=1e-6)


def test_strangers_keep_their_order_below_those_who_share_neighbours():
    """Jaccard = 1 for all who share nothing: only candidates near the top can change."""
    (query, gallery), _ = people(4, 200, 1, n_people=25)
    found = dense(query, gallery, Reranking(k1=5, k2=2))
    original = dense(query, gallery, Reranking(k1=5, k2=2, original_weight=1.0))
    strangers = np.isclose(found, 0.7 + 0.3 * original, atol=1e-6)
    assert 0.5 < strangers.mean() < 1
    for row, plain, far in zip(found, original, strangers):
        assert (np.diff(row[far][np.argsort(plain[far])]) >= -1e-6).all()


def test_it_ranks_better_where_neighbourhoods_tell_people_apart():
    (query, gallery), (query_pids, gallery_pids) = people(40, 400, 2, n_people=12)
    cameras = np.full(40, -1), np.full(400, -1)
    plain = evaluate_ranking(query, gallery, query_pids, gallery_pids, *cameras)
    better = evaluate_ranking(
        query, gallery, query_pids, gallery_pids, *cameras, rerank=Reranking()
    )
    assert better.mAP > plain.mAP + 0.02


def test_the_scores_are_those_of_the_distances_without_junk():
    (query, gallery), (query_pids, gallery_pids) = people(12, 80, 3)
    rng = np.random.default_rng(0)
    query_camids, gallery_camids = rng.integers(0, 3, 12), rng.integers(0, 3, 80)
    gallery_pids[::7] = -1
    kept = gallery_pids >= 0
    distances = naive_reranking(query, gallery[kept])
    expected = brute_force_ranking(
        -distances,
        np.eye(kept.sum()),
        query_pids,
        gallery_pids[kept],
        query_camids,
        gallery_camids[kept],
    )
    found = evaluate_ranking(
        query,
        gallery,
        query_pids,
        gallery_pids,
        query_camids,
        gallery_camids,
        rerank=Reranking(),
    )
    assert found.mAP == pytest.approx(expected["mAP"], abs=1e-9)
    assert found.cmc == pytest.approx(expected["cmc"])


def test_pictures_that_are_all_the_same_have_one_distance():
    same = np.tile(np.float32([0.6, 0.8]), (30, 1))
    assert np.ptp(dense(same[:2], same[2:], Reranking(k1=40))) < 1e-6


def test_torch_and_numpy_features_are_one():
    (query, gallery), _ = people(5, 40, 4)
    tensors = torch.from_numpy(query), torch.from_numpy(gallery)
    np.testing.assert_array_equal(dense(query, gallery), dense(*tensors))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"k1": 5, "k2": 7}, "k2=7 must lie between 1 and k1"),
        ({"k2": 0}, "k2=0"),
        ({"original_weight": 1.5}, "original_weight=1.5"),
        ({"original_weight": float("nan")}, "original_weight=nan"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(KitError, match=words):
        Reranking(**settings)


def test_features_that_do_not_fit_are_refused():
    (query, gallery), _ = people(5, 40, 4)
    with pytest.raises(KitError, match="12 columns but gallery_features 11"):
        dense(query, gallery[:, :11] / np.linalg.norm(gallery[:, :11], axis=1)[:, None])
    with pytest.raises(KitError, match="rows of norm 1"):
        dense(query, 2 * gallery)
