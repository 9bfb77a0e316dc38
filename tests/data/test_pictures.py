"""The store of pictures: decoded once, in memory or in a file that a later run maps."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dkdmpl_kit.data import (
    ImageStore,
    ReIDDataset,
    ReIDImage,
    drop_corrupt,
)
from dkdmpl_kit.data import pictures as module
from dkdmpl_kit.errors import KitError


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / "in" / f"{i:03d}.png" for i in range(7)]
    paths[0].parent.mkdir()
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (16, 8, 3), dtype=np.uint8)).save(path)
    return paths


def store(paths, **more) -> ImageStore:
    return ImageStore(
        paths, more.pop("height", 16), more.pop("width", 8), progress=False, **more
    )


def test_pixels_are_the_decoded_pictures_in_the_order_of_the_paths(pictures):
    images = store(pictures)
    expected = np.stack(
        [np.asarray(Image.open(path)).transpose(2, 0, 1) for path in pictures]
    )
    assert len(images) == 7 and images.pixels.dtype == torch.uint8
    assert np.array_equal(images.pixels.numpy(), expected)
    assert torch.equal(images.batch(np.array([3, 0, 3])), images.pixels[[3, 0, 3]])


def test_pictures_are_resized_bilinearly_to_height_by_width_and_made_rgb(pictures, tmp_path):
    Image.open(pictures[0]).convert("L").save(tmp_path / "grey.png")
    images = store([pictures[0], tmp_path / "grey.png"], height=6, width=5)
    expected = np.asarray(
        Image.open(pictures[0]).resize((5, 6), Image.Resampling.BILINEAR)
    ).transpose(2, 0, 1)
    assert images.pixels.shape == (2, 3, 6, 5)
    assert np.array_equal(images.pixels[0].numpy(), expected)
    assert torch.equal(images.pixels[1, 0], images.pixels[1, 1])


def test_more_pictures_than_one_round_of_the_threads_are_all_decoded(pictures):
    images = store(pictures * 80, height=2, width=2)
    assert torch.equal(images.pixels[-7:], images.pixels[:7]) and images.pixels[-1].any()


def test_a_batch_is_a_copy(pictures, tmp_path):
    for more in ({}, {"memory_limit_mb": 0, "cache_dir": tmp_path}, {"keep": False}):
        images = store(pictures, **more)
        before = images.batch([1])
        images.batch([1]).zero_()
        assert torch.equal(images.batch([1]), before) and before.any()


@pytest.mark.parametrize("limit", [4096, 0])
def test_a_corrupt_a_truncated_and_a_missing_picture_are_named(pictures, tmp_path, limit):
    whole = pictures[4].read_bytes()
    for content in (b"no picture", whole[: len(whole) // 2], None):
        pictures[4].unlink()
        if content is not None:
            pictures[4].write_bytes(content)
        with pytest.raises(KitError, match=r"004\.png cannot be read .*--skip-corrupt"):
            store(pictures, memory_limit_mb=limit, cache_dir=tmp_path / "cache")
        pictures[4].write_bytes(whole)
    assert not list(tmp_path.glob("cache/*")), "a failed decode leaves nothing in the cache"


def test_the_memory_map_equals_the_tensor_in_memory(pictures, tmp_path):
    mapped = store(pictures, memory_limit_mb=0, cache_dir=tmp_path / "cache")
    assert isinstance(mapped.pixels, np.memmap) and not mapped.pixels.flags.writeable
    assert np.array_equal(mapped.pixels, store(pictures).pixels.numpy())
    assert torch.equal(mapped.batch([6, 2]), store(pictures).batch([6, 2]))


def test_a_second_run_maps_the_same_file_without_decoding(pictures, tmp_path, monkeypatch):
    first = store(pictures, memory_limit_mb=0, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(module, "decode_parts", lambda *_: pytest.fail("decoded again"))
    again = store(pictures, memory_limit_mb=0, cache_dir=tmp_path / "cache")
    assert np.array_equal(first.pixels, again.pixels)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_changed_picture_another_size_or_order_is_decoded_anew(pictures, tmp_path):
    def mapped(paths, **more):
        return store(paths, memory_limit_mb=0, cache_dir=tmp_path / "cache", **more)

    before = mapped(pictures).pixels
    Image.new("RGB", (8, 16), "red").save(pictures[0])
    assert not np.array_equal(before[0], mapped(pictures).pixels[0])
    assert mapped(pictures, height=4).pixels.shape[2] == 4
    assert np.array_equal(mapped(pictures[::-1]).pixels[6], mapped(pictures).pixels[0])
    os.utime(pictures[1], (1, 1))  # same size, another time: it may be another picture
    mapped(pictures)
    assert len(list((tmp_path / "cache").iterdir())) == 5


def test_an_unusable_cache_folder_and_a_full_disk_are_errors(pictures, monkeypatch, tmp_path):
    with pytest.raises(KitError, match="cannot be used"):
        store(pictures, memory_limit_mb=0, cache_dir=pictures[0])
    monkeypatch.setattr(
        module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})()
    )
    with pytest.raises(KitError, match="free"):
        store(pictures, memory_limit_mb=0, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("more", [{"memory_limit_mb": 0}, {"keep": False}])
def test_without_a_cache_folder_batches_are_decoded_when_asked_for(
    pictures, monkeypatch, more
):
    whole = store(pictures).pixels
    monkeypatch.setattr(module, "decode_parts", lambda *_: pytest.fail("decoded before"))
    images = store(pictures, **more)
    monkeypatch.undo()
    assert len(images) == 7 and torch.equal(images.batch([3, 0, 3]), whole[[3, 0, 3]])
    with pytest.raises(KitError, match=r"7 pictures of 16 x 8 .* \.batch\(indices\)"):
        _ = images.pixels
    pictures[5].write_bytes(b"no picture")
    with pytest.raises(KitError, match="005.png cannot be read"):
        images.batch(np.arange(4, 7))


def test_all_stores_together_hold_at_most_the_limit(pictures, monkeypatch):
    one = 7 * 3 * 16 * 8 / 2**20
    held = sum(other.megabytes for other in module._HOLDING)
    monkeypatch.setattr(module, "MEMORY_MB", held + 2.5 * one)
    first, second, third = (store(pictures) for _ in range(3))
    assert len(first.pixels) == len(second.pixels) == 7
    with pytest.raises(KitError, match="batch by batch"):
        _ = third.pixels
    assert torch.equal(third.batch([6]), first.batch([6]))
    del first
    assert torch.equal(store(pictures).pixels, second.pixels), "its room is free again"


def test_what_a_killed_process_left_in_the_cache_is_removed(pictures, tmp_path):
    cache = tmp_path / "cache"
    host = socket.gethostname()
    dead, living, elsewhere = (
        cache / f"pixels-{name}-x"
        for name in (f"{host}-{2**22 + 1}", f"{host}-{os.getpid()}", "another-1")
    )
    for folder in (dead, living, elsewhere):
        folder.mkdir(parents=True)
        (folder / "part.npy").write_bytes(b"half")
    store(pictures, memory_limit_mb=0, cache_dir=cache)
    assert not dead.exists() and living.exists() and elsewhere.exists()


def test_no_pictures_and_no_size_are_errors(pictures):
    with pytest.raises(KitError, match="0 pictures"):
        store([])
    with pytest.raises(KitError, match="0 x 8"):
        store(pictures, height=0)


def test_corrupt_pictures_are_dropped_from_every_split_and_listed(pictures):
    images = [ReIDImage(path, index, 0) for index, path in enumerate(pictures)]
    dataset = ReIDDataset(
        "own", pictures[0].parent, tuple(images[:3]), tuple(images[3:5]), tuple(images[3:])
    )
    for index in (4, 1):
        pictures[index].write_bytes(b"broken")
    kept, skipped = drop_corrupt(dataset, progress=False)
    assert skipped == (pictures[1], pictures[4])
    assert [image.pid for image in kept.train] == [0, 2]
    assert [image.pid for image in kept.query] == [3] and [
        image.pid for image in kept.gallery
    ] == [3, 5, 6]
    assert drop_corrupt(kept, progress=False) == (kept, ())


def test_a_split_that_has_only_corrupt_pictures_is_an_error(pictures):
    images = [ReIDImage(path, index, 0) for index, path in enumerate(pictures)]
    pictures[3].write_bytes(b"broken")
    dataset = ReIDDataset(
        "own", pictures[0].parent, tuple(images[:3]), (images[3],), tuple(images[4:])
    )
    with pytest.raises(KitError, match="query split"):
        drop_corrupt(dataset, progress=False)
