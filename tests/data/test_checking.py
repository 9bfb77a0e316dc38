"""The check of a data set: what is counted, what differs, and what is broken."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkdmpl_kit.data import check_dataset, read_dataset
from dkdmpl_kit.data.checking import OFFICIAL_COUNTS, OfficialCounts

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_real_data = pytest.mark.skipif(
    not REAL.is_dir(), reason="../shared/data with real photographs is not here"
)
MARKET = (
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0002_c6s2_000001_00.jpg",
    "bounding_box_train/0010_c3s1_000001_01.jpg",
    "query/0001_c1s1_001051_00.jpg",
    "bounding_box_test/0001_c2s1_000001_00.jpg",
    "bounding_box_test/0000_c1s1_000002_00.jpg",
)


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (8, 4, 3), dtype=np.uint8)
    ).save(path)


@pytest.fixture
def market(tmp_path) -> Path:
    for seed, name in enumerate(MARKET):
        picture(tmp_path / "market" / name, seed)
    return tmp_path / "market"


@pytest.fixture
def small(monkeypatch):
    """As if the authors had published just the six pictures of MARKET."""
    monkeypatch.setitem(OFFICIAL_COUNTS, "market1501", OfficialCounts(2, (3, 1, 2), 6))


def check(root: Path, name: str = "market1501", **more):
    return check_dataset(read_dataset(name, root, **more), progress=False)


def notes(found) -> str:
    return "\n".join(found.notes)


def test_the_published_statistics_are_those_of_the_authors():
    """Train identities; pictures of train, query and gallery; cameras."""
    assert {
        name: (p.train_ids, *p.images, p.cameras) for name, p in OFFICIAL_COUNTS.items()
    } == {
        "market1501": (751, 12_936, 3_368, 15_913, 6),
        "dukemtmcreid": (702, 16_522, 2_228, 17_661, 8),
        "veri776": (576, 37_778, 1_678, 11_579, 20),
        **dict.fromkeys(
            ("msmt17", "msmt17_v2", "msmt17_reorganised"), (1_041, 32_621, 11_659, 82_161, 15)
        ),
    }


def test_the_table_shows_what_was_found_beside_what_was_published(market):
    lines = check(market).table.splitlines()
    assert lines[0] == "market1501 (market)"
    assert [line.split() for line in lines[2:]] == [
        ["train", "3", "12,936", "2", "751", "3", "-"],
        ["query", "1", "3,368", "1", "-", "1", "-"],
        ["gallery", "2", "15,913", "2", "-", "2", "-"],
        ["all", "6", "32,217", "4", "-", "4", "6"],
    ]
    assert len({len(line) for line in lines[1:]}) == 1


def test_a_copy_as_published_is_said_to_be_one(market, small):
    found = check(market)
    assert found.notes == (
        "the counts are the published ones",
        "every picture can be read",
        "no two pictures are the same, byte for byte",
    )
    assert found.problems == () and "BROKEN" not in found.text()


def test_junk_is_counted_and_named_as_what_is_not_read(market, small):
    for i in range(4):
        picture(market / f"bounding_box_test/-1_c1s1_00000{i}_00.jpg", 50 + i)
    found = check(market)
    assert (
        "6 files read\nleft out: 4 junk (identity -1) "
        "(bounding_box_test/-1_c1s1_000000_00.jpg, "
    ) in found.text()
    assert "-1_c1s1_000002_00.jpg and 1 more)" in found.text()
    assert "published ones" in notes(found)


def test_each_difference_has_its_likely_cause(market, small):
    picture(market / "bounding_box_train/0010_c4s1_000001_01.jpg", 60)
    assert "train has 4 pictures, 3 are published: pictures were added" in notes(
        check(market)
    )
    (market / MARKET[5]).unlink()
    assert (
        "gallery has 1 pictures, 2 are published: the background pictures (identity 0) "
        "are missing" in notes(check(market))
    )
    for name in MARKET[1], "bounding_box_train/0010_c4s1_000001_01.jpg":
        (market / name).unlink()
    assert "train has 2 pictures, 3 are published: a partial copy" in notes(check(market))
    assert check(market).problems == (), "counts alone break nothing"


def test_identities_that_differ_although_the_counts_do_not_are_noted(market, small):
    (market / MARKET[2]).rename(market / "bounding_box_train/0002_c3s1_000001_01.jpg")
    assert "train has 1 identities, 2 are published" in notes(check(market))


def msmt17(root: Path) -> Path:
    for seed, (part, folder, name) in enumerate(
        (
            ("train", "train", "0000/0000_000_01_a_0015_0.jpg"),
            ("val", "train", "0000/0000_001_02_a_0015_0.jpg"),
            ("query", "test", "0000/0000_000_15_a_0001_0.jpg"),
            ("gallery", "test", "0000/0000_001_04_a_0001_1.jpg"),
        )
    ):
        picture(root / folder / name, seed)
        (root / f"list_{part}.txt").write_text(f"{name} 0\n")
    return root


def test_msmt17_without_val_and_a_picture_in_no_list_are_told(tmp_path, monkeypatch):
    monkeypatch.setitem(OFFICIAL_COUNTS, "msmt17", OfficialCounts(1, (2, 1, 1), 15))
    root = msmt17(tmp_path)
    found = check(root, "msmt17")
    assert found.notes[0] == "the counts are the published ones" and found.problems == ()
    assert "number their identities apart" in notes(found)
    (root / "list_val.txt").write_text("")
    found = check(root, "msmt17")
    assert "train has 1 pictures, 2 are published: train without val" in notes(found)
    assert (
        "left out: 1 named in no list, so no part of the data set "
        "(train/0000/0000_001_02_a_0015_0.jpg)"
    ) in found.text()
    assert found.problems == ()


def test_unreadable_pictures_are_named_and_counted(market):
    content = (market / MARKET[0]).read_bytes()
    (market / MARKET[0]).write_bytes(content[: len(content) // 2])
    (market / MARKET[3]).write_bytes(b"")
    found = check(market)
    assert found.problems == (f"2 unreadable pictures: {MARKET[0]}, {MARKET[3]}",)
    assert "every picture" not in notes(found)
    for index in range(12):
        (market / f"bounding_box_test/0003_c1s1_{index:06d}_00.jpg").write_bytes(b"same")
    assert (
        "14 unreadable pictures" in check(market).problems[0]
        and "and 4 more" in check(market).problems[0]
    )
    assert "byte for byte:" not in notes(check(market)), (
        "what cannot be read is no duplicate as well"
    )


def test_identities_in_train_and_test_are_broken_but_not_the_background(market):
    picture(market / "query/0002_c2s1_000001_00.jpg", 70)
    picture(market / "bounding_box_test/0010_c2s1_000001_00.jpg", 71)
    assert check(market).problems == (
        "2 identities both in train and in query or gallery: 0002, 0010",
    )


def test_a_picture_in_train_and_test_is_broken_whatever_it_is_called(market):
    shutil.copy(market / MARKET[2], market / "bounding_box_test/0007_c2s1_000009_00.jpg")
    assert check(market).problems == (
        "1 picture both in train and in query or gallery, byte for byte: "
        "bounding_box_test/0007_c2s1_000009_00.jpg = bounding_box_train/"
        "0010_c3s1_000001_01.jpg (identities 0007, 0010)",
    )


def test_a_picture_twice_on_one_side_is_noted_with_the_identities_it_is_given(market):
    shutil.copy(market / MARKET[0], market / "bounding_box_train/0002_c1s1_000452_03.jpg")
    shutil.copy(market / MARKET[3], market / "bounding_box_test/0005_c1s1_000452_03.jpg")
    found = check(market)
    assert found.problems == ()
    assert (
        f"1 picture more than once in train, byte for byte: {MARKET[0]} = "
        "bounding_box_train/0002_c1s1_000452_03.jpg\n"
        f"1 picture more than once in query and gallery, byte for byte: "
        "bounding_box_test/0005_c1s1_000452_03.jpg = "
        f"{MARKET[3]} (identities 0001, 0005)"
    ) in notes(found)


def test_the_same_pixels_in_other_bytes_are_no_duplicate(market):
    with Image.open(market / MARKET[0]) as image:
        image.save(market / "bounding_box_train/0002_c1s1_000452_03.png")
    assert "no two pictures are the same" in notes(check(market))


def test_cameras_above_the_published_number_are_broken(market):
    picture(market / "query/0001_c7s1_000001_00.jpg", 80)
    picture(market / "query/0001_c9s1_000001_00.jpg", 81)
    assert check(market).problems == (
        "camera numbers above 6: 7 (1 pictures), 9 (1 pictures)",
    )
    dataset = replace(read_dataset("market1501", market), name="synthetic")
    assert check_dataset(dataset, progress=False).problems == (), (
        "rendered data may have any number"
    )


def test_own_folders_are_checked_without_published_columns(tmp_path):
    for seed, name in enumerate(
        ("train/a_1.png", "train/b_1.png", "test/b_2.png", "test/c_2.png")
    ):
        picture(tmp_path / name, seed)
    shutil.copy(tmp_path / "train/a_1.png", tmp_path / "test/c_1.png")
    found = check(tmp_path, "folder", pattern=r"(?P<pid>[abc])_(?P<camid>\d)")
    assert "published" not in found.text()
    assert found.problems == (
        "1 identity both in train and in query or gallery: b",
        "1 picture both in train and in query or gallery, byte for byte: test/c_1.png "
        "= "
        "train/a_1.png (identities a, c)",
    )
    assert [line.split() for line in found.table.splitlines()[2:]][3] == [
        "all",
        "5",
        "3",
        "2",
    ]
    nameless = check(tmp_path, "folder")
    assert nameless.table.splitlines()[-1].split() == ["all", "5", "-", "-"]
    assert len(nameless.problems) == 1 and nameless.problems[0].endswith(
        "test/c_1.png = train/a_1.png"
    )


def test_queries_that_stay_in_the_gallery_are_no_duplicates(tmp_path):
    for seed, name in enumerate(("train/a_1.png", "test/b_1.png", "test/b_2.png")):
        picture(tmp_path / name, seed)
    found = check(tmp_path, "folder", pattern=r"(?P<pid>[abc])_(?P<camid>\d)")
    assert len(found.dataset.query) == 2 and "no two pictures are the same" in notes(found)
    assert found.table.splitlines()[-1].split()[1] == "3"


def test_the_check_prints_the_fingerprint_of_results_and_one_of_every_byte(market, tmp_path):
    dataset = read_dataset("market1501", market)
    found = check_dataset(dataset, progress=False)
    assert (
        found.fingerprint == dataset.fingerprint()
        and f"fingerprint {found.fingerprint}" in found.text()
    )
    rows = sorted(
        (name, hashlib.sha256((market / name).read_bytes()).hexdigest()) for name in MARKET
    )
    assert found.content == hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
    shutil.copytree(market, tmp_path / "elsewhere")
    assert check(tmp_path / "elsewhere").content == found.content
    path = tmp_path / "elsewhere" / MARKET[0]
    content = bytearray(path.read_bytes())
    content[-3] ^= 1  # the last of the compressed pixels
    path.write_bytes(bytes(content))
    changed = check(tmp_path / "elsewhere")
    assert changed.fingerprint == found.fingerprint and changed.content != found.content


def test_every_picture_is_read_once(market, monkeypatch):
    reads = []
    read = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: reads.append(path.name) or read(path)
    )
    check(market)
    assert sorted(reads) == sorted(Path(name).name for name in MARKET)


@needs_real_data
def test_real_people_are_a_small_copy_in_which_one_picture_is_there_twice():
    found = check(REAL / "pku-reid-market")
    assert found.problems == () and "every picture can be read" in notes(found)
    assert "train has 800 pictures, 12,936 are published" in notes(found)
    assert "1 picture more than once in query and gallery" in notes(found)
    assert "0085_c1s1_000004_00.png = bounding_box_test/0085_c1s1_000005_00.png" in notes(
        found
    )


@needs_real_data
def test_real_vehicles_with_names_of_their_own_are_whole():
    found = check(
        REAL / "vehicles-2cam", "folder", pattern=r"(?P<pid>[a-z]+_\d+)_cam(?P<camid>\d+)"
    )
    assert found.problems == () and found.notes == (
        "every picture can be read",
        "no two pictures are the same, byte for byte",
    )
    assert found.table.splitlines()[-1].split() == ["all", "1,134", "567", "2"]
