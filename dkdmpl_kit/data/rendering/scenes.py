"""What stands behind and before the figures, and what the camera does."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageFilter

from dkdmpl_kit.data.rendering.canvas import (
    OVERSAMPLING,
    Canvas,
    blob,
    limb,
    rgb,
    smooth_noise,
)


def scene(rng: np.random.Generator, camera: dict, height: int, width: int) -> np.ndarray:
    """(height, width, 3) float32 in 0..1: a wall, and below it a floor in perspective."""
    base = rgb(camera["scene_rgb"])
    foot = int(height * camera["horizon"])
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    picture = np.empty((height, width, 3), np.float32)
    picture[:foot] = _WALLS[camera["wall"]](rng, base, x[:foot], y[:foot] - foot, height)
    # One over the distance below a vanishing line above the wall's foot: rows of slabs
    # grow towards the viewer.
    nearness = (y[foot:] - foot) / height + 0.22
    depth = 1.0 / nearness
    across = (x[foot:] - width / 2) / height / nearness
    picture[foot:] = _FLOORS[camera["floor"]](rng, base, across, depth)
    # the dark joint of wall and floor
    shade = np.exp(-np.abs(y - foot) / (0.04 * height)) * 0.3
    picture *= (1 - shade)[..., None]
    picture *= (1 + 0.05 * smooth_noise(rng, height, width, (4, 9)))[..., None]
    picture *= (1 + 0.025 * rng.standard_normal((height, width), np.float32))[..., None]
    picture = 0.52 + camera["scene_contrast"] * (picture - 0.52)
    # Out of focus, as behind a near subject. Sharp scenes drown the people in an
    # ImageNet encoder's eyes.
    sharp = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    soft = sharp.filter(ImageFilter.GaussianBlur(camera["scene_blur"]))
    return np.asarray(soft, np.float32) / 255


def _mix(base: np.ndarray, other, weight: np.ndarray) -> np.ndarray:
    difference = np.asarray(other, np.float32) - base
    return base + weight[..., None].astype(np.float32) * difference


def _lines(coordinate: np.ndarray, period: float, thickness: float) -> np.ndarray:
    return (np.remainder(coordinate, period) < thickness).astype(np.float32)


# ---- walls: x and y in pixels, y negative above the wall's foot


def _brick(rng, base, x, y, height):
    course = np.floor(y / 13)
    size = 30
    shifted = x + 15 * np.remainder(course, 2)
    column = np.floor(shifted / size)
    tone = rng.uniform(0.82, 1.14, (64, 64))[course.astype(int) % 64, column.astype(int) % 64]
    colour = (base * (1.1, 0.78, 0.66)) * tone[..., None]
    joint = np.maximum(_lines(y, 13, 2), _lines(shifted, size, 2))
    return _mix(colour, base * 1.12, joint * 0.7)


def _panels(rng, base, x, y, height):
    tone = rng.uniform(0.92, 1.06, 64)[np.floor(x / 74).astype(int) % 64]
    colour = np.multiply.outer(tone, np.ones(3)) * base * (0.96, 1.0, 1.04)
    joint = np.maximum(_lines(x, 74, 2.5), _lines(y, 92, 2.5))
    return _mix(_mix(colour, base * 0.55, joint), base * 0.7, (y > -22) * 0.8)


def _shopfront(rng, base, x, y, height):
    glass = np.array([0.36, 0.44, 0.5]) * rng.uniform(0.8, 1.15)
    glint = np.clip(np.sin((x + 0.8 * y) / 38) * 1.5 - 0.7, 0, 1) * 0.35
    goods = np.clip(smooth_noise(rng, *x.shape, (7, 26)), -1, 1.2) * 0.1
    tint = np.stack([smooth_noise(rng, *x.shape, (4, 20)) * 0.035 for _ in range(3)], -1)
    colour = _mix(glass + goods[..., None] + tint, (0.86, 0.9, 0.93), glint)
    frame = np.maximum(_lines(x, 96, 6), (y > -30) * 1.0)
    return np.clip(_mix(colour, base * 0.5, frame), 0, 1)


def _hedge(rng, base, x, y, height):
    leaf = smooth_noise(rng, *x.shape, (max(2, x.shape[0] // 5), x.shape[1] // 5))
    clump = smooth_noise(rng, *x.shape, (4, 22))
    green = np.array([0.3, 0.42, 0.25]) * (0.8 + 0.5 * base.mean())
    colour = green * np.clip(1 + 0.2 * leaf + 0.22 * clump, 0.4, 1.7)[..., None]
    sky = np.clip((-y - height * 0.36 + 9 * clump) / 10, 0, 1)
    return _mix(colour, (0.76, 0.81, 0.85), sky)


def _corridor(rng, base, x, y, height):
    colour = np.ones((*x.shape, 3)) * (base * 0.5 + 0.4) * (1.04, 1.0, 0.92)
    place = np.remainder(x, 168)
    door = (place > 30) & (place < 92) & (y > -150)
    frame = (place > 25) & (place < 97) & (y > -155)
    wood = np.array([0.5, 0.37, 0.26]) * rng.uniform(0.75, 1.2)
    colour = _mix(_mix(colour, base * 0.65, frame * 1.0), wood, door * 1.0)
    handle = (place > 80) & (place < 87) & (np.abs(y + 66) < 3)
    colour = _mix(colour, (0.8, 0.8, 0.76), handle * 1.0)
    return _mix(colour, base * 0.6, (y > -10) * 1.0)


def _plaster(rng, base, x, y, height):
    stain = smooth_noise(rng, *x.shape, (7, 26))
    colour = base * 1.15 * (1 + 0.05 * stain)[..., None]
    place = np.remainder(x + 40, 190)
    window = (place < 62) & (y < -58) & (y > -130)
    frame = (place < 66) & (place > -4) & (y < -54) & (y > -134)
    colour = _mix(colour, (0.86, 0.85, 0.8), frame * 0.8)
    colour = _mix(colour, (0.3, 0.36, 0.42), window * 0.9)
    return _mix(colour, base * 0.72, (y > -34) * 0.8)


def _planks(rng, base, x, y, height):
    tone = rng.uniform(0.78, 1.1, 97)[np.floor(x / 21).astype(int) % 97]
    grain = smooth_noise(rng, *x.shape, (3, x.shape[1] // 3))
    wood = np.array([0.56, 0.43, 0.3]) * (tone * (1 + 0.07 * grain))[..., None]
    colour = wood * (0.7 + 0.5 * base.mean())
    return _mix(colour, (0.16, 0.13, 0.1), np.maximum(_lines(x, 21, 2), 0))


def _kerb(rng, base, x, y, height):
    road = np.ones((*x.shape, 3)) * np.array([0.42, 0.43, 0.45]) * (0.7 + 0.4 * base.mean())
    road = road * (1 + 0.04 * smooth_noise(rng, *x.shape, (12, 60)))[..., None]
    road = _mix(road, (0.86, 0.85, 0.8), ((y > -60) & (y < -53)) * _lines(x, 120, 74))
    tufts = 1 + 0.1 * smooth_noise(rng, *x.shape, (20, 90))
    grass = np.array([0.4, 0.47, 0.32]) * tufts[..., None]
    road = np.where((y < -110)[..., None], grass, road)
    return _mix(road, base * 1.2, (y > -13) * 1.0)


# ---- floors: across and depth in picture heights, growing with the distance


def _slabs(rng, base, across, depth):
    row = np.floor(depth * 1.6).astype(int) % 64
    column = np.floor(across * 2.2).astype(int) % 64
    tone = rng.uniform(0.92, 1.07, (64, 64))[row, column]
    colour = (base * 0.5 + 0.3) * tone[..., None]
    joint = np.maximum(_lines(across * 2.2, 1, 0.045), _lines(depth * 1.6, 1, 0.045))
    return _mix(colour, base * 0.5, joint * 0.7)


def _asphalt(rng, base, across, depth):
    grain = rng.standard_normal(across.shape) * 0.06
    grain = grain + 0.05 * smooth_noise(rng, *across.shape, (8, 30))
    grey = np.array([0.38, 0.385, 0.4]) * (0.75 + 0.45 * base.mean())
    colour = grey * (1 + grain)[..., None]
    return _mix(colour, (0.8, 0.78, 0.7), (np.abs(depth - 2.6) < 0.12) * 0.75)


def _lawn(rng, base, across, depth):
    blades = rng.standard_normal(across.shape) * 0.12
    blades = blades + 0.12 * smooth_noise(rng, *across.shape, (24, 90))
    green = np.array([0.42, 0.5, 0.29]) * (0.75 + 0.4 * base.mean())
    colour = green * (1 + blades)[..., None]
    return _mix(colour, base * 0.8 + 0.12, np.clip((1.95 - depth + 0.1 * blades) * 6, 0, 1))


def _tiles(rng, base, across, depth):
    checker = np.remainder(np.floor(across * 3) + np.floor(depth * 2.4), 2)
    colour = _mix(base * 0.35 + 0.5, base * 0.75, checker)
    return colour * (1 + 0.06 * np.sin(depth * 2))[..., None]


def _gravel(rng, base, across, depth):
    grain = rng.standard_normal(across.shape) * 0.15
    grain = grain + 0.06 * smooth_noise(rng, *across.shape, (10, 40))
    return np.array([0.62, 0.56, 0.47]) * (0.7 + 0.45 * base.mean()) * (1 + grain)[..., None]


def _crossing(rng, base, across, depth):
    stripes = _lines(across * 1.5 + 0.2 * depth, 1, 0.5) * (depth > 1.2) * (depth < 2.7)
    return _mix(_asphalt(rng, base, across, depth + 9), (0.83, 0.83, 0.8), stripes * 0.85)


_WALLS = {
    "brick": _brick,
    "panels": _panels,
    "shopfront": _shopfront,
    "hedge": _hedge,
    "corridor": _corridor,
    "plaster": _plaster,
    "planks": _planks,
    "kerb": _kerb,
}
_FLOORS = {
    "slabs": _slabs,
    "asphalt": _asphalt,
    "lawn": _lawn,
    "tiles": _tiles,
    "gravel": _gravel,
    "crossing": _crossing,
}


# ---- occluders


def occlude(canvas: Canvas, picture: dict, rng: np.random.Generator) -> None:
    """Draw the picture's occluder (pole, bush, bin or rail) over the figure."""
    height, width = canvas.mask.shape
    side = picture["occluder_side"]
    reach = picture["occluder_reach"]
    kind = picture["occluder"]
    if kind == "pole":
        x = width * (0.5 + side * (0.34 - 0.5 * reach))
        limb(canvas, (x, -9), (x, height + 9), [0.055 * width] * 2, rgb((96, 101, 105)))
    elif kind == "bush":
        centre = width * (0.5 + side * (0.62 - 0.5 * reach))
        top = height * (0.9 - 0.45 * reach)
        for _ in range(34):
            x = rng.normal(centre, 0.17 * width)
            y = rng.uniform(top, height * 1.02)
            size = 0.085 * height * rng.uniform(0.5, 1.0)
            tone = rng.uniform(0.7, 1.15)
            leaves = np.array([0.25, 0.38, 0.2]) * tone
            blob(canvas, (x, y), (size, size * 0.8), leaves, angle=rng.uniform(0, 3))
    elif kind == "bin":
        x = width * (0.5 + side * (0.52 - 0.5 * reach))
        y = height * 0.9
        body = np.array([0.3, 0.38, 0.36])
        blob(canvas, (x, y), (0.2 * width, 0.17 * height), body, power=6)
        lid = np.array([0.2, 0.25, 0.24])
        lid_place = (x, y - 0.165 * height)
        blob(canvas, lid_place, (0.22 * width, 0.03 * height), lid, power=5)
    elif kind == "rail":
        top = height * (0.82 - 0.4 * reach)
        for x in np.arange(-0.1, 1.2, 0.22) * width + rng.uniform(0, 0.2) * width:
            post = np.array([0.5, 0.52, 0.54])
            limb(canvas, (x, top), (x, height + 9), [0.013 * height] * 2, post)
        for y in (top, top + 0.16 * height):
            bar = np.array([0.56, 0.58, 0.6])
            limb(canvas, (-9, y), (width + 9, y), [0.015 * height] * 2, bar)
    canvas.mask[:] = 0


def folds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W) float32 around 1: folds of cloth, long across and short down."""
    noise = smooth_noise(rng, height, width, (height // 13, width // 20))
    return (1 + 0.055 * np.clip(noise, -math.e, math.e)).astype(np.float32)


# ---- what the camera does


def through_camera(
    pixels: np.ndarray, camera: dict, picture: dict, rng: np.random.Generator
) -> np.ndarray:
    """What the camera makes of a canvas (2 H, 2 W, 3): a picture (H, W, 3) uint8.

    Averaged down, then light, blur, saturation, contrast, gain, cast, haze and noise.
    """
    height = pixels.shape[0] // OVERSAMPLING
    width = pixels.shape[1] // OVERSAMPLING
    small = pixels.reshape(height, OVERSAMPLING, width, OVERSAMPLING, 3).mean(axis=(1, 3))
    across = np.linspace(-1, 1, width, dtype=np.float32)
    slope = picture["light"] * (1 + picture["light_slope"] * across)
    small = np.clip(small * slope[None, :, None], 0, 1)
    sharp = Image.fromarray((small * 255).astype(np.uint8))
    soft = sharp.filter(ImageFilter.GaussianBlur(camera["blur"]))
    small = np.asarray(soft, np.float32) / 255
    grey = small @ np.array([0.299, 0.587, 0.114], np.float32)
    small = grey[..., None] + camera["saturation"] * (small - grey[..., None])
    small = 0.5 + camera["contrast"] * (small - 0.5)
    small = small * camera["gain"] * np.asarray(camera["cast"], np.float32)
    small = small + camera["haze"] * (0.8 - small)
    small = small + rng.normal(0, camera["noise"], small.shape)
    return (np.clip(small, 0, 1) * 255 + 0.5).astype(np.uint8)
