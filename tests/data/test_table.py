"""Tables: what their columns say, and each bad table in one sentence that names the row."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dkdmpl_kit.data import check_dataset, drop_corrupt, hold_out, read_dataset
from dkdmpl_kit.data.columns import NAMES
from dkdmpl_kit.data.rows import read_rows
from dkdmpl_kit.data.table import read_table, write_table
from dkdmpl_kit.errors import KitError

SIZE = (40, 30)  # width and height of the pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Six noisy pictures, in two folders that make splits and one that does not."""
    root = tmp_path_factory.mktemp("pictures")
    draws = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png", "train/d.png", "test/e.png", "test/f.png"):
        (root / name).parent.mkdir(exist_ok=True)
        noise = draws.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / name)
    return root


@pytest.fixture
def read(pictures, tmp_path):
    """A function of a table's text (or bytes) that reads it against the pictures."""

    def function(content: str | bytes, name: str = "crops.csv", **options):
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
        return read_dataset("table", pictures, table=tmp_path / name, **options)

    return function


def rows_of(dataset) -> list[tuple]:
    """(split, name, identity, camera, track) of each picture, with names as in the table."""
    return [
        (
            split,
            dataset.relative(image.path),
            image.pid if image.pid is None else dataset.identity(image.pid),
            image.camid if image.camid is None else dataset.camera(image.camid),
            image.track,
        )
        for split in ("train", "query", "gallery")
        for image in getattr(dataset, split)
    ]


# --- what the columns say ---

PLAIN = """path,identity,camera,split,track
a.png,0065,north gate,train,7
b.png,66,south,train,
c.png,0065,south,gallery,9
test/e.png,ann,north gate,query,
"""


def test_a_table_worked_by_hand(read):
    dataset = read(PLAIN)
    assert rows_of(dataset) == [
        ("train", "a.png", "0065", "north gate", 0),
        ("train", "b.png", "66", "south", None),
        ("query", "test/e.png", "ann", "north gate", None),
        ("gallery", "c.png", "0065", "south", 1),
    ]
    assert [image.pid for image in dataset.images()] == [0, 1, 2, 0]
    assert [image.camid for image in dataset.images()] == [0, 1, 0, 1]
    assert dataset.name == "table" and dataset.remarks == ()
    assert dataset.identity(None) == dataset.camera(None) == "unknown"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_way_to_save_a_table_says_the_same(read, delimiter, encoding, end):
    text = PLAIN.replace(",", delimiter).replace("\n", end) + end
    text = text.replace("north gate", f'"north{delimiter} ""gate"""')
    dataset = read(text.encode(encoding))
    assert {name for *_, name, _ in rows_of(dataset)} == {
        f'north{delimiter} "gate"',
        "south",
    }
    plain = rows_of(read(PLAIN))
    assert [row[:3] for row in rows_of(dataset)] == [row[:3] for row in plain]


def records(text: str) -> list[dict]:
    header, *rows = [line.split(",") for line in text.splitlines()]
    return [{name: cell or None for name, cell in zip(header, row)} for row in rows]


def test_json_lines_and_parquet_say_what_csv_says(read, pictures, tmp_path):
    plain = read(PLAIN)
    lines = "\n".join(json.dumps(record) for record in records(PLAIN))
    assert rows_of(read(lines, "crops.jsonl")) == rows_of(plain)
    pa, parquet = map(pytest.importorskip, ("pyarrow", "pyarrow.parquet"))
    table = pa.Table.from_pylist(records(PLAIN))
    parquet.write_table(table, tmp_path / "crops.parquet")
    found = read_dataset("table", pictures, table=tmp_path / "crops.parquet")
    assert rows_of(found) == rows_of(plain)
    assert found.fingerprint() == plain.fingerprint()


def test_leading_zeros_stay_and_numbers_of_one_value_are_one(read):
    dataset = read("path,identity,camera\na.png,0065,10\nb.png,65,2\nc.png,7,2\n")
    assert [image.pid for image in dataset.train] == [1, 1, 0]
    assert dataset.identity(1) == "0065" and dataset.identity(0) == "7"
    assert [image.camid for image in dataset.train] == [1, 0, 0]  # 2 comes before 10


def test_whole_numbers_that_pandas_wrote_as_fractions_are_whole(read):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "path": ["a.png", "b.png", "c.png"],
            "identity": [65, None, 7],
            "track": [1, 1, None],
        }
    )
    dataset = read(frame.to_csv(index=True))
    assert rows_of(dataset) == [
        ("train", "a.png", "65", None, 0),
        ("train", "b.png", None, None, 0),
        ("train", "c.png", "7", None, None),
    ]
    lines = frame.to_json(orient="records", lines=True)
    assert rows_of(read(lines, "crops.jsonl")) == rows_of(dataset)
    # a version is no whole number, and stays
    dataset = read("path,identity\na.png,1.0\nb.png,1.5\n")
    assert [dataset.identity(image.pid) for image in dataset.train] == ["1.0", "1.5"]


@pytest.mark.parametrize(
    "nothing", ["", " ", "NaN", "nan", "None", "N/A", "-1", '""', "null"]
)
def test_empty_cells_say_nothing(read, nothing):
    dataset = read(f"path,identity,camera,track\na.png,{nothing},{nothing},{nothing}\n")
    image = dataset.train[0]
    assert (image.pid, image.camid, image.track) == (None, None, None)
    assert dataset.unlabelled().tracks is None


def test_the_unknown_identity_of_the_wildlife_sets_is_nobody(read):
    dataset = read("path,identity,camera\na.png,unknown,unknown\nb.png,Unknown Joe,x\n")
    assert [image.pid for image in dataset.train] == [None, 0]
    assert [image.camid for image in dataset.train] == [None, 0]


def test_rows_without_any_content_are_left_out_and_still_counted(read):
    dataset = read("\npath,camera,\n\na.png,1,\n,,\nb.png,2,\n,,\n\n")
    assert len(dataset.train) == 2
    with pytest.raises(KitError, match="x.png in row 6 of crops.csv"):
        read("\npath,camera\n\na.png,1\n,\nx.png,2\n")


# --- splits ---


def test_without_a_column_split_all_is_train_or_folders_tell(read):
    assert {row[0] for row in rows_of(read("path\na.png\nb.png\n"))} == {"train"}
    text = "path,identity,camera\ntrain/d.png,1,1\ntest/e.png,2,1\ntest/f.png,2,2\n"
    assert [row[:2] for row in rows_of(read(text))] == [
        ("train", "train/d.png"),
        ("query", "test/e.png"),
        ("query", "test/f.png"),
        ("gallery", "test/e.png"),
        ("gallery", "test/f.png"),
    ]
    assert {row[0] for row in rows_of(read(text, splits=False))} == {"train"}
    empty = read("path,split\na.png,\nb.png,\n")
    assert {row[0] for row in rows_of(empty)} == {"train"}
    with pytest.raises(
        KitError, match="a.png lies outside .* or give the table a column split"
    ):
        read("path\na.png\ntrain/d.png\n")


def test_words_for_splits_and_rows_of_val_which_are_left_out_and_told(read):
    dataset = read(
        "path,identity,camera,split\na.png,1,1,Training\nb.png,2,1,valid\n"
        "c.png,3,1,probe\ntest/e.png,3,2,database\n"
    )
    assert [row[:2] for row in rows_of(dataset)] == [
        ("train", "a.png"),
        ("query", "c.png"),
        ("gallery", "test/e.png"),
    ]
    assert "1 of a split that is neither trained nor measured on (b.png)" in dataset.summary()
    with pytest.raises(KitError, match="no rows but those of val"):
        read("path,split\na.png,val\n")


# --- names of other people's columns ---

WILDLIFE = """image_id,path,identity,date,orientation,species,split,original_split,bbox
0,a.png,t001,2020-01-02,left,turtle,train,test,"[1.0, 2.0, 10.0, 20.0]"
1,b.png,unknown,,right,turtle,test,train,
2,c.png,t002,2021-05-06,,turtle,test,train,"[0.0, 0.0, 40.0, 30.0]"
"""


def test_a_wildlife_sets_columns(read):
    dataset = read(WILDLIFE, "metadata.csv")
    assert rows_of(dataset) == [
        ("train", "a.png#xywh=1,2,10,20", "t001", None, None),
        ("gallery", "b.png", None, None, None),
        ("gallery", "c.png#xywh=0,0,40,30", "t002", None, None),
    ]
    said = dataset.account()["not read, of the table's columns"]
    assert said == ("date", "image_id", "orientation", "original_split", "species")
    # without a split of their own, the authors' counts
    assert len(read(WILDLIFE.replace(",split,", ",other,")).gallery) == 1


def test_an_image_folder_of_hugging_face(pictures, tmp_path):
    for split, name in (("train", "d.png"), ("test", "e.png"), ("test", "f.png")):
        (tmp_path / split).mkdir(exist_ok=True)
        (tmp_path / split / name).write_bytes((pictures / split / name).read_bytes())
    (tmp_path / "train" / "metadata.csv").write_text("file_name,person_id\nd.png,1\n")
    (tmp_path / "test" / "metadata.jsonl").write_text(
        '{"file_name": "e.png", "person_id": 2}\n{"file_name": "f.png", "person_id": 2}\n'
    )
    dataset = read_dataset("table", table=tmp_path)
    assert [row[:3] for row in rows_of(dataset)] == [
        ("train", "train/d.png", "1"),
        ("query", "test/e.png", "2"),
        ("gallery", "test/f.png", "2"),
    ]
    single = read_dataset("table", table=tmp_path / "train" / "metadata.csv")
    assert [row[:2] for row in rows_of(single)] == [("train", "d.png")]
    with pytest.raises(KitError, match="leave data_root"):
        read_dataset("table", pictures, table=tmp_path)
    with pytest.raises(KitError, match="without metadata.csv, metadata.jsonl or"):
        read_dataset("table", table=pictures)


@pytest.mark.parametrize(
    "role, name", [(r, n) for r in ("path", "identity", "camera") for n in NAMES[r]]
)
def test_every_name_of_a_column_is_read_in_any_writing(read, role, name):
    header = {"path": "path", "identity": "identity", "camera": "camera"} | {role: name}
    written = [header[r].replace("_", " ").title() for r in ("path", "identity", "camera")]
    text = f"{','.join(written)}\na.png,1,x\nb.png,1,y\n"
    assert [row[1:4] for row in rows_of(read(text))] == [
        ("a.png", "1", "x"),
        ("b.png", "1", "y"),
    ]


def test_an_id_that_counts_rows_is_not_an_identity(read):
    dataset = read("id,path\n1,a.png\n2,b.png\n3,c.png\n")
    assert [image.pid for image in dataset.train] == [None] * 3
    assert dataset.account()["not read, of the table's columns"] == ("id",)
    dataset = read("id,path\n1,a.png\n2,b.png\n1,c.png\n")
    assert [image.pid for image in dataset.train] == [0, 1, 0]


def test_paths_of_windows_and_whole_paths_are_found(read, pictures):
    dataset = read(f"path\ntest\\e.png\n{pictures / 'a.png'}\n", splits=False)
    assert [row[1] for row in rows_of(dataset)] == ["test/e.png", "a.png"]


def test_paths_are_below_the_tables_own_folder_unless_told(pictures):
    table = pictures / "test" / "crops.csv"
    table.write_text("path\ne.png\n../a.png\n")
    try:
        dataset = read_dataset("table", table=table)
        assert dataset.root == table.parent
        assert [row[1] for row in rows_of(dataset)] == ["e.png", "../a.png"]
        assert all(path.is_file() for path in dataset.paths())
    finally:
        table.unlink()


# --- tracks ---


def test_a_track_belongs_to_one_camera_and_one_video(read):
    dataset = read(
        "path,video,camera,track\na.png,1,x,5\nb.png,1,x,5\nc.png,1,y,5\ntest/e.png,2,x,5\n"
        "test/f.png,2,x,-1\n",
        splits=False,
    )
    tracks = dataset.unlabelled().tracks.tolist()
    assert tracks[0] == tracks[1] and tracks[-1] == -1
    assert len({tracks[0], tracks[2], tracks[3]}) == 3
    # without tracks a video says nothing
    dataset = read("path,video\na.png,1\n")
    assert dataset.account()["not read, of the table's columns"] == ("video",)


def test_two_boxes_of_one_picture_are_not_one_track(read):
    text = "path,track,bbox\na.png,3,0 0 9 9\na.png,3,9 9 9 9\n"
    with pytest.raises(KitError, match=r"row 2 of .* and row 3 of .* one track '3'"):
        read(text)
    assert len(read(text.replace("png,3,9", "png,4,9")).train) == 2


def test_identities_of_a_table_reach_no_trainer(read):
    text = "path,identity,camera,track\na.png,1,x,3\nb.png,1,y,3\nc.png,2,x,4\n"
    shuffled = text.replace(",1,", ",2,", 1).replace("c.png,2", "c.png,zoe")
    one, other = read(text).unlabelled(), read(shuffled).unlabelled()
    assert one.paths == other.paths
    assert one.camids.tolist() == other.camids.tolist() == [0, 1, 0]
    # one track number under two cameras: two tracks
    assert one.tracks.tolist() == other.tracks.tolist() == [0, 2, 1]
    assert not hasattr(one, "pids")


def test_the_check_tells_tracks_of_several_identities(read):
    text = "path,identity,track\na.png,1,3\nb.png,2,3\nc.png,2,4\n"
    found = check_dataset(read(text), progress=False)
    assert any("1 track with pictures of several identities" in p for p in found.problems)
    assert not check_dataset(read(text.replace("b.png,2", "b.png,1"))).problems


# --- boxes ---


@pytest.mark.parametrize(
    "cell",
    ['"[1, 2, 10, 20]"', '"(1, 2, 10, 20)"', "1 2 10 20", "1.2 1.6 10.1 20.4", "[1;2;10;20]"],
)
def test_boxes_in_one_cell(read, cell):
    assert read(f"path,bbox\na.png,{cell}\n").train[0].path.name == "a.png#xywh=1,2,10,20"


@pytest.mark.parametrize(
    "header",
    ["x,y,w,h", "X,Y,Width,Height", "bbox_x,bbox_y,bbox_width,bbox_height"],
)
def test_boxes_in_four_cells(read, header):
    dataset = read(f"path,{header}\na.png,1,2,10,20\nb.png,,,,\n")
    assert [image.path.name for image in dataset.train] == ["a.png#xywh=1,2,10,20", "b.png"]


def test_a_box_as_a_list_and_a_part_by_its_name(read):
    line = '{"path": "a.png", "bbox": [1, 2, 10, 20]}\n{"path": "b.png#xywh=3,4,5,6"}\n'
    dataset = read(line, "crops.jsonl")
    assert [image.path.name for image in dataset.train] == [
        "a.png#xywh=1,2,10,20",
        "b.png#xywh=3,4,5,6",
    ]


def test_the_pictures_own_width_and_height_are_no_box(read):
    dataset = read("path,width,height\na.png,40,30\n")
    assert dataset.train[0].path.name == "a.png"
    assert dataset.account()["not read, of the table's columns"] == ("height", "width")


def test_a_pixel_of_rounding_is_clipped_and_told(read):
    dataset = read('path,bbox\na.png,"-0.8,-1,41.3,31.9"\nb.png,"0,0,40,30"\n')
    assert [image.path.name for image in dataset.train] == [
        "a.png#xywh=0,0,40,30",
        "b.png#xywh=0,0,40,30",
    ]
    said = "read in part: 1 clipped to the picture, by a pixel at most (a.png#xywh=0,0,40,30)"
    assert said in dataset.summary() and "2 pictures" not in dataset.summary()


def test_several_boxes_of_one_picture_are_several_pictures(read):
    dataset = read('path,bbox\na.png,"0,0,9,9"\na.png,"9,9,9,9"\na.png,\n')
    assert len(dataset.train) == len(set(dataset.paths())) == 3
    assert "3 pictures in 1 files read" in dataset.account_text()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 45), min_size=4, max_size=4))
def test_a_box_is_within_its_picture_clipped_or_refused(pictures, tmp_path_factory, four):
    x, y, width, height = four
    table = tmp_path_factory.getbasetemp() / "one.csv"
    table.write_text(f"path,x,y,w,h\na.png,{x},{y},{width},{height}\n")
    over = max(-x, -y, x + width - SIZE[0], y + height - SIZE[1])
    kept = min(x + width, SIZE[0]) - max(x, 0), min(y + height, SIZE[1]) - max(y, 0)
    if over > 1 or min(width, height) < 1 or min(kept) < 1:
        with pytest.raises(KitError, match=r"row 2 of one.csv"):
            read_dataset("table", pictures, table=table)
        return
    path = read_dataset("table", pictures, table=table).train[0].path
    assert path.name == f"a.png#xywh={max(x, 0)},{max(y, 0)},{kept[0]},{kept[1]}"


# --- what is bad, each in one sentence ---


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "is empty"),
        ("path,camera\n", "has no rows below its header"),
        ("pth,camera\na.png,1\n", "has no column path: it has pth, camera; is it pth"),
        ("date,camera\n1,1\n", "call the column of file names path, file_name or image"),
        ("a.png,1\nb.png,2\n", "its first row must be a header"),
        ("path,path\na.png,b.png\n", "has the column 'path' twice"),
        ("path,camera\na.png\n", "row 2 of crops.csv has 1 cells, and the header 2"),
        ("path,camera\na.png,1,2\n", "row 2 of crops.csv has 3 cells, and the header 2"),
        ('path,camera\na.png,1\n"b.png,1\n', "row 3 of crops.csv cannot be read"),
        ("path,camera\na.png,1\n,2\n", "row 3 of crops.csv has no path"),
        (
            "path\na.png\nb.png\nx.png\ny.png\n",
            "2 of 4 pictures in .*, first .*x.png in row 4",
        ),
        ("path\nx.png\n", "1 of 1 pictures in .* as data_root"),
        ("path\ntest\n", "row 2 of crops.csv .a folder."),
        ("path\na.png\nb.png\n./a.png\n", "row 2 of .* and row 4 of .* same picture, a.png"),
        ("path,bbox\na.png,0 0 9 9\na.png,0 0 9 9\n", "row 3 of .* a.png#xywh=0,0,9,9"),
        ("path,bbox\na.png,1 2 3\n", r"row 2 of crops.csv has the box 1, 2, 3: write four"),
        ("path,bbox\na.png,a b c d\n", "has the box a, b, c, d: write four numbers"),
        ("path,bbox\na.png,0 0 inf 9\n", "write four numbers"),
        ("path,bbox\na.png,5 5 0.2 9\n", "must be one pixel at least"),
        ("path,bbox\na.png,5 5 -3 9\n", "must be one pixel at least"),
        ("path,bbox\na.png,0 0 42 30\n", r"row 2 of crops.csv, and .*a.png is of 40 x 30"),
        ("path,bbox\na.png,90 5 9 9\nb.png,0 0 99 9\n", "2 boxes lie off the picture"),
        ("path,bbox\na.png,-5 5 9 9\n", r"first -5, 5, 9, 9 \(x, y, width, height\)"),
        ("path,x,y,w\na.png,1,2,3\n", "has x, y, w but not h: a box needs all four"),
        ("path,x,y,w,h\na.png,1,2,,4\n", "has the box 1, 2, , 4: write four"),
        ("path,x,y,w,h,bbox\na.png,1,2,3,4,\n", "keep one of the two"),
        ("path,bbox\na.png#xywh=1;2;3;4,\n", "first .*a.png#xywh=1;2;3;4"),
        ("path,split\na.png,train\nb.png,\n", "row 3 of crops.csv has no split, which other"),
        ("path,split\na.png,sunday\n", "row 2 of crops.csv has the split 'sunday'"),
        ("path,split\na.png,query\n", "has queries and no gallery"),
        (b"path\n\xff\xe9.png\n", "is not UTF-8 text .byte 5"),
        (b"path,a\n" + b"a" * 9999 + b",1\n", "has 9,999 letters in 'path'"),
    ],
    ids=lambda value: (
        None if isinstance(value, bytes) else value[:24].encode("unicode_escape").decode()
    ),
)
def test_bad_tables_are_refused_in_one_sentence(read, text, said):
    with pytest.raises(KitError, match=said) as refused:
        read(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("crops.jsonl", '{"path": "a.png"\n', "row 1 of crops.jsonl is not valid JSON"),
        ("crops.jsonl", '{"path": "a.png"}\n["b.png"]\n', "row 2 of .* is not an object"),
        (
            "crops.jsonl",
            '{"path": {"bytes": 1}}\n',
            "row 1 of .* no text or number in 'path'",
        ),
        ("crops.parquet", "PAR1", "crops.parquet cannot be read"),
        ("crops.xlsx", "x", "must end in .csv"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(read, name, text, said):
    with pytest.raises(KitError, match=said) as refused:
        read(text, name)
    assert "\n" not in str(refused.value)


def test_what_is_no_table_is_said(pictures, tmp_path):
    for arguments, said in (
        ({"table": tmp_path / "gone.csv"}, "there is no such file"),
        ({}, "needs table="),
        ({"table": pictures, "pattern": "x"}, "has its own columns"),
    ):
        with pytest.raises(KitError, match=said):
            read_dataset("table", **arguments)
    (tmp_path / "crops.csv").write_text("path\na.png\n")
    with pytest.raises(KitError, match="is not a folder"):
        read_dataset("table", tmp_path / "gone", table=tmp_path / "crops.csv")
    for name, options in (("folder", {"table": "x.csv"}), ("folder", {"skip_missing": True})):
        with pytest.raises(KitError, match="belongs to name="):
            read_dataset(name, pictures, **options)
    with pytest.raises(KitError, match="needs root"):
        read_dataset("folder")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(KitError, match="a pipe"):
        read_dataset("table", table=tmp_path / "pipe.csv")


def test_a_part_by_name_and_a_box_are_two_answers(read):
    with pytest.raises(KitError, match="keep one of the two"):
        read('path,bbox\n"a.png#xywh=1,2,3,4",1 2 3 4\n')


def test_outlines_of_any_length_are_not_in_the_way(read):
    dataset = read(f'path,segmentation\na.png,"[{"1, " * 100_000}1]"\n')
    assert dataset.account()["not read, of the table's columns"] == ("segmentation",)


def test_missing_files_are_left_out_where_that_is_asked_and_accounted(read):
    text = "path,identity\na.png,1\nx.png,2\nb.png,3\n"
    dataset = read(text, skip_missing=True)
    assert [row[1:3] for row in rows_of(dataset)] == [("a.png", "1"), ("b.png", "3")]
    assert dataset.account()["there is no such file"] == ("x.png",)
    kept, skipped = drop_corrupt(dataset, progress=False)
    assert kept.account() == dataset.account() and skipped == ()
    with pytest.raises(KitError, match="1 of 1 pictures"):
        read("path\nx.png\n", skip_missing=True)


# --- around it ---


def test_the_fingerprint_tells_split_box_track_and_identity(read):
    base = "path,identity,split,track,bbox\na.png,1,train,1,0 0 9 9\nb.png,2,train,2,\n"
    changes = ["", "1,train,1", "1,gallery,1", "1,train,", "1,train,1,0 0 9 8", "2,train,1"]
    prints = [read(base).fingerprint()]
    for change in changes[2:]:
        known = "1,train,1,0 0 9 9" if " " in change else "1,train,1"
        prints.append(read(base.replace(known, change, 1)).fingerprint())
    assert len(set(prints)) == len(prints)
    # another order of columns and rows is the same data
    moved = "bbox,path,split,track,identity\n,b.png,train,2,2\n0 0 9 9,a.png,train,1,1\n"
    assert read(moved).fingerprint() == prints[0]


def test_what_is_written_as_a_table_is_read_as_the_same_data(read, tmp_path):
    text = PLAIN.replace("track\n", "track,bbox\n").replace("9\n", "9,1 2 3 4\n")
    dataset = read(
        text.replace("7\n", "7,\n")
        .replace("train,\n", "train,,\n")
        .replace("gate,query,\n", "=1+1,query,,\n")
    )
    path = write_table(tmp_path / "copy.jsonl", dataset)
    found = read_table(path, dataset.root)
    assert rows_of(found) == rows_of(dataset)
    assert found.fingerprint() == dataset.fingerprint()


def test_identities_of_a_table_are_held_out_with_their_boxes(read, tmp_path):
    text = "path,identity,camera,split,bbox\n"
    for pid in range(6):
        for number, name in enumerate(("a.png", "b.png", "c.png", "test/e.png")):
            text += f"{name},p{pid},cam {number % 2},train,{pid} {pid} 9 9\n"
    held = hold_out(read(text), tmp_path / "held")
    assert [len(split) for split in (held.train, held.query, held.gallery)] == [16, 4, 4]
    assert {held.identity(image.pid) for image in held.images()} == {
        f"p{i}" for i in range(6)
    }
    assert all("#xywh=" in image.path.name for image in held.images())
    assert [path.name for path in (tmp_path / "held").iterdir()] == ["crops.jsonl"]


def test_the_rows_of_a_table_know_their_numbers(tmp_path):
    (tmp_path / "x.csv").write_text('a,b\n1,"two\nlines"\n\n3,4\n')
    rows = read_rows(tmp_path / "x.csv")
    assert rows.numbers == (2, 4) and rows.columns == ("a", "b")
    assert rows.texts("b") == ["two\nlines", "4"] and len(rows) == 2


def test_unreadable_pictures_with_boxes_are_named_when_they_are_decoded(pictures, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    table = tmp_path / "crops.csv"
    table.write_text(f"path,bbox\nbroken.png,0 0 9 9\n{pictures / 'a.png'},0 0 9 9\n")
    dataset = read_dataset("table", table=table)
    found = check_dataset(dataset, progress=False)
    assert "1 unreadable picture: broken.png#xywh=0,0,9,9" in found.problems[0]
    kept, skipped = drop_corrupt(dataset, progress=False)
    assert [path.name for path in skipped] == ["broken.png#xywh=0,0,9,9"]
    assert [path.name for path in kept.paths()] == ["a.png#xywh=0,0,9,9"]
    assert replace(kept, remarks=()).account_text() == "1 files read"
