"""Notebook 06's helpers, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dkdmpl_kit.lessons.rankings import maps_of, middle_shares, own_camera_share
from dkdmpl_kit.neighbors import knn_graph


def test_the_own_camera_counts_among_wrong_pictures_alone():
    near = np.array([[0, 1, 2], [2, 0, -1]])  # the second list runs out
    right = np.array([[True, False, False], [False, False, False]])
    gallery = np.array([0, 0, 1])
    # query 0 under camera 0: of 1 and 2 the first; query 1 under camera 1: of 2 and 0 the first
    assert own_camera_share((near, right), np.array([0, 1]), gallery) == 0.5
    assert (
        own_camera_share((near, right), np.array([0, -1]), gallery) == 0.5
    )  # unknown camera
    assert own_camera_share((near, np.ones((2, 3), bool)), np.array([0, 1]), gallery) is None


def test_the_middle_half_of_a_map_holds_half_of_an_even_one_and_nothing_of_a_negative_one():
    even, edge = np.ones((4, 8)), np.zeros((4, 8))
    edge[:, 0] = 3.0
    found = middle_shares(
        {"even": (even, even), "both": (even, edge), "none": (-even, -even)}
    )
    assert found == {"even": 0.5, "both": pytest.approx(16 / 44), "none": None}


def test_maps_of_a_few_groups_have_a_row_a_graph():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 40, 4))
    features /= np.linalg.norm(features, axis=2, keepdims=True)
    groups = np.arange(40) % 10
    graphs = [knn_graph(x.astype(np.float32), 5) for x in features]
    figure = maps_of(graphs, groups, None, names=["a", "b"], what="people")
    heads = [ax.get_title("left") for ax in figure.axes]
    assert heads == ["7 of 10 people, drawn at random", "camera"] * 2
    assert [figure.axes[k].get_ylabel() for k in (0, 2)] == ["a", "b"]
