"""People: a walking skeleton, dressed with the shaded solids of `canvas`."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from dkdmpl_kit.data.rendering.canvas import Canvas, blob, ground_shadow, limb, rgb


class Figure:
    """A walking skeleton: 1 high, feet at y = 0, facing +z before it is turned by yaw.

    The camera looks down on it by pitch.
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
        stride = 0.46 * picture["stride"] if picture["walking"] else 0.07
        self.swing = stride * math.sin(picture["pose_phase"])
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
        """Half the outline of an elliptical body part as the camera sees it, in pixels."""
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
    legs = [
        leg_joints(-1, figure.swing, figure.lift, who["hips"]),
        leg_joints(1, -figure.swing, -figure.lift, who["hips"]),
    ]
    figure.drop = min(ankle[1] for _, _, ankle, _ in legs) - 0.035
    bare = kind in ("shorts", "skirt")
    cover = skin if bare else cloth
    upper = {"wide trousers": 0.06, "shorts": 0.058, "skirt": 0.046}.get(kind, 0.055)
    lower = (0.034, 0.034, 0.022) if bare else (0.04, 0.036, 0.03)
    if kind == "wide trousers":
        lower = (0.05, 0.048, 0.05)
    for joints in legs:
        hip, knee, ankle, toe = (figure.project(*joint) for joint in joints)
        depth = -0.02 + 0.05 * float(knee[2])
        heel = ankle + np.array([0, size * 0.012, 0])
        foot = np.array([0.026, 0.024, 0.017]) * size
        calf = np.array(lower) * size * girth**0.7
        thigh = np.array([upper + 0.004, upper, lower[0]]) * size * girth**0.75
        thigh[2] = calf[0]
        slim = thigh * (0.84, 0.84, 1) if bare else thigh
        figure.add(depth - 0.002, limb, heel[:2], toe[:2], foot, shoe)
        figure.add(depth - 0.001, limb, hip[:2], knee[:2], slim, cover)
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
            wide = thigh + [0, 0, 0.016 * size]
            figure.add(depth, limb, hip[:2], hem[:2], wide, cloth, round_end=False)
    if kind == "skirt":
        top = figure.project(0, 0.585, 0)
        hem = figure.project(0, 0.3, 0)
        across = (0.075, 0.1, 0.112, 0.118)
        widths = [figure.width(w * girth, w * 0.8 * girth) for w in across]
        figure.add(
            -0.012, limb, top[:2], hem[:2], widths, cloth, round_start=False, round_end=False
        )


def leg_joints(side: int, swing: float, lift: float, hips: float) -> tuple[np.ndarray, ...]:
    """Hip, knee, ankle and toe of one leg in body axes; swing, lift: of the stride."""
    bend = 0.12 + max(0.0, lift)
    hip = np.array([side * 0.046 * hips, 0.5, 0.0])
    knee = hip + 0.235 * np.array([0.02 * side, -math.cos(swing), math.sin(swing)])
    ankle = knee + 0.235 * np.array([0, -math.cos(swing - bend), math.sin(swing - bend)])
    toe = ankle + np.array([side * 0.012, -0.022 - 0.05 * max(0.0, lift), 0.085])
    return hip, knee, ankle, toe


def top_paint(who: dict) -> Callable:
    """Colour of the top by t (neck to hem) and angle around it (0: chest, pi: back)."""
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
            down = (np.sin(t * 26 / scale) > 0) * 1.0
            around = np.sin(angle * 7 / scale) > 0
            weight = 0.5 * (down + around)
        elif pattern == "colour block":
            weight = 1.0 * (t < 0.28 + 0.12 * scale)
        elif pattern == "dots":
            bumps = 4 * np.sin(t * 30 / scale) * np.sin(angle * 9 / scale)
            weight = np.clip(bumps - 1.2, 0, 1)
        else:
            weight = np.zeros_like(t)
        colour = first + (weight * np.ones_like(angle))[..., None] * (stripe - first)
        if opened:  # the front edge of the jacket shows the shirt below
            inner = np.abs(angle) < 0.2 + 0.25 * t
            colour = np.where(inner[..., None], second, first * np.ones_like(colour))
        if who["top_logo"] != "none":
            near = np.abs(angle) if who["top_logo"] == "chest" else math.pi - np.abs(angle)
            logo = (near / 0.55) ** 2 + ((t - 0.4) / 0.14) ** 2 < 1
            colour = np.where(logo[..., None], rgb(who["top_logo_rgb"]), colour)
        return colour

    return paint


def add_torso(figure: Figure) -> None:
    """Neck and torso in the top's cloth, with the straps of a backpack.

    The cloth reaches down to the hips, that of a coat to the thighs.
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
    throat = np.array([0.026, 0.03]) * figure.size
    figure.add(-0.0005, limb, head[:2], neck[:2], throat, rgb(who["skin_rgb"]) * 0.92)
    figure.add(0.0, limb, neck[:2], hem[:2], widths, paint, round_end=False, yaw=figure.yaw)


def add_arms(figure: Figure) -> None:
    """Two arms that swing against the legs; sleeves by the kind of top."""
    who = figure.identity
    size = figure.size
    girth = figure.girth
    skin = rgb(who["skin_rgb"])
    cloth = top_paint(who | {"top_logo": "none", "top_kind": "pullover"})
    block = who["top_pattern"] == "colour block"
    plain = rgb(who["top_rgb"])
    if block:
        plain = rgb(who["top_second_rgb"]) * 0.85 + rgb(who["top_rgb"]) * 0.15
    sleeve = plain if block or who["top_kind"] == "open jacket" else cloth
    short = who["top_kind"] == "T-shirt"
    cover = skin if short else sleeve
    thick = size * girth**0.6
    upper = np.array((0.033, 0.027) if short else (0.031, 0.035, 0.034, 0.032)) * thick
    lower = np.array((0.027, 0.02) if short else (0.032, 0.026)) * thick
    for side, leg_swing in ((-1, -figure.swing), (1, figure.swing)):
        swing = 0.85 * leg_swing + 0.04
        joints = arm_joints(side, swing, who["shoulders"] * girth**0.5)
        shoulder, elbow, hand = (figure.project(*joint) for joint in joints)
        depth = float(elbow[2]) + (0.003 if abs(elbow[2]) < 0.1 else 0)
        depth = depth if depth < -0.05 else max(depth, 0.001)
        grip = hand + 0.3 * (hand - elbow) * 0.55
        figure.add(depth - 0.0003, blob, grip[:2], (0.02 * size, 0.024 * size), skin)
        figure.add(depth - 0.0002, limb, shoulder[:2], elbow[:2], upper, cover)
        figure.add(
            depth - 0.0001,
            limb,
            elbow[:2],
            hand[:2],
            lower,
            cover,
            round_end=short,
            joined=True,
        )
        if short:
            cuff = shoulder + 0.72 * (elbow - shoulder)
            wide = np.array([0.032, 0.037, 0.037]) * thick
            figure.add(depth, limb, shoulder[:2], cuff[:2], wide, sleeve, round_end=False)


def arm_joints(side: int, swing: float, shoulders: float) -> tuple[np.ndarray, ...]:
    """Shoulder, elbow and hand of one arm in body axes."""
    bend = 0.25 + 0.35 * max(0.0, swing)
    turn = swing + bend
    shoulder = np.array([side * 0.099 * shoulders, 0.782, 0.0])
    elbow = shoulder + 0.165 * np.array([side * 0.16, -math.cos(swing), math.sin(swing)])
    hand = elbow + 0.155 * np.array([side * 0.03, -math.cos(turn), math.sin(turn)])
    return shoulder, elbow, hand


def head_paint(who: dict, yaw: float) -> Callable:
    """Skin, hair, eyes and hat by the normal, turned back into the head's own axes."""
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
        eyes = np.abs(np.abs(side) - 0.36) < 0.12
        eyes &= (front > 0.3) & (np.abs(up - 0.06) < 0.08)
        mouth = (front > 0.4) & (np.abs(side) < 0.24) & (np.abs(up + 0.5) < 0.07)
        face = np.where(mouth[..., None], skin * (0.78, 0.6, 0.6), face)
        face = np.where(eyes[..., None], 0.2, face)
        colour = face + hairy * (hair - face)
        if hat != "none":
            brim = 0.3 if hat == "cap" else 0.22 + 0.15 * front
            covered = np.clip((up - brim) * 9 + 0.5, 0, 1)[..., None]
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
        sizes = ((0.06, 0.046), (0.066, 0.04), (0.052, 0.03))
        widths = [figure.width(across, depth) for across, depth in sizes]
        behind = figure.project(0, 0.9, -0.06)[2]
        figure.add(float(behind) * 0.4 + 0.001, limb, top[:2], tip[:2], widths, hair)
    if who["hair_length"] == "tied":
        knot = figure.project(0, 0.945, -0.062)
        tip = figure.project(0, 0.84, -0.075)
        widths = np.array([0.024, 0.022, 0.01]) * size
        figure.add(float(knot[2]) * 0.4, limb, knot[:2], tip[:2], widths, hair)
    figure.add(0.0009, blob, centre[:2], radii, head_paint(who, figure.yaw))
    if who["hat"] == "cap":
        peak = figure.project(0, 0.946, 0.075)
        radii = (figure.width(0.042, 0.035), 0.011 * size)
        depth = 0.0009 + float(peak[2]) * 0.02
        figure.add(depth, blob, peak[:2], radii, rgb(who["hat_rgb"]) * 0.85)


def add_bag(figure: Figure) -> None:
    """The bag, where that kind is carried."""
    who = figure.identity
    size = figure.size
    side = who["bag_side"]
    kind = who["bag_kind"]
    colour = rgb(who["bag_rgb"])
    if kind == "backpack":
        centre = figure.project(0, 0.695, -0.095)
        wide = figure.width(0.083, 0.05)
        radii = (wide, 0.125 * size)
        figure.add(float(centre[2]), blob, centre[:2], radii, colour, power=3.2)
        pocket = figure.project(0, 0.65, -0.125)
        radii = (wide * 0.72, 0.055 * size)
        figure.add(float(pocket[2]), blob, pocket[:2], radii, colour * 0.84, power=4)
    elif kind == "handbag":
        centre = figure.project(side * 0.165, 0.385, 0.02)
        grip = figure.project(side * 0.155, 0.47, 0.02)
        depth = float(centre[2]) + 0.004
        for shift in (-0.028, 0.028):
            ring = centre[:2] + [shift * size, -0.045 * size]
            figure.add(depth - 0.001, limb, grip[:2], ring, [0.006 * size] * 2, colour * 0.7)
        radii = (figure.width(0.03, 0.07), 0.058 * size)
        figure.add(depth, blob, centre[:2], radii, colour, power=4)
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
        pole = [0.007 * size] * 2
        figure.add(depth - 0.002, limb, grip[:2], centre[:2], pole, rgb((90, 90, 94)))
        radii = (figure.width(0.07, 0.05), 0.115 * size)
        figure.add(depth, blob, centre[:2], radii, colour, power=5)


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
