"""A picture is read as a person sees it, or it is named: what cameras, phones and drawing
programs write.
"""

from __future__ import annotations

import io
import os
import socket

import numpy as np
import pytest
from PIL import Image, ImageCms

from dkdmpl_kit.cli import main
from dkdmpl_kit.data import ImageStore, check_dataset, drop_corrupt, read_dataset
from dkdmpl_kit.data.decoding import BACKGROUND, decode
from dkdmpl_kit.data.files import picture_endings
from dkdmpl_kit.errors import KitError

HEIGHT, WIDTH = 24, 16


def photograph() -> Image.Image:
    """A smooth picture whose four corners differ, so that each turn of it shows."""
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [down * 10, across * 15, 250 - down * 5 - across * 5]
    return Image.fromarray(np.stack(planes, axis=2).astype(np.uint8))


def seen(path) -> np.ndarray:
    """(H, W, 3), as floats."""
    return decode(path, HEIGHT, WIDTH).transpose(1, 2, 0).astype(float)


def difference(path, image: Image.Image) -> float:
    """Mean difference of what is read and what is meant, of 255."""
    return float(np.abs(seen(path) - np.asarray(image.convert("RGB"), float)).mean())


# ---- turned as the camera was held


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_that_says_how_it_is_to_be_turned_is_turned(tmp_path, orientation, ending):
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    meant = photograph()
    turned = meant if stored is None else meant.transpose(stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{ending}"
    turned.save(path, exif=exif, quality=100)
    assert difference(path, meant) < 4


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\xff\xff", b""])
def test_a_damaged_note_about_turning_counts_for_none(tmp_path, exif):
    photograph().save(tmp_path / "a.jpg", exif=exif, quality=100)
    assert difference(tmp_path / "a.jpg", photograph()) < 4


def test_an_orientation_that_does_not_exist_counts_for_none(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 77
    photograph().save(tmp_path / "a.jpg", exif=exif, quality=100)
    assert difference(tmp_path / "a.jpg", photograph()) < 4


# ---- 16 bits


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_grey_of_sixteen_bits_is_not_white(tmp_path, ending):
    grey = photograph().convert("L")
    values = np.asarray(grey).astype(np.uint16) * 257
    Image.fromarray(values).save(tmp_path / f"a.{ending}")
    assert difference(tmp_path / f"a.{ending}", grey) == 0


def test_grey_of_sixteen_bits_is_turned_too(tmp_path):
    grey = photograph().convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.asarray(grey.transpose(Image.Transpose.ROTATE_90)).astype(np.uint16) * 257
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    assert difference(tmp_path / "a.png", grey) == 0


def test_a_transparent_value_of_sixteen_bit_grey_shows_the_background(tmp_path):
    values = np.zeros((HEIGHT, WIDTH), np.uint16)
    values[:12] = 30000
    Image.fromarray(values).save(tmp_path / "a.png", transparency=30000)
    assert (seen(tmp_path / "a.png")[0] == BACKGROUND).all()
    assert (seen(tmp_path / "a.png")[-1] == 0).all()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_values_without_a_known_white_are_named_and_not_guessed(tmp_path, dtype):
    Image.fromarray(np.ones((4, 4), dtype)).save(tmp_path / "a.tif")
    with pytest.raises(KitError, match="a.tif cannot be read .*no known white"):
        decode(tmp_path / "a.tif", 4, 4)


# ---- transparency


def with_hole(hidden: tuple[int, int, int]) -> Image.Image:
    """Its left half is transparent, over colours that nobody sees."""
    image = photograph().convert("RGBA")
    image.paste((*hidden, 0), (0, 0, WIDTH // 2, HEIGHT))
    return image


@pytest.mark.parametrize("ending", ["png", "webp", "tif", "tga"])
def test_colours_hidden_under_transparency_stay_hidden(tmp_path, ending):
    for name, hidden in (("red", (255, 0, 0)), ("green", (0, 255, 0))):
        with_hole(hidden).save(tmp_path / f"{name}.{ending}", lossless=True, exact=True)
    red = seen(tmp_path / f"red.{ending}")
    assert np.array_equal(red, seen(tmp_path / f"green.{ending}"))
    assert (red[:, 0] == BACKGROUND).all()
    assert np.array_equal(red[:, -1], np.asarray(photograph(), float)[:, -1])


def test_half_transparent_is_half_background(tmp_path):
    Image.new("RGBA", (WIDTH, HEIGHT), (0, 0, 0, 128)).save(tmp_path / "a.png")
    assert (np.abs(seen(tmp_path / "a.png") - 127) <= 1).all()


def test_grey_palette_and_key_colour_may_be_transparent_too(tmp_path):
    grey = Image.new("LA", (WIDTH, HEIGHT), (9, 0))
    palette = Image.new("P", (WIDTH, HEIGHT), 1)
    palette.putpalette([0, 0, 0, 200, 10, 10])
    key = Image.new("RGB", (WIDTH, HEIGHT), (1, 2, 3))
    bit = Image.new("1", (WIDTH, HEIGHT), 0)
    grey.save(tmp_path / "grey.png")
    palette.save(tmp_path / "palette.png", transparency=1)
    palette.save(tmp_path / "palette.gif", transparency=1)
    key.save(tmp_path / "key.png", transparency=(1, 2, 3))
    bit.save(tmp_path / "bit.png", transparency=0)
    for path in sorted(tmp_path.iterdir()):
        assert (seen(path) == BACKGROUND).all(), path.name


# ---- colours and formats


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_colours_for_print_are_read_as_colours(tmp_path, ending):
    photograph().convert("CMYK").save(tmp_path / f"a.{ending}", quality=100)
    assert difference(tmp_path / f"a.{ending}", photograph()) < 4


@pytest.mark.parametrize("ending", ["png", "gif", "bmp", "tif"])
def test_a_palette_is_read_as_its_colours(tmp_path, ending):
    image = photograph().quantize(64)
    image.save(tmp_path / f"a.{ending}")
    assert difference(tmp_path / f"a.{ending}", image) == 0


FORMATS = (
    "jpg jpeg jpe jfif png apng bmp dib gif tif tiff webp jp2 j2k jpx ppm pnm tga pcx sgi rgb "
    "im qoi dds mpo avif"
).split()


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_what_pillow_reads_is_a_picture(tmp_path, ending, case):
    path = tmp_path / f"a.{case(ending)}"
    try:
        options = {"save_all": True} if ending in ("apng", "mpo") else {"quality": 100}
        photograph().save(path, **options)
    except (OSError, KeyError, ValueError):
        pytest.skip(f"this Pillow cannot write {ending}")
    dataset = read_dataset("folder", tmp_path)
    assert [image.path for image in dataset.train] == [path]
    # a gif has 256 colours, lossy formats are near
    assert difference(path, photograph()) < (25 if ending == "gif" else 6)


def test_every_ending_of_a_photograph_is_read_and_no_other_program_is_started():
    assert {f".{name}" for name in FORMATS} <= picture_endings()
    assert not {".eps", ".ps", ".pdf", ".h5", ".ico", ".mpg"} & picture_endings()


def test_a_drawing_under_a_photographs_name_starts_no_other_program(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    drawing = io.BytesIO()
    photograph().save(drawing, "EPS")
    (tmp_path / "a.jpg").write_bytes(drawing.getvalue())
    monkeypatch.setattr(
        EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("a program was started")
    )
    with pytest.raises(KitError, match="a.jpg cannot be read"):
        decode(tmp_path / "a.jpg", 4, 4)


def animation(path) -> None:
    frames = [photograph(), Image.new("RGB", (WIDTH, HEIGHT), "red")]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50, lossless=True)


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_of_an_animation_the_first_picture_is_read_and_it_is_named(tmp_path, ending):
    animation(tmp_path / f"moving.{ending}")
    photograph().save(tmp_path / f"still.{ending}")
    assert difference(tmp_path / f"moving.{ending}", photograph()) < 25
    found = check_dataset(read_dataset("folder", tmp_path), progress=False)
    assert "read in part: 1 of several pictures" in found.text()
    assert f"moving.{ending}" in found.text() and f"still.{ending}" not in found.text()
    if ending != "png":  # the reader looks into formats that are often animated
        assert f"moving.{ending}" in read_dataset("folder", tmp_path).summary()


# ---- names behind which there is no picture


def odd_files(folder) -> list[str]:
    """Six names of pictures that cannot be read -> the names."""
    photograph().save(folder / "good.png")
    whole = (folder / "good.png").read_bytes()
    (folder / "empty.png").write_bytes(b"")
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "dangling.png").symlink_to(folder / "gone.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "endless.png").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.png")
    return ["dangling", "empty", "endless", "half", "loop", "pipe"]


WHY = {
    "dangling": "a link to nothing",
    "endless": "a device",
    "loop": "a link that leads back to itself",
    "pipe": "a pipe",
}


@pytest.mark.parametrize("name", WHY)
def test_what_is_not_a_file_is_named_and_never_opened(tmp_path, monkeypatch, name):
    odd_files(tmp_path)
    monkeypatch.setattr("builtins.open", lambda *_, **__: pytest.fail("it was opened"))
    for read in (decode, lambda path, h, w: ImageStore([path], h, w, progress=False).pixels):
        with pytest.raises(KitError, match=f"{name}.png cannot be read .{WHY[name]}"):
            read(tmp_path / f"{name}.png", 4, 4)


def test_a_socket_and_a_folder_are_named(tmp_path):
    (tmp_path / "folder.png").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "a.png"))
        with pytest.raises(KitError, match="a socket"):
            decode(tmp_path / "a.png", 4, 4)
    with pytest.raises(KitError, match="a folder"):
        decode(tmp_path / "folder.png", 4, 4)
    with pytest.raises(KitError, match="no such file"):
        decode(tmp_path / "nowhere.png", 4, 4)


def test_the_check_names_every_broken_picture_at_once(tmp_path):
    names = odd_files(tmp_path)
    found = check_dataset(read_dataset("folder", tmp_path), progress=False)
    said = ", ".join(
        f"{name}.png" + (f" ({WHY[name]})" if name in WHY else "") for name in names
    )
    assert found.problems == (f"6 unreadable pictures: {said}",)


def test_one_command_names_them_and_exits_with_2(tmp_path, capsys):
    names = odd_files(tmp_path)
    assert main(["data", "check", "folder", str(tmp_path), "--quiet"]) == 2
    sentence = capsys.readouterr().err
    assert all(f"{name}.png" in sentence for name in names)


def test_they_can_be_left_out_and_are_then_remarks(tmp_path):
    names = odd_files(tmp_path)
    kept, skipped = drop_corrupt(read_dataset("folder", tmp_path), progress=False)
    assert [path.stem for path in skipped] == names
    assert [image.path.name for image in kept.train] == ["good.png"]
    account = kept.account()
    assert account["a pipe"] == ("pipe.png",)
    assert account["a picture that cannot be read"] == ("empty.png", "half.png")
    found = check_dataset(read_dataset("folder", tmp_path), progress=False)
    assert found.fingerprint == kept.fingerprint(), "the one that results have"


def test_training_is_refused_with_the_name_before_anything_is_decoded(tmp_path):
    odd_files(tmp_path)
    with pytest.raises(KitError, match="dangling.png cannot be read .a link to nothing"):
        read_dataset("folder", tmp_path).fingerprint()


# ---- colours of another profile


def swapped_profile() -> bytes:
    """A profile whose red is sRGB's blue, and the reverse."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    named = srgb.replace("sRGB".encode("utf-16-be"), "ours".encode("utf-16-be"))
    return named.replace(b"rXYZ", b"kept").replace(b"bXYZ", b"rXYZ").replace(b"kept", b"bXYZ")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_are_those_of_the_profile_that_a_picture_carries(tmp_path, mode):
    path = tmp_path / "a.png"
    photograph().convert(mode).save(path, icc_profile=swapped_profile())
    red, green, blue = photograph().convert(mode).convert("RGB").split()
    meant = Image.merge("RGB", (blue, green, red))
    assert difference(path, meant) < 2


@pytest.mark.parametrize("profile", [b"nonsense", b"\0" * 200])
def test_a_damaged_profile_counts_for_none(tmp_path, profile):
    path = tmp_path / "a.png"
    photograph().save(path, icc_profile=profile)
    assert difference(path, photograph()) == 0


def test_a_profile_of_srgb_changes_no_value(tmp_path):
    path = tmp_path / "a.png"
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photograph().save(path, icc_profile=srgb)
    assert difference(path, photograph()) == 0


def test_a_colour_profile_of_a_grey_picture_counts_for_none(tmp_path):
    path = tmp_path / "a.png"
    photograph().convert("L").save(path, icc_profile=swapped_profile())
    assert difference(path, photograph().convert("L")) == 0
