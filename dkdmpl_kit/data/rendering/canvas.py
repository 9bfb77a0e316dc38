"""Drawing with shaded solids on a small canvas; numpy and Pillow only.

Parts are flat shapes with an analytic distance to their edge (for smooth edges) and the
surface normal of a round body (for light, and for patterns that wrap around it: a logo
is on the chest, and not to be seen from behind). Screen axes: x to the right, y down, z
towards the viewer; lengths in pixels of the canvas; angles in radians.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

OVERSAMPLING = 2  # pictures are drawn this much larger, then averaged down
SEAM = 0.34  # darkness of the line between a part and the figure behind it
Paint = Callable[..., np.ndarray] | np.ndarray


def rgb(colour) -> np.ndarray:
    """(3,) float32 in 0..1 of an RGB triple in 0..255."""
    return np.asarray(colour, np.float32) / 255


class Canvas:
    """A float picture (H, W, 3) in 0..1, a light, and the mask (H, W) of the figure."""

    def __init__(self, background: np.ndarray, light, folds: np.ndarray):
        self.pixels = background
        self.mask = np.zeros(background.shape[:2], np.float32)
        self.light = np.asarray(light, np.float32) / np.linalg.norm(light)
        self.folds = folds  # (H, W) around 1: the unevenness of cloth

    def box(self, x0: float, y0: float, x1: float, y1: float):
        """(part, x, y): the slices of [x0, x1] x [y0, y1] on the canvas, its pixel grids.

        None where the box lies outside.
        """
        height, width = self.mask.shape
        left = max(0, math.floor(x0))
        top = max(0, math.floor(y0))
        right = min(width, math.ceil(x1))
        bottom = min(height, math.ceil(y1))
        if right - left < 1 or bottom - top < 1:
            return None
        part = (slice(top, bottom), slice(left, right))
        y, x = np.ogrid[part]
        return part, x.astype(np.float32) + 0.5, y.astype(np.float32) + 0.5

    def paint(
        self,
        part,
        distance: np.ndarray,
        colour: np.ndarray,
        shade: np.ndarray | float,
        edge: float | np.ndarray = SEAM,
    ) -> None:
        """Lay a part over the canvas.

        distance: signed pixels from its outline, negative inside; edge: how dark the
        seam around it is on the figure behind.
        """
        alpha = np.clip(0.5 - distance, 0, 1)
        mask = self.mask[part]
        pixels = self.pixels[part]
        # A thin dark seam on the figure behind the part keeps an arm visible in front
        # of a coat of the same colour.
        seam = np.clip(1 - distance / 5, 0, 1) * mask * edge
        colour = colour * (shade * self.folds[part])[..., None]
        pixels *= (1 - seam * (1 - alpha))[..., None]
        pixels += alpha[..., None] * (colour - pixels)
        np.maximum(mask, alpha, out=mask)

    def shade(self, nx, ny, nz) -> np.ndarray:
        """Brightness of a surface by its normal: sky light from above and a soft lamp."""
        lamp = nx * self.light[0] + ny * self.light[1] + nz * self.light[2]
        return 0.6 + 0.42 * np.maximum(lamp, 0) - 0.07 * ny + 0.1 * nz


def limb(
    canvas: Canvas,
    start,
    end,
    radii,
    colour: Paint,
    *,
    round_start=True,
    round_end=True,
    yaw=0.0,
    joined=False,
) -> None:
    """A tapered round limb from start to end, with `radii` at equal steps along it.

    colour: RGB, or a function of t (0 to 1 along it) and the angle around the body.
    joined: it continues the limb at its start (elbow, knee), without a seam there.
    """
    start = np.asarray(start, np.float32)
    end = np.asarray(end, np.float32)
    radii = np.asarray(radii, np.float32)
    reach = float(radii.max()) + 6
    low = np.minimum(start, end) - reach
    high = np.maximum(start, end) + reach
    found = canvas.box(*low, *high)
    if found is None:
        return
    part, x, y = found
    length = max(float(np.hypot(*(end - start))), 1e-3)
    ax, ay = (end - start) / length
    dx = x - start[0]
    dy = y - start[1]
    along = dx * ax + dy * ay
    across = dx * ay - dy * ax
    t = np.clip(along / length, 0, 1)
    radius = np.interp(t, np.linspace(0, 1, len(radii)), radii).astype(np.float32)
    beyond = np.maximum(-along, 0) * round_start + np.maximum(along - length, 0) * round_end
    distance = np.hypot(across, beyond) - radius
    if not round_start:
        distance = np.maximum(distance, -along)
    if not round_end:
        distance = np.maximum(distance, along - length)
    v = np.clip(across / radius, -1, 1)
    nz = np.sqrt(1 - v * v)
    shade = canvas.shade(v * ay, -v * ax, nz)
    edge = SEAM * np.clip(along / radii[0] - 0.8, 0, 1) if joined else SEAM
    if callable(colour):
        colour = colour(t, np.arcsin(v) - yaw)
    canvas.paint(part, distance, colour, shade, edge)


def blob(canvas: Canvas, centre, radii, colour: Paint, *, power=2.0, angle=0.0) -> None:
    """An ellipsoid (power 2) up to a box with soft corners (power 5).

    colour: RGB, or a function of the surface normal (nx, ny, nz).
    """
    cx, cy = centre
    reach = float(max(radii)) * 1.2 + 6
    found = canvas.box(cx - reach, cy - reach, cx + reach, cy + reach)
    if found is None:
        return
    part, x, y = found
    cos = math.cos(angle)
    sin = math.sin(angle)
    dx = x - cx
    dy = y - cy
    u = (dx * cos + dy * sin) / radii[0]
    v = (dy * cos - dx * sin) / radii[1]
    size = (np.abs(u) ** power + np.abs(v) ** power) ** (1 / power)
    distance = (size - 1) * min(radii)
    nu = np.sign(u) * np.abs(u) ** (power - 1)
    nv = np.sign(v) * np.abs(v) ** (power - 1)
    norm = np.maximum(np.hypot(nu, nv), 1)
    nu = nu / norm
    nv = nv / norm
    nx = nu * cos - nv * sin
    ny = nu * sin + nv * cos
    nz = np.sqrt(np.maximum(1 - nx * nx - ny * ny, 0))
    if callable(colour):
        colour = colour(nx, ny, nz)
    canvas.paint(part, distance, colour, canvas.shade(nx, ny, nz))


def ground_shadow(canvas: Canvas, centre, radii, strength: float) -> None:
    """A soft shadow on the floor, darkest under the feet, longer away from the light."""
    cx, cy = centre
    rx, ry = radii
    found = canvas.box(cx - 3 * rx, cy - 3 * ry, cx + 3 * rx, cy + 3 * ry)
    if found is None:
        return
    part, x, y = found
    dx = (x - cx) / rx
    dy = (y - cy) / ry
    away = np.where(dx * canvas.light[0] < 0, 0.55, 1.3)
    canvas.pixels[part] *= (1 - strength * np.exp(-((dx * away) ** 2) - dy * dy))[..., None]


def smooth_noise(
    rng: np.random.Generator, height: int, width: int, bumps: tuple[int, int]
) -> np.ndarray:
    """(height, width) float32 with about `bumps` (down, across); its mean is near 0."""
    small = Image.fromarray(rng.standard_normal(bumps).astype(np.float32), mode="F")
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
