from __future__ import annotations

import numpy as np
import pytest
from reference.reranking import naive_reranking

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.evaluation import Reranking, search


def at(*degrees: float) -> np.ndarray:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_the_nearest_come_first_and_what_is_not_believed_is_left_out():
    gallery = at(50, 10, 80, 10, 170)
    found = search(at(0, 175), gallery, top=4)
    assert found.indices.tolist() == [[1, 3, 0, 2], [4, 2, 0, 1]]
    np.testing.assert_allclose(found.similarities[0], np.cos(np.deg2rad([10, 10, 50, 80])))
    assert found.distances is None and not found.nobody.any()
    found = search(at(0, 260), gallery, top=4, threshold=0.6)
    assert found.indices.tolist() == [[1, 3, 0, -1], [-1, -1, -1, -1]]
    assert np.isnan(found.similarities[0, 3])
    assert found.nobody.tolist() == [False, True]
    np.testing.assert_allclose(found.best[1], np.cos(np.deg2rad(90)), atol=1e-6)


def test_a_query_is_no_answer_to_itself():
    gallery = at(0, 20, 40, 0)
    files = np.array([7, 5]), np.array([7, 4, 5, 7])  # two names of one file
    found = search(gallery[[0, 2]], gallery, top=3, files=files)
    assert found.indices.tolist() == [[1, 2, -1], [1, 0, 3]]
    assert found.best[0] < 0.95
    alone = search(gallery[:1], gallery[:1], files=(np.array([0]), np.array([0])))
    assert alone.nobody.all()


def test_re_ranked_answers_keep_the_plain_similarity_for_the_threshold():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((70, 6)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    query, gallery = features[:6], features[6:]
    distances = naive_reranking(query, gallery)
    plain = query @ gallery.T
    found = search(query, gallery, top=5, rerank=Reranking())
    assert found.indices.tolist() == np.argsort(distances, axis=1)[:, :5].tolist()
    np.testing.assert_allclose(found.distances, np.sort(distances, axis=1)[:, :5], atol=1e-5)
    found = search(query, gallery, top=64, threshold=0.4, rerank=Reranking())
    for row in range(6):
        listed = found.indices[row][found.indices[row] >= 0]
        assert sorted(listed) == np.flatnonzero(plain[row] >= 0.4).tolist()
        assert (np.diff(distances[row, listed]) >= 0).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [({"top": 0}, "at least 1"), ({"threshold": 1.1}, "from -1 to 1")],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(KitError, match=words):
        search(at(0), at(0, 1), **options)
