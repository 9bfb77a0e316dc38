"""Drawing with shaded solids: a small canvas, and people built from it. numpy and
Pillow only.

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
Paint = Callable[..., np.ndarray] | np.ndarray


def rgb(colour) -> np.ndarray:
    """(3,) float32 in 0..1 of an RGB triple in 0..255."""
    return np.asarray(colour, np.float32) / 255


class Canvas:
    """A float picture (H, W, 3) in 0..1 with the mask (H, W) of the figure drawn so far
    and one light.
    """

    def __init__(self, background: np.ndarray, light, folds: np.ndarray):
        self.pixels = background
        self.mask = np.zeros(background.shape[:2], np.float32)
        self.light = np.asarray(light, np.float32) / np.linalg.norm(light)
        self.folds = folds  # (H, W) around 1: the unevenness of cloth

    def box(self, x0: float, y0: float, x1: float, y1: float):
        """Slices of the part of [x0, x1] x [y0, y1] on the canvas and its pixel grids
        x, y; None if it lies outside.
        """
        height, width = self.mask.shape
        left = max(0, math.floor(x0))
        top = max(0, math.floor(y0))
        right = min(width, math.ceil(x1))
        bottom = min(height, math.ceil(y1))
        if right - left < 1 or bottom - top < 1:
            return None
        y, x = np.ogrid[top:bottom, left:right]
        return (
            (slice(top, bottom), slice(left, right)),
            x.astype(np.float32) + 0.5,
            y.astype(np.float32) + 0.5,
        )

    def paint(
        self,
        part,
        distance: np.ndarray,
        colour: np.ndarray,
        shade: np.ndarray | float,
        edge: float | np.ndarray = 0.34,
    ) -> None:
        """Lay a part over the canvas; `distance` is signed pixels from its outline,
        negative inside.
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
        """Brightness of a surface by its normal: sky light from above and one soft
        lamp.
        """
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
    """A tapered round limb from start to end; `radii` at equal steps along it;
    `colour(t, angle around the body)`.

    joined: it continues the limb at its start (elbow, knee), without a seam there.
    """
    start = np.asarray(start, np.float32)
    end = np.asarray(end, np.float32)
    radii = np.asarray(radii, np.float32)
    reach = float(radii.max()) + 6
    found = canvas.box(
        min(start[0], end[0]) - reach,
        min(start[1], end[1]) - reach,
        max(start[0], end[0]) + reach,
        max(start[1], end[1]) + reach,
    )
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
    edge = 0.34 * np.clip(along / radii[0] - 0.8, 0, 1) if joined else 0.34
    canvas.paint(
        part,
        distance,
        colour(t, np.arcsin(v) - yaw) if callable(colour) else colour,
        shade,
        edge,
    )


def blob(canvas: Canvas, centre, radii, colour: Paint, *, power=2.0, angle=0.0) -> None:
    """An ellipsoid (power 2) up to a box with soft corners (power 5); `colour(nx, ny,
    nz)` by the surface normal.
    """
    reach = float(max(radii)) * 1.2 + 6
    found = canvas.box(
        centre[0] - reach, centre[1] - reach, centre[0] + reach, centre[1] + reach
    )
    if found is None:
        return
    part, x, y = found
    cos = math.cos(angle)
    sin = math.sin(angle)
    dx = x - centre[0]
    dy = y - centre[1]
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
    canvas.paint(
        part,
        distance,
        colour(nx, ny, nz) if callable(colour) else colour,
        canvas.shade(nx, ny, nz),
    )


def ground_shadow(canvas: Canvas, centre, radii, strength: float) -> None:
    """A soft shadow on the floor, darkest under the feet, longer away from the light."""
    (cx, cy), (rx, ry) = centre, radii
    found = canvas.box(cx - 3 * rx, cy - 3 * ry, cx + 3 * rx, cy + 3 * ry)
    if found is None:
        return
    part, x, y = found
    dx = (x - cx) / rx
    dy = (y - cy) / ry
    away = np.where(dx * canvas.light[0] < 0, 0.55, 1.3)
    canvas.pixels[part] *= (1 - strength * np.exp(-((dx * away) ** 2) - dy * dy))[..., None]


def smooth_noise(
    rng: np.random.Generator, height: int, width: int, cells: tuple[int, int]
) -> np.ndarray:
    """(height, width) float32 of unit variance before smoothing, with about `cells`
    bumps down and across.
    """
    small = Image.fromarray(rng.standard_normal(cells).astype(np.float32), mode="F")
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


# ---- people


class Figure:
    """A walking skeleton, 1 high, feet at y = 0, facing +z; turned by yaw and seen from
    above by pitch.
    """

    def __init__(self, canvas: Canvas, identity: dict, picture: dict, camera: dict):
        height, width = canvas.mask.shape
        self.canvas = canvas
        self.identity = identity
        self.size = 0.89 * height * picture["scale"] * identity["height"]
        self.yaw = math.radians(picture["yaw"])
        self.pitch = math.radians(camera["pitch"])
        self.x = width * (0.5 + picture["x"])
        self.feet = height * (0.962 + picture["y"])
        self.girth = 1.1 * identity["girth"]
        self.swing = (0.46 * picture["stride"] if picture["walking"] else 0.07) * math.sin(
            picture["pose_phase"]
        )
        self.lift = 0.55 * picture["walking"] * math.cos(picture["pose_phase"])
        self.drop = 0.0
        self.parts: list[tuple[float, Callable[[], None]]] = []

    def project(self, x: float, y: float, z: float) -> np.ndarray:
        """(3,) screen x, screen y, depth towards the viewer of a point of the body."""
        cos = math.cos(self.yaw)
        sin = math.sin(self.yaw)
        across = x * cos + z * sin
        depth = z * cos - x * sin
        drop = (y - self.drop) * math.cos(self.pitch) - depth * math.sin(self.pitch)
        return np.array([self.x + self.size * across, self.feet - self.size * drop, depth])

    def width(self, across: float, depth: float) -> float:
        """Half the outline of an elliptical body part, seen from where the camera is,
        in pixels.
        """
        return self.size * math.hypot(across * math.cos(self.yaw), depth * math.sin(self.yaw))

    def add(self, depth: float, draw: Callable, *args, **kwargs) -> None:
        """Queue a part; what is nearer to the viewer is drawn later."""
        self.parts.append((depth, lambda: draw(self.canvas, *args, **kwargs)))

    def draw(self) -> None:
        for add in (add_legs, add_torso, add_arms, add_head, add_bag):
            add(self)
        ground_shadow(
            self.canvas, (self.x, self.feet), (self.size * 0.17, self.size * 0.035), 0.55
        )
        for _, draw in sorted(self.parts, key=lambda part: part[0]):
            draw()


def add_legs(figure: Figure) -> None:
    """Hips, legs by the kind of bottom, shoes; a skirt over them."""
    who = figure.identity
    size = figure.size
    girth = figure.girth
    cloth = rgb(who["bottom_rgb"])
    skin = rgb(who["skin_rgb"])
    shoe = rgb(who["shoes_rgb"])
    kind = who["bottom_kind"]
    legs = []
    for side, swing, lift in (
        (-1, figure.swing, figure.lift),
        (1, -figure.swing, -figure.lift),
    ):
        bend = 0.12 + max(0.0, lift)
        hip = np.array([side * 0.046 * who["hips"], 0.5, 0.0])
        knee = hip + 0.235 * np.array([0.02 * side, -math.cos(swing), math.sin(swing)])
        ankle = knee + 0.235 * np.array([0, -math.cos(swing - bend), math.sin(swing - bend)])
        toe = ankle + np.array([side * 0.012, -0.022 - 0.05 * max(0.0, lift), 0.085])
        legs.append((hip, knee, ankle, toe))
    figure.drop = min(leg[2][1] for leg in legs) - 0.035
    bare = kind in ("shorts", "skirt")
    cover = skin if bare else cloth
    upper = {"wide trousers": 0.06, "shorts": 0.058, "skirt": 0.046}.get(kind, 0.055)
    lower = {"wide trousers": (0.05, 0.048, 0.05)}.get(
        kind, (0.034, 0.034, 0.022) if bare else (0.04, 0.036, 0.03)
    )
    for leg in legs:
        hip, knee, ankle, toe = (figure.project(*joint) for joint in leg)
        depth = -0.02 + 0.05 * float(knee[2])
        heel = ankle + np.array([0, size * 0.012, 0])
        figure.add(
            depth - 0.002,
            limb,
            heel[:2],
            toe[:2],
            np.array([0.026, 0.024, 0.017]) * size,
            shoe,
        )
        calf = np.array(lower) * size * girth**0.7
        thigh = np.array([upper + 0.004, upper, lower[0]]) * size * girth**0.75
        thigh[2] = calf[0]
        figure.add(
            depth - 0.001,
            limb,
            hip[:2],
            knee[:2],
            thigh * (0.84, 0.84, 1) if bare else thigh,
            cover,
        )
        figure.add(
            depth - 0.0005,
            limb,
            knee[:2],
            ankle[:2],
            calf,
            cover,
            round_end=bare,
            joined=True,
        )
        if kind == "shorts":
            hem = hip + 0.8 * (knee - hip)
            figure.add(
                depth,
                limb,
                hip[:2],
                hem[:2],
                thigh + [0, 0, 0.016 * size],
                cloth,
                round_end=False,
            )
    if kind == "skirt":
        top = figure.project(0, 0.585, 0)
        hem = figure.project(0, 0.3, 0)
        widths = [
            figure.width(w * girth, w * 0.8 * girth) for w in (0.075, 0.1, 0.112, 0.118)
        ]
        figure.add(
            -0.012, limb, top[:2], hem[:2], widths, cloth, round_start=False, round_end=False
        )


def top_paint(who: dict) -> Callable:
    """Colour of the top by t (neck to hem) and angle around the body (0: chest, pi:
    back).
    """
    first = rgb(who["top_rgb"])
    second = rgb(who["top_second_rgb"])
    scale = who["top_pattern_scale"]
    pattern = who["top_pattern"]
    opened = who["top_kind"] == "open jacket"
    stripe = 0.85 * second + 0.15 * first

    def paint(t: np.ndarray, angle: np.ndarray) -> np.ndarray:
        angle = np.remainder(angle + math.pi, 2 * math.pi) - math.pi
        if pattern == "stripes":
            weight = np.clip(0.5 + 2.5 * np.sin(t * 34 / scale) - 0.4, 0, 1)
        elif pattern == "pinstripes":
            weight = np.clip(2.5 * np.sin(angle * 11 / scale) - 1.2, 0, 1)
        elif pattern == "checks":
            weight = 0.5 * (
                (np.sin(t * 26 / scale) > 0) * 1.0 + (np.sin(angle * 7 / scale) > 0)
            )
        elif pattern == "colour block":
            weight = 1.0 * (t < 0.28 + 0.12 * scale)
        elif pattern == "dots":
            weight = np.clip(
                4 * np.sin(t * 30 / scale) * np.sin(angle * 9 / scale) - 1.2, 0, 1
            )
        else:
            weight = np.zeros_like(t)
        colour = first + (weight * np.ones_like(angle))[..., None] * (stripe - first)
        if opened:  # the front edge of the jacket shows the shirt below
            inner = np.abs(angle) < 0.2 + 0.25 * t
            colour = np.where(inner[..., None], second, first * np.ones_like(colour))
        if who["top_logo"] != "none":
            near = np.abs(angle) if who["top_logo"] == "chest" else math.pi - np.abs(angle)
            print_ = (near / 0.55) ** 2 + ((t - 0.4) / 0.14) ** 2 < 1
            colour = np.where(print_[..., None], rgb(who["top_logo_rgb"]), colour)
        return colour

    return paint


def add_torso(figure: Figure) -> None:
    """Neck and torso in the top's cloth, down to the hips, or to the thighs for a coat;
    straps of a backpack.
    """
    who = figure.identity
    girth = figure.girth
    coat = who["top_kind"] == "coat"
    neck = figure.project(0, 0.835, -0.008)
    hem = figure.project(0, 0.34 if coat else 0.48, 0.0)
    shoulder = 0.098 * who["shoulders"]
    hip = 0.088 * who["hips"]
    # waist and belly grow with girth, shoulders less
    across = [
        0.032,
        shoulder * girth**0.5,
        shoulder * 1.06 * girth**0.7,
        0.09 * girth,
        0.082 * girth,
        hip * girth,
        hip * 1.03 * girth,
    ]
    depth = [
        0.034,
        0.055,
        0.066 * girth,
        0.066 * girth,
        0.064 * girth**1.5,
        0.07 * girth,
        0.07 * girth,
    ]
    if coat:
        across = across + [0.1 * girth, 0.106 * girth]
        depth = depth + [0.082 * girth, 0.088 * girth]
        across[4] *= 1.08
    widths = [figure.width(a, d) for a, d in zip(across, depth)]
    paint = top_paint(who)
    if who["bag_kind"] == "backpack":
        plain = paint
        strap = rgb(who["bag_rgb"]) * 0.85

        def paint(t, angle):
            turned = np.abs(np.remainder(angle + math.pi, 2 * math.pi) - math.pi)
            straps = (np.abs(turned - 0.66) < 0.15) & (t < 0.55)
            return np.where(straps[..., None], strap, plain(t, angle)).astype(np.float32)

    head = figure.project(0, 0.9, 0.012)
    figure.add(
        -0.0005,
        limb,
        head[:2],
        neck[:2],
        np.array([0.026, 0.03]) * figure.size,
        rgb(who["skin_rgb"]) * 0.92,
    )
    figure.add(0.0, limb, neck[:2], hem[:2], widths, paint, round_end=False, yaw=figure.yaw)


def add_arms(figure: Figure) -> None:
    """Two arms that swing against the legs; sleeves by the kind of top."""
    who = figure.identity
    size = figure.size
    girth = figure.girth
    skin = rgb(who["skin_rgb"])
    cloth = top_paint(who | {"top_logo": "none", "top_kind": "pullover"})
    block = who["top_pattern"] == "colour block"
    plain = (
        rgb(who["top_second_rgb"]) * 0.85 + rgb(who["top_rgb"]) * 0.15
        if block
        else rgb(who["top_rgb"])
    )
    sleeve = plain if block or who["top_kind"] == "open jacket" else cloth
    for side, swing in ((-1, -figure.swing), (1, figure.swing)):
        swing = 0.85 * swing + 0.04
        shoulder = np.array([side * 0.099 * who["shoulders"] * girth**0.5, 0.782, 0.0])
        elbow = shoulder + 0.165 * np.array([side * 0.16, -math.cos(swing), math.sin(swing)])
        bend = 0.25 + 0.35 * max(0.0, swing)
        hand = elbow + 0.155 * np.array(
            [side * 0.03, -math.cos(swing + bend), math.sin(swing + bend)]
        )
        s, e, h = (figure.project(*joint) for joint in (shoulder, elbow, hand))
        depth = float(e[2]) + (0.003 if abs(e[2]) < 0.1 else 0)
        depth = depth if depth < -0.05 else max(depth, 0.001)
        grip = h + 0.3 * (h - e) * 0.55
        figure.add(depth - 0.0003, blob, grip[:2], (0.02 * size, 0.024 * size), skin)
        short = who["top_kind"] == "T-shirt"
        thick = size * girth**0.6
        upper, lower = (
            ((0.033, 0.027), (0.027, 0.02))
            if short
            else ((0.031, 0.035, 0.034, 0.032), (0.032, 0.026))
        )
        cover = skin if short else sleeve
        figure.add(depth - 0.0002, limb, s[:2], e[:2], np.array(upper) * thick, cover)
        figure.add(
            depth - 0.0001,
            limb,
            e[:2],
            h[:2],
            np.array(lower) * thick,
            cover,
            round_end=short,
            joined=True,
        )
        if short:
            cuff = s + 0.72 * (e - s)
            figure.add(
                depth,
                limb,
                s[:2],
                cuff[:2],
                np.array([0.032, 0.037, 0.037]) * thick,
                sleeve,
                round_end=False,
            )


def head_paint(who: dict, yaw: float) -> Callable:
    """Skin, hair, eyes and hat by the surface normal of the head, turned back into the
    head's own axes.
    """
    skin = rgb(who["skin_rgb"])
    hair = rgb(who["hair_rgb"])
    length = who["hair_length"]
    hat = who["hat"]
    hat_colour = rgb(who["hat_rgb"])
    limit = {"bald": 9.0, "short": 0.3, "medium": 0.12, "long": 0.1, "tied": 0.22}[length]
    cos = math.cos(yaw)
    sin = math.sin(yaw)

    def paint(nx: np.ndarray, ny: np.ndarray, nz: np.ndarray) -> np.ndarray:
        front = nx * sin + nz * cos
        side = nx * cos - nz * sin
        up = -ny
        reach = 0.75 if length in ("medium", "long") else 0.5
        hairy = np.clip((up * 0.95 - front * reach - limit) * 9 + 0.5, 0, 1)[..., None]
        face = np.broadcast_to(skin, (*front.shape, 3))
        eyes = (
            (front > 0.3) & (np.abs(np.abs(side) - 0.36) < 0.12) & (np.abs(up - 0.06) < 0.08)
        )
        mouth = (front > 0.4) & (np.abs(side) < 0.24) & (np.abs(up + 0.5) < 0.07)
        face = np.where(
            eyes[..., None], 0.2, np.where(mouth[..., None], skin * (0.78, 0.6, 0.6), face)
        )
        colour = face + hairy * (hair - face)
        if hat != "none":
            covered = np.clip(
                (up - (0.3 if hat == "cap" else 0.22 + 0.15 * front)) * 9 + 0.5, 0, 1
            )[..., None]
            colour = colour + covered * (hat_colour - colour)
        return colour.astype(np.float32)

    return paint


def add_head(figure: Figure) -> None:
    """Head, hair that falls behind, the peak of a cap."""
    who = figure.identity
    size = figure.size
    centre = figure.project(0, 0.925, 0.014)
    radii = (figure.width(0.055, 0.062), 0.074 * size)
    hair = rgb(who["hair_rgb"])
    if who["hair_length"] in ("medium", "long"):
        reach = 0.76 if who["hair_length"] == "long" else 0.85
        top = figure.project(0, 0.93, -0.02)
        tip = figure.project(0, reach, -0.035)
        widths = [
            figure.width(w, d) for w, d in ((0.06, 0.046), (0.066, 0.04), (0.052, 0.03))
        ]
        behind = figure.project(0, 0.9, -0.06)[2]
        figure.add(float(behind) * 0.4 + 0.001, limb, top[:2], tip[:2], widths, hair)
    if who["hair_length"] == "tied":
        knot = figure.project(0, 0.945, -0.062)
        tip = figure.project(0, 0.84, -0.075)
        figure.add(
            float(knot[2]) * 0.4,
            limb,
            knot[:2],
            tip[:2],
            np.array([0.024, 0.022, 0.01]) * size,
            hair,
        )
    figure.add(0.0009, blob, centre[:2], radii, head_paint(who, figure.yaw))
    if who["hat"] == "cap":
        peak = figure.project(0, 0.946, 0.075)
        size_of_peak = (figure.width(0.042, 0.035), 0.011 * size)
        figure.add(
            0.0009 + float(peak[2]) * 0.02,
            blob,
            peak[:2],
            size_of_peak,
            rgb(who["hat_rgb"]) * 0.85,
        )


def add_bag(figure: Figure) -> None:
    """The bag, where that kind is carried."""
    who = figure.identity
    size = figure.size
    side = figure.identity["bag_side"]
    kind = who["bag_kind"]
    colour = rgb(who["bag_rgb"])
    if kind == "backpack":
        centre = figure.project(0, 0.695, -0.095)
        wide = figure.width(0.083, 0.05)
        figure.add(
            float(centre[2]), blob, centre[:2], (wide, 0.125 * size), colour, power=3.2
        )
        pocket = figure.project(0, 0.65, -0.125)
        figure.add(
            float(pocket[2]),
            blob,
            pocket[:2],
            (wide * 0.72, 0.055 * size),
            colour * 0.84,
            power=4,
        )
    elif kind == "handbag":
        centre = figure.project(side * 0.165, 0.385, 0.02)
        grip = figure.project(side * 0.155, 0.47, 0.02)
        depth = float(centre[2]) + 0.004
        for shift in (-0.028, 0.028):
            ring = centre[:2] + [shift * size, -0.045 * size]
            figure.add(depth - 0.001, limb, grip[:2], ring, [0.006 * size] * 2, colour * 0.7)
        figure.add(
            depth, blob, centre[:2], (figure.width(0.03, 0.07), 0.058 * size), colour, power=4
        )
    elif kind == "shoulder bag":
        centre = figure.project(side * 0.125, 0.47, 0.01)
        radii = (figure.width(0.035, 0.085), 0.062 * size)
        figure.add(float(centre[2]) + 0.006, blob, centre[:2], radii, colour, power=4)
        for z in (0.068, -0.068):
            shoulder = figure.project(-side * 0.06, 0.825, z * 0.5)
            hip = figure.project(side * 0.1, 0.5, z)
            middle = figure.project(side * 0.02, 0.66, z * 1.15)
            depth = 0.0007 if middle[2] > 0 else -0.03
            for a, b in ((shoulder, middle), (middle, hip)):
                figure.add(depth, limb, a[:2], b[:2], [0.011 * size] * 2, colour * 0.72)
    elif kind == "trolley":
        centre = figure.project(side * 0.2, 0.15, -0.1)
        grip = figure.project(side * 0.17, 0.45, -0.04)
        depth = float(centre[2]) - 0.004
        figure.add(
            depth - 0.002, limb, grip[:2], centre[:2], [0.007 * size] * 2, rgb((90, 90, 94))
        )
        figure.add(
            depth, blob, centre[:2], (figure.width(0.07, 0.05), 0.115 * size), colour, power=5
        )


def draw_person(canvas: Canvas, identity: dict, picture: dict, camera: dict) -> None:
    """Draw one person with a shadow."""
    Figure(canvas, identity, picture, camera).draw()


def companion(picture: dict, rng: np.random.Generator) -> dict:
    """Picture factors of somebody who stands in front, half out of the picture."""
    shift = picture["occluder_side"] * (0.62 - 0.4 * picture["occluder_reach"])
    return picture | {
        "x": picture["x"] + shift,
        "y": picture["y"] + 0.05,
        "scale": picture["scale"] * 1.08,
        "yaw": float(rng.uniform(0, 360)),
        "pose_phase": float(rng.uniform(0, 6.28)),
    }
