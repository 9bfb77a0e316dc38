"""Rendered copies of the official layouts: named as the authors name them, and whole."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkdmpl_kit.data import load_factors, read_dataset, render_layout
from dkdmpl_kit.data.checking import OFFICIAL_COUNTS
from dkdmpl_kit.data.rendering import layouts as module
from dkdmpl_kit.data.rendering.factors import VEHICLES
from dkdmpl_kit.errors import KitError

SMALL = {
    "n_train_ids": 3,
    "n_test_ids": 2,
    "n_cameras": 2,
    "images_per_camera": 2,
    "progress": False,
}
MSMT = r"\d{4}/\d{4}_\d{3}_\d\d_0303morning_\d{4}_\d\.jpg"
NAMES = {  # folders, each with the names that its pictures have, in full
    "market1501": {
        "bounding_box_train": r"\d{4}_c[12]s1_\d{6}_\d\d\.jpg",
        "query": r"\d{4}_c[12]s1_\d{6}_\d\d\.jpg",
        "bounding_box_test": r"(\d{4}|-1)_c[12]s1_\d{6}_\d\d\.jpg",
    },
    "dukemtmcreid": dict.fromkeys(
        ("bounding_box_train", "query", "bounding_box_test"), r"\d{4}_c[12]_f\d{7}\.jpg"
    ),
    "msmt17": dict.fromkeys(("train", "test"), MSMT),
    "msmt17_v2": dict.fromkeys(("mask_train_v2", "mask_test_v2"), MSMT),
    "msmt17_reorganised": dict.fromkeys(
        ("bounding_box_train", "query", "bounding_box_test"), r"\d{4}_c[12]_\d{4}\.jpg"
    ),
    "veri776": dict.fromkeys(
        ("image_train", "image_query", "image_test"), r"\d{4}_c00[12]_\d{8}_\d\.jpg"
    ),
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    root = tmp_path_factory.mktemp("official")
    return {
        layout: render_layout(root / layout, layout, **SMALL) for layout in OFFICIAL_COUNTS
    }


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("layout", OFFICIAL_COUNTS)
def test_folders_names_and_counts_are_the_layouts(rendered, layout):
    dataset = rendered[layout]
    assert {path.name for path in dataset.root.iterdir() if path.is_dir()} == set(
        NAMES[layout]
    )
    for folder, pattern in NAMES[layout].items():
        names = [
            path.relative_to(dataset.root / folder).as_posix()
            for path in (dataset.root / folder).rglob("*.*")
        ]
        assert names and all(re.fullmatch(pattern, name) for name in names)
    extra = 1 if layout == "market1501" else 0  # a stranger
    assert dataset.statistics() == {
        "train": {"images": 12, "identities": 3, "cameras": 2},
        "query": {"images": 4, "identities": 2, "cameras": 2},
        "gallery": {"images": 4 + extra, "identities": 2 + extra, "cameras": 2},
    }
    assert dataset.name == layout and {image.camid for image in dataset.train} == {0, 1}
    assert not {image.pid for image in dataset.train} & {image.pid for image in dataset.query}
    assert len(set(dataset.train + dataset.query + dataset.gallery)) == 20 + extra


def test_market_has_junk_and_background_in_its_gallery_folder(rendered):
    names = [
        path.name for path in (rendered["market1501"].root / "bounding_box_test").iterdir()
    ]
    assert (
        sum(name.startswith("-1_") for name in names)
        == sum(name.startswith("0000_") for name in names)
        == 1
    )
    assert [image.pid for image in rendered["market1501"].gallery].count(0) == 1


@pytest.mark.parametrize("layout", ["msmt17", "msmt17_v2"])
def test_the_lists_of_msmt17_name_every_picture_once_and_count_from_zero(rendered, layout):
    root = rendered[layout].root
    lists = {
        part: (root / f"list_{part}.txt").read_text().splitlines()
        for part in ("train", "val", "query", "gallery")
    }
    assert {part: len(lines) for part, lines in lists.items()} == {
        "train": 9,
        "val": 3,
        "query": 4,
        "gallery": 4,
    }
    assert all(
        line.endswith(f" {int(line[:4])}") for lines in lists.values() for line in lines
    )
    train, test = (
        {int(line.split()[1]) for part in parts for line in lists[part]}
        for parts in (("train", "val"), ("query", "gallery"))
    )
    assert train == {0, 1, 2} and test == {0, 1}
    on_disk = [
        path.relative_to(root / folder).as_posix()
        for folder in NAMES[layout]
        for path in (root / folder).rglob("*.jpg")
    ]
    assert sorted(on_disk) == sorted(
        line.split()[0] for lines in lists.values() for line in lines
    )


def test_people_are_upright_and_vehicles_square(rendered):
    for layout, dataset in rendered.items():
        with Image.open(dataset.train[0].path) as picture:
            assert (
                picture.size == ((128, 128) if layout == "veri776" else (64, 128))
                and picture.format == "JPEG"
            )
    assert {
        record["id_body_kind"] for record in load_factors(rendered["veri776"].root).values()
    } <= set(VEHICLES)


@pytest.mark.parametrize("layout", OFFICIAL_COUNTS)
def test_the_manifest_tells_the_factors_of_every_picture(rendered, layout):
    dataset = rendered[layout]
    factors = load_factors(dataset.root)
    assert set(factors) == {name for name in contents(dataset.root) if name.endswith(".jpg")}
    image = dataset.gallery[-1]
    record = factors[image.path.relative_to(dataset.root).as_posix()]
    on_disk = image.pid - 3 if layout.startswith("msmt17") else image.pid
    assert (record["pid"], record["camera"], record["split"]) == (
        on_disk,
        image.camid + 1,
        "gallery",
    )


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_people(rendered, tmp_path):
    first = contents(rendered["msmt17"].root)
    assert contents(render_layout(tmp_path / "again", "msmt17", **SMALL).root) == first
    other = contents(render_layout(tmp_path / "other", "msmt17", seed=1, **SMALL).root)
    assert set(other) == set(first) and all(
        other[name] != first[name] for name in first if name.endswith(".jpg")
    )


def test_what_is_there_is_read_and_not_rendered_again(rendered, monkeypatch):
    monkeypatch.setattr(module, "draw_shot", None)
    dataset = rendered["veri776"]
    assert (
        render_layout(dataset.root, "veri776", **SMALL).fingerprint() == dataset.fingerprint()
    )


def test_an_interrupted_render_leaves_nothing_that_could_be_read(tmp_path, monkeypatch):
    drawn = []
    draw = module.draw_shot

    def interrupted(settings, shot):
        drawn.append(shot)
        if len(drawn) == 15:
            raise KeyboardInterrupt
        return draw(settings, shot)

    monkeypatch.setattr(module, "draw_shot", interrupted)
    with pytest.raises(KeyboardInterrupt):
        render_layout(tmp_path / "people", "market1501", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_moved_into_place_before_all_is_written(tmp_path, monkeypatch):
    seen = []

    def replace(source, target):
        seen.append(({path.name for path in Path(source).iterdir()}, Path(target).exists()))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "replace", replace)
    with pytest.raises(KitError, match="No space left"):
        render_layout(tmp_path / "people", "msmt17", **SMALL)
    assert seen == [
        (
            {
                "train",
                "test",
                "manifest.jsonl",
                "rendered.json",
                *(f"list_{part}.txt" for part in ("train", "val", "query", "gallery")),
            },
            False,
        )
    ]


def test_a_foreign_folder_another_render_and_a_damaged_one_are_left_as_they_are(
    rendered, tmp_path
):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(KitError, match="empty or a new folder"):
        render_layout(tmp_path / "own", "market1501", **SMALL)
    with pytest.raises(KitError, match="empty or a new folder"):
        render_layout(tmp_path / "own" / "holiday.jpg", "market1501", **SMALL)
    assert contents(tmp_path / "own") == {"holiday.jpg": b"mine"}
    root = rendered["msmt17"].root
    before = contents(rendered["msmt17"].root)
    for layout, more in (
        ("msmt17", {"seed": 1}),
        ("msmt17_v2", {}),
        ("msmt17", {"n_train_ids": 4}),
    ):
        with pytest.raises(KitError, match="rendered with other settings"):
            render_layout(root, layout, **SMALL | more)
    assert contents(root) == before
    root = render_layout(tmp_path / "veri", "veri776", **SMALL).root
    lost = next((root / "image_query").iterdir())
    lost.unlink()
    with pytest.raises(
        KitError, match=f"lost 1 of its pictures, first image_query/{lost.name}"
    ):
        render_layout(root, "veri776", **SMALL)


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "new").mkdir()
    assert len(render_layout(tmp_path / "new", "dukemtmcreid", **SMALL).train) == 12
    assert (
        json.loads((tmp_path / "new" / "rendered.json").read_text())["layout"]
        == "dukemtmcreid"
    )


@pytest.mark.parametrize(
    ("layout", "more", "words"),
    [
        ("market", {}, "market1501, dukemtmcreid"),
        ("market1501", {"n_cameras": 7}, "6 cameras of market1501"),
        ("veri776", {"difficulty": "harder"}, "easy, medium, hard"),
        ("msmt17", {"n_train_ids": 0}, "n_train_ids=0"),
    ],
)
def test_what_cannot_be_rendered_is_refused_before_anything_is_written(
    tmp_path, layout, more, words
):
    with pytest.raises(KitError, match=words):
        render_layout(tmp_path / "new", layout, **SMALL | more)
    assert not (tmp_path / "new").exists()


def test_rendered_duke_is_read_like_the_withdrawn_one(rendered):
    with pytest.raises(KitError, match="withdrawn.*consent.*allow_withdrawn"):
        read_dataset("dukemtmcreid", rendered["dukemtmcreid"].root)


def test_a_veri_of_twenty_cameras_has_all_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(
        module, "draw_shot", lambda settings, shot: np.zeros((8, 8, 3), np.uint8)
    )
    dataset = render_layout(
        tmp_path / "veri",
        "veri776",
        n_train_ids=1,
        n_test_ids=1,
        n_cameras=20,
        images_per_camera=2,
        progress=False,
    )
    assert {image.camid for image in dataset.train} == set(range(20))
    assert next(image for image in dataset.train if image.camid == 19).path.name.startswith(
        "0001_c020_"
    )
