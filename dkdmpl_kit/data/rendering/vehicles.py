"""Cars from any side: points on a body swept from its side outline, painted and lit.

Body axes in metres: x forwards, y up from the road, z to the side. numpy only; the
nearest point to the viewer wins.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageFilter

from dkdmpl_kit.data.rendering.canvas import Canvas, blob, limb, rgb

# Side outlines from the rear bumper over the roof to the front bumper, x and y of ten
# corners; the nine parts between them are PARTS.
OUTLINES = {
    "sedan": (
        (-2.25, -2.32, -2.24, -1.62, -0.92, 0.22, 1.05, 2.08, 2.32, 2.25),
        (0.28, 0.58, 0.96, 1.02, 1.41, 1.44, 0.99, 0.8, 0.58, 0.28),
    ),
    "hatchback": (
        (-1.86, -1.93, -1.9, -1.84, -1.42, 0.12, 0.92, 1.72, 1.95, 1.9),
        (0.28, 0.6, 0.96, 1.02, 1.43, 1.48, 1.02, 0.84, 0.6, 0.28),
    ),
    "estate": (
        (-2.25, -2.32, -2.29, -2.25, -1.84, 0.18, 1.04, 2.08, 2.32, 2.25),
        (0.28, 0.6, 0.96, 1.02, 1.43, 1.47, 1.0, 0.8, 0.58, 0.28),
    ),
    "suv": (
        (-2.16, -2.24, -2.22, -2.18, -1.84, 0.22, 0.94, 1.96, 2.24, 2.18),
        (0.38, 0.7, 1.08, 1.14, 1.66, 1.7, 1.16, 1.02, 0.75, 0.38),
    ),
    "van": (
        (-2.36, -2.44, -2.44, -2.43, -2.32, 1.05, 1.74, 2.2, 2.42, 2.36),
        (0.3, 0.62, 1.06, 1.1, 1.9, 1.92, 1.16, 0.98, 0.7, 0.3),
    ),
    "pickup": (
        (-2.48, -2.55, -2.54, -0.72, -0.5, 0.5, 1.18, 2.2, 2.5, 2.42),
        (0.4, 0.7, 1.04, 1.05, 1.62, 1.66, 1.14, 0.99, 0.75, 0.4),
    ),
}
_REAR, _TAIL, _LID, _REAR_WINDOW, _ROOF, _WINDSCREEN, _BONNET, _FACE, _BUMPER = range(9)
STEP = 0.85  # pixels between samples of a surface
GLASS = np.array([0.2, 0.25, 0.3])
TRIM = np.array([0.13, 0.135, 0.145])
RUBBER = np.array([0.085, 0.085, 0.09])
HEADLAMP = (0.93, 0.94, 0.9)
REAR_LAMP = (0.62, 0.06, 0.07)
# where a lamp starts on its part, how high it is, and how far from the middle
LAMPS = {"wide": (0.12, 0.52, 0.56), "round": (0.1, 0.7, 0.7), "slim": (0.35, 0.48, 0.48)}
PLATES = {"white": (0.92, 0.92, 0.9), "yellow": (0.92, 0.8, 0.3), "blue": (0.25, 0.4, 0.75)}


class Vehicle:
    """One car in one pose: its measures, its outline, its projection onto the canvas."""

    def __init__(self, canvas: Canvas, identity: dict, picture: dict, camera: dict):
        self.who = identity
        self.canvas = canvas
        self.yaw = math.radians(picture["yaw"])
        self.pitch = math.radians(0.65 * camera["pitch"] + 3)
        self.phase = picture["pose_phase"]
        x, y = OUTLINES[identity["body_kind"]]
        x = np.multiply(x, identity["body_length"])
        y = np.multiply(y, identity["body_height"])
        self.part = np.linspace(0, 9, 541)  # position along the outline, in parts
        self.outline = np.stack([_rounded(self.part, x), _rounded(self.part, y)], 1)
        self.rear = float(self.outline[:, 0].min())
        self.front = float(self.outline[:, 0].max())
        self.top = float(self.outline[:, 1].max())
        self.sill = float(y[0])
        # the lower edge of the windows, from the rear one to the windscreen
        self.belt_x = (float(x[3]), float(x[6]))
        self.belt_y = (float(y[3]), float(y[6]))
        self.tall = identity["body_kind"] in ("suv", "van", "pickup")
        self.half_width = 0.96 if self.tall else 0.88
        self.wheel = 0.365 if self.tall else 0.315
        self.axles = (self.rear + 0.82, self.front - 0.84)
        self._fit(picture)

    def _fit(self, picture: dict) -> None:
        """Scale and place the car so that it fills the picture, as in a detector's box."""
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
        across, down = high - low
        self.scale = 0.86 * picture["scale"] * float(min(width / across, height / down))
        place = np.array([width * (0.5 + picture["x"]), height * (0.53 + picture["y"])])
        self.offset = (place - self.scale * (low + high) / 2).astype(np.float32)

    def turn(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Screen x, screen y and depth towards the viewer of vectors (..., 3)."""
        x = vectors[..., 0]
        y = vectors[..., 1]
        z = vectors[..., 2]
        across = x * math.sin(self.yaw) + z * math.cos(self.yaw)
        near = x * math.cos(self.yaw) - z * math.sin(self.yaw)
        down = near * math.sin(self.pitch) - y * math.cos(self.pitch)
        depth = near * math.cos(self.pitch) + y * math.sin(self.pitch)
        return across, down, depth

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixel positions (..., 2) and depths (...) of points in metres."""
        across, down, depth = self.turn(points)
        return self.scale * np.stack([across, down], -1) + self.offset, depth

    def width_at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Half the body's width: the cabin leans in, nose and tail are rounded."""
        belt = self.belt_at(x)
        most = 0.1 if self.who["body_kind"] == "van" else 0.2
        lean = np.clip((y - belt) / (self.top - belt), 0, 1) * most
        middle = (self.front + self.rear) / 2
        half = (self.front - self.rear) / 2
        taper = 0.13 * np.clip(np.abs(x - middle) / half, 0, 1) ** 5
        bulge = 0.03 * ((y - 0.65 * belt) / belt) ** 2
        return self.half_width * (1 - lean - taper - bulge)

    def belt_at(self, x: np.ndarray) -> np.ndarray:
        """Height of the lower edge of the windows."""
        x0, x1 = self.belt_x
        y0, y1 = self.belt_y
        return y0 + (y1 - y0) * np.clip((x - x0) / (x1 - x0), 0, 1)

    def steps(self, vector, metres: float) -> int:
        """How many samples along `vector` leave no pixel out."""
        across, down, _ = self.turn(np.asarray(vector, float))
        pixels = metres * self.scale * math.hypot(float(across), float(down))
        return max(3, math.ceil(pixels / STEP) + 1)


def _rounded(part: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """One coordinate of the outline at each place along it, its corners rounded."""
    straight = np.interp(part, np.arange(10), corners)
    padded = np.pad(straight, 12, mode="reflect", reflect_type="odd")
    return np.convolve(padded, np.ones(25) / 25, "valid").astype(np.float32)


def draw_vehicle(canvas: Canvas, identity: dict, picture: dict, camera: dict) -> None:
    """Draw one car with its shadow on the road."""
    car = Vehicle(canvas, identity, picture, camera)
    _cast_shadow(car)
    near = [side for side in (-1, 1) if car.turn(np.array([0.0, 0.0, side]))[2] > -0.35]
    sheets = [_ribbon(car)]
    sheets += [_side(car, side) for side in near]
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
    """(N, 3) in 0..1 under the canvas's light: body colour, sky in the paint, highlight."""
    nx, ny, nz = car.turn(normals)
    light = car.canvas.light
    lamp = nx * light[0] + ny * light[1] + nz * light[2]
    shine = np.maximum(2 * nz * lamp - light[2], 0) ** 14
    sky = np.clip(-ny * 0.9 + 0.25, 0, 1) ** 2
    body = colours * car.canvas.shade(nx, ny, nz)[:, None]
    reflection = gloss * (0.15 * sky + 0.45 * shine)
    return np.clip(body + reflection[:, None], 0, 1)


def _ribbon(car: Vehicle):
    """The skin between the two side outlines: tail, roof, windows, bonnet, face."""
    x, y = car.outline.T
    across, down, _ = car.turn(np.stack([x, y, np.zeros_like(x)], -1))
    steps = np.hypot(np.diff(across), np.diff(down)) + 1e-4
    travelled = np.concatenate([[0], np.cumsum(steps)])
    even = np.linspace(0, travelled[-1], math.ceil(travelled[-1] * car.scale / STEP) + 2)

    def resampled(values: np.ndarray) -> np.ndarray:
        return np.interp(even, travelled, values).astype(np.float32)

    up_x = resampled(-np.gradient(y))
    up_y = resampled(np.gradient(x))
    length = np.hypot(up_x, up_y) + 1e-9
    x = resampled(x)
    y = resampled(y)
    part = resampled(car.part)
    lateral = np.linspace(-1, 1, car.steps((0, 0, 1), 2 * car.half_width), dtype=np.float32)
    s, q = np.broadcast_arrays(part[:, None], lateral[None, :])

    def over_width(values: np.ndarray) -> np.ndarray:
        return np.broadcast_to(values[:, None], s.shape)

    z = q * car.width_at(x, y)[:, None]
    points = np.stack([over_width(x), over_width(y), z], -1)
    roundness = 0.12 * q + 0.6 * np.sign(q) * np.clip((np.abs(q) - 0.86) / 0.14, 0, 1) ** 2
    normals = np.stack([over_width(up_x / length), over_width(up_y / length), roundness], -1)
    return _visible(car, points, normals, lambda keep: _paint_ribbon(car, s[keep], q[keep]))


def _paint_ribbon(car: Vehicle, s: np.ndarray, q: np.ndarray):
    """Colours (N, 3) and gloss (N,) by part of the outline and place across."""
    who = car.who
    wide = np.abs(q)
    part = np.clip(np.floor(s), 0, 8).astype(int)
    inside = s - np.floor(s)
    colour = np.tile(rgb(who["paint_rgb"]), (len(s), 1))
    gloss = np.full(len(s), 0.55, np.float32)

    def lay(where, value, shine=0.2):
        colour[where] = value
        gloss[where] = shine

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
    start, height, span = LAMPS[who["lamp_shape"]]
    lamp = (wide > span) & (wide < 0.96)
    front = lamp & (inside > start) & (inside < start + height)
    lay((part == _FACE) & front, HEADLAMP, 0.8)
    rear = lamp & (inside > 0.95 - start - height) & (inside < 1 - start)
    lay((part == _TAIL) & rear, REAR_LAMP, 0.7)
    lay((part == _FACE) & (wide < span - 0.06) & (inside > 0.3), TRIM * 1.3, 0.3)
    lay((part == _BUMPER) & (wide < 0.55) & (inside > 0.12) & (inside < 0.45), TRIM, 0.2)
    plate = (part == _BUMPER) & (inside < 0.36)
    plate |= (part == _TAIL) & (inside > 0.3) & (inside < 0.68)
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
    columns = car.steps((1, 0, 0), car.front - car.rear)
    x = np.linspace(car.rear, car.front, columns, dtype=np.float32)
    upper = car.part > 0.6
    order = np.argsort(car.outline[upper, 0], kind="stable")
    outline = car.outline[upper][order]
    top = np.interp(x, outline[:, 0], outline[:, 1]).astype(np.float32)
    floor = car.sill + 0.3 * np.clip(1 - np.minimum(x - car.rear, car.front - x) / 0.1, 0, 1)
    rows = car.steps((0, 1, 0), 1.3 * (car.top - car.sill))
    rise = np.linspace(0, 1, rows, dtype=np.float32)
    y = floor[:, None] + rise[None, :] * (top - floor)[:, None]
    grid = np.broadcast_to(x[:, None], y.shape)
    points = np.stack([grid, y, side * car.width_at(grid, y)], -1)
    belt = car.belt_at(grid)
    door = -0.22 * (y - 0.75 * belt) / belt + 0.25 * np.clip((y - belt + 0.12) / 0.12, 0, 1)
    tilt = np.where(y > belt, 0.28, door)
    middle = (car.front + car.rear) / 2
    half = (car.front - car.rear) / 2
    bow = 0.9 * np.sign(grid - middle) * np.clip(np.abs(grid - middle) / half, 0, 1) ** 7
    crown = np.clip(1 - (top[:, None] - y) / 0.07, 0, 1) * 0.7
    normals = np.stack([bow, tilt + crown, np.full_like(y, side)], -1)
    head = np.broadcast_to(top[:, None], y.shape)
    return _visible(
        car, points, normals, lambda keep: _paint_side(car, points[keep], head[keep])
    )


def _paint_side(car: Vehicle, points: np.ndarray, top: np.ndarray):
    """Colours (N, 3) and gloss (N,) of a flank: windows, doors, arches, stripes, lamps."""
    who = car.who
    x = points[:, 0]
    y = points[:, 1]
    belt = car.belt_at(x)
    gloss = np.full(len(x), 0.55, np.float32)
    colour = np.tile(rgb(who["paint_rgb"]), (len(x), 1))

    def lay(where, value, shine=0.2):
        colour[where] = value
        gloss[where] = shine

    if who["paint_scheme"] == "two tone":
        lay(y < 0.62 * belt, rgb(who["paint_second_rgb"]), 0.5)
    if who["paint_scheme"] == "side stripe":
        lay(np.abs(y - 0.74 * belt) < 0.065, rgb(who["paint_second_rgb"]), 0.4)
    if who["paint_scheme"] == "dark roof":
        lay((y > belt + 0.04) & (y > top - 0.07), TRIM, 0.5)
    rear_x, front_x = car.belt_x
    two_doors = who["body_kind"] in ("van", "pickup")
    pillar = 0.5 * (rear_x + front_x) + (0.25 if two_doors else 0.05)
    window = (y > belt + 0.05) & (y < top - 0.085)
    window &= (x > rear_x + 0.18) & (x < front_x - 0.16)
    window &= np.abs(x - pillar) > 0.045
    if who["body_kind"] == "van":
        window &= x > 0.35
    lay(window, GLASS * (1.2 - 0.75 * who["window_tint"]), 0.85)
    if who["sticker"] == "door":
        disc = np.hypot((x - pillar + 0.42) / 0.3, (y - 0.68 * belt) / 0.15) < 1
        lay(disc, rgb(who["sticker_rgb"]), 0.3)
    doors = (pillar, front_x - 0.28) if two_doors else (rear_x + 0.55, pillar, front_x - 0.22)
    for door in doors:
        colour[(np.abs(x - door) < 0.016) & (y > 0.4 * belt) & (y < belt + 0.05)] *= 0.62
    for door in doors[1:]:
        handle = (np.abs(x - door + 0.72) < 0.085) & (np.abs(y - belt + 0.13) < 0.022)
        lay(handle, TRIM * 1.5, 0.4)
    lay((x > car.front - 0.3) & (np.abs(y - 0.78 * belt) < 0.07), HEADLAMP, 0.8)
    lay((x < car.rear + 0.16) & (np.abs(y - 0.84 * belt) < 0.11), REAR_LAMP, 0.7)
    lay(y < car.sill + 0.07, TRIM)
    for axle in car.axles:
        lay(np.hypot(x - axle, y - car.wheel) < car.wheel * 1.17, RUBBER * 0.6, 0.0)
    return colour, gloss


def _wheel(car: Vehicle, x: float, side: int):
    """Tyre and rim at one end of an axle: a disc and the tread around it."""
    who = car.who
    radius = car.wheel
    outer = side * car.half_width * 0.965
    count = max(8, math.ceil(radius * car.scale / STEP))
    around = np.linspace(0, 2 * math.pi, 7 * count, dtype=np.float32)
    out = np.linspace(0.02, 1, count, dtype=np.float32)
    r, turn = np.meshgrid(out, around, indexing="ij")
    disc_x = x + radius * r * np.cos(turn)
    disc_y = radius + radius * r * np.sin(turn)
    disc = np.stack([disc_x, disc_y, np.full_like(r, outer)], -1)
    spokes = {"five spokes": 5, "many spokes": 11}.get(who["wheel_style"], 0)
    metal = {"black": (0.2, 0.2, 0.21), "disc": (0.66, 0.67, 0.69)}.get(
        who["wheel_style"], (0.72, 0.73, 0.75)
    )
    solid = np.cos((turn + car.phase) * spokes) > -0.15
    solid |= (r < 0.17) | (r > 0.6)
    rim = np.where(solid[..., None], np.array(metal), TRIM)
    colour = np.where((r < 0.68)[..., None], rim, RUBBER)
    face = np.broadcast_to(np.array([0.0, 0.0, side]), disc.shape)
    inwards = np.linspace(0, 1, max(4, count // 2), dtype=np.float32)
    angle, across = np.meshgrid(around, inwards, indexing="ij")
    tread_x = x + radius * np.cos(angle)
    tread_y = radius + radius * np.sin(angle)
    tread = np.stack([tread_x, tread_y, outer - side * 0.2 * across], -1)
    outward = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], -1)
    black = np.broadcast_to(RUBBER, tread.shape)

    def joined(of_disc: np.ndarray, of_tread: np.ndarray) -> np.ndarray:
        return np.concatenate([of_disc.reshape(-1, 3), of_tread.reshape(-1, 3)])

    points = joined(disc, tread)
    gloss = np.full(len(points), 0.08)
    return points, joined(face, outward), joined(colour, black), gloss


def _visible(car: Vehicle, points: np.ndarray, normals: np.ndarray, paint):
    """Flat arrays of what faces the viewer: points, unit normals, colours, gloss."""
    normals = normals / np.linalg.norm(normals, axis=-1, keepdims=True)
    _, _, depth = car.turn(normals)
    keep = depth > -0.25  # rounded normals lean further than the surface itself
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
            rail = [[middle + x, car.top + 0.05, z] for x in (-0.6, 0.6)]
            (back, front), _ = car.project(np.array(rail))
            grey = TRIM.astype(np.float32) * 1.6
            limb(car.canvas, back, front, [0.026 * car.scale] * 2, grey)
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
