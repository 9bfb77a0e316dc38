"""The rendered data set: pictures depend on their seed alone, folders stay whole."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from dkdmpl_kit.data.rendering import dataset as module
from dkdmpl_kit.data.rendering.canvas import Canvas
from dkdmpl_kit.data.rendering.dataset import (
    SIZES,
    RenderSettings,
    Shot,
    draw_shot,
    load_factors,
    planned_shots,
    shot_factors,
    synthetic_dataset,
)
from dkdmpl_kit.data.rendering.factors import VEHICLES, identity_factors, picture_factors
from dkdmpl_kit.data.rendering.persons import draw_person
from dkdmpl_kit.data.rendering.vehicles import draw_vehicle
from dkdmpl_kit.errors import KitError

SMALL = {"n_train_ids": 2, "n_test_ids": 3, "n_cameras": 2, "images_per_camera": 2}


def settings(**changes) -> RenderSettings:
    return RenderSettings(
        **({**SMALL, "kind": "person", "difficulty": "medium", "seed": 0} | changes)
    )


def contents(root) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    root = tmp_path_factory.mktemp("rendered") / "people"
    return root, synthetic_dataset(root, **SMALL)


def test_the_same_settings_give_the_same_bytes_in_another_folder(rendered, tmp_path):
    synthetic_dataset(tmp_path / "again", **SMALL)
    assert contents(tmp_path / "again") == contents(rendered[0])


def test_a_picture_does_not_depend_on_how_many_others_are_rendered_or_when():
    shot = Shot("train", 3, 3, 2, 1)
    alone = draw_shot(settings(), shot)
    many = settings(n_train_ids=500, n_test_ids=9, n_cameras=4, images_per_camera=5)
    draw_shot(many, Shot("query", 2, 2, 1, 0))
    assert np.array_equal(alone, draw_shot(many, shot))
    assert not np.array_equal(alone, draw_shot(settings(seed=1), shot))
    names = {shot.relative_path() for shot in planned_shots(many)}
    assert {
        shot.relative_path()
        for shot in planned_shots(settings())
        if shot.pid > 0 and shot.index == 0
    } <= names


def test_layout_and_counts_are_those_of_market1501(rendered):
    root, dataset = rendered
    assert len(dataset.train) == 2 * 2 * 2 and len(dataset.query) == 3 * 2
    matches = [image for image in dataset.gallery if image.pid and image.pid > 0]
    assert len(matches) == 3 * 2 and any(image.pid == 0 for image in dataset.gallery)
    train, test = (
        {image.pid for image in images} for images in (dataset.train, dataset.query)
    )
    assert len(train) == 2 and len(test) == 3 and not train & test
    assert {(image.pid, image.camid) for image in dataset.query} == {
        (pid, camera) for pid in test for camera in (0, 1)
    }
    assert list((root / "bounding_box_test").glob("-1_*.png")), "no junk was rendered"
    with Image.open(dataset.train[0].path) as picture:
        assert picture.size == (64, 128) and picture.mode == "RGB"


def test_file_names_are_unique_even_for_many_pictures():
    large = settings(n_train_ids=90, n_test_ids=90, images_per_camera=12)
    names = [shot.relative_path() for shot in planned_shots(large)]
    assert len(names) == len(set(names))


def test_the_manifest_tells_every_factor_of_every_picture(rendered):
    root, _ = rendered
    factors = load_factors(root)
    assert set(factors) == {name for name in contents(root) if name.endswith(".png")}
    keys = {frozenset(record) for record in factors.values()}
    assert len(keys) == 1
    assert {
        "pid",
        "camera",
        "split",
        "id_skin",
        "id_hair_length",
        "id_top_colour",
        "id_top_pattern",
        "id_bottom_kind",
        "id_shoes_colour",
        "id_bag_kind",
        "id_lookalike_of",
        "cam_gain",
        "cam_cast",
        "cam_wall",
        "cam_yaw",
        "pic_view",
        "pic_pose_phase",
        "pic_occluder",
        "pic_light",
    } <= next(iter(keys))
    for path, record in factors.items():
        pid = f"{record['pid']:04d}" if record["pid"] >= 0 else "-1"
        assert path.split("/")[1].startswith(f"{pid}_c{record['camera']}s1_")
    of_one_person = [record for record in factors.values() if record["pid"] == 2]
    assert len({record["id_top_colour"] for record in of_one_person}) == 1
    assert len({record["pic_yaw"] for record in of_one_person}) == len(of_one_person)


def test_pictures_of_different_cameras_grow_apart_with_difficulty():
    shift = []
    for difficulty in ("easy", "medium", "hard"):
        chosen = settings(difficulty=difficulty, n_cameras=6)
        means = []
        for camera in range(1, 7):
            shots = [Shot("train", pid, pid, camera, 0) for pid in (1, 3, 5)]
            pictures = [draw_shot(chosen, shot) for shot in shots]
            means.append(np.mean(pictures, axis=(0, 1, 2)))
        shift.append(float(np.std(means, axis=0).mean()))
    assert shift[0] * 1.3 < shift[1] and shift[1] * 1.2 < shift[2], shift


def test_lookalikes_and_occluders_grow_with_difficulty():
    shares = []
    for difficulty in ("easy", "medium", "hard"):
        people = [identity_factors(0, "person", pid, difficulty) for pid in range(1, 400)]
        pictures = [
            picture_factors(0, "person", pid, 1, 0, difficulty, 0.0) for pid in range(1, 400)
        ]
        shares.append(
            (
                sum(person["lookalike_of"] is not None for person in people),
                sum(picture["occluder"] != "none" for picture in pictures),
            )
        )
    assert all(
        low < high
        for before, after in zip(shares, shares[1:])
        for low, high in zip(before, after)
    )


def test_a_lookalike_wears_the_clothes_of_another_of_its_split_with_one_difference():
    people = {pid: identity_factors(0, "person", pid, "hard") for pid in range(1, 80)}
    pairs = [
        (person, people[person["lookalike_of"]], pid - person["lookalike_of"])
        for pid, person in people.items()
        if person["lookalike_of"]
    ]
    assert pairs
    for person, model, distance in pairs:
        groups = ("top_", "bottom_", "shoes_", "bag_")
        differ = [
            group
            for group in groups
            if any(person[key] != model[key] for key in person if key.startswith(group))
        ]
        assert distance % 2 == 0 and len(differ) == 1


def test_a_finished_render_is_read_and_not_drawn_again(rendered, monkeypatch):
    root, dataset = rendered
    monkeypatch.setattr(module, "draw_shot", lambda *_: pytest.fail("drawn again"))
    assert synthetic_dataset(root, **SMALL).fingerprint() == dataset.fingerprint()


def test_an_interrupted_render_goes_on_and_ends_like_an_uninterrupted_one(
    rendered, tmp_path, monkeypatch
):
    root = tmp_path / "broken"
    drawn = []
    draw = module.draw_shot

    def stop_after_five(chosen, shot):
        if len(drawn) == 5:
            raise KeyboardInterrupt
        drawn.append(shot)
        return draw(chosen, shot)

    monkeypatch.setattr(module, "draw_shot", stop_after_five)
    with pytest.raises(KeyboardInterrupt):
        synthetic_dataset(root, **SMALL)
    assert not (root / "dataset.json").exists()
    monkeypatch.setattr(module, "draw_shot", lambda *shot: drawn.append(shot) or draw(*shot))
    synthetic_dataset(root, **SMALL)
    assert contents(root) == contents(rendered[0])
    assert len(drawn) == len(list(planned_shots(settings()))), (
        "a finished picture was drawn twice"
    )


def test_a_picture_that_was_deleted_is_drawn_again(tmp_path):
    dataset = synthetic_dataset(tmp_path / "set", **SMALL)
    victim = dataset.train[3].path
    before = victim.read_bytes()
    victim.unlink()
    synthetic_dataset(tmp_path / "set", **SMALL)
    assert victim.read_bytes() == before


def test_other_settings_in_the_same_folder_are_an_error_that_names_them(rendered):
    with pytest.raises(KitError, match="seed 0 there, 7 wanted"):
        synthetic_dataset(rendered[0], **SMALL, seed=7)


@pytest.mark.parametrize("text", ["{", "[]", '{"settings": 3}'])
def test_a_damaged_description_is_one_clear_sentence(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(KitError, match="delete the folder"):
        synthetic_dataset(tmp_path, **SMALL)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("two years of work")
    with pytest.raises(KitError, match="not a rendered data set"):
        synthetic_dataset(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "horse"}, "person, vehicle"),
        ({"difficulty": "mad"}, "easy, medium, hard"),
        ({"seed": -1}, "seed"),
        ({"n_train_ids": 0}, "n_train_ids"),
        ({"images_per_camera": 1}, "images_per_camera"),
        ({"n_test_ids": 5000}, "4999"),
        ({"n_cameras": 2.5}, "n_cameras"),
    ],
)
def test_settings_that_cannot_be_rendered_are_named(tmp_path, changes, words):
    with pytest.raises(KitError, match=words):
        synthetic_dataset(tmp_path / "none", **(SMALL | changes))
    assert not (tmp_path / "none").exists()


def test_factors_of_a_folder_without_manifest_are_an_error(tmp_path):
    with pytest.raises(KitError, match="manifest.jsonl"):
        load_factors(tmp_path)


def test_vehicles_are_square_and_told_by_their_own_factors(tmp_path):
    dataset = synthetic_dataset(
        tmp_path / "cars", **(SMALL | {"n_train_ids": 1, "n_test_ids": 1}), kind="vehicle"
    )
    with Image.open(dataset.train[0].path) as picture:
        assert picture.size == (128, 128)
    factors = load_factors(tmp_path / "cars")
    assert {record["id_body_kind"] for record in factors.values()} <= set(VEHICLES)
    described = json.loads((tmp_path / "cars" / "dataset.json").read_text())
    assert described["settings"]["kind"] == "vehicle" and described["images"] == len(factors)


@pytest.mark.parametrize("kind", ["person", "vehicle"])
@pytest.mark.parametrize("yaw", [0, 45, 90, 180, 270])
def test_figures_fill_their_box_from_every_side(kind, yaw):
    chosen = settings(kind=kind)
    identity, camera, picture = shot_factors(chosen, Shot("train", 1, 1, 1, 0))
    height, width = (2 * side for side in SIZES[kind])
    grey = np.full((height, width, 3), 0.5, np.float32)
    smooth = np.ones((height, width), np.float32)
    canvas = Canvas(grey, camera["light"], smooth)
    draw = draw_person if kind == "person" else draw_vehicle
    draw(canvas, identity, picture | {"yaw": yaw, "x": 0.0, "y": 0.0, "scale": 1.0}, camera)
    assert 0.15 < canvas.mask.mean() < 0.9
    rows = np.flatnonzero(canvas.mask.max(1) > 0.5)
    columns = np.flatnonzero(canvas.mask.max(0) > 0.5)
    assert max(np.ptp(rows) / height, np.ptp(columns) / width) > 0.75
    assert np.isfinite(canvas.pixels).all() and canvas.pixels.max() < 2
