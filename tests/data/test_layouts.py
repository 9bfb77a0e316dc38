"""Readers: each layout from tiny pictures, and all that can be wrong with a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import write

from dkdmpl_kit.data import read_dataset
from dkdmpl_kit.errors import KitError

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
VEHICLES = r"(?P<pid>[a-z]+_\d+)_cam(?P<camid>\d+)"
needs_real_data = pytest.mark.skipif(
    not REAL.is_dir(), reason="../shared/data with real photographs is not here"
)

MARKET = (
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0002_c6s2_000001_00.PNG",
    "bounding_box_train/0010_c3s1_000001_01.jpg",
    "query/0001_c1s1_001051_00.jpg",
    "bounding_box_test/0001_c2s1_000001_00.jpg",
    "bounding_box_test/0001_c1s1_000002_00.jpg",
)


def ids(images) -> list[tuple]:
    return [(image.path.name, image.pid, image.camid) for image in images]


@pytest.mark.parametrize("name", ["market1501", "synthetic"])
def test_market_is_read_sorted_with_both_extensions_and_cameras_from_zero(tmp_path, name):
    dataset = read_dataset(name, write(tmp_path, *MARKET))
    assert dataset.name == name
    assert ids(dataset.train) == [
        ("0002_c1s1_000451_03.jpg", 2, 0),
        ("0002_c6s2_000001_00.PNG", 2, 5),
        ("0010_c3s1_000001_01.jpg", 10, 2),
    ]
    assert ids(dataset.query) == [("0001_c1s1_001051_00.jpg", 1, 0)]
    assert ids(dataset.gallery) == [
        ("0001_c1s1_000002_00.jpg", 1, 0),
        ("0001_c2s1_000001_00.jpg", 1, 1),
    ]


def test_market_drops_junk_and_keeps_distractors_in_the_gallery_alone(tmp_path):
    extra = [
        f"{folder}/{name}"
        for folder in ("bounding_box_train", "query", "bounding_box_test")
        for name in ("-1_c1s1_000001_00.jpg", "0000_c2s1_000001_00.jpg")
    ]
    dataset = read_dataset("market1501", write(tmp_path, *MARKET, *extra))
    assert {image.pid for image in dataset.train} == {2, 10}
    assert {image.pid for image in dataset.query} == {1}
    assert (
        ids(dataset.gallery)[0] == ("0000_c2s1_000001_00.jpg", 0, 1)
        and len(dataset.gallery) == 3
    )


def test_files_that_are_no_pictures_and_hidden_ones_are_ignored(tmp_path):
    root = write(
        tmp_path,
        *MARKET,
        "bounding_box_train/Thumbs.db",
        "query/._0001_c1s1_001051_00.jpg",
        "readme.txt",
    )
    assert len(read_dataset("market1501", root).train) == 3
    assert len(read_dataset("market1501", root).query) == 1


@pytest.mark.parametrize(
    "stray", ["portrait.jpg", "0001_c0s1_000001_00.jpg", "0001_c2_f0046182.jpg"]
)
def test_a_picture_with_a_foreign_name_is_an_error_that_names_it(tmp_path, stray):
    root = write(tmp_path, *MARKET, f"bounding_box_train/{stray}")
    with pytest.raises(KitError, match=stray):
        read_dataset("market1501", root)


def test_a_missing_folder_and_a_file_in_its_place_are_errors(tmp_path):
    with pytest.raises(KitError, match="nowhere does not exist"):
        read_dataset("market1501", tmp_path / "nowhere")
    with pytest.raises(KitError, match="is not a folder"):
        read_dataset("folder", write(tmp_path, "a.jpg") / "a.jpg")


def test_a_wrong_layout_names_what_was_expected_and_what_was_found(tmp_path):
    root = write(tmp_path, "Market/bounding_box_train/x.jpg", "docs/a.txt", "b.jpg")
    with pytest.raises(
        KitError,
        match=r"expected the folder bounding_box_train, found Market, docs and 1 "
        r"pictures",
    ):
        read_dataset("market1501", root)


@pytest.mark.parametrize(
    ("folder", "split"),
    [("bounding_box_train", "train"), ("query", "query"), ("bounding_box_test", "gallery")],
)
def test_an_empty_split_is_named(tmp_path, folder, split):
    root = write(
        tmp_path,
        *(name for name in MARKET if not name.startswith(folder)),
        f"{folder}/note.txt",
    )
    with pytest.raises(KitError, match=f"the {split} split"):
        read_dataset("market1501", root)


def test_a_train_split_of_junk_and_distractors_only_is_empty(tmp_path):
    root = write(
        tmp_path,
        *MARKET[3:],
        "bounding_box_train/-1_c1s1_000001_00.jpg",
        "bounding_box_train/0000_c1s1_000001_00.jpg",
    )
    with pytest.raises(KitError, match="the train split"):
        read_dataset("market1501", root)


def test_an_unknown_name_names_the_known_ones(tmp_path):
    with pytest.raises(KitError, match="market1501.*folder"):
        read_dataset("market", tmp_path)


def test_a_pattern_belongs_to_plain_folders_only(tmp_path):
    with pytest.raises(KitError, match="pattern"):
        read_dataset("market1501", write(tmp_path, *MARKET), pattern=VEHICLES)


def test_veri_has_its_own_folders_and_three_digit_cameras(tmp_path):
    dataset = read_dataset(
        "veri776",
        write(
            tmp_path,
            "image_train/0001_c001_00016450_0.jpg",
            "image_query/0002_c002_00030600_0.jpg",
            "image_test/0002_c020_00084280_0.jpg",
        ),
    )
    assert [
        ids(split)[0][1:] for split in (dataset.train, dataset.query, dataset.gallery)
    ] == [(1, 0), (2, 1), (2, 19)]


def test_duke_is_read_only_when_asked_for_by_name_and_warns(tmp_path):
    root = write(
        tmp_path,
        "bounding_box_train/0001_c2_f0046182.jpg",
        "query/0005_c1_f0046985.jpg",
        "bounding_box_test/0005_c8_f0051341.jpg",
    )
    with pytest.raises(KitError, match="withdrawn.*2019.*consent"):
        read_dataset("dukemtmcreid", root)
    with pytest.warns(UserWarning, match="withdrawn"):
        dataset = read_dataset("dukemtmcreid", root, allow_withdrawn=True)
    assert (
        ids(dataset.train) == [("0001_c2_f0046182.jpg", 1, 1)]
        and dataset.gallery[0].camid == 7
    )


def msmt17(root: Path, train: str = "train", test: str = "test") -> Path:
    names = {
        "train": "0000/0000_000_01_0303morning_0015_0.jpg",
        "val": "0001/0001_000_15_0303noon_0015_0.jpg",
        "query": "0000/0000_000_03_0302morning_0001_0.jpg",
        "gallery": "0000/0000_001_04_0302morning_0001_1.jpg",
    }
    for part, name in names.items():
        write(root, f"{train if part in ('train', 'val') else test}/{name}")
        (root / f"list_{part}.txt").write_text(f"{name} {int(name[:4])}\n")
    return root


@pytest.mark.parametrize(
    ("folders", "name"),
    [(("train", "test"), "msmt17"), (("mask_train_v2", "mask_test_v2"), "msmt17_v2")],
)
def test_msmt17_joins_train_and_val_and_reads_the_third_field_as_camera(
    tmp_path, folders, name
):
    dataset = read_dataset("msmt17", msmt17(tmp_path, *folders))
    assert dataset.name == name
    assert [(image.pid, image.camid) for image in dataset.train] == [(0, 0), (1, 14)]
    assert dataset.query[0].camid == 2 and dataset.gallery[0].camid == 3
    assert dataset.query[0].pid == dataset.gallery[0].pid == 2, (
        "test identities do not collide with train's"
    )
    assert all(
        image.path.is_file() for image in dataset.train + dataset.query + dataset.gallery
    )


def test_msmt17_is_read_from_its_re_organised_copy_too(tmp_path):
    dataset = read_dataset(
        "msmt17",
        write(
            tmp_path,
            "bounding_box_train/0000_c1_0003.jpg",
            "query/0000_c15_0001.jpg",
            "bounding_box_test/0000_c14_0002.jpg",
        ),
    )
    assert (
        ids(dataset.train) == [("0000_c1_0003.jpg", 0, 0)] and dataset.gallery[0].camid == 13
    )


def test_msmt17_without_a_list_or_with_a_broken_line_is_an_error(tmp_path):
    root = msmt17(tmp_path)
    (root / "list_query.txt").write_text("0000/0000_000_03.jpg\n")
    with pytest.raises(KitError, match="list_query.txt has the line"):
        read_dataset("msmt17", root)
    (root / "list_query.txt").unlink()
    with pytest.raises(KitError, match="expected the file list_query.txt"):
        read_dataset("msmt17", root)


def test_a_plain_folder_without_pattern_is_all_train_and_knows_nothing(tmp_path):
    dataset = read_dataset(
        "folder", write(tmp_path, "b.jpg", "deep/er/a.PNG", "c.jpeg", "notes.txt")
    )
    assert ids(dataset.train) == [
        ("b.jpg", None, None),
        ("c.jpeg", None, None),
        ("a.PNG", None, None),
    ]
    assert dataset.query == dataset.gallery == ()


def test_texts_of_the_pattern_are_numbered_in_sorted_order_over_all_splits(tmp_path):
    root = write(
        tmp_path,
        "images/train/van_2_cam10.jpg",
        "images/train/car_1_cam2.jpg",
        "images/query/bus_3_cam1.jpg",
        "images/gallery/bus_3_cam2.jpg",
    )
    dataset = read_dataset("folder", root, pattern=VEHICLES)
    assert ids(dataset.train) == [("car_1_cam2.jpg", 1, 1), ("van_2_cam10.jpg", 2, 2)]
    assert ids(dataset.query) == [("bus_3_cam1.jpg", 0, 0)] and ids(dataset.gallery) == [
        ("bus_3_cam2.jpg", 0, 1)
    ]


def test_the_pattern_may_read_folder_names_and_one_group_is_enough(tmp_path):
    root = write(tmp_path, "anna/1.jpg", "anna/2.jpg", "zoe/1.jpg")
    assert [
        image.pid for image in read_dataset("folder", root, pattern=r"^(?P<pid>\w+)/").train
    ] == [0, 0, 1]
    cameras = read_dataset("folder", root, pattern=r"(?P<camid>\d)\.jpg").train
    assert [(image.pid, image.camid) for image in cameras] == [
        (None, 0),
        (None, 1),
        (None, 0),
    ]


def test_a_test_folder_gives_one_query_per_identity_and_camera_and_keeps_them_in_the_gallery(
    tmp_path,
):
    root = write(
        tmp_path,
        "train/car_9_cam1.jpg",
        "test/car_1_cam1_a.jpg",
        "test/car_1_cam1_b.jpg",
        "test/car_1_cam2_a.jpg",
        "test/car_2_cam2_a.jpg",
    )
    dataset = read_dataset("folder", root, pattern=VEHICLES)
    assert [name for name, *_ in ids(dataset.query)] == [
        "car_1_cam1_a.jpg",
        "car_1_cam2_a.jpg",
        "car_2_cam2_a.jpg",
    ]
    assert len(dataset.gallery) == 4 and len(dataset.train) == 1


def test_without_cameras_queries_leave_the_gallery_and_single_pictures_stay_in_it(tmp_path):
    root = write(tmp_path, "train/x/1.jpg", "test/a/1.jpg", "test/a/2.jpg", "test/b/1.jpg")
    dataset = read_dataset("folder", root, pattern=r"(?P<pid>\w+)/\d\.jpg")
    assert [image.path.as_posix()[-7:] for image in dataset.query] == ["a/1.jpg"]
    assert [image.path.as_posix()[-7:] for image in dataset.gallery] == ["a/2.jpg", "b/1.jpg"]


def test_a_test_folder_without_identities_has_a_gallery_and_no_query(tmp_path):
    dataset = read_dataset(
        "folder", write(tmp_path, "train/1.jpg", "test/1.jpg", "test/2.jpg")
    )
    assert dataset.query == () and len(dataset.gallery) == 2


def test_query_and_gallery_alone_can_be_read_for_ranking(tmp_path):
    dataset = read_dataset("folder", write(tmp_path, "query/1.jpg", "gallery/2.jpg"))
    assert dataset.train == () and len(dataset.query) == len(dataset.gallery) == 1


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"(?P<pid>[a-z]+", "not a regular expression"),
        (r"(\w+)_cam", "neither a group"),
        (r"(?P<id>\d+)", "neither a group"),
        (r"(?P<pid>horse_\d)", "does not fit 2 of 2"),
        (r"(?P<pid>car_\d)", "does not fit 1 of 2.*van_1_cam1"),
        (r"(?P<pid>car_1)?.*cam(?P<camid>\d)", "does not fit 1 of 2"),
    ],
)
def test_a_pattern_that_cannot_work_says_why(tmp_path, pattern, message):
    with pytest.raises(KitError, match=message):
        read_dataset(
            "folder", write(tmp_path, "car_1_cam1.jpg", "van_1_cam1.jpg"), pattern=pattern
        )


def test_a_folder_without_pictures_an_empty_split_and_a_stray_picture_are_errors(tmp_path):
    with pytest.raises(KitError, match="holds no picture"):
        read_dataset("folder", write(tmp_path / "a", "x.txt"))
    with pytest.raises(KitError, match="the gallery split"):
        read_dataset("folder", write(tmp_path / "b", "train/1.jpg", "test/x.txt"))
    with pytest.raises(KitError, match="val/2.jpg lies outside"):
        read_dataset("folder", write(tmp_path / "c", "train/1.jpg", "val/2.jpg"))
    with pytest.raises(KitError, match="the gallery split"):
        read_dataset("folder", write(tmp_path / "d", "train/1.jpg", "query/2.jpg"))


def test_a_link_back_to_a_folder_above_does_not_repeat_its_pictures(tmp_path):
    root = write(tmp_path, "a/1.jpg")
    (root / "a" / "loop").symlink_to(root, target_is_directory=True)
    (root / "b").symlink_to(root / "a", target_is_directory=True)
    names = [
        image.path.relative_to(root).as_posix()
        for image in read_dataset("folder", root).train
    ]
    assert names == ["a/1.jpg", "b/1.jpg"]


@needs_real_data
def test_real_people_in_the_layout_of_market_have_the_counts_of_their_notice():
    dataset = read_dataset("market1501", REAL / "pku-reid-market")
    assert dataset.statistics() == {
        "train": {"images": 800, "identities": 50, "cameras": 2},
        "query": {"images": 48, "identities": 24, "cameras": 2},
        "gallery": {"images": 336, "identities": 24, "cameras": 2},
    }
    assert {image.camid for image in dataset.train} == {0, 1}


@needs_real_data
def test_real_vehicles_are_read_by_a_pattern_of_their_own_names():
    dataset = read_dataset("folder", REAL / "vehicles-2cam", pattern=VEHICLES)
    assert dataset.statistics() == {
        "train": {"images": 1014, "identities": 507, "cameras": 2},
        "query": {"images": 120, "identities": 60, "cameras": 2},
        "gallery": {"images": 120, "identities": 60, "cameras": 2},
    }
    assert not {image.pid for image in dataset.train} & {
        image.pid for image in dataset.gallery
    }
