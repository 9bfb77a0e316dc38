"""The sweep of eps, the marks of errors, and the slider of notebook 02."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import csr_array

from dkdmpl_kit.lessons.clusters import eps_lab, eps_table, error_marks, explorer

# two pairs, 0.2 and 0.3 apart within, and 0.6 between
DISTANCES = np.full((4, 4), 0.6)
DISTANCES[:2, :2], DISTANCES[2:, 2:] = 0.2, 0.3
np.fill_diagonal(DISTANCES, 0)
DISTANCES = csr_array(DISTANCES.astype(np.float32))
DISTANCES.indices = DISTANCES.indices.astype(np.int32)
PIDS = np.array([1, 1, 2, 2])


def test_right_labels_count_outliers_as_not_right_where_the_ari_leaves_them_out():
    table = eps_table(DISTANCES, [0.1, 0.25, 0.4, 0.7], 2, PIDS)
    assert table["clusters"].tolist() == [0, 1, 2, 1]
    assert table["outliers"].tolist() == [1.0, 0.5, 0.0, 0.0]
    assert np.isnan(table["ari"][0])
    assert table["ari"][1:].tolist() == [1.0, 1.0, 0.0]
    assert table["right"].tolist() == [0.0, 0.5, 1.0, 0.5]
    assert np.isnan(eps_table(DISTANCES, [0.4], 2, -PIDS)["ari"]).all()


def test_marks_are_read_off_the_renderers_record_of_people_only():
    front = {"pic_view": "back", "pic_occluder": "bin", "id_lookalike_of": None}
    alike = {"pic_view": "front", "pic_occluder": "none", "id_lookalike_of": 3}
    marks = error_marks([front, alike])
    assert [holds.tolist() for holds in marks.values()] == [[True, False]] * 2 + [
        [False, True]
    ]
    assert error_marks(None) == {} == error_marks([{"id_paint_rgb": (0, 0, 0)}])


def test_the_slider_says_how_the_clustering_changes():
    pytest.importorskip("ipywidgets")
    stage = SimpleNamespace(
        pids=PIDS,
        has_truth=True,
        config=SimpleNamespace(max_distance=0.8, min_samples=2),
        pictures=lambda: SimpleNamespace(pixels=np.zeros((4, 3, 16, 8), np.uint8)),
    )
    control = eps_lab(stage, np.eye(4, dtype=np.float32), DISTANCES, 0.4)
    assert "clusters 2" in str([getattr(child, "value", "") for child in control.children])


def test_the_explorer_clusters_with_the_stages_settings(tmp_path):
    pytest.importorskip("ipywidgets")
    pytest.importorskip("jscatter")
    stage = SimpleNamespace(
        pids=PIDS,
        camids=np.array([0, 0, 1, 1]),
        has_truth=True,
        has_cameras=True,
        out_dir=tmp_path,
        pictures=lambda: None,
        config=SimpleNamespace(
            centre_cameras=True, min_samples=2, k1=2, k2=1, max_distance=0.8
        ),
        dataset=SimpleNamespace(
            train=[SimpleNamespace(path=f"{i}.png") for i in range(4)], relative=str
        ),
    )
    features = np.array([[1, 0], [0.8, 0.6], [0, 1], [0.6, 0.8]], np.float32)
    live = explorer(stage, np.zeros((4, 2)), features, 0.5)
    live.check()
    assert len(live.labels) == 4
