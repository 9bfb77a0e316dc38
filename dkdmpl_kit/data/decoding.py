"""One picture, as a person sees it."""

from __future__ import annotations

import io
import os
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from dkdmpl_kit.data.files import picture_formats, printable, why_no_file
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
SIXTEEN_BITS = ("PNG", "PPM")  # formats whose mode "I" holds 0 ... 65535


def decode(path: str | Path | BinaryIO, height: int, width: int) -> np.ndarray:
    """One picture as uint8 RGB (3, height, width), resized bilinearly.

    It is read as a person sees it: turned upright as EXIF says, 16-bit grey scaled to 8
    bits, transparency composed on white, palettes and CMYK as their colours, colours of
    another profile as sRGB, of an animation or of several pages the first. path: a file,
    or its content opened; what is not a file (a pipe, a device, a link to nothing) is never
    opened. KitError names what cannot be read.
    """
    why = why_no_file(path) if isinstance(path, (str, os.PathLike)) else None
    if why is not None:
        raise unreadable(path, why)
    try:
        with Image.open(path, formats=picture_formats()) as image:
            seen = _as_seen(image)
        resized = seen.resize((width, height), Image.Resampling.BILINEAR)
    # each decoder of Pillow has its own errors for broken bytes
    except Exception as error:
        raise unreadable(path, _said(error)) from error
    return np.asarray(resized).transpose(2, 0, 1)


def holds_several(path: str | Path | BinaryIO) -> bool:
    """Whether a file holds more than one picture: an animation, pages; only its head is
    read. False where it cannot be read at all.
    """
    if isinstance(path, (str, os.PathLike)) and why_no_file(path):
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


def _as_seen(image: Image.Image) -> Image.Image:
    """-> mode RGB, upright, opaque."""
    kept = image.info.get("transparency")
    profile = image.info.get("icc_profile")
    deep = image.mode.startswith("I;16") or (
        image.mode == "I" and image.format in SIXTEEN_BITS
    )
    if image.mode in ("I", "F") and not deep:
        raise KitError(f"its values, of mode {image.mode}, have no known white")
    image = _upright(image)
    if deep:
        return _of_sixteen_bits(np.asarray(image), kept)
    if image.mode in ("RGBA", "LA", "PA") or kept is not None:
        colours = image.convert("RGBA")
        page = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        image = Image.alpha_composite(page, colours)
    if image.mode not in ("L", "CMYK"):
        image = image.convert("RGB")
    return _as_srgb(image, profile).convert("RGB")


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
    """Turned as the camera was held; a damaged note about it counts for none."""
    # first, as Pillow turns a TIFF by itself here and takes the note away
    image.load()
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:
        orientation = 1
    turn = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)
