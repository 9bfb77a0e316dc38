"""Cars from any side: the body is swept from its side outline, sampled as points on the
surface, painted and lit.

Body axes in metres: x forwards, y up from the road, z to the side. numpy only; the
nearest point to the viewer wins.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageFilter

from dkdmpl_kit.data.rendering.canvas import Canvas, blob, limb, rgb

# Side outlines from the rear bumper over the roof to the front bumper, always in nine
# parts (see _PARTS).
OUTLINES = {
    "sedan": (
        (-2.25, 0.28),
        (-2.32, 0.58),
        (-2.24, 0.96),
        (-1.62, 1.02),
        (-0.92, 1.41),
        (0.22, 1.44),
        (1.05, 0.99),
        (2.08, 0.8),
        (2.32, 0.58),
        (2.25, 0.28),
    ),
    "hatchback": (
        (-1.86, 0.28),
        (-1.93, 0.6),
        (-1.9, 0.96),
        (-1.84, 1.02),
        (-1.42, 1.43),
        (0.12, 1.48),
        (0.92, 1.02),
        (1.72, 0.84),
        (1.95, 0.6),
        (1.9, 0.28),
    ),
    "estate": (
        (-2.25, 0.28),
        (-2.32, 0.6),
        (-2.29, 0.96),
        (-2.25, 1.02),
        (-1.84, 1.43),
        (0.18, 1.47),
        (1.04, 1.0),
        (2.08, 0.8),
        (2.32, 0.58),
        (2.25, 0.28),
    ),
    "suv": (
        (-2.16, 0.38),
        (-2.24, 0.7),
        (-2.22, 1.08),
        (-2.18, 1.14),
        (-1.84, 1.66),
        (0.22, 1.7),
        (0.94, 1.16),
        (1.96, 1.02),
        (2.24, 0.75),
        (2.18, 0.38),
    ),
    "van": (
        (-2.36, 0.3),
        (-2.44, 0.62),
        (-2.44, 1.06),
        (-2.43, 1.1),
        (-2.32, 1.9),
        (1.05, 1.92),
        (1.74, 1.16),
        (2.2, 0.98),
        (2.42, 0.7),
        (2.36, 0.3),
    ),
    "pickup": (
        (-2.48, 0.4),
        (-2.55, 0.7),
        (-2.54, 1.04),
        (-0.72, 1.05),
        (-0.5, 1.62),
        (0.5, 1.66),
        (1.18, 1.14),
        (2.2, 0.99),
        (2.5, 0.75),
        (2.42, 0.4),
    ),
}
_REAR, _TAIL, _LID, _REAR_WINDOW, _ROOF, _WINDSCREEN, _BONNET, _FACE, _BUMPER = range(9)
GLASS = np.array([0.2, 0.25, 0.3])
TRIM = np.array([0.13, 0.135, 0.145])
RUBBER = np.array([0.085, 0.085, 0.09])
PLATES = {"white": (0.92, 0.92, 0.9), "yellow": (0.92, 0.8, 0.3), "blue": (0.25, 0.4, 0.75)}


class Vehicle:
    """One car in one pose: its measures, its outline and the projection onto the
    canvas.
    """

    def __init__(self, canvas: Canvas, identity: dict, picture: dict, camera: dict):
        self.who = identity
        self.canvas = canvas
        self.yaw = math.radians(picture["yaw"])
        self.pitch = math.radians(0.65 * camera["pitch"] + 3)
        self.phase = picture["pose_phase"]
        knots = np.asarray(OUTLINES[identity["body_kind"]]) * (
            identity["body_length"],
            identity["body_height"],
        )
        self.part = np.linspace(0, 9, 541)  # position along the outline, in parts
        outline = np.stack(
            [np.interp(self.part, np.arange(10), knots[:, i]) for i in (0, 1)], 1
        )
        kernel = np.ones(25) / 25  # round its corners
        padded = np.pad(outline, ((12, 12), (0, 0)), mode="reflect", reflect_type="odd")
        rounded = [np.convolve(padded[:, i], kernel, "valid") for i in (0, 1)]
        self.outline = np.stack(rounded, 1).astype(np.float32)
        self.rear, self.front = (
            float(self.outline[:, 0].min()),
            float(self.outline[:, 0].max()),
        )
        self.top = float(self.outline[:, 1].max())
        self.sill = float(knots[0, 1])
        self.belt = tuple(tuple(map(float, knots[i])) for i in (3, 6))
        self.tall = identity["body_kind"] in ("suv", "van", "pickup")
        self.half_width = 0.96 if self.tall else 0.88
        self.wheel = 0.365 if self.tall else 0.315
        self.axles = (self.rear + 0.82, self.front - 0.84)
        self._fit(picture)

    def _fit(self, picture: dict) -> None:
        """Scale and place the car so that it fills the picture, as a detector's box
        would.
        """
        height, width = self.canvas.mask.shape
        x, y = self.outline.T
        flank = np.stack([x, y, self.width_at(x, y)], -1)
        tyres = np.array([(axle, 0.0, self.half_width) for axle in self.axles])
        edge = np.concatenate([flank, tyres])
        self.scale = 1.0
        self.offset = np.zeros(2)
        screen, _ = self.project(np.concatenate([edge, edge * (1, 1, -1)]))
        low = screen.min(0)
        high = screen.max(0)
        self.scale = (
            0.86
            * picture["scale"]
            * float(min(width / (high[0] - low[0]), height / (high[1] - low[1])))
        )
        place = np.array([width * (0.5 + picture["x"]), height * (0.53 + picture["y"])])
        self.offset = (place - self.scale * (low + high) / 2).astype(np.float32)

    def turn(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Screen x, screen y and depth towards the viewer of vectors (..., 3) in body
        axes.
        """
        x = vectors[..., 0]
        y = vectors[..., 1]
        z = vectors[..., 2]
        across = x * math.sin(self.yaw) + z * math.cos(self.yaw)
        near = x * math.cos(self.yaw) - z * math.sin(self.yaw)
        return (
            across,
            near * math.sin(self.pitch) - y * math.cos(self.pitch),
            near * math.cos(self.pitch) + y * math.sin(self.pitch),
        )

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixel positions (..., 2) and depths (...) of points in metres."""
        across, down, depth = self.turn(points)
        return self.scale * np.stack([across, down], -1) + self.offset, depth

    def width_at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Half the body's width: cabin walls lean in, nose and tail are rounded seen
        from above.
        """
        belt = self.belt_at(x)
        lean = np.clip((y - belt) / (self.top - belt), 0, 1) * (
            0.1 if self.who["body_kind"] == "van" else 0.2
        )
        middle = (self.front + self.rear) / 2
        half = (self.front - self.rear) / 2
        taper = 0.13 * np.clip(np.abs(x - middle) / half, 0, 1) ** 5
        bulge = 0.03 * ((y - 0.65 * belt) / belt) ** 2
        return self.half_width * (1 - lean - taper - bulge)

    def belt_at(self, x: np.ndarray) -> np.ndarray:
        """Height of the lower edge of the windows."""
        (x0, y0), (x1, y1) = self.belt
        return y0 + (y1 - y0) * np.clip((x - x0) / (x1 - x0), 0, 1)

    def steps(self, vector, metres: float) -> int:
        """How many samples along `vector` leave no pixel out."""
        across, down, _ = self.turn(np.asarray(vector, float))
        return max(
            3,
            math.ceil(metres * self.scale * math.hypot(float(across), float(down)) / 0.85)
            + 1,
        )


def draw_vehicle(canvas: Canvas, identity: dict, picture: dict, camera: dict) -> None:
    """Draw one car with its shadow on the road."""
    car = Vehicle(canvas, identity, picture, camera)
    _cast_shadow(car)
    near = [side for side in (-1, 1) if car.turn(np.array([0.0, 0.0, side]))[2] > -0.35]
    sheets = [_ribbon(car)] + [_side(car, side) for side in near]
    sheets += [_wheel(car, x, side) for x in car.axles for side in near]
    points, normals, colours, gloss = (np.concatenate(arrays) for arrays in zip(*sheets))
    screen, depth = car.project(points)
    height, width = canvas.mask.shape
    column, row = np.floor(screen).astype(np.int32).T
    inside = np.flatnonzero((column >= 0) & (column < width) & (row >= 0) & (row < height))
    inside = inside[np.argsort(depth[inside])]
    nearest = np.full(height * width, -1, np.int64)
    # the last one stays: the nearest
    nearest[row[inside] * width + column[inside]] = inside
    pixel = np.flatnonzero(nearest >= 0)
    won = nearest[pixel]
    canvas.pixels.reshape(-1, 3)[pixel] = _lit(car, normals[won], colours[won], gloss[won])
    canvas.mask.reshape(-1)[pixel] = 1
    _roof_load(car)


def _lit(
    car: Vehicle, normals: np.ndarray, colours: np.ndarray, gloss: np.ndarray
) -> np.ndarray:
    """(N, 3) colours in 0..1 under the canvas's light: body colour, sky in the paint, a
    highlight.
    """
    nx, ny, nz = car.turn(normals)
    light = car.canvas.light
    shine = (
        np.maximum(2 * nz * (nx * light[0] + ny * light[1] + nz * light[2]) - light[2], 0)
        ** 14
    )
    sky = np.clip(-ny * 0.9 + 0.25, 0, 1) ** 2
    lit = (
        colours * car.canvas.shade(nx, ny, nz)[:, None]
        + (gloss * (0.15 * sky + 0.45 * shine))[:, None]
    )
    return np.clip(lit, 0, 1)


def _ribbon(car: Vehicle):
    """The skin between the two side outlines: tail, roof, windows, bonnet, face."""
    (x, y), part = car.outline.T, car.part
    across, down, _ = car.turn(np.stack([x, y, np.zeros_like(x)], -1))
    travelled = np.concatenate(
        [[0], np.cumsum(np.hypot(np.diff(across), np.diff(down)) + 1e-4)]
    )
    even = np.linspace(0, travelled[-1], math.ceil(travelled[-1] * car.scale / 0.85) + 2)
    x, y, part = (
        np.interp(even, travelled, values).astype(np.float32) for values in (x, y, part)
    )
    lateral = np.linspace(-1, 1, car.steps((0, 0, 1), 2 * car.half_width), dtype=np.float32)
    tx = np.gradient(car.outline[:, 0])
    ty = np.gradient(car.outline[:, 1])
    up_x, up_y = (
        np.interp(even, travelled, values).astype(np.float32) for values in (-ty, tx)
    )
    length = np.hypot(up_x, up_y) + 1e-9
    s, q = np.broadcast_arrays(part[:, None], lateral[None, :])
    points = np.stack(
        [
            np.broadcast_to(x[:, None], s.shape),
            np.broadcast_to(y[:, None], s.shape),
            q * car.width_at(x, y)[:, None],
        ],
        -1,
    )
    roundness = 0.12 * q + 0.6 * np.sign(q) * np.clip((np.abs(q) - 0.86) / 0.14, 0, 1) ** 2
    normals = np.stack(
        [
            np.broadcast_to((up_x / length)[:, None], s.shape),
            np.broadcast_to((up_y / length)[:, None], s.shape),
            roundness,
        ],
        -1,
    )
    return _visible(
        car, points, normals, lambda keep: _paint_ribbon(car, s[keep], q[keep], points[keep])
    )


def _paint_ribbon(car: Vehicle, s: np.ndarray, q: np.ndarray, points: np.ndarray):
    """Colours (N, 3) and gloss (N,) of the ribbon by part of the outline and place
    across.
    """
    who = car.who
    wide = np.abs(q)
    part = np.clip(np.floor(s), 0, 8).astype(int)
    inside = s - np.floor(s)
    colour = np.tile(rgb(who["paint_rgb"]), (len(s), 1))
    gloss = np.full(len(s), 0.55, np.float32)

    def lay(where, value, shine=0.2):
        colour[where], gloss[where] = value, shine

    if who["paint_scheme"] == "dark roof":
        lay(part == _ROOF, TRIM, 0.5)
    if who["paint_scheme"] == "two tone":
        lay(np.isin(part, (_REAR, _BUMPER)), rgb(who["paint_second_rgb"]), 0.5)
    glass = (
        np.isin(part, (_REAR_WINDOW, _WINDSCREEN))
        & (wide < 0.9)
        & (inside > 0.05)
        & (inside < 0.93)
    )
    if who["body_kind"] == "van":
        glass &= (part == _WINDSCREEN) | ((wide > 0.06) & (inside > 0.25))
    lay(glass, GLASS * (1.25 - 0.6 * who["window_tint"]), 0.9)
    lay((part == _REAR) & (inside < 0.45), TRIM)
    lay((part == _BUMPER) & (inside > 0.5), TRIM)
    low = {"wide": (0.12, 0.52), "round": (0.1, 0.7), "slim": (0.35, 0.48)}[who["lamp_shape"]]
    reach = 0.96
    span = {"wide": 0.56, "round": 0.7, "slim": 0.48}[who["lamp_shape"]]
    lamp = (wide > span) & (wide < reach)
    lay(
        (part == _FACE) & lamp & (inside > low[0]) & (inside < low[0] + low[1]),
        (0.93, 0.94, 0.9),
        0.8,
    )
    lay(
        (part == _TAIL) & lamp & (inside > 0.95 - low[0] - low[1]) & (inside < 1 - low[0]),
        (0.62, 0.06, 0.07),
        0.7,
    )
    lay((part == _FACE) & (wide < span - 0.06) & (inside > 0.3), TRIM * 1.3, 0.3)
    lay((part == _BUMPER) & (wide < 0.55) & (inside > 0.12) & (inside < 0.45), TRIM, 0.2)
    plate = ((part == _BUMPER) & (inside < 0.36)) | (
        (part == _TAIL) & (inside > 0.3) & (inside < 0.68)
    )
    lay(plate & (wide < 0.26), PLATES[who["plate"]], 0.1)
    if who["sticker"] == "rear window":
        disc = np.hypot((q - 0.42) / 0.3, (inside - 0.4) / 0.26) < 1
        lay((part == _REAR_WINDOW) & disc, rgb(who["sticker_rgb"]), 0.2)
    seam = (part == _BONNET) & (np.abs(wide - 0.82) < 0.012)
    seam |= (np.abs(s - _BONNET) < 0.03) | (np.abs(s - _FACE) < 0.03)
    colour[seam] *= 0.72
    return colour, gloss


def _side(car: Vehicle, side: int):
    """One flank, from the sill up to the outline."""
    x = np.linspace(
        car.rear, car.front, car.steps((1, 0, 0), car.front - car.rear), dtype=np.float32
    )
    upper = car.part > 0.6
    order = np.argsort(car.outline[upper, 0], kind="stable")
    top = np.interp(x, car.outline[upper, 0][order], car.outline[upper, 1][order]).astype(
        np.float32
    )
    floor = car.sill + 0.3 * np.clip(1 - np.minimum(x - car.rear, car.front - x) / 0.1, 0, 1)
    rise = np.linspace(
        0, 1, car.steps((0, 1, 0), 1.3 * (car.top - car.sill)), dtype=np.float32
    )
    y = floor[:, None] + rise[None, :] * (top - floor)[:, None]
    grid = np.broadcast_to(x[:, None], y.shape)
    points = np.stack([grid, y, side * car.width_at(grid, y)], -1)
    belt = car.belt_at(grid)
    tilt = np.where(
        y > belt,
        0.28,
        -0.22 * (y - 0.75 * belt) / belt + 0.25 * np.clip((y - belt + 0.12) / 0.12, 0, 1),
    )
    middle = (car.front + car.rear) / 2
    half = (car.front - car.rear) / 2
    bow = 0.9 * np.sign(grid - middle) * np.clip(np.abs(grid - middle) / half, 0, 1) ** 7
    crown = np.clip(1 - (top[:, None] - y) / 0.07, 0, 1) * 0.7
    normals = np.stack([bow, tilt + crown, np.full_like(y, side)], -1)
    head = np.broadcast_to(top[:, None], y.shape)
    return _visible(
        car, points, normals, lambda keep: _paint_side(car, points[keep], head[keep], side)
    )


def _paint_side(car: Vehicle, points: np.ndarray, top: np.ndarray, side: int):
    """Colours (N, 3) and gloss (N,) of a flank: windows, doors, arches, stripes, lamps."""
    who, (x, y) = car.who, points[:, :2].T
    belt = car.belt_at(x)
    gloss = np.full(len(x), 0.55, np.float32)
    colour = np.tile(rgb(who["paint_rgb"]), (len(x), 1))

    def lay(where, value, shine=0.2):
        colour[where], gloss[where] = value, shine

    if who["paint_scheme"] == "two tone":
        lay(y < 0.62 * belt, rgb(who["paint_second_rgb"]), 0.5)
    if who["paint_scheme"] == "side stripe":
        lay(np.abs(y - 0.74 * belt) < 0.065, rgb(who["paint_second_rgb"]), 0.4)
    if who["paint_scheme"] == "dark roof":
        lay((y > belt + 0.04) & (y > top - 0.07), TRIM, 0.5)
    (rear_x, _), (front_x, _) = car.belt
    two_doors = who["body_kind"] in ("van", "pickup")
    pillar = 0.5 * (rear_x + front_x) + (0.25 if two_doors else 0.05)
    window = (
        (y > belt + 0.05) & (y < top - 0.085) & (x > rear_x + 0.18) & (x < front_x - 0.16)
    )
    window &= np.abs(x - pillar) > 0.045
    if who["body_kind"] == "van":
        window &= x > 0.35
    lay(window, GLASS * (1.2 - 0.75 * who["window_tint"]), 0.85)
    if who["sticker"] == "door":
        lay(
            np.hypot((x - pillar + 0.42) / 0.3, (y - 0.68 * belt) / 0.15) < 1,
            rgb(who["sticker_rgb"]),
            0.3,
        )
    doors = (pillar, front_x - 0.28) if two_doors else (rear_x + 0.55, pillar, front_x - 0.22)
    for door in doors:
        colour[(np.abs(x - door) < 0.016) & (y > 0.4 * belt) & (y < belt + 0.05)] *= 0.62
    for door in doors[1:]:
        lay(
            (np.abs(x - door + 0.72) < 0.085) & (np.abs(y - belt + 0.13) < 0.022),
            TRIM * 1.5,
            0.4,
        )
    lay((x > car.front - 0.3) & (np.abs(y - 0.78 * belt) < 0.07), (0.93, 0.94, 0.9), 0.8)
    lay((x < car.rear + 0.16) & (np.abs(y - 0.84 * belt) < 0.11), (0.62, 0.06, 0.07), 0.7)
    lay(y < car.sill + 0.07, TRIM)
    for axle in car.axles:
        lay(np.hypot(x - axle, y - car.wheel) < car.wheel * 1.17, RUBBER * 0.6, 0.0)
    return colour, gloss


def _wheel(car: Vehicle, x: float, side: int):
    """Tyre and rim at one end of an axle: a disc and the tread around it."""
    who = car.who
    radius = car.wheel
    outer = side * car.half_width * 0.965
    count = max(8, math.ceil(radius * car.scale / 0.85))
    around = np.linspace(0, 2 * math.pi, 7 * count, dtype=np.float32)
    r, turn = np.meshgrid(
        np.linspace(0.02, 1, count, dtype=np.float32), around, indexing="ij"
    )
    disc = np.stack(
        [
            x + radius * r * np.cos(turn),
            radius + radius * r * np.sin(turn),
            np.full_like(r, outer),
        ],
        -1,
    )
    spoke = np.cos(
        (turn + car.phase) * {"five spokes": 5, "many spokes": 11}.get(who["wheel_style"], 0)
    )
    metal = np.array(
        {"black": (0.2, 0.2, 0.21), "disc": (0.66, 0.67, 0.69)}.get(
            who["wheel_style"], (0.72, 0.73, 0.75)
        )
    )
    rim = np.where(
        (spoke > -0.15)[..., None] | (r < 0.17)[..., None] | (r > 0.6)[..., None], metal, TRIM
    )
    colour = np.where((r < 0.68)[..., None], rim, RUBBER)
    face = np.broadcast_to(np.array([0.0, 0.0, side]), disc.shape)
    angle, across = np.meshgrid(
        around, np.linspace(0, 1, max(4, count // 2), dtype=np.float32), indexing="ij"
    )
    tread = np.stack(
        [
            x + radius * np.cos(angle),
            radius + radius * np.sin(angle),
            outer - side * 0.2 * across,
        ],
        -1,
    )
    outward = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], -1)
    black = np.broadcast_to(RUBBER, tread.shape)
    points, normals, colours = (
        np.concatenate([a.reshape(-1, 3), b.reshape(-1, 3)])
        for a, b in ((disc, tread), (face, outward), (colour, black))
    )
    return points, normals, colours, np.full(len(points), 0.08)


def _visible(car: Vehicle, points: np.ndarray, normals: np.ndarray, paint):
    """Keep what faces the viewer; paint that much only. Flat arrays: points, unit
    normals, colours, gloss.
    """
    normals = normals / np.linalg.norm(normals, axis=-1, keepdims=True)
    keep = (
        car.turn(normals)[2] > -0.25
    )  # rounded normals lean further than the surface itself
    colours, gloss = paint(keep)
    return points[keep], normals[keep], colours, gloss


def _cast_shadow(car: Vehicle) -> None:
    """Darken the road below and beside the car."""
    height, width = car.canvas.mask.shape
    reach = np.linspace(-1, 1, 90)
    along = (car.front + car.rear) / 2 + 0.52 * (car.front - car.rear) * reach
    x, z = np.meshgrid(along, 1.06 * car.half_width * reach)
    screen, _ = car.project(np.stack([x, np.zeros_like(x), z], -1))
    screen[..., 0] -= car.canvas.light[0] * 0.1 * car.scale
    column, row = np.floor(screen / 4).astype(int).reshape(-1, 2).T
    inside = (column >= 0) & (column < width // 4) & (row >= 0) & (row < height // 4)
    shadow = np.zeros((height // 4, width // 4), np.uint8)
    shadow[row[inside], column[inside]] = 150
    soft = Image.fromarray(shadow).filter(ImageFilter.GaussianBlur(1.8))
    soft = soft.resize((width, height), Image.Resampling.BICUBIC)
    car.canvas.pixels *= 1 - np.asarray(soft, np.float32)[..., None] / 255


def _roof_load(car: Vehicle) -> None:
    """Rack, box or taxi sign on the roof."""
    kind = car.who["roof"]
    middle = float(car.outline[(car.part > 4) & (car.part < 5), 0].mean())
    if kind == "none":
        return
    if kind == "rack":
        for z in (-0.52 * car.half_width, 0.52 * car.half_width):
            ends, _ = car.project(
                np.array([[middle + x, car.top + 0.05, z] for x in (-0.6, 0.6)])
            )
            limb(
                car.canvas,
                ends[0],
                ends[1],
                [0.026 * car.scale] * 2,
                TRIM.astype(np.float32) * 1.6,
            )
        return
    along, wide, tall, colour = {
        "box": (0.6, 0.36, 0.12, (0.3, 0.31, 0.33)),
        "taxi sign": (0.1, 0.24, 0.08, (0.95, 0.85, 0.4)),
    }[kind]
    cos = math.cos(car.yaw)
    sin = math.sin(car.yaw)
    seen_above = 0.7 * math.sin(car.pitch) * math.hypot(along * cos, wide * sin)
    radii = np.array([math.hypot(wide * cos, along * sin), tall + seen_above])
    screen, _ = car.project(np.array([middle, car.top + tall, 0.0]))
    blob(car.canvas, screen, radii * car.scale, np.array(colour, np.float32), power=4)
