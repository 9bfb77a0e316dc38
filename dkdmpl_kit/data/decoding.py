"""One picture, as a person sees it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from dkdmpl_kit.data.files import (
    Box,
    file_and_box,
    file_of,
    part_name,
    picture_formats,
    printable,
    why_no_file,
)
from dkdmpl_kit.errors import KitError

BACKGROUND = (255, 255, 255)  # behind what is transparent: white, as a page shows it
ORIENTATION = 0x0112  # the tag of EXIF
UPRIGHT = {  # what undoes each orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # the orientations that exchange width and height
SIXTEEN_BITS = ("PNG", "PPM")  # formats whose mode "I" holds 0 ... 65535


def decode(path: str | Path | BinaryIO, height: int, width: int) -> np.ndarray:
    """One picture as uint8 RGB (3, height, width), resized bilinearly.

    It is read as a person sees it: turned upright as EXIF says, 16-bit grey scaled to 8
    bits, transparency composed on white, palettes and CMYK as their colours, colours of
    another profile as sRGB, of an animation or of several pages the first. path: a file,
    a part of its picture (`files.part_name`), or a file's content opened; what is not a
    file (a pipe, a device, a link to nothing) is never opened. KitError names what cannot
    be read.
    """
    named = isinstance(path, (str, os.PathLike))
    file, box = file_and_box(path) if named else (path, None)
    return decode_parts(file, [box], height, width)[0]


def decode_parts(
    file: str | Path | BinaryIO, boxes: Sequence[Box | None], height: int, width: int
) -> list[np.ndarray]:
    """Each box of the picture in one file as `decode` returns it, None standing for all of
    the picture; the file is decoded once.

    Boxes count pixels of the upright picture. KitError names what cannot be read, and a
    box that does not lie within its picture.
    """
    named = isinstance(file, (str, os.PathLike))
    found = []
    try:
        if named and (why := why_no_file(file)):
            raise KitError(why)
        with Image.open(file, formats=picture_formats()) as image:
            for seen in _as_seen(image, boxes):
                resized = seen.resize((width, height), Image.Resampling.BILINEAR)
                found.append(np.asarray(resized).transpose(2, 0, 1))
    # each decoder of Pillow has its own errors for broken bytes
    except Exception as error:
        box = boxes[len(found)]
        place = part_name(file, box) if named and box else file
        raise unreadable(place, _said(error)) from error
    return found


def upright_size(file: str | Path) -> tuple[int, int] | None:
    """(width, height) of the picture in a file as a person sees it, of which most often
    the head alone is read; None where it cannot be.
    """
    if why_no_file(file):
        return None
    try:
        with Image.open(file, formats=picture_formats()) as image:
            if _orientation(image) not in SIDEWAYS:
                return image.size
            # some versions of Pillow give a TIFF's size turned already
            if image.format == "TIFF":
                return _upright(image).size
            return image.size[::-1]
    except Exception:  # `decode` says what is wrong with it
        return None


def holds_several(path: str | Path | BinaryIO) -> bool:
    """Whether a file holds more than one picture: an animation, pages; only its head is
    read. False where it cannot be read at all.
    """
    if isinstance(path, (str, os.PathLike)):
        path = file_of(path)
        if why_no_file(path):
            return False
    try:
        with Image.open(path, formats=picture_formats()) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # `decode` says what is wrong with it
        return False


def unreadable(path: object, why: str) -> KitError:
    """The error that names a picture and why it cannot be read."""
    return KitError(
        f"picture {printable(path)} cannot be read ({why}); repair or remove it, or leave "
        "such pictures out with --skip-corrupt."
    )


def _said(error: Exception) -> str:
    """Why Pillow failed, in a few words."""
    if isinstance(error, KitError):
        return str(error)
    strerror = getattr(error, "strerror", None)
    return strerror or type(error).__name__


def _as_seen(image: Image.Image, boxes: Sequence[Box | None]) -> Iterator[Image.Image]:
    """-> of each box: mode RGB, upright, opaque."""
    kept = image.info.get("transparency")
    profile = image.info.get("icc_profile")
    deep = image.mode.startswith("I;16") or (
        image.mode == "I" and image.format in SIXTEEN_BITS
    )
    if image.mode in ("I", "F") and not deep:
        raise KitError(f"its values, of mode {image.mode}, have no known white")
    upright = _upright(image)
    for box in boxes:
        part = upright if box is None else _cut(upright, box)
        if deep:
            yield _of_sixteen_bits(np.asarray(part), kept)
            continue
        if part.mode in ("RGBA", "LA", "PA") or kept is not None:
            colours = part.convert("RGBA")
            page = Image.new("RGBA", part.size, (*BACKGROUND, 255))
            part = Image.alpha_composite(page, colours)
        if part.mode not in ("L", "CMYK"):
            part = part.convert("RGB")
        yield _as_srgb(part, profile).convert("RGB")


def _cut(image: Image.Image, box: Box) -> Image.Image:
    """The box of an upright picture, in its own mode; KitError where it is not within."""
    x, y, width, height = box
    if min(width, height) < 1 or x + width > image.width or y + height > image.height:
        raise KitError(
            f"its box {x}, {y}, {width}, {height} lies off the picture of {image.width} x "
            f"{image.height} pixels"
        )
    return image.crop((x, y, x + width, y + height))


def _as_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Its colours by the profile that it carries; a damaged profile, or one of another
    kind of picture, counts for none.
    """
    if not profile:
        return image
    try:
        transform = _to_srgb(profile, image.mode)
        return image if transform is None else transform.apply(image)
    # the colour library has errors of its own, as decoders have
    except Exception:
        return image


@lru_cache(maxsize=16)  # a camera's pictures share one profile
def _to_srgb(profile: bytes, mode: str):
    """The transform of a profile's colours to sRGB, None where they are that already."""
    from PIL import ImageCms

    own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if "sRGB" in ImageCms.getProfileDescription(own):
        return None
    return ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), mode, "RGB")


def _of_sixteen_bits(values: np.ndarray, transparent: object) -> Image.Image:
    """Grey values (H, W) of 0 ... 65535 as mode RGB; `transparent` is one of them, or None."""
    grey = np.rint(values / 257).astype(np.uint8)
    colours = np.repeat(grey[:, :, None], 3, axis=2)
    if isinstance(transparent, int):
        colours[values == transparent] = BACKGROUND
    return Image.fromarray(colours)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as the camera was held."""
    # first, as Pillow turns a TIFF by itself here and takes the note away
    image.load()
    turn = UPRIGHT.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """How the camera was held, 1 ... 8; a damaged note about it counts for none."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1
    return orientation if isinstance(orientation, int) else 1
