"""Pictures as batches: decoding once, memory maps, augmentation by the picture, and P x
K sampling.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dkdmpl_kit.data import (
    ImageStore,
    ReIDDataset,
    ReIDImage,
    augment,
    drop_corrupt,
    loading,
    pk_batches,
    to_float,
)
from dkdmpl_kit.errors import KitError

FILL = torch.tensor(loading.IMAGENET_MEAN)[:, None, None] / 255


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


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- ImageStore


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
    for images in (store(pictures), store(pictures, memory_limit_mb=0, cache_dir=tmp_path)):
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
    monkeypatch.setattr(loading, "_decode", lambda *_: pytest.fail("decoded again"))
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


def test_above_the_limit_without_a_cache_folder_or_with_an_unusable_one_is_an_error(
    pictures, monkeypatch, tmp_path
):
    with pytest.raises(KitError, match="memory_limit_mb.*cache_dir"):
        store(pictures, memory_limit_mb=0)
    with pytest.raises(KitError, match="cannot be used"):
        store(pictures, memory_limit_mb=0, cache_dir=pictures[0])
    monkeypatch.setattr(
        loading.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})()
    )
    with pytest.raises(KitError, match="free"):
        store(pictures, memory_limit_mb=0, cache_dir=tmp_path / "cache")


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


# ---- augment


@pytest.fixture
def batch() -> torch.Tensor:
    """(200, 3, 32, 16): no black, no pixel of the erasing colour, no picture its own
    mirror image.
    """
    return torch.randint(1, 100, (200, 3, 32, 16), generator=seeded(7), dtype=torch.uint8)


def changed(out: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    return (out != to_float(batch)).any(dim=1)


def test_to_float_scales_bytes_to_the_unit_interval():
    out = to_float(torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 3, 1, 1))
    assert out.dtype == torch.float32 and torch.allclose(
        out.flatten(), torch.tensor([0, 0.2, 1.0])
    )


def test_with_everything_off_only_the_type_changes(batch):
    assert torch.equal(
        augment(batch, seeded(), flip=0, padding=0, erasing=0), to_float(batch)
    )


def test_augment_is_determined_by_the_generator_and_leaves_its_input_alone(batch):
    original = batch.clone()
    one, two, other = (
        augment(batch, seeded(1)),
        augment(batch, seeded(1)),
        augment(batch, seeded(2)),
    )
    assert (
        torch.equal(one, two) and not torch.equal(one, other) and torch.equal(batch, original)
    )
    assert (
        one.dtype == torch.float32
        and one.shape == batch.shape
        and 0 <= one.min()
        and one.max() <= 1
    )


def test_the_generator_can_be_saved_and_restored_between_batches(batch):
    generator = seeded()
    augment(batch, generator)
    state = generator.get_state()
    expected = augment(batch, generator)
    assert torch.equal(augment(batch, torch.Generator().set_state(state)), expected)


def test_the_generator_moves_by_the_same_amount_whatever_the_settings(batch):
    one, two = seeded(), seeded()
    augment(batch, one)
    augment(batch, two, flip=0, padding=0, erasing=0)
    assert torch.equal(one.get_state(), two.get_state())


def test_flip_mirrors_whole_pictures_about_half_of_them(batch):
    out, plain = augment(batch, seeded(), padding=0, erasing=0), to_float(batch)
    mirrored = (out == plain.flip(-1)).flatten(1).all(dim=1)
    untouched = (out == plain).flatten(1).all(dim=1)
    assert torch.all(mirrored ^ untouched) and 60 < int(mirrored.sum()) < 140
    assert torch.equal(augment(batch, seeded(), flip=1, padding=0, erasing=0), plain.flip(-1))


def test_crop_moves_each_picture_by_at_most_the_padding_and_fills_with_black(batch):
    out = augment(batch, seeded(), flip=0, padding=4, erasing=0)
    padded = torch.nn.functional.pad(to_float(batch), (4, 4, 4, 4))
    shifts = [
        next(
            (top, left)
            for top in range(9)
            for left in range(9)
            if torch.equal(padded[i, :, top : top + 32, left : left + 16], out[i])
        )
        for i in range(len(out))
    ]
    assert {top for top, _ in shifts} == {left for _, left in shifts} == set(range(9))
    assert len(set(shifts)) > 50, "rows and columns are drawn apart, and by the picture"


def test_erasing_fills_one_box_with_the_mean_colour_within_its_limits(batch):
    out = augment(batch, seeded(), flip=0, padding=0, erasing=1)
    boxes = changed(out, batch)
    erased = boxes.flatten(1).any(dim=1)
    assert int(erased.sum()) > 190, (
        "with ten attempts nearly every picture gets a box that fits"
    )
    for index in torch.nonzero(erased)[:, 0].tolist():
        rows, columns = (
            boxes[index].any(dim=1).sum().item(),
            boxes[index].any(dim=0).sum().item(),
        )
        top, left = (
            boxes[index].any(dim=1).long().argmax(),
            boxes[index].any(dim=0).long().argmax(),
        )
        box = out[index, :, top : top + rows, left : left + columns]
        assert int(boxes[index].sum()) == rows * columns and torch.allclose(
            box, FILL.expand_as(box)
        )
        assert 0.5 * 0.02 * 512 <= rows * columns <= 1.1 * 0.4 * 512, (
            "up to rounding of the sides to pixels"
        )
        assert (rows - 0.5) / (columns + 0.5) <= 3.33 and (rows + 0.5) / (
            columns - 0.5
        ) >= 0.3


def test_erasing_happens_with_its_probability_at_places_all_over_the_picture(batch):
    boxes = changed(augment(batch, seeded(), flip=0, padding=0), batch)
    assert 60 < int(boxes.flatten(1).any(dim=1).sum()) < 140
    for direction in (1, 2):
        assert boxes.any(dim=direction).any(dim=0).all(), (
            "every row and every column is reached, the edges too"
        )
    assert len({tuple(box.flatten().tolist()) for box in boxes if box.any()}) > 50


def test_a_picture_in_which_no_box_fits_stays_whole():
    thin = torch.ones((20, 3, 400, 1), dtype=torch.uint8)
    assert torch.equal(augment(thin, seeded(), flip=0, padding=0, erasing=1), to_float(thin))


def test_the_smallest_pictures_and_the_empty_batch_pass(batch):
    assert augment(batch[:3, :, :1, :1], seeded(), erasing=1).shape == (3, 3, 1, 1)
    assert augment(batch[:0], seeded()).shape == (0, 3, 32, 16)


def test_augment_refuses_floats_and_single_pictures(batch):
    for wrong in (batch.float(), batch[0], batch[:, :1]):
        with pytest.raises(KitError, match="uint8 batch"):
            augment(wrong, seeded())


# ---- pk_batches


def batches(
    labels, camids=None, *, p=4, k=4, iterations=12, sampler="random", seed=0
) -> list[np.ndarray]:
    camids = np.zeros(len(labels), dtype=int) if camids is None else camids
    return list(
        pk_batches(
            np.asarray(labels),
            np.asarray(camids),
            clusters_per_batch=p,
            images_per_cluster=k,
            iterations=iterations,
            sampler=sampler,
            generator=seeded(seed),
        )
    )


@st.composite
def clusterings(draw):
    """Labels with at least two clusters, gaps in their numbers and outliers; cameras
    beside them.
    """
    labels = draw(st.lists(st.sampled_from([-1, 0, 1, 2, 5, 6, 9]), min_size=2, max_size=60))
    labels += [0, 9]
    camids = draw(st.lists(st.integers(0, 3), min_size=len(labels), max_size=len(labels)))
    return np.array(labels), np.array(camids)


shapes = {"p": st.integers(1, 6), "k": st.integers(1, 6), "seed": st.integers(0, 9)}


@settings(max_examples=60, deadline=None)
@given(data=clusterings(), sampler=st.sampled_from(["camera", "random"]), **shapes)
def test_a_batch_is_p_different_clusters_times_k_images_without_outliers(
    data, sampler, p, k, seed
):
    labels, camids = data
    present = set(labels[labels >= 0].tolist())
    for batch in batches(labels, camids, p=p, k=k, sampler=sampler, seed=seed):
        rows = labels[batch].reshape(-1, k)
        assert batch.dtype == np.int64 and len(rows) == min(p, len(present))
        assert (
            (rows >= 0).all()
            and (rows == rows[:, :1]).all()
            and len(set(rows[:, 0])) == len(rows)
        )


@settings(max_examples=60, deadline=None)
@given(data=clusterings(), **shapes)
def test_all_clusters_pass_before_any_returns(data, p, k, seed):
    labels, camids = data
    present = sorted(set(labels[labels >= 0].tolist()))
    stream = [
        label
        for batch in batches(labels, camids, p=p, k=k, iterations=20, seed=seed)
        for label in labels[batch][::k].tolist()
    ]
    for start in range(0, len(stream) - len(present) + 1, len(present)):
        assert sorted(stream[start : start + len(present)]) == present


@settings(max_examples=60, deadline=None)
@given(data=clusterings(), **shapes)
def test_the_camera_sampler_takes_other_cameras_of_the_anchor_where_there_are_any(
    data, p, k, seed
):
    labels, camids = data
    for batch in batches(labels, camids, p=p, k=k, sampler="camera", seed=seed):
        for anchor, *others in batch.reshape(-1, k).tolist():
            elsewhere = np.flatnonzero(
                (labels == labels[anchor]) & (camids != camids[anchor])
            )
            if len(elsewhere):
                assert all(camids[other] != camids[anchor] for other in others)
                assert len(set(others)) == min(len(elsewhere), k - 1)
            elif (labels == labels[anchor]).sum() > 1:
                assert anchor not in others


@settings(max_examples=60, deadline=None)
@given(data=clusterings(), **shapes)
def test_the_random_sampler_repeats_an_image_only_when_the_cluster_is_used_up(
    data, p, k, seed
):
    labels, camids = data
    for batch in batches(labels, camids, p=p, k=k, seed=seed):
        for row in batch.reshape(-1, k):
            assert len(set(row.tolist())) == min(k, int((labels == labels[row[0]]).sum()))


def test_every_image_is_drawn_in_time_and_about_equally_often():
    labels = np.repeat([0, 1, 2], 8)
    for sampler in ("random", "camera"):
        counts = Counter(
            np.concatenate(
                batches(labels, np.tile([0, 1], 12), p=3, iterations=200, sampler=sampler)
            )
        )
        assert len(counts) == 24 and min(counts.values()) > 60 and max(counts.values()) < 140


def test_the_order_of_clusters_is_fresh_each_time_round():
    labels = np.arange(10)
    orders = {tuple(batch.tolist()) for batch in batches(labels, p=10, k=1, iterations=6)}
    assert len(orders) == 6


def test_batches_depend_on_the_generator_and_draw_from_it_once_at_the_call():
    labels = np.repeat(np.arange(8), 5)
    one, two, other = batches(labels), batches(labels), batches(labels, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    generator = seeded()
    drawn = pk_batches(
        labels,
        labels,
        clusters_per_batch=4,
        images_per_cluster=4,
        iterations=12,
        sampler="random",
        generator=generator,
    )
    state = generator.get_state()
    torch.rand(5, generator=generator)  # what augment does between batches
    assert all(np.array_equal(a, b) for a, b in zip(one, drawn, strict=True))
    assert not torch.equal(state, seeded().get_state()), "the next call gives other batches"


@pytest.mark.parametrize("labels", [[-1, -1, -1], [0, 0, -1], []])
def test_fewer_than_two_clusters_is_an_error_at_the_call_that_says_what_to_turn(labels):
    with pytest.raises(KitError, match="eps.*min_samples.*k1"):
        pk_batches(
            np.array(labels, dtype=int),
            np.zeros(len(labels)),
            clusters_per_batch=2,
            images_per_cluster=2,
            iterations=1,
            generator=seeded(),
        )


def test_the_camera_sampler_needs_cameras_of_all_but_outliers():
    with pytest.raises(KitError, match='sampler="random"'):
        batches([0, 0, 1, 1], [0, 1, -1, 0], sampler="camera")
    assert len(batches([0, 0, 1, 1, -1], [0, 1, 1, 0, -1], sampler="camera")) == 12
    assert len(batches([0, 0, 1, 1], [-1] * 4, sampler="random")) == 12


def test_unknown_samplers_empty_batches_and_unequal_lengths_are_errors():
    with pytest.raises(KitError, match="camera, random"):
        batches([0, 1], sampler="pk")
    for wrong in ({"p": 0}, {"k": 0}, {"iterations": 0}):
        with pytest.raises(KitError, match="at least 1"):
            batches([0, 1], **wrong)
    with pytest.raises(KitError, match=r"\(2,\) and \(3,\)"):
        batches([0, 1], [0, 0, 0])
