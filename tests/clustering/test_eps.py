"""The sweep, its rule and its warning."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from dkdmpl_kit.clustering import jaccard_distances, pseudo_labels, require_clusters
from dkdmpl_kit.clustering.eps import (
    auto_labels,
    largest_share,
    percolation_warning,
    smoothed,
    sweep_eps,
)
from dkdmpl_kit.errors import KitError


def ladder():
    """Ten pairs of pictures whose two are 0.3 to 0.75 apart, all pairs 0.78 from the next."""
    n = 20
    dense = np.full((n, n), np.inf)
    np.fill_diagonal(dense, 0.0)
    for pair in range(10):
        a, b = 2 * pair, 2 * pair + 1
        dense[a, b] = dense[b, a] = 0.3 + 0.05 * pair
        if pair:
            dense[a, a - 1] = dense[a - 1, a] = 0.78
    rows, columns = np.nonzero(np.isfinite(dense))
    return csr_array((dense[rows, columns], (rows, columns)), shape=(n, n))


def test_the_chosen_eps_is_where_clusters_are_most_and_each_row_is_that_of_dbscan():
    distances = ladder()
    values = np.array([0.32, 0.42, 0.52, 0.62, 0.72, 0.76, 0.79])
    sweep = sweep_eps(distances, min_samples=2, values=values)
    assert sweep.n_clusters.tolist() == [1, 3, 5, 7, 9, 10, 1]  # by hand: pairs within eps
    assert sweep.chosen == 0.72  # (7 + 9 + 10) / 3 is the largest mean of three
    for row, eps in enumerate(values):
        found = pseudo_labels(distances, eps=eps, min_samples=2)
        assert sweep.outlier_fraction[row] == found.outlier_fraction
        assert sweep.largest_share[row] == largest_share(found.labels)
    assert (sweep.labels == pseudo_labels(distances, eps=0.72, min_samples=2).labels).all()
    assert sweep.largest_share[-1] == 1.0  # all grown together


def test_one_lucky_value_does_not_win_and_of_equal_ones_the_smallest_does():
    assert smoothed(np.array([3, 3, 9, 3])).tolist() == [3, 5, 5, 5]
    assert np.argmax(smoothed(np.array([4, 7, 8, 7, 4]))) == 2


def test_auto_labels_are_those_of_the_chosen_eps():
    draws = np.random.default_rng(0)
    centres = np.repeat(draws.normal(size=(12, 16)), 10, axis=0)
    features = (centres + 0.35 * draws.normal(size=(120, 16))).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    distances = jaccard_distances(features, k1=12, k2=3, max_distance=0.9)
    pseudo = auto_labels(distances)
    sweep = sweep_eps(distances)
    assert pseudo.eps == sweep.chosen and (pseudo.labels == sweep.labels).all()
    assert 10 <= pseudo.n_clusters <= 14
    assert percolation_warning(pseudo.labels, pseudo.eps) is None
    assert pseudo.sweep == sweep.record()
    assert (
        pseudo.sweep["n_clusters"][list(sweep.eps).index(sweep.chosen)] == pseudo.n_clusters
    )


def test_a_cluster_that_swallows_the_others_is_told():
    grown = np.r_[np.zeros(50, int), np.arange(1, 51).repeat(3)]
    assert largest_share(grown) == 0.25
    assert "25%" in percolation_warning(grown, 0.6)
    assert percolation_warning(np.arange(3).repeat(30), 0.6) is None  # few, and equal
    assert (
        percolation_warning(np.full(5, -1), 0.6) is None and largest_share(grown * 0 - 1) == 0
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "at least one"),
        ([0.5, 0.4], "rising"),
        ([-0.1, 0.4], "positive"),
    ],
)
def test_values_that_cannot_be_swept_are_one_sentence(values, message):
    with pytest.raises(KitError, match=message):
        sweep_eps(ladder(), values=values)


def test_distances_without_two_clusters_are_one_sentence():
    alone = csr_array(([0.0] * 6, (range(6), range(6))), shape=(6, 6))
    pseudo = auto_labels(alone, min_samples=4)
    assert pseudo.n_clusters == 0 and pseudo.outlier_fraction == 1
    with pytest.raises(KitError, match="No eps from 0.1 to 0.8 gives 2 clusters"):
        require_clusters(pseudo)
