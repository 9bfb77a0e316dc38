from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.clustering import dense_dbscan
from scipy import sparse
from sklearn.cluster import DBSCAN, HDBSCAN, AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from dkdmpl_kit.clustering import (
    PseudoLabels,
    centre_by_camera,
    jaccard_distances,
    pseudo_labels,
    require_clusters,
)
from dkdmpl_kit.clustering.by_the_book import jaccard_by_the_book
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.neighbors import knn_graph


def clustered_rows(
    n: int = 150, groups: int = 10, d: int = 24, noise: float = 0.2, seed: int = 0
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((groups, d))[
        rng.integers(0, groups, n)
    ] + noise * rng.standard_normal((n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def stored(distances: sparse.csr_array) -> np.ndarray:
    """(N, N) with infinity where nothing is stored: `toarray` could not tell that from
    a distance of zero.
    """
    dense = np.full(distances.shape, np.inf)
    rows = np.repeat(np.arange(distances.shape[0]), np.diff(distances.indptr))
    dense[rows, distances.indices] = distances.data
    return dense


def check_against_reference(
    features: np.ndarray, k1: int, k2: int, max_distance: float
) -> None:
    sparse_version = stored(
        jaccard_distances(features, k1=k1, k2=k2, max_distance=max_distance)
    )
    dense_version = jaccard_by_the_book(features, k1, k2)
    kept = np.isfinite(sparse_version)
    np.testing.assert_allclose(sparse_version[kept], dense_version[kept], atol=2e-6)
    assert kept[dense_version <= max_distance - 1e-5].all()
    assert not kept[dense_version > max_distance + 1e-5].any()


def sklearn_partition(
    distances: sparse.csr_array, eps: float, min_samples: int
) -> np.ndarray:
    return (
        DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit(distances).labels_
    )


def renumbered(labels: np.ndarray) -> list[int]:
    """Labels numbered by first appearance."""
    seen: dict[int, int] = {-1: -1}
    return [seen.setdefault(int(label), len(seen) - 1) for label in labels]


def graph_of(pairs: dict[tuple[int, int], float], n: int) -> sparse.csr_array:
    rows, columns = zip(*pairs, strict=True)
    both = (
        np.array(list(pairs.values()) * 2, np.float32),
        (np.array(rows + columns), np.array(columns + rows)),
    )
    return sparse.csr_array(both, shape=(n, n))


HAND = np.array([[1, 0], [0.6, 0.8], [-1, 0]], np.float32)
# what rows 0 and 1 give each other: -(2 - 2 * 0.6) = -0.8
WEIGHT = np.exp(-0.8) / (1 + np.exp(-0.8))


def test_two_mutual_neighbours_and_a_stranger_worked_by_hand_without_query_expansion():
    distances = stored(jaccard_distances(HAND, k1=2, k2=1, max_distance=0.9))
    np.testing.assert_allclose(distances[0, 1], 1 - 2 * WEIGHT / (2 - 2 * WEIGHT), atol=1e-6)
    assert np.isinf(distances[0, 2]) and np.isinf(distances[1, 2])
    assert (np.diag(distances) == 0).all()


def test_two_mutual_neighbours_and_a_stranger_worked_by_hand_with_query_expansion():
    # row 2 takes half of row 1's encoding
    distances = stored(jaccard_distances(HAND, k1=2, k2=2, max_distance=0.9))
    np.testing.assert_allclose(
        distances, [[0, 0, 2 / 3], [0, 0, 2 / 3], [2 / 3, 2 / 3, 0]], atol=1e-6
    )


@pytest.mark.parametrize("k1, k2", [(30, 6), (20, 1), (7, 3), (10, 10), (3, 2), (1, 1)])
def test_distances_equal_the_dense_reference(k1, k2):
    check_against_reference(clustered_rows(), k1, k2, 0.8)


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(2, 40),
    groups=st.integers(1, 6),
    noise=st.sampled_from([0.0, 0.1, 0.5, 2.0]),
    k1=st.integers(1, 50),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_distances_equal_the_dense_reference_on_any_small_set_with_ties(
    n, groups, noise, k1, share, seed
):
    check_against_reference(
        clustered_rows(n, groups, 6, noise, seed), k1, 1 + int(share * (k1 - 1)), 0.9
    )


@pytest.mark.parametrize("noise", [0.2, 0.8])
def test_the_partition_equals_the_dense_reference_on_clean_and_noisy_features(noise):
    features = clustered_rows(200, 14, noise=noise)
    found = pseudo_labels(jaccard_distances(features, k1=15, k2=4), eps=0.6)
    expected = dense_dbscan(jaccard_by_the_book(features, 15, 4), 0.6, 4)
    assert found.labels.tolist() == renumbered(expected)
    assert found.n_clusters > 1


def test_identical_rows_are_at_distance_zero_and_stored():
    distances = jaccard_distances(np.tile(HAND[1], (12, 1)), k1=30, k2=6)
    assert distances.nnz == 144 and (distances.data == 0).all()
    assert pseudo_labels(distances).labels.tolist() == [0] * 12


def test_the_result_is_symmetric_sorted_float32_and_knows_its_reach():
    distances = jaccard_distances(clustered_rows(noise=0.6), max_distance=0.7)
    assert distances.dtype == np.float32 and distances.max_distance == 0.7
    dense = stored(distances)
    np.testing.assert_array_equal(dense, dense.T)
    assert 0 <= distances.data.min() and distances.data.max() <= np.float32(0.7)
    copy = sparse.csr_array(
        (distances.data, distances.indices, distances.indptr), shape=distances.shape
    )
    assert copy.has_canonical_format


def test_threads_and_a_graph_made_beforehand_and_torch_input_change_nothing():
    features, threads = clustered_rows(600, 40, noise=0.5), torch.get_num_threads()
    results = []
    try:
        for count, source in [
            (1, features),
            (2, torch.from_numpy(features)),
            (2, knn_graph(features, 40)),
        ]:
            torch.set_num_threads(count)
            distances = jaccard_distances(source)
            results.append(
                (
                    distances.data.tobytes(),
                    distances.indices.tobytes(),
                    distances.indptr.tobytes(),
                )
            )
    finally:
        torch.set_num_threads(threads)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("eps", [0.3, 0.5, 0.6, 0.8])
@pytest.mark.parametrize("min_samples", [1, 2, 4, 9])
def test_labels_equal_scikit_learns_for_every_eps_on_one_graph(eps, min_samples):
    distances = jaccard_distances(clustered_rows(300, 25, noise=0.7), k1=12, k2=3)
    expected = sklearn_partition(distances, eps, min_samples)
    found = pseudo_labels(distances, eps=eps, min_samples=min_samples)
    assert found.labels.tolist() == renumbered(expected)
    assert found.n_clusters == expected.max() + 1
    assert found.outlier_fraction == pytest.approx(np.mean(expected == -1))
    assert (found.method, found.eps, found.min_samples) == ("dbscan", eps, min_samples)


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 25),
    density=st.floats(0, 0.5),
    seed=st.integers(0, 10**6),
    min_samples=st.integers(1, 6),
)
def test_labels_equal_scikit_learns_on_any_symmetric_graph(n, density, seed, min_samples):
    rng = np.random.default_rng(seed)
    upper = np.triu(
        np.where(rng.random((n, n)) < density, rng.integers(1, 5, (n, n)) / 4, 0), 1
    )
    distances = sparse.csr_array(upper + upper.T)
    expected = sklearn_partition(distances, 0.5, min_samples)
    assert pseudo_labels(
        distances, eps=0.5, min_samples=min_samples
    ).labels.tolist() == renumbered(expected)


def test_a_border_image_between_two_clusters_joins_the_one_whose_first_core_comes_first():
    first, second = (2, 3, 4, 5), (6, 7, 8, 9)  # two cliques of cores
    pairs = {(i, j): 0.1 for group in (first, second) for i in group for j in group if i < j}
    # 0 borders on the second, 1 on both and is nearer to the second
    pairs |= {
        (0, 6): 0.2,
        (1, 9): 0.2,
        (1, 2): 0.4,
    }
    labels = pseudo_labels(graph_of(pairs, 10), eps=0.5, min_samples=4).labels
    # numbered by first appearance, border images included
    assert labels.tolist() == [
        0,
        1,
        1,
        1,
        1,
        1,
        0,
        0,
        0,
        0,
    ]
    assert labels.tolist() == renumbered(sklearn_partition(graph_of(pairs, 10), 0.5, 4))


def test_a_chain_of_cores_worked_by_hand():
    chain = graph_of({(0, 1): 0.5, (1, 2): 0.5, (2, 3): 0.5, (3, 4): 0.6, (5, 4): 0.1}, 7)
    assert pseudo_labels(chain, eps=0.5, min_samples=3).labels.tolist() == [
        0,
        0,
        0,
        0,
        -1,
        -1,
        -1,
    ]
    assert pseudo_labels(chain, eps=0.6, min_samples=3).labels.tolist() == [
        0,
        0,
        0,
        0,
        0,
        0,
        -1,
    ]
    assert pseudo_labels(chain, eps=0.5, min_samples=2).labels.tolist() == [
        0,
        0,
        0,
        0,
        1,
        1,
        -1,
    ]
    assert pseudo_labels(chain, eps=0.5, min_samples=1).labels.tolist() == [
        0,
        0,
        0,
        0,
        1,
        1,
        2,
    ]


@pytest.mark.parametrize("eps", [0.3, 0.5, 0.7])
def test_agglomerative_labels_are_scikit_learns_single_linkage_less_the_small_groups(eps):
    features = clustered_rows(120, 12, noise=0.7)
    distances = jaccard_distances(features, k1=8, k2=2)
    dense = np.where(np.isfinite(stored(distances)), stored(distances), 1.0)
    linkage = AgglomerativeClustering(
        None, metric="precomputed", linkage="single", distance_threshold=eps + 1e-7
    )
    expected = linkage.fit_predict(dense)
    expected[np.bincount(expected)[expected] < 3] = -1
    found = pseudo_labels(distances, method="agglomerative", eps=eps, min_samples=3)
    assert found.labels.tolist() == renumbered(expected) and found.method == "agglomerative"
    assert found.n_clusters == len(np.unique(expected[expected >= 0])) > 1


def test_a_chain_joins_by_single_linkage_where_dbscan_needs_cores():
    chain = graph_of({(0, 1): 0.5, (1, 2): 0.5, (3, 4): 0.0}, 6)
    assert pseudo_labels(
        chain, method="agglomerative", eps=0.5, min_samples=2
    ).labels.tolist() == [0, 0, 0, 1, 1, -1]
    assert pseudo_labels(
        chain, method="agglomerative", eps=0.5, min_samples=3
    ).labels.tolist() == [0, 0, 0, -1, -1, -1]
    assert pseudo_labels(
        chain, method="agglomerative", eps=0.4, min_samples=2
    ).labels.tolist() == [-1, -1, -1, 0, 0, -1]
    assert pseudo_labels(chain, eps=0.5, min_samples=4).n_clusters == 0


def test_hdbscan_finds_clusters_of_two_densities_that_no_single_eps_separates():
    pairs = {
        (i, j): 0.1
        for group in (range(0, 5), range(5, 10))
        for i in group
        for j in group
        if i < j
    }
    # two dense clusters, .3 apart
    pairs |= {(i, j): 0.3 for i in range(0, 5) for j in range(5, 10)}
    # and a loose one
    pairs |= {(i, j): 0.5 for i in range(10, 15) for j in range(10, 15) if i < j}
    graph = graph_of(pairs, 16)
    assert pseudo_labels(graph, method="hdbscan", min_samples=4).labels.tolist() == [
        0
    ] * 5 + [1] * 5 + [2] * 5 + [-1]
    assert all(
        pseudo_labels(graph, eps=eps, min_samples=4).n_clusters == 2 for eps in (0.2, 0.5)
    )


@pytest.mark.parametrize("n, groups, noise", [(200, 14, 0.2), (400, 30, 0.6)])
def test_hdbscan_on_the_sparse_graph_agrees_with_scikit_learns_on_the_dense_one(
    n, groups, noise
):
    distances = jaccard_distances(clustered_rows(n, groups, noise=noise), k1=12, k2=3)
    before = distances.data.tobytes(), distances.indices.tobytes()
    found = pseudo_labels(distances, method="hdbscan", min_samples=4)
    assert (distances.data.tobytes(), distances.indices.tobytes()) == before
    dense = np.where(np.isfinite(stored(distances)), stored(distances), 1.0)
    expected = HDBSCAN(
        min_cluster_size=4, min_samples=4, metric="precomputed", copy=True
    ).fit_predict(dense)
    core = (dense < 1).sum(
        axis=1
    ) >= 4  # the others are 1 from everything: where they go is a tie
    # equal distances leave some freedom
    assert adjusted_rand_score(expected[core], found.labels[core]) > 0.97
    assert (found.labels[~core] == -1).all() and found.n_clusters == expected.max() + 1


def test_hdbscan_of_identical_images_and_of_far_apart_ones():
    with pytest.raises(KitError, match="between 2 and the number of images, 3"):
        pseudo_labels(graph_of({(0, 1): 0.5}, 3), method="hdbscan", min_samples=1)
    alone = sparse.csr_array((6, 6), dtype=np.float32)
    assert pseudo_labels(alone, method="hdbscan", min_samples=2).n_clusters == 0
    two = jaccard_distances(np.repeat(HAND[[0, 2]], 8, axis=0), k1=8, k2=1)
    assert (
        pseudo_labels(two, method="hdbscan", min_samples=4).labels.tolist()
        == [0] * 8 + [1] * 8
    )


@pytest.mark.parametrize(
    "settings_, message",
    [
        ({"k2": 0}, "k2=0"),
        ({"k1": 5, "k2": 6}, "k1=5"),
        ({"k1": 0, "k2": 1}, "k1=0"),
        ({"max_distance": 1.0}, "max_distance"),
        ({"max_distance": 0.0}, "max_distance"),
        ({"k1": 31}, "build it with k=31"),
    ],
)
def test_settings_of_the_distance_that_make_no_sense_are_refused(settings_, message):
    with pytest.raises(KitError, match=message):
        jaccard_distances(knn_graph(clustered_rows(60), 30), **settings_)


def test_one_image_and_nan_cannot_be_clustered():
    with pytest.raises(KitError, match="at least 2"):
        jaccard_distances(HAND[:1])
    with pytest.raises(KitError, match="NaN"):
        jaccard_distances(HAND * np.nan)


def test_settings_of_the_clustering_that_make_no_sense_are_refused():
    distances = jaccard_distances(clustered_rows(60), max_distance=0.7)
    with pytest.raises(KitError, match="larger max_distance"):
        pseudo_labels(distances, eps=0.75)
    with pytest.raises(KitError, match="eps=0"):
        pseudo_labels(distances, eps=0)
    with pytest.raises(KitError, match="min_samples=0"):
        pseudo_labels(distances, min_samples=0)
    with pytest.raises(KitError, match="dbscan, hdbscan, agglomerative"):
        pseudo_labels(distances, method="kmeans")
    with pytest.raises(KitError, match="square sparse"):
        pseudo_labels(distances.toarray())


def test_too_few_clusters_are_reported_with_the_setting_to_turn():
    with pytest.raises(KitError, match="All 5 images are outliers: raise eps"):
        require_clusters(PseudoLabels(np.full(5, -1), 0, 1.0))
    with pytest.raises(KitError, match="80% of the images are outliers: raise eps"):
        require_clusters(PseudoLabels(np.array([0, -1, -1, -1, -1]), 1, 0.8))
    with pytest.raises(KitError, match="lower eps"):
        require_clusters(PseudoLabels(np.zeros(5, int), 1, 0.0))
    enough = PseudoLabels(np.array([0, 1, 1]), 2, 0.0)
    assert require_clusters(enough) is enough


def test_centring_by_camera_takes_each_cameras_mean_off_and_normalises_again():
    camids = np.array([0, 0, 1, 1])
    features = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.8, 0.6]], np.float32)
    half = np.sqrt(0.5)
    expected = [[half, -half], [-half, half], [-half, half], [half, -half]]
    np.testing.assert_allclose(centre_by_camera(features, camids), expected, atol=1e-6)
    assert isinstance(centre_by_camera(features, camids), np.ndarray)
    np.testing.assert_allclose(
        centre_by_camera(torch.from_numpy(features), camids).numpy(), expected, atol=1e-6
    )
    assert features[0].tolist() == [1, 0]


@pytest.mark.parametrize(
    "camids, message",
    [
        ([0, 0, -1], "1 images have no known camera"),
        ([0, 0, 1], "Camera 1"),
        ([0, 0], "camids has shape"),
    ],
)
def test_centring_needs_every_camera_known_and_more_than_one_picture_of_each(camids, message):
    with pytest.raises(KitError, match=message):
        centre_by_camera(HAND, np.array(camids))
