"""Labels in files: the columns, what a spreadsheet makes of them, and the way back."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise import label_table
from dkdmpl_kit.training.label_files import COLUMNS, check_ending, read_labels, save_labels

NAMES = ["a/1.jpg", "=1+1.png", "-2_c1.jpg", 'with, "both".jpg', "out.jpg"]
FEATURES = np.array([[1, 0], [1, 0], [0, 1], [0.28, 0.96], [0, 1]], np.float32)
LABELS = np.array([0, 0, 1, 0, -1])
CAMERAS = ["1", "", "2", "12", "2"]


def save(path, names=NAMES, cameras=CAMERAS):
    return save_labels(path, label_table(FEATURES, LABELS), names, cameras, {"eps": 0.5})


def test_a_csv_has_the_columns_and_no_cell_that_is_a_formula(tmp_path):
    path = save(tmp_path / "labels.csv", cameras=[*CAMERAS[:4], "=cmd"])
    rows = list(csv.DictReader(path.open(newline="")))
    assert list(rows[0]) == list(COLUMNS)
    cells = [cell for row in rows for cell in (row["path"], row["camera"])]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@")]
    first, outlier = rows[0], rows[4]
    assert (first["cluster"], first["camera"], first["suspect"]) == ("0", "1", "false")
    assert rows[3]["suspect"] == "true" and rows[3]["nearest_cluster"] == "1"
    assert float(rows[3]["quality"]) < 0
    assert outlier["cluster"] == "-1" and outlier["similarity"] == outlier["quality"] == ""
    assert outlier["nearest_cluster"] == "1" and float(outlier["nearest_similarity"]) == 1


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_way_back(tmp_path, ending):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    path = save(tmp_path / f"labels.{ending}")
    assert read_labels(path) == dict(zip(NAMES, LABELS.tolist()))


def test_a_parquet_has_the_same_columns_and_the_record(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(save(tmp_path / "labels.parquet"))
    assert table.column_names == list(COLUMNS)
    assert json.loads(table.schema.metadata[b"dkdmpl"]) == {"eps": 0.5}
    assert table["camera"].to_pylist() == [1, None, 2, 12, 2]
    assert table["quality"].to_pylist()[4] is None
    text = pq.read_table(save(tmp_path / "t.parquet", cameras=["yard", "", "2", "", ""]))
    assert text["camera"].to_pylist() == ["yard", None, "2", None, None]


def test_a_spreadsheet_may_have_saved_it(tmp_path):
    path = tmp_path / "labels.csv"
    text = "path;cluster;my remark\r\n./a//1.jpg;3;x\r\n=1.png;-1;\r\n;;\r\nb.jpg;4.0;\r\n"
    path.write_bytes(text.encode("utf-8-sig"))
    assert read_labels(path) == {"a/1.jpg": 3, "=1.png": -1, "b.jpg": 4}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\na.jpg,1\n", "no column 'cluster'"),
        ("path,cluster\na.jpg,one\n", "row 2 of labels.csv: cluster 'one'"),
        ("path,cluster\na.jpg,1.5\n", "whole number"),
        ("path,cluster\na.jpg,1\n./a.jpg,2\n", "row 3 of labels.csv is the second one"),
        ("path,cluster\na.jpg,\n", "row 2 of labels.csv has no cluster"),
    ],
)
def test_what_is_no_table_of_labels_is_one_sentence(tmp_path, text, words):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(KitError, match=words):
        read_labels(tmp_path / "labels.csv")


def test_names_that_cannot_be_written_are_refused_before(tmp_path, monkeypatch):
    for name in ("labels.txt", "labels"):
        with pytest.raises(KitError, match=".csv or .parquet"):
            check_ending(tmp_path / name)
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(KitError, match="is a folder"):
        check_ending(tmp_path / "d.csv")
    with pytest.raises(KitError, match=r"\\xff.jpg, which is not text"):
        save(tmp_path / "l.csv", names=["\udcff.jpg", *NAMES[1:]])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(KitError, match="pip install pyarrow"):
        check_ending(tmp_path / "l.parquet")
    assert not (tmp_path / "l.csv").exists()
