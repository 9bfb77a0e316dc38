"""The embedded data set: small rendered people (or cars) that pass several cameras.

Nothing is downloaded. Pictures are drawn from a seed on first use and written in
Market-1501's layout, with a manifest of the true factors of every picture (clothes,
view, camera, occluder...), so that one can say *why* a pseudo label is wrong. Train
identities have odd numbers and test identities even ones: adding identities changes no
other picture.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from dkdmpl_kit.data.files import expanded
from dkdmpl_kit.data.layouts import read_dataset
from dkdmpl_kit.data.records import ReIDDataset
from dkdmpl_kit.data.rendering.canvas import OVERSAMPLING, Canvas
from dkdmpl_kit.data.rendering.factors import (
    DIFFICULTIES,
    camera_factors,
    generator,
    identity_factors,
    picture_factors,
    spoil_frame,
)
from dkdmpl_kit.data.rendering.persons import companion, draw_person
from dkdmpl_kit.data.rendering.scenes import folds, occlude, scene, through_camera
from dkdmpl_kit.data.rendering.vehicles import draw_vehicle
from dkdmpl_kit.data.scratch import lives
from dkdmpl_kit.data.writing import write_atomic
from dkdmpl_kit.errors import KitError, check_option

RENDERER_VERSION = 2
SIZES = {"person": (128, 64), "vehicle": (128, 128)}  # height, width in pixels
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
# Market-1501's special pids
DISTRACTOR = 0
JUNK = -1
_EXTRA_SHARE = 0.03  # distractors, and junk, per gallery picture
_PASSER_BY = 10_000  # identities from here on belong to nobody


@dataclass(frozen=True)
class RenderSettings:
    """What a render is made from; stored in its dataset.json."""

    n_train_ids: int
    n_test_ids: int
    n_cameras: int
    images_per_camera: int
    kind: str
    difficulty: str
    seed: int
    renderer_version: int = RENDERER_VERSION

    def __post_init__(self) -> None:
        check_option("kind", self.kind, SIZES)
        check_option("difficulty", self.difficulty, DIFFICULTIES)
        lowest = {
            "n_train_ids": 1,
            "n_test_ids": 1,
            "n_cameras": 1,
            "images_per_camera": 2,
            "seed": 0,
        }
        for name, least in lowest.items():
            value = getattr(self, name)
            whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
            if not whole or value < least:
                raise KitError(
                    f"{name}={value!r} cannot be rendered: give a whole number of at "
                    f"least {least}."
                )
            object.__setattr__(self, name, int(value))  # JSON knows no numpy
        for name in ("n_train_ids", "n_test_ids"):
            if getattr(self, name) > 4999:
                raise KitError(
                    f"{name}={getattr(self, name)} is too many: four-digit names hold "
                    "4999 identities a split."
                )


@dataclass(frozen=True)
class Shot:
    """One picture that is to be drawn."""

    split: str
    pid: int  # its label
    number: int  # who is really on it
    camera: int  # from 1
    index: int  # from 0
    junk: int | None = None  # which bad box it is

    @property
    def frame(self) -> int:
        """Number of the frame, six digits at most; no two of an identity are the same."""
        return 25 * (101 + 7 * self.number % 3301) + 13 * self.index + self.camera

    def relative_path(self) -> str:
        """Path below the root as Market-1501 has it: pid, camera and sequence, frame, box."""
        pid = f"{self.pid:04d}" if self.pid >= 0 else "-1"
        name = f"{pid}_c{self.camera}s1_{self.frame:06d}_{self.index + 1:02d}.png"
        return f"{FOLDERS[self.split]}/{name}"


def synthetic_dataset(
    root: str | os.PathLike,
    *,
    n_train_ids: int = 64,
    n_test_ids: int = 64,
    n_cameras: int = 6,
    images_per_camera: int = 3,
    kind: str = "person",
    difficulty: str = "medium",
    seed: int = 0,
    progress: bool = True,
) -> ReIDDataset:
    """Render the embedded data set into `root`, or reuse what is there, and read it.

    Every identity is seen `images_per_camera` times by each camera. Of a test identity
    the first picture of each camera is a query, the others are gallery, to which come
    about 3 % strangers (pid 0) and 3 % bad boxes (pid -1). kind: "person" (128 x 64
    pixels) | "vehicle" (128 x 128). difficulty: "easy" | "medium" | "hard" scales how
    much cameras differ, how many identities wear another's clothes, and how often
    something stands in front. An interrupted render goes on where it stopped. Raises
    KitError for a folder that holds anything else.
    """
    settings = RenderSettings(
        n_train_ids, n_test_ids, n_cameras, images_per_camera, kind, difficulty, seed
    )
    root = expanded(root)
    shots = list(planned_shots(settings))
    if not _is_complete(root, settings, shots):
        _render_all(root, settings, shots, progress)
    return read_dataset("synthetic", root)


def load_factors(root: str | os.PathLike) -> dict[str, dict]:
    """{relative path: factors} of a rendered data set.

    Factors are pid, camera, split, and those under id_, cam_ and pic_. KitError where
    the folder has no manifest.
    """
    manifest = expanded(root) / "manifest.jsonl"
    if not manifest.is_file():
        raise KitError(
            f"{manifest} does not exist: only rendered data sets have factors; use "
            "synthetic_dataset."
        )
    with manifest.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return {record["path"]: record for record in records}


def planned_shots(settings: RenderSettings) -> Iterator[Shot]:
    """Every picture of a data set, in the order in which they are drawn."""
    cameras = range(1, settings.n_cameras + 1)
    count = settings.images_per_camera
    for number in range(1, 2 * settings.n_train_ids, 2):
        yield from (
            Shot("train", number, number, camera, index)
            for camera in cameras
            for index in range(count)
        )
    for number in range(2, 2 * settings.n_test_ids + 1, 2):
        for camera in cameras:
            yield Shot("query", number, number, camera, 0)
            yield from (
                Shot("gallery", number, number, camera, index) for index in range(1, count)
            )
    matches = settings.n_test_ids * settings.n_cameras * (count - 1)
    extra = max(1, round(_EXTRA_SHARE * matches))
    for i in range(extra):
        camera = 1 + i % settings.n_cameras
        yield Shot("gallery", DISTRACTOR, _PASSER_BY + i, camera, i)
    for i in range(extra):
        number = 2 + 2 * (i % settings.n_test_ids)
        camera = 1 + i % settings.n_cameras
        yield Shot("gallery", JUNK, number, camera, i + count, junk=i)


def shot_factors(settings: RenderSettings, shot: Shot) -> tuple[dict, dict, dict]:
    """(identity, camera, picture) factors of one picture, as plain JSON values."""
    common = (settings.seed, settings.kind)
    camera = camera_factors(*common, shot.camera, settings.difficulty)
    picture = picture_factors(
        *common, shot.number, shot.camera, shot.index, settings.difficulty, camera["yaw"]
    )
    if shot.junk is not None:
        picture = spoil_frame(settings.seed, picture, shot.junk)
    return identity_factors(*common, shot.number, settings.difficulty), camera, picture


def draw_shot(settings: RenderSettings, shot: Shot) -> np.ndarray:
    """(H, W, 3) uint8: the picture itself."""
    identity, camera, picture = shot_factors(settings, shot)
    kind = settings.kind
    rng = generator(settings.seed, f"{kind} pixels", shot.number, shot.camera, shot.index)
    height, width = _canvas_size(kind)
    wide = _camera_scene(settings, shot.camera)
    left = int(picture["background_x"] * (wide.shape[1] - width))
    background = wide[:, left : left + width].copy()
    canvas = Canvas(background, camera["light"], folds(rng, height, width))
    draw = draw_person if kind == "person" else draw_vehicle
    draw(canvas, identity, picture, camera)
    if picture["occluder"] == kind:
        number = 2 * _PASSER_BY + int(rng.integers(5000))
        other = identity_factors(settings.seed, kind, number, "easy")
        draw(canvas, other, companion(picture, rng), camera)
    elif picture["occluder"] != "none":
        occlude(canvas, picture, rng)
    return through_camera(canvas.pixels, camera, picture, rng)


def _canvas_size(kind: str) -> tuple[int, int]:
    height, width = SIZES[kind]
    return OVERSAMPLING * height, OVERSAMPLING * width


@lru_cache(maxsize=64)
def _camera_scene(settings: RenderSettings, camera: int) -> np.ndarray:
    """The whole wide scene of one camera, of which each picture shows a part."""
    factors = camera_factors(settings.seed, settings.kind, camera, settings.difficulty)
    height, width = _canvas_size(settings.kind)
    rng = generator(settings.seed, f"{settings.kind} scene", camera)
    return scene(rng, factors, height, width + 3 * height // 2)


# ---- on disk


def _is_complete(root: Path, settings: RenderSettings, shots: list[Shot]) -> bool:
    """Whether `root` holds this very render whole; KitError if it holds something else."""
    if not root.exists():
        return False
    if not root.is_dir():
        raise KitError(f"{root} is a file: give a folder for the rendered data set.")
    for marker in ("dataset.json", "dataset.unfinished.json"):
        if (root / marker).is_file():
            _require_same(root, marker, settings)
            break
    else:
        if any(not path.name.startswith(".") for path in root.iterdir()):
            raise KitError(
                f"{root} holds files that are not a rendered data set: give an empty or a "
                "new folder."
            )
        return False
    if marker != "dataset.json" or not (root / "manifest.jsonl").is_file():
        return False
    folders = [folder for folder in FOLDERS.values() if (root / folder).is_dir()]
    present = {f"{folder}/{name}" for folder in folders for name in os.listdir(root / folder)}
    return present.issuperset(shot.relative_path() for shot in shots)


def _require_same(root: Path, marker: str, settings: RenderSettings) -> None:
    try:
        found = dict(json.loads((root / marker).read_text(encoding="utf-8"))["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise KitError(
            f"{root / marker} cannot be read: delete the folder {root} to render it anew."
        ) from error
    differ = [
        f"{name} {found.get(name)!r} there, {value!r} wanted"
        for name, value in asdict(settings).items()
        if found.get(name) != value
    ]
    if differ:
        raise KitError(
            f"{root} holds a data set rendered with other settings "
            f"({'; '.join(differ)}): give another folder or delete this one."
        )


def _render_all(
    root: Path, settings: RenderSettings, shots: list[Shot], progress: bool
) -> None:
    """Draw what is missing, then write the manifest, then dataset.json.

    The presence of dataset.json means that all is there.
    """
    from tqdm.auto import tqdm

    about = {
        "format": "dkdmpl_kit rendered data set",
        "settings": asdict(settings),
        "images": len(shots),
    }
    description = json.dumps(about, indent=2) + "\n"
    try:
        for folder in FOLDERS.values():
            (root / folder).mkdir(parents=True, exist_ok=True)
        if not (root / "dataset.json").is_file():
            write_atomic(root / "dataset.unfinished.json", description.encode())
    except OSError as error:
        raise KitError(
            f"{root} cannot be written ({error.strerror}): give another folder."
        ) from error
    for partial in root.glob("*/.*.partial"):
        process = partial.name.split(".")[-2]
        if process.isdecimal() and not lives(int(process)):
            partial.unlink(missing_ok=True)
    for shot in tqdm(shots, desc="rendering", unit="picture", disable=not progress):
        path = root / shot.relative_path()
        if not path.is_file():
            _write_png(path, draw_shot(settings, shot))
    lines = [json.dumps(manifest_record(settings, shot)) + "\n" for shot in shots]
    write_atomic(root / "manifest.jsonl", "".join(lines).encode())
    write_atomic(root / "dataset.json", description.encode())
    (root / "dataset.unfinished.json").unlink(missing_ok=True)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    whole = io.BytesIO()
    Image.fromarray(pixels).save(whole, format="PNG", compress_level=3)
    write_atomic(path, whole.getvalue())


def manifest_record(settings: RenderSettings, shot: Shot) -> dict:
    """One line of the manifest: where, who, which camera, and every factor.

    Factors of the identity are under id_, of the camera under cam_, of the picture
    under pic_.
    """
    identity, camera, picture = shot_factors(settings, shot)
    record = {
        "path": shot.relative_path(),
        "split": shot.split,
        "pid": shot.pid,
        "number": shot.number,
        "camera": shot.camera,
        "index": shot.index,
    }
    for prefix, factors in (("id_", identity), ("cam_", camera), ("pic_", picture)):
        for name, value in factors.items():
            record[prefix + name] = value
    return record
