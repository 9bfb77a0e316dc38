"""Records: counts, the table of them, the fingerprint, and what a trainer can reach."""

from __future__ import annotations

import gc
import shutil
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import numpy as np
import pytest

from dkdmpl_kit.data import ReIDDataset, ReIDImage, TrainingImages, arrays_of
from dkdmpl_kit.errors import KitError


def made(root: Path, ids=((1, 0), (1, 1), (2, 0))) -> ReIDDataset:
    def image(split: str, index: int, pid, camid) -> ReIDImage:
        path = root / split / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * (index + 1))
        return ReIDImage(path, pid, camid)

    train = tuple(image("train", i, *pair) for i, pair in enumerate(ids))
    return ReIDDataset(
        "own", root, train, (image("query", 0, 7, 0),), (image("gallery", 0, 7, 1),)
    )


def test_statistics_count_images_identities_and_cameras_of_each_split(tmp_path):
    statistics = made(tmp_path).statistics()
    assert statistics["train"] == {"images": 3, "identities": 2, "cameras": 2}
    assert statistics["query"] == {"images": 1, "identities": 1, "cameras": 1}
    assert list(statistics) == ["train", "query", "gallery"]


def test_unknown_identities_and_cameras_are_none_in_statistics_and_a_dash_in_the_summary(
    tmp_path,
):
    dataset = made(tmp_path, ids=((None, None), (None, None)))
    assert dataset.statistics()["train"] == {"images": 2, "identities": None, "cameras": None}
    row = next(line for line in dataset.summary().splitlines() if line.startswith("train"))
    assert row.split() == ["train", "2", "-", "-"]


def test_the_summary_is_a_table_that_does_not_tell_where_the_folder_lies(tmp_path):
    summary = made(tmp_path / "crops").summary()
    assert summary.splitlines()[0] == "own (crops)" and str(tmp_path) not in summary
    assert len({len(line) for line in summary.splitlines()[1:]}) == 1


def test_the_fingerprint_is_the_same_for_a_copy_elsewhere_and_for_another_order(tmp_path):
    first = made(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    moved = made(tmp_path / "b")
    assert first.fingerprint() == moved.fingerprint()
    assert first.fingerprint() == replace(first, train=first.train[::-1]).fingerprint()
    assert len(first.fingerprint()) == 16 and int(first.fingerprint(), 16) >= 0


def test_the_fingerprint_changes_with_a_byte_an_identity_or_a_camera(tmp_path):
    dataset = made(tmp_path)
    prints = {dataset.fingerprint()}
    for change in ({"pid": 9}, {"camid": 5}, {"pid": None}):
        prints.add(
            replace(
                dataset, train=(replace(dataset.train[0], **change), *dataset.train[1:])
            ).fingerprint()
        )
    dataset.train[0].path.write_bytes(b"longer")
    prints.add(dataset.fingerprint())
    assert len(prints) == 5


def test_the_fingerprint_of_a_vanished_picture_is_an_error_that_names_it(tmp_path):
    dataset = made(tmp_path)
    dataset.train[1].path.unlink()
    with pytest.raises(KitError, match="1.jpg"):
        dataset.fingerprint()


def with_tracks(dataset: ReIDDataset, *tracks: int | None) -> ReIDDataset:
    train = tuple(
        replace(image, track=track)
        for image, track in zip(dataset.train, tracks, strict=True)
    )
    return replace(dataset, train=train)


def test_training_images_hold_paths_cameras_and_tracks_and_nothing_else(tmp_path):
    dataset = made(tmp_path, ids=((1, 0), (1, None), (2, 3)))
    images = dataset.unlabelled()
    assert [field.name for field in fields(images)] == ["paths", "camids", "tracks"]
    assert images.paths == tuple(image.path for image in dataset.train) and len(images) == 3
    assert images.camids.dtype == np.int64 and images.camids.tolist() == [0, -1, 3]
    assert images.tracks is None
    tracked = with_tracks(dataset, None, 4, 0).unlabelled()
    assert tracked.tracks.dtype == np.int64 and tracked.tracks.tolist() == [-1, 4, 0]
    assert tracked.paths == images.paths


def test_a_track_counts_for_the_fingerprint_where_there_is_one(tmp_path):
    dataset = made(tmp_path)
    prints = {
        with_tracks(dataset, *tracks).fingerprint()
        for tracks in ((None, None, None), (0, 0, None), (0, None, 0), (1, 1, 0))
    }
    assert len(prints) == 4 and dataset.fingerprint() in prints


@pytest.mark.parametrize("tracks", [(None, None, None), (0, 0, 1)], ids=["none", "tracks"])
def test_no_reference_leads_from_training_images_to_an_identity(tmp_path, tracks):
    images = with_tracks(made(tmp_path), *tracks).unlabelled()
    seen = set()
    waiting = [images]
    while waiting:
        here = waiting.pop()
        if id(here) in seen or isinstance(here, type):
            continue
        seen.add(id(here))
        assert not isinstance(here, (ReIDImage, ReIDDataset))
        waiting.extend(gc.get_referents(here))
    assert len(seen) > len(images.paths)
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        images.pids = np.arange(3)


def test_shuffled_identities_give_the_same_training_images(tmp_path):
    dataset = with_tracks(made(tmp_path), 0, None, 0)
    shuffled = replace(
        dataset,
        train=tuple(replace(image, pid=99 - i) for i, image in enumerate(dataset.train)),
    )
    one = dataset.unlabelled()
    other = shuffled.unlabelled()
    assert one.paths == other.paths and np.array_equal(one.camids, other.camids)
    assert one.tracks.tolist() == other.tracks.tolist() == [0, -1, 0]
    assert isinstance(one, TrainingImages)


def test_a_data_set_without_training_pictures_has_nothing_to_train_on(tmp_path):
    with pytest.raises(KitError, match="no training pictures"):
        replace(made(tmp_path), train=()).unlabelled()


def test_arrays_of_writes_minus_one_for_the_unknown():
    paths, pids, camids = arrays_of(
        [ReIDImage(Path("a"), None, 2), ReIDImage(Path("b"), 5, None)]
    )
    assert paths == (Path("a"), Path("b"))
    assert pids.tolist() == [-1, 5] and camids.tolist() == [2, -1]
    assert pids.dtype == camids.dtype == np.int64


def test_arrays_of_nothing_are_empty_integer_arrays():
    paths, pids, camids = arrays_of([])
    assert paths == () and pids.shape == camids.shape == (0,) and pids.dtype == np.int64


def test_the_package_offers_the_renderer_lazily_and_knows_its_other_names():
    import dkdmpl_kit.data as data

    assert all(callable(getattr(data, name)) for name in data.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        data.no_such_name  # noqa: B018
