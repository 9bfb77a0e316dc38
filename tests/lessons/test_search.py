"""Queries and their gallery: the nearest, the middle query, and what is left out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from dkdmpl_kit.data import ReIDImage
from dkdmpl_kit.lessons.search import Search, first_search

GALLERY = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])


def search(query, query_pids, split="gallery", result=None) -> Search:
    n = len(query)
    pids, camids = np.array([1, 1, 2, 3]), np.array([0, 1, 0, 1])
    place = ("query" if split == "gallery" else split, split)
    given = (np.array(query), GALLERY, np.array(query_pids), np.zeros(n, int), pids, camids)
    return Search(*place, *given, result)


def test_the_nearest_come_best_first_with_what_the_protocol_leaves_out():
    near, same, junk = search([[1.0, 0.0]], [1]).nearest(0, 3)
    assert near.tolist() == [0, 1, 2]
    assert same.tolist() == [True, True, False]
    assert junk.tolist() == [True, False, False]


def test_where_the_person_is_unknown_nothing_is_right_or_left_out():
    _, same, junk = search([[1.0, 0.0]], [-1]).nearest(0)
    assert same is None
    assert not junk.any()


def test_a_training_picture_does_not_find_itself():
    assert search(GALLERY, [1, 1, 2, 3], "train").nearest(0)[0].tolist() == [1, 2, 3]


@pytest.mark.parametrize(("ap", "middle"), [([0.9, np.nan, 0.1, 0.5], 3), ([0.9, 0.1], 1)])
def test_the_typical_query_has_the_middle_average_precision(ap, middle):
    result = SimpleNamespace(average_precision=np.array(ap))
    assert search([[1.0, 0.0]], [1], result=result).typical() == middle
    assert search([[1.0, 0.0]], [1]).typical() == 0


def test_the_first_search_ranks_the_gallery_or_says_why_training_pictures_stand_in(capsys):
    images = [ReIDImage(f"{i}.png", i, i % 2) for i in (0, 1)]
    dataset = SimpleNamespace(query=images[:1], gallery=[ReIDImage("g.png", 0, 1), images[1]])
    stage = SimpleNamespace(
        has_test=True,
        dataset=dataset,
        pids=np.array([5, 5]),
        camids=np.array([0, 1]),
        features=lambda split="train": np.eye(2)[:1] if split == "query" else np.eye(2),
    )
    found = first_search(stage)
    assert found.gallery_split == "gallery"
    assert found.result.cmc[1] == 1.0
    assert not capsys.readouterr().out
    dataset.gallery = images  # nobody to find: the only picture is the query's own
    assert first_search(stage).result is None
    stage.has_test = False
    found = first_search(stage)
    assert (found.query_split, found.gallery_pids.tolist()) == ("train", [5, 5])
    assert capsys.readouterr().out.count("one training picture searches") == 2
