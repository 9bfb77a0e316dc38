"""Maps of a k-NN graph: what UMAP keeps, and how maps are aligned."""

from __future__ import annotations

import numpy as np
import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.neighbors import align, knn_graph, next_layout, umap_layout

XY = np.random.default_rng(0).normal(size=(30, 2)) * (3, 1)


def blobs(per: int = 20) -> np.ndarray:
    """(3 per, 8) rows of norm 1 around three directions."""
    noise = np.random.default_rng(1).normal(size=(3 * per, 8))
    features = np.repeat(np.eye(3, 8), per, axis=0) + 0.15 * noise
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def test_umap_keeps_neighbourhoods_and_is_the_same_for_a_seed():
    from sklearn.manifold import trustworthiness

    graph = knn_graph(blobs(), 12)
    layout = umap_layout(graph, n_neighbors=10)
    assert layout.shape == (60, 2)
    assert trustworthiness(graph.features, layout, n_neighbors=5) > 0.8
    np.testing.assert_array_equal(layout, umap_layout(graph, n_neighbors=10))


def test_a_map_goes_on_from_the_last_one_and_keeps_its_neighbours():
    from sklearn.manifold import trustworthiness

    graph = knn_graph(blobs(), 12)
    last = umap_layout(graph)
    moved = next_layout(graph, last)
    step = np.linalg.norm(moved - last, axis=1).mean()
    spread = np.linalg.norm(last - last.mean(axis=0), axis=1).mean()
    # another start would end up anywhere; by how much it moves, processors differ
    assert step < 0.8 * spread
    assert trustworthiness(graph.features, moved, n_neighbors=8) > 0.85


def test_a_handful_of_points_needs_no_umap_and_a_wrong_start_is_refused():
    start = np.arange(6.0).reshape(3, 2)
    graph = knn_graph(np.eye(3), 2)
    assert umap_layout(graph).shape == (3, 2)
    np.testing.assert_array_equal(umap_layout(graph, init=start), start)
    with pytest.raises(KitError, match=r"expected \(3, 2\)"):
        umap_layout(graph, init=start[:2])


def test_aligning_undoes_any_turn_mirroring_shift_and_scale():
    turn = np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]]) @ np.diag([1, -1])
    np.testing.assert_allclose(align(0.3 * XY @ turn + 5, XY), XY, atol=1e-5)


def test_aligning_another_map_keeps_the_spread_and_does_not_shrink():
    other = np.random.default_rng(1).normal(size=(30, 2))
    found = align(other, XY)
    assert np.isclose(np.linalg.norm(found - found.mean(0)), np.linalg.norm(XY - XY.mean(0)))
    np.testing.assert_allclose(found.mean(0), XY.mean(0), atol=1e-6)
    with pytest.raises(KitError, match="same pictures"):
        align(other[:5], XY)
