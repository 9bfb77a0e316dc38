"""Distances by identity and camera, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.evaluation import distance_groups


def test_distances_are_split_by_identity_and_camera():
    distances = np.arange(9.0).reshape(3, 3)
    np.fill_diagonal(distances, np.nan)
    pids = np.array([1, 1, -1])
    camids = np.array([0, 1, 0])
    same_camera, two_cameras, strangers = distance_groups(
        distances, pids, pids, camids, camids
    )
    assert list(same_camera) == []
    assert list(two_cameras) == [1.0, 3.0]
    assert sorted(strangers) == [2.0, 5.0, 6.0, 7.0]
    with pytest.raises(KitError, match="do not fit"):
        distance_groups(distances, [1, 2], [1, 2], [0, 0], [0, 0])
