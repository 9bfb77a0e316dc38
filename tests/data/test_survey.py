"""What is seen of a folder of crops before any encoder looks at it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from dkdmpl_kit.data import TrainingImages
from dkdmpl_kit.data.survey import difference_hash, sharpness, survey
from dkdmpl_kit.errors import KitError


def scene(seed: int, size=(48, 96)) -> Image.Image:
    """Sharp blocks of random colours."""
    colours = np.random.default_rng(seed).integers(40, 256, (12, 6, 3), np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)


def folder(tmp_path, pictures: dict, camids=None) -> TrainingImages:
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
    unknown = np.full(len(pictures), -1)
    paths = tuple(tmp_path / name for name in pictures)
    return TrainingImages(paths, unknown if camids is None else np.array(camids))


def test_each_fault_is_counted_for_the_picture_that_has_it(tmp_path):
    images = folder(
        tmp_path,
        {
            "a.png": scene(1),
            "b.png": scene(2).filter(ImageFilter.GaussianBlur(8)),
            "c.png": Image.new("RGB", (48, 96), (6, 6, 6)),
            "d.png": scene(3, (12, 24)),
            "e.png": scene(4, (60, 60)),
        },
        [0, 1, -1, 1, 0],
    )
    found = survey(images)
    # what is black, or enlarged, is not sharp either
    assert found.blurred.tolist() == [False, True, True, True, False]
    assert found.dark.tolist() == [False, False, True, False, False]
    assert found.tiny.tolist() == [False, False, False, True, False]
    assert not found.repeated.any() and (found.burst == -1).all()
    assert (found.height, found.width, found.smallest) == (96, 48, 24)
    assert (found.cameras, found.unknown_cameras, len(found)) == (2, 1, 5)
    record = found.record()
    assert (record["blurred"], record["dark"], record["tiny"]) == (3, 1, 1)
    assert "2 cameras, unknown for 1" in found.lines()[0]
    assert found.burst_length == 1


def test_bursts_are_neighbours_by_name_of_one_camera_that_look_alike(tmp_path):
    noisy = np.asarray(scene(1), np.int16)
    frames = [
        Image.fromarray(
            (noisy + np.random.default_rng(i).integers(-2, 3, noisy.shape))
            .clip(0, 255)
            .astype(np.uint8)
        )
        for i in range(3)
    ]
    images = folder(
        tmp_path,
        # handed over in another order than that of their names
        {"a3.png": frames[2], "a1.png": frames[0], "a2.png": frames[1], "b.png": scene(2)},
        [0, 0, 0, 0],
    )
    assert survey(images).burst.tolist() == [0, 0, 0, -1]
    assert survey(images).burst_length == 2  # four pictures in one burst and one alone
    apart = TrainingImages(images.paths, np.array([1, 0, 0, 0]))
    assert survey(apart).burst.tolist() == [-1, 0, 0, -1]


def test_the_same_picture_twice_is_repeated_wherever_it_lies(tmp_path):
    images = folder(tmp_path, {"a.png": scene(1), "m.png": scene(2), "z.png": scene(1)})
    assert survey(images).repeated.tolist() == [True, False, True]


def test_a_hash_compares_each_block_with_its_right_neighbour():
    ramp = np.tile(np.arange(72, dtype=float), (128, 1))
    assert difference_hash(ramp).tolist() == [0] * 8  # nowhere brighter than to its right
    assert difference_hash(ramp[:, ::-1]).tolist() == [255] * 8
    one = np.zeros((128, 72))
    one[:16, :8] = 9  # the first block of the first row
    assert np.unpackbits(difference_hash(one)).nonzero()[0].tolist() == [0]


def test_sharpness_worked_by_hand():
    grey = np.zeros((3, 4))
    assert sharpness(grey) == 0
    grey[1, 1] = 1  # Laplacian -4 there, 1 beside it
    assert sharpness(grey) == pytest.approx(np.var([-4, 1]))


def test_a_broken_picture_is_named(tmp_path):
    images = folder(tmp_path, {"a.png": scene(1)})
    (tmp_path / "b.png").write_bytes(b"none")
    with pytest.raises(KitError, match="b.png"):
        survey(TrainingImages((*images.paths, tmp_path / "b.png"), np.array([-1, -1])))
