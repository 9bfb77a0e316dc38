"""What makes each rendered picture: factors of identity, camera and picture, from seeds.

Every draw has its own generator, named by what it belongs to, so that identity 17 looks
the same in a render of 20 identities and in one of 2,000, and in whatever order the
pictures are made. All factors are plain JSON values.
"""

from __future__ import annotations

import math
import zlib

import numpy as np

PERSON_COLOURS = {
    "black": (34, 35, 40),
    "charcoal": (74, 77, 84),
    "grey": (142, 145, 149),
    "white": (229, 228, 222),
    "beige": (204, 182, 146),
    "brown": (112, 78, 54),
    "navy": (38, 52, 96),
    "blue": (58, 104, 176),
    "sky": (136, 182, 216),
    "teal": (30, 122, 122),
    "green": (66, 124, 74),
    "olive": (106, 108, 60),
    "yellow": (214, 180, 84),
    "orange": (202, 116, 60),
    "red": (176, 56, 54),
    "wine": (112, 36, 56),
    "pink": (222, 150, 166),
    "purple": (102, 80, 134),
}
VEHICLE_COLOURS = {
    "white": (228, 230, 230),
    "silver": (172, 177, 181),
    "grey": (104, 109, 114),
    "black": (38, 40, 45),
    "navy": (36, 54, 98),
    "blue": (48, 98, 170),
    "red": (172, 40, 40),
    "wine": (104, 30, 44),
    "green": (50, 104, 76),
    "beige": (196, 180, 148),
    "brown": (104, 78, 58),
    "yellow": (226, 184, 54),
    "orange": (212, 110, 44),
}
SKINS = {
    "porcelain": (238, 205, 182),
    "light": (226, 184, 154),
    "tan": (200, 150, 114),
    "brown": (152, 104, 74),
    "dark": (104, 70, 52),
}
HAIRS = {
    "black": (34, 29, 28),
    "dark brown": (64, 44, 32),
    "brown": (102, 70, 44),
    "blond": (198, 162, 100),
    "red": (142, 72, 40),
    "grey": (152, 150, 148),
}
GIRTHS = {"slim": 0.87, "average": 1.0, "heavy": 1.17}
TOP_PATTERNS = ("plain", "stripes", "pinstripes", "checks", "colour block", "dots")
TOP_PATTERN_SHARES = (0.38, 0.18, 0.09, 0.12, 0.16, 0.07)
BAGS = ("none", "backpack", "handbag", "shoulder bag", "trolley")
VEHICLES = ("sedan", "hatchback", "estate", "suv", "van", "pickup")
WALLS = ("brick", "panels", "shopfront", "hedge", "corridor", "plaster", "planks", "kerb")
FLOORS = ("slabs", "asphalt", "lawn", "tiles", "gravel", "crossing", "slabs", "asphalt")
VIEWS = {"front": 0.0, "right": 90.0, "back": 180.0, "left": 270.0}

# camera_shift: how far optics, colours and light of cameras differ; scene_contrast and
# scene_blur (of the canvas, in pixels): how much their backgrounds show; lookalikes,
# occlusion: shares of identities and of pictures.
DIFFICULTIES = {
    "easy": {
        "camera_shift": 0.05,
        "scene_contrast": 0.2,
        "scene_blur": 8.0,
        "lookalikes": 0.03,
        "occlusion": 0.04,
    },
    "medium": {
        "camera_shift": 0.15,
        "scene_contrast": 0.35,
        "scene_blur": 6.0,
        "lookalikes": 0.1,
        "occlusion": 0.12,
    },
    "hard": {
        "camera_shift": 0.5,
        "scene_contrast": 0.6,
        "scene_blur": 4.2,
        "lookalikes": 0.2,
        "occlusion": 0.2,
    },
}


def generator(seed: int, domain: str, *keys: int) -> np.random.Generator:
    """A generator of its own for each (seed, domain, keys).

    So draws never depend on what was drawn before.
    """
    return np.random.default_rng([seed, zlib.crc32(domain.encode()), *keys])


def _choice(rng: np.random.Generator, options, shares=None) -> str:
    return str(rng.choice(list(options), p=shares))


def _number(value: float, digits: int = 3) -> float:
    return round(float(value), digits)


def _dyed(
    rng: np.random.Generator, colour: tuple[int, int, int], spread: float = 9.0
) -> list[int]:
    """A named colour with a personal shade, as RGB in 0..255."""
    shade = np.asarray(colour) * rng.uniform(0.9, 1.1) + rng.normal(0, spread, 3)
    return [int(v) for v in np.clip(shade, 12, 245)]


def _colour(rng: np.random.Generator, prefix: str, palette: dict) -> dict:
    name = _choice(rng, palette)
    return {prefix + "colour": name, prefix + "rgb": _dyed(rng, palette[name])}


# ---- identities


def identity_factors(seed: int, kind: str, number: int, difficulty: str) -> dict:
    """Factors of identity `number`: its pid, or above 9999 a passer-by without a match.

    A look-alike takes the clothes (a vehicle: model and paint) of an earlier identity
    of its split, but for one thing.
    """
    rng = generator(seed, f"{kind} identity", number)
    own = _person_identity(rng) if kind == "person" else _vehicle_identity(rng)
    distance = 2 * int(rng.integers(1, 5))  # pids of one split are two apart
    borrows = rng.random() < DIFFICULTIES[difficulty]["lookalikes"]
    own["lookalike_of"] = None
    if borrows and distance < number <= 9999:
        model = identity_factors(seed, kind, number - distance, difficulty)
        same = _WARDROBE[kind]
        # the one small difference: this group of factors stays its own
        kept = _choice(rng, same)
        for group in same:
            if group != kept:
                own.update({key: model[key] for key in own if key.startswith(group)})
        own["lookalike_of"] = number - distance
    return own


_WARDROBE = {
    "person": ("top_", "bottom_", "shoes_", "bag_"),
    "vehicle": ("body_", "paint_", "wheel_"),
}


def _person_identity(rng: np.random.Generator) -> dict:
    skin = _choice(rng, SKINS, (0.2, 0.3, 0.22, 0.16, 0.12))
    hair = _choice(rng, HAIRS, (0.32, 0.2, 0.18, 0.14, 0.07, 0.09))
    build = _choice(rng, GIRTHS, (0.35, 0.42, 0.23))
    factors = {
        "skin": skin,
        "skin_rgb": _dyed(rng, SKINS[skin], 4),
        "hair_colour": hair,
        "hair_rgb": _dyed(rng, HAIRS[hair], 5),
        "hair_length": _choice(
            rng, ("bald", "short", "medium", "long", "tied"), (0.06, 0.4, 0.2, 0.22, 0.12)
        ),
        "hat": _choice(rng, ("none", "cap", "beanie"), (0.82, 0.1, 0.08)),
        "build": build,
        "girth": _number(GIRTHS[build] + rng.normal(0, 0.025)),
        "height": _number(np.clip(rng.normal(1.0, 0.035), 0.92, 1.06)),
        "shoulders": _number(rng.uniform(0.9, 1.1)),
        "hips": _number(rng.uniform(0.92, 1.12)),
    }
    factors |= _colour(rng, "hat_", PERSON_COLOURS)
    factors |= {
        "top_kind": _choice(
            rng, ("T-shirt", "pullover", "open jacket", "coat"), (0.36, 0.3, 0.22, 0.12)
        )
    }
    factors |= _colour(rng, "top_", PERSON_COLOURS)
    factors |= _colour(rng, "top_second_", PERSON_COLOURS)
    factors |= {
        "top_pattern": _choice(rng, TOP_PATTERNS, TOP_PATTERN_SHARES),
        "top_pattern_scale": _number(rng.uniform(0.7, 1.4)),
        "top_logo": _choice(rng, ("none", "chest", "back"), (0.6, 0.2, 0.2)),
    }
    factors |= _colour(rng, "top_logo_", PERSON_COLOURS)
    factors |= {
        "bottom_kind": _choice(
            rng, ("trousers", "wide trousers", "shorts", "skirt"), (0.52, 0.16, 0.18, 0.14)
        )
    }
    factors |= _colour(rng, "bottom_", PERSON_COLOURS)
    factors |= _colour(rng, "shoes_", PERSON_COLOURS)
    factors |= {
        "bag_kind": _choice(rng, BAGS, (0.4, 0.24, 0.13, 0.15, 0.08)),
        "bag_side": int(rng.choice((-1, 1))),
    }
    return factors | _colour(rng, "bag_", PERSON_COLOURS)


def _vehicle_identity(rng: np.random.Generator) -> dict:
    factors = {
        "body_kind": _choice(rng, VEHICLES, (0.27, 0.22, 0.13, 0.2, 0.11, 0.07)),
        "body_length": _number(rng.uniform(0.94, 1.06)),
        "body_height": _number(rng.uniform(0.95, 1.06)),
    }
    factors |= _colour(rng, "paint_", VEHICLE_COLOURS)
    factors |= _colour(rng, "paint_second_", VEHICLE_COLOURS)
    schemes = ("plain", "two tone", "side stripe", "dark roof")
    loads = ("none", "rack", "box", "taxi sign")
    factors |= {"paint_scheme": _choice(rng, schemes, (0.58, 0.12, 0.15, 0.15))}
    factors |= {
        "wheel_style": _choice(
            rng, ("five spokes", "disc", "many spokes", "black"), (0.35, 0.2, 0.25, 0.2)
        )
    }
    factors |= {
        "window_tint": _number(rng.uniform(0.0, 1.0)),
        "roof": _choice(rng, loads, (0.62, 0.18, 0.1, 0.1)),
        "lamp_shape": _choice(rng, ("wide", "round", "slim"), (0.4, 0.3, 0.3)),
        "sticker": _choice(rng, ("none", "door", "rear window"), (0.55, 0.25, 0.2)),
        "plate": _choice(rng, ("white", "yellow", "blue"), (0.5, 0.25, 0.25)),
    }
    return factors | _colour(rng, "sticker_", PERSON_COLOURS)


# ---- cameras


def camera_factors(seed: int, kind: str, camera: int, difficulty: str) -> dict:
    """Factors of camera `camera` (from 1): optics, colour, scene, usual view, light.

    The directions in which cameras differ are the same at every difficulty; how far they
    go grows with it.
    """
    rng = generator(seed, f"{kind} camera", camera)
    first = int(generator(seed, f"{kind} scenes").integers(len(WALLS)))
    # A car fills less of its box, and turns it more, than a person: the same shift
    # would drown it.
    share = 1.0 if kind == "person" else 0.6
    strength = share * DIFFICULTIES[difficulty]["camera_shift"]
    contrast = share * DIFFICULTIES[difficulty]["scene_contrast"]
    scene = (first + camera) % len(WALLS)
    # Golden-angle steps keep the casts of neighbouring camera numbers far apart,
    # whatever their count.
    hue = 2 * math.pi * (camera * 0.618034 + rng.uniform(-0.06, 0.06))
    thirds = np.array([0.0, 2 * math.pi / 3, 4 * math.pi / 3])
    cast = 1.0 + strength * 0.2 * np.cos(hue - thirds)
    gain = math.exp(strength * 0.32 * math.cos(2.4 * camera + rng.uniform(-0.3, 0.3)))
    side = float(rng.choice((-1.0, 1.0)))
    return {
        "wall": WALLS[scene],
        "floor": FLOORS[int(rng.integers(len(FLOORS)))],
        "scene_rgb": [
            int(v) for v in np.clip(rng.normal(150, 34) + rng.normal(0, 15, 3), 70, 215)
        ],
        "scene_contrast": _number(contrast),
        "scene_blur": DIFFICULTIES[difficulty]["scene_blur"],
        "horizon": _number(rng.uniform(0.18, 0.58)),
        "pitch": _number(rng.uniform(4, 20), 1),
        "gain": _number(gain),
        "cast": [_number(v) for v in cast],
        "contrast": _number(1.0 + strength * rng.uniform(-0.22, 0.16)),
        "saturation": _number(1.0 + strength * rng.uniform(-0.4, 0.2)),
        "haze": _number(max(0.0, strength * rng.uniform(-0.1, 0.14))),
        "blur": _number(rng.uniform(0.2, 0.4) + max(0.0, strength * rng.uniform(-0.2, 0.5))),
        "noise": _number(0.008 + strength * rng.uniform(0.0, 0.018), 4),
        "yaw": _number(rng.choice(list(VIEWS.values())) + rng.uniform(-25, 25), 1),
        "light": [
            _number(side * rng.uniform(0.35, 0.75)),
            _number(-rng.uniform(0.35, 0.7)),
            0.6,
        ],
        "shadow": _number(rng.uniform(0.25, 0.6)),
    }


# ---- pictures


def view_name(yaw: float) -> str:
    """front | right | back | left: the nearest to a yaw in degrees.

    0 faces the camera, 90 to the right.
    """
    return tuple(VIEWS)[int(((yaw % 360) + 45) // 90) % 4]


def picture_factors(
    seed: int,
    kind: str,
    number: int,
    camera: int,
    index: int,
    difficulty: str,
    camera_yaw: float,
) -> dict:
    """Factors of one picture of identity `number` by `camera`.

    They are pose, view, place, occluder and light.
    """
    rng = generator(seed, f"{kind} picture", number, camera, index)
    usual = rng.random() < 0.6  # most passers-by take the camera's usual direction
    yaw = camera_yaw + rng.normal(0, 22) if usual else rng.uniform(0, 360)
    occluded = rng.random() < DIFFICULTIES[difficulty]["occlusion"]
    occluders = ("pole", "bush", "bin", "rail", kind)
    return {
        "yaw": _number(yaw % 360, 1),
        "view": view_name(yaw),
        "walking": bool(rng.random() < 0.8),
        "pose_phase": _number(rng.uniform(0, 2 * math.pi)),
        "stride": _number(rng.uniform(0.75, 1.15)),
        "x": _number(rng.normal(0, 0.045)),
        "y": _number(rng.normal(0, 0.012)),
        "scale": _number(np.clip(rng.normal(1.0, 0.045), 0.9, 1.08)),
        "background_x": _number(rng.random()),
        "light": _number(math.exp(rng.normal(0, 0.09))),
        "light_slope": _number(rng.normal(0, 0.12)),
        "occluder": _choice(rng, occluders) if occluded else "none",
        "occluder_side": int(rng.choice((-1, 1))),
        "occluder_reach": _number(rng.uniform(0.15, 0.6)),
    }


def spoil_frame(seed: int, factors: dict, number: int) -> dict:
    """A detector's bad box, Market-1501's junk: cut far off, or much too wide."""
    rng = generator(seed, "junk", number)
    if rng.random() < 0.5:
        aside = rng.choice((-1, 1)) * rng.uniform(0.3, 0.45)
        return factors | {"x": _number(aside), "scale": _number(rng.uniform(0.9, 1.3))}
    return factors | {
        "scale": _number(rng.uniform(1.6, 2.1)),
        "y": _number(rng.uniform(0.2, 0.6)),
    }
