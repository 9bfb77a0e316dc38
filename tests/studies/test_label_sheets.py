"""Contact sheets of a clustering: which pictures stand on which page."""

from __future__ import annotations

import numpy as np

from dkdmpl_kit.noise import label_table
from dkdmpl_kit.studies.label_sheets import COLUMNS, PAGES, ROWS, save_sheets, sheets


def clustering():
    """30 clusters of 3 to 32 pictures, a picture of the wrong cluster, 400 outliers."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(30), np.arange(3, 33))
    features = np.eye(30)[labels] + 0.1 * rng.normal(size=(len(labels), 30))
    features[0] = features[-1]  # of cluster 0, and looks like 29
    outliers = rng.normal(size=(400, 30))
    features = np.concatenate([features, outliers])
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return label_table(features, np.append(labels, np.full(400, -1)))


def test_the_pages_are_few_and_show_what_they_say():
    table = clustering()
    pages = {page.name: page for page in sheets(table)}
    assert list(pages) == ["largest-1", "largest-2", "suspect-1", "outliers-1", "outliers-2"]
    assert len(pages) <= 3 * PAGES
    assert all(len(page.rows) <= ROWS for page in pages.values())
    largest = [row["name"].split("\n")[0] for row in pages["largest-1"].rows]
    assert largest == [f"cluster {k}" for k in range(29, 21, -1)]
    row = pages["largest-1"].rows[0]["indices"]
    assert len(row) == COLUMNS and (np.diff(table.similarity[row]) <= 0).all()
    members = np.flatnonzero(table.cluster == 29)
    assert row[0] == members[np.argmax(table.similarity[members])]
    assert row[-1] == members[np.argmin(table.similarity[members])]
    (suspect,) = pages["suspect-1"].rows
    assert suspect["indices"][0] == 0 and suspect["name"].startswith("A: 0 (")
    assert "\nB: 29 (" in suspect["name"]
    assert suspect["marks"] == ["?", "A", "A", "B", "B", "B", "B"]
    outliers = np.concatenate([row["indices"] for row in pages["outliers-1"].rows])
    assert (table.cluster[outliers] == -1).all() and len(outliers) == ROWS * COLUMNS
    assert (np.diff(table.nearest_similarity[outliers]) <= 0).all()


def test_without_outliers_or_clusters_their_pages_are_left_out():
    features = np.eye(2, dtype=np.float32)
    assert [p.name for p in sheets(label_table(features, np.array([0, 1])))] == ["largest-1"]
    assert [p.name for p in sheets(label_table(features, np.array([-1, -1])))] == [
        "outliers-1"
    ]


def test_pages_are_written_and_older_ones_go(tmp_path):
    features = np.eye(2, dtype=np.float32)
    pages = sheets(label_table(features, np.array([0, 1])))
    (tmp_path / "suspect-1.png").write_text("of an earlier call")
    (tmp_path / "suspect-1.json").write_text("{}")
    asked = []

    def pictures(indices):
        asked.extend(int(i) for i in indices)
        return np.zeros((len(indices), 3, 8, 4), np.uint8)

    assert save_sheets(tmp_path, pages, pictures, {"eps": 0.5}) == [
        tmp_path / "largest-1.png"
    ]
    assert sorted(asked) == [0, 1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["largest-1.json", "largest-1.png"]
