"""Parts of pictures, "frame.jpg#xywh=10,20,30,60": named, decoded, cached and checked."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from dkdmpl_kit.data import ImageStore, ReIDDataset, ReIDImage, check_dataset, drop_corrupt
from dkdmpl_kit.data import decoding as module
from dkdmpl_kit.data.decoding import ORIENTATION, decode, decode_parts, upright_size
from dkdmpl_kit.data.files import (
    file_and_box,
    file_of,
    part_name,
    real_name,
    why_no_file,
)
from dkdmpl_kit.data.pictures import by_file
from dkdmpl_kit.errors import KitError

BOX = (3, 5, 20, 17)
FRAME = (48, 36)  # width and height


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def frame(tmp_path) -> Path:
    path = tmp_path / "frame.png"
    Image.fromarray(noise((FRAME[1], FRAME[0], 3))).save(path)
    return path


def test_a_part_is_named_as_the_w3c_names_it(frame):
    path = part_name(frame, BOX)
    assert path.name == "frame.png#xywh=3,5,20,17"
    assert file_and_box(path) == (frame, BOX) and file_of(path) == frame
    assert file_and_box(f"{frame}#xywh=pixel:3,5,20,17") == (frame, BOX)
    assert file_and_box(str(frame)) == (frame, None)


@pytest.mark.parametrize(
    "end", ["#xywh=1,2,3", "#xywh=percent:1,2,3,4", "#t=3", "#xywh=-1,2,3,4"]
)
def test_other_endings_name_files(frame, end):
    assert file_and_box(f"{frame}{end}") == (Path(f"{frame}{end}"), None)
    assert why_no_file(f"{frame}{end}") == "there is no such file"


def test_a_file_of_that_very_name_is_a_picture_of_its_own(frame):
    path = part_name(frame, BOX)
    Image.new("RGB", (8, 8), "red").save(path, format="png")
    assert file_and_box(path) == (path, None)
    assert (decode(path, 4, 4).reshape(3, -1).T == (255, 0, 0)).all()
    # and a part of it has a name again
    assert file_and_box(part_name(path, (0, 0, 2, 2))) == (path, (0, 0, 2, 2))


def test_what_is_wrong_with_the_file_is_said_of_the_part(tmp_path):
    for name, why in (("gone.png", "there is no such file"), ("", "a folder")):
        assert why_no_file(part_name(tmp_path / name, BOX)) == why
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(KitError, match=r"pipe.png#xywh=3,5,20,17 .*a pipe"):
        decode(part_name(tmp_path / "pipe.png", BOX), 4, 4)


def test_links_to_one_frame_give_one_name(frame, tmp_path):
    (tmp_path / "link.png").symlink_to(frame)
    assert real_name(part_name(tmp_path / "link.png", BOX)) == str(part_name(frame, BOX))
    assert real_name(tmp_path / "link.png") == str(frame)


def by_hand(path: Path, box: tuple[int, ...], height: int, width: int) -> np.ndarray:
    """As a reader of the picture would do it: turn it, cut it, resize it."""
    upright = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    x, y, w, h = box
    cut = Image.fromarray(np.asarray(upright)[y : y + h, x : x + w])
    return np.asarray(cut.resize((width, height), Image.Resampling.BILINEAR)).transpose(
        2, 0, 1
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif"])
def test_a_box_counts_pixels_of_the_upright_picture(tmp_path, orientation, ending):
    path = tmp_path / f"turned{ending}"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(noise((FRAME[1], FRAME[0], 3))).save(path, exif=exif)
    found = decode(part_name(path, BOX), 9, 7)
    assert (found == by_hand(path, BOX, 9, 7)).all()
    turned = FRAME[::-1] if orientation > 4 else FRAME
    assert upright_size(path) == turned
    corner = (turned[0] - 2, turned[1] - 3, 2, 3)
    assert (decode(part_name(path, corner), 3, 2) == by_hand(path, corner, 3, 2)).all()
    with pytest.raises(
        KitError, match=rf"off the picture of {turned[0]} x {turned[1]} pixels"
    ):
        decode(part_name(path, (turned[0] - 2, 0, 3, 3)), 3, 3)


def test_boxes_of_every_kind_of_colours(tmp_path):
    grey = noise((36, 48))
    kinds = {
        "grey.png": Image.fromarray(grey),
        "deep.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "clear.png": Image.fromarray(np.dstack([noise((36, 48, 3)), grey])),
        "palette.gif": Image.fromarray(noise((36, 48, 3))).quantize(16),
        "ink.jpg": Image.fromarray(noise((36, 48, 4)), mode="CMYK"),
    }
    x, y, w, h = BOX
    for name, image in kinds.items():
        image.save(tmp_path / name)
        whole = decode(tmp_path / name, 36, 48)
        part = decode(part_name(tmp_path / name, BOX), h, w)
        assert (part == whole[:, y : y + h, x : x + w]).all(), name


def test_all_boxes_of_a_frame_are_cut_from_one_decoding(frame, monkeypatch):
    boxes = [(i, i, 9 + i, 7) for i in range(5)]
    opened = []
    plain = Image.open
    monkeypatch.setattr(
        module.Image, "open", lambda *a, **k: opened.append(a) or plain(*a, **k)
    )
    parts = decode_parts(frame, [*boxes, None], 6, 6)
    assert len(opened) == 1 and len(parts) == 6
    for box, part in zip(boxes, parts):
        assert (part == decode(part_name(frame, box), 6, 6)).all()
    opened.clear()
    paths = [part_name(frame, box) for box in boxes]
    store = ImageStore(paths, 6, 6, progress=False)
    assert len(opened) == 1
    assert all((store.pixels[i].numpy() == parts[i]).all() for i in range(5))
    # and where they are decoded batch by batch, in any order
    loose = ImageStore(paths, 6, 6, keep=False)
    assert (loose.batch([3, 1, 3]).numpy() == np.stack([parts[3], parts[1], parts[3]])).all()


def test_pictures_are_grouped_by_their_file_in_order(frame, tmp_path):
    other = tmp_path / "other.png"
    shutil.copy(frame, other)
    paths = [part_name(frame, BOX), other, frame, part_name(other, BOX), other]
    assert by_file(paths) == [
        (frame, [0, 2], [BOX, None]),
        (other, [1, 3, 4], [None, BOX, None]),
    ]


def test_the_box_that_lies_off_its_picture_is_named(frame):
    with pytest.raises(KitError, match=r"frame.png#xywh=40,0,9,9 cannot be read \(its box"):
        decode_parts(frame, [BOX, (40, 0, 9, 9)], 4, 4)
    with pytest.raises(KitError, match="off the picture"):
        decode(part_name(frame, (0, 0, 0, 9)), 4, 4)


def test_the_cache_tells_two_boxes_of_one_file_apart(frame, tmp_path):
    def mapped(*boxes) -> ImageStore:
        paths = [part_name(frame, box) for box in boxes]
        return ImageStore(
            paths, 8, 8, memory_limit_mb=0, cache_dir=tmp_path / "c", progress=False
        )

    one, two = (0, 0, 9, 9), (20, 20, 9, 9)
    first = np.array(mapped(one, two).pixels)
    second = np.array(mapped(two, one).pixels)
    assert (first[0] == second[1]).all() and (first[0] != first[1]).any()
    assert len(list((tmp_path / "c").glob("*.npy"))) == 2
    mapped(one, two)
    assert len(list((tmp_path / "c").glob("*.npy"))) == 2
    # another frame under the old name: decoded anew
    Image.fromarray(noise((FRAME[1], FRAME[0], 3), seed=1)).save(frame)
    os.utime(frame, (1, 1))
    assert (np.array(mapped(one, two).pixels) != first).any()


def test_a_data_set_of_parts_is_checked_and_what_is_off_is_left_out(frame, tmp_path):
    copy = tmp_path / "copy.png"
    shutil.copy(frame, copy)
    paths = [
        part_name(frame, (0, 0, 9, 9)),
        part_name(frame, (9, 9, 9, 9)),
        part_name(copy, (0, 0, 9, 9)),
        part_name(frame, (90, 0, 9, 9)),
    ]
    images = tuple(ReIDImage(path, None, None) for path in paths)
    dataset = ReIDDataset("own", tmp_path, images, (), ())
    found = check_dataset(dataset, progress=False)
    assert found.problems == ("1 unreadable picture: frame.png#xywh=90,0,9,9",)
    same = [note for note in found.notes if "byte for byte" in note]
    assert same == [
        "1 picture more than once in train, byte for byte: "
        "copy.png#xywh=0,0,9,9 = frame.png#xywh=0,0,9,9"
    ]
    kept, skipped = drop_corrupt(dataset, progress=False)
    assert skipped == (paths[3],) and len(kept.train) == 3
    assert kept.account()["a picture that cannot be read"] == ("frame.png#xywh=90,0,9,9",)
    assert "3 pictures in 2 files read" in kept.summary()
    assert kept.fingerprint() == found.fingerprint
    frame.unlink()
    with pytest.raises(KitError, match=r"frame.png#xywh=0,0,9,9 .* no such file"):
        kept.fingerprint()
