from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.clustering import camera_jaccard_by_loops
from scipy import sparse

from dkdmpl_kit.clustering import (
    camera_jaccard_distances,
    camera_neighbourhoods,
    jaccard_distances,
    pseudo_labels,
)
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import Config
from dkdmpl_kit.noise import cluster_agreement
from dkdmpl_kit.training import cluster_epoch


def people_seen(
    n: int = 180, people: int = 15, cameras: int = 3, noise: float = 0.3, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(features, pids, camids): `shift` is what a camera adds to all of its pictures."""
    rng = np.random.default_rng(n + cameras)
    pids = rng.integers(0, people, n)
    camids = np.arange(n) % cameras
    rows = (
        rng.standard_normal((people, 24))[pids]
        + shift * rng.standard_normal((cameras, 24))[camids]
        + noise * rng.standard_normal((n, 24))
    )
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32), pids, camids


def stored(distances: sparse.csr_array) -> np.ndarray:
    """(N, N) with infinity where nothing is stored."""
    dense = np.full(distances.shape, np.inf)
    rows = np.repeat(np.arange(distances.shape[0]), np.diff(distances.indptr))
    dense[rows, distances.indices] = distances.data
    return dense


def check_against_loops(features: np.ndarray, camids: np.ndarray, **lengths: int) -> None:
    found = stored(camera_jaccard_distances(features, camids, **lengths, max_distance=0.9))
    expected = camera_jaccard_by_loops(features, camids, **lengths)
    kept = np.isfinite(found)
    np.testing.assert_allclose(found[kept], expected[kept], atol=1e-6)
    assert kept[expected <= 0.9 - 1e-6].all()
    assert not kept[expected > 0.9 + 1e-6].any()


def test_two_people_by_two_cameras_worked_by_hand():
    # pictures 0, 1 are of camera 0 and 2, 3 of camera 1; 0 and 2 are one person, 1 and 3
    # the other; 0.6 between the cameras, 0.8 within each
    s = {(0, 2): 0.6, (1, 3): 0.6, (0, 1): 0.8, (2, 3): 0.8, (0, 3): 0.0, (1, 2): 0.0}
    gram = np.eye(4)
    for (i, j), value in s.items():
        gram[i, j] = gram[j, i] = value * 0.5
    features = np.linalg.cholesky(gram).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    V = camera_neighbourhoods(
        features, [0, 0, 1, 1], k1_intra=1, k1_inter=1, k2_intra=1, k2_inter=0
    ).toarray()
    # all list each other back: itself 1, own camera exp(-1.2), the person across exp(-1.4),
    # the stranger across exp(-2)
    raw = np.array([1, np.exp(-1.2), np.exp(-1.4), np.exp(-2)])
    np.testing.assert_allclose(V[0], raw / raw.sum(), atol=1e-6)
    # and with the first of each list averaged, 0's own and the person's of camera 1
    W = camera_neighbourhoods(
        features, [0, 0, 1, 1], k1_intra=1, k1_inter=1, k2_intra=1, k2_inter=1
    ).toarray()
    np.testing.assert_allclose(W[0], (V[0] + V[2]) / 2, atol=1e-6)


def test_a_stranger_of_the_same_camera_that_does_not_list_back_is_no_neighbour():
    # camera 0: 0 and 1 are a pair, 2 stands apart; camera 1: 3 is near to 0 and 1
    features = np.array([[1, 0], [0.96, 0.28], [0, 1], [0.8, -0.6]], np.float32)
    V = camera_neighbourhoods(
        features, [0, 0, 0, 1], k1_intra=1, k1_inter=1, k2_intra=1, k2_inter=0
    ).toarray()
    assert np.flatnonzero(V[0]).tolist() == [0, 1, 3]
    # 2 lists 1, which lists 0; 3 lists 0 and 1, and 2 lists 3 in vain
    assert np.flatnonzero(V[2]).tolist() == [2] and V[2, 2] == 1
    assert np.flatnonzero(V[3]).tolist() == [0, 1, 3]


@pytest.mark.parametrize("noise", [0.1, 0.6, 2.0])
def test_distances_with_the_published_lengths_equal_the_loops(noise):
    features, _, camids = people_seen(noise=noise)
    check_against_loops(features, camids)


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(2, 40),
    cameras=st.integers(2, 5),
    noise=st.sampled_from([0.0, 0.5, 2.0]),
    k1_intra=st.integers(1, 6),
    k1_inter=st.integers(1, 25),
    share=st.floats(0, 1),
)
def test_distances_equal_the_loops_on_any_small_set_with_ties_and_lone_cameras(
    n, cameras, noise, k1_intra, k1_inter, share
):
    features, _, camids = people_seen(n, 1 + n // 8, cameras, noise)
    check_against_loops(
        features,
        camids,
        k1_intra=k1_intra,
        k1_inter=k1_inter,
        k2_intra=1 + int(share * k1_intra),
        k2_inter=int(share * (k1_inter + 1)),
    )


def test_neighbourhoods_are_rows_that_sum_to_one():
    features, _, camids = people_seen()
    V = camera_neighbourhoods(features, camids)
    assert V.dtype == np.float32 and V.has_sorted_indices
    np.testing.assert_allclose(V.sum(axis=1), 1, atol=1e-6)


def test_names_of_cameras_do_not_matter_and_neither_does_the_order_of_pictures():
    features, _, camids = people_seen()
    plain = stored(camera_jaccard_distances(features, camids))
    renamed = stored(camera_jaccard_distances(features, 7 * camids + 3))
    np.testing.assert_array_equal(plain, renamed)
    order = np.random.default_rng(5).permutation(len(features))
    moved = stored(camera_jaccard_distances(features[order], camids[order]))
    np.testing.assert_allclose(moved, plain[np.ix_(order, order)], atol=1e-6)


def test_people_of_cameras_that_differ_are_found_better_than_by_the_plain_distance():
    features, pids, camids = people_seen(240, 20, 3, noise=0.35, shift=0.8)

    def ari(distances: sparse.csr_array) -> float:
        return cluster_agreement(pseudo_labels(distances, eps=0.5).labels, pids).ari

    plain = ari(jaccard_distances(features, k1=20, k2=6))
    aware = ari(camera_jaccard_distances(features, camids, k1_intra=4, k1_inter=10))
    assert aware > plain + 0.1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"camids": np.full(180, 2)}, "at least two cameras, and all pictures are of one"),
        ({"camids": np.full(180, -1)}, "needs every camera, and 180 are unknown"),
        ({"camids": np.zeros(3, int)}, "camids has shape"),
        ({"k1_intra": 0}, "k1_intra=0 must be at least 1"),
        ({"k2_intra": 7}, "k2_intra=7 must be at least 1 and at most 6"),
        ({"k2_inter": 22}, "k2_inter=22 must be at least 0 and at most 21"),
        ({"max_distance": 1.0}, "max_distance"),
    ],
)
def test_bad_input_is_one_sentence(change, sentence):
    features, _, camids = people_seen()
    with pytest.raises(KitError, match=sentence):
        camera_jaccard_distances(**{"features": features, "camids": camids} | change)


# --- in a run ---


def test_an_epoch_clusters_by_the_configured_distance():
    features, _, camids = people_seen(240, 20, 3, noise=0.35, shift=0.8)
    config = Config(distance="camera_jaccard", k1_intra=4, k1_inter=10, eps=0.5)
    distances = camera_jaccard_distances(features, camids, k1_intra=4, k1_inter=10)
    expected = pseudo_labels(distances, eps=0.5).labels
    assert cluster_epoch(config, features, camids).labels.tolist() == expected.tolist()
    plain = cluster_epoch(config.replace(distance="jaccard"), features, camids)
    assert plain.labels.tolist() != expected.tolist()


def test_the_teacher_of_neighbourhoods_takes_the_camera_aware_ones():
    features, _, camids = people_seen()
    config = Config(distance="camera_jaccard", gkd_teacher="neighbourhood", eps=0.5)
    aware = cluster_epoch(config, features, camids)
    assert aware.n_clusters > 1
    np.testing.assert_allclose(aware.soft.sum(axis=1), 1, atol=1e-5)


def test_a_training_without_cameras_is_refused_before_a_folder_is_made(
    tiny_config, tiny_dataset, tmp_path
):
    import dataclasses

    from dkdmpl_kit.training import fit

    config = tiny_config.replace(
        distance="camera_jaccard", sampler="random", out_dir=str(tmp_path)
    )
    blind = dataclasses.replace(
        tiny_dataset,
        train=tuple(dataclasses.replace(image, camid=-1) for image in tiny_dataset.train),
    )
    with pytest.raises(KitError, match="needs every camera"):
        fit(config, blind, progress=False)
    assert not list(tmp_path.iterdir())
