"""Rendered pictures in the official layouts: for tests, and a dry run before data arrive.

The people and vehicles are those of `dataset`; names, lists and folders are as the data
sets' authors give them.
"""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

from dkdmpl_kit.data.checking import OFFICIAL_COUNTS
from dkdmpl_kit.data.files import expanded
from dkdmpl_kit.data.layouts import LAYOUTS, MSMT17, read_dataset
from dkdmpl_kit.data.records import SPLITS, ReIDDataset
from dkdmpl_kit.data.rendering.dataset import (
    RenderSettings,
    Shot,
    draw_shot,
    load_factors,
    manifest_record,
    planned_shots,
)
from dkdmpl_kit.data.scratch import scratch_folder
from dkdmpl_kit.errors import KitError, check_option

# what was rendered; "manifest.jsonl" beside it tells the factors of every picture
MARKER = "rendered.json"
JPEG = {"format": "JPEG", "quality": 95, "subsampling": 0}


def render_layout(
    root: str | os.PathLike,
    layout: str,
    *,
    n_train_ids: int = 10,
    n_test_ids: int = 6,
    n_cameras: int = 3,
    images_per_camera: int = 3,
    difficulty: str = "medium",
    seed: int = 0,
    progress: bool = True,
) -> ReIDDataset:
    """Render into `root` as `layout` lays a data set out, and read it.

    Pictures are people of 128 x 64 pixels, for "veri776" vehicles of 128 x 128. layout:
    "market1501" (junk -1 and background 0 as well), "dukemtmcreid", "msmt17" (V1),
    "msmt17_v2", "msmt17_reorganised" or "veri776". The other settings are those of
    `synthetic_dataset`; the same ones give the same pictures. The folder appears whole
    or not at all. One that holds this very render is only read; one that holds anything
    else, and more cameras than the data set has, raise `KitError`.
    """
    check_option("layout", layout, OFFICIAL_COUNTS)
    kind = "vehicle" if layout == "veri776" else "person"
    settings = RenderSettings(
        n_train_ids, n_test_ids, n_cameras, images_per_camera, kind, difficulty, seed
    )
    if n_cameras > OFFICIAL_COUNTS[layout].cameras:
        raise KitError(
            f"n_cameras={n_cameras} is more than the {OFFICIAL_COUNTS[layout].cameras} "
            f"cameras of {layout}; lower it."
        )
    root = expanded(root)
    about = {"layout": layout, "settings": asdict(settings)}
    if not _holds(root, about):
        try:
            root.parent.mkdir(parents=True, exist_ok=True)
            with scratch_folder(root.parent, f".{root.name}.") as part:
                whole = part / "whole"
                _render(whole, about, settings, progress)
                if root.is_dir():  # empty: some systems replace no folder
                    root.rmdir()
                os.replace(whole, root)
        except OSError as error:
            raise KitError(
                f"{root} cannot be written ({error.strerror}); give another folder."
            ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nobody withdrew these people
        return read_dataset(layout, root, allow_withdrawn=True)


def _holds(root: Path, about: dict) -> bool:
    """Whether `root` holds this very render; KitError where it holds anything else."""
    if not root.exists() or root.is_dir() and not any(root.iterdir()):
        return False
    try:
        found = json.loads((root / MARKER).read_text(encoding="utf-8"))
        names = list(load_factors(root))
    except (OSError, ValueError, KeyError, TypeError, KitError):
        raise KitError(
            f"{root} holds something that was not rendered in a layout; give an empty "
            "or a new folder."
        ) from None
    if found != about:
        raise KitError(
            f"{root} was rendered with other settings ({found}); give another folder "
            "or delete this one."
        )
    lost = [name for name in names if not (root / name).is_file()]
    if lost:
        raise KitError(
            f"{root} has lost {len(lost)} of its pictures, first {lost[0]}; delete the "
            "folder to render it anew."
        )
    return True


def _render(folder: Path, about: dict, settings: RenderSettings, progress: bool) -> None:
    from PIL import Image
    from tqdm.auto import tqdm

    layout = about["layout"]
    manifest = []
    lists = defaultdict(list)
    plan = list(_plan(layout, settings))
    last = {shot.number: name for shot, name, _ in plan if shot.split == "train"}
    for shot, name, pid in tqdm(plan, desc="rendering", unit="picture", disable=not progress):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_shot(settings, shot)).save(path, **JPEG)
        record = manifest_record(settings, shot) | {"path": name, "pid": pid}
        manifest.append(json.dumps(record) + "\n")
        # the last picture of each training identity is for validation
        part = "val" if last.get(shot.number) == name else shot.split
        below_folder = name.partition("/")[2]
        lists[part].append(f"{below_folder} {pid}\n")
    if layout in MSMT17 and layout not in LAYOUTS:
        for part, lines in lists.items():
            (folder / f"list_{part}.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "manifest.jsonl").write_text("".join(manifest), encoding="utf-8")
    (folder / MARKER).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _plan(layout: str, settings: RenderSettings):
    """Yield (shot, path below the root, identity on disk) of every picture."""
    seen = Counter()
    for shot in planned_shots(settings):
        # the others name neither junk nor background
        if shot.pid < 1 and layout != "market1501":
            continue
        test = shot.split != "train"
        # MSMT17 counts from 0 in train and from 0 in test
        pid = (shot.number - 1) // 2 if layout in MSMT17 else shot.pid
        nth = seen[test, pid]
        seen[test, pid] += 1
        if layout in LAYOUTS:
            folder = LAYOUTS[layout].folders[SPLITS.index(shot.split)]
        else:
            folder = f"{MSMT17[layout][test]}/{pid:04d}"
        yield shot, f"{folder}/{_file_name(layout, shot, pid, nth)}", pid


def _file_name(layout: str, shot: Shot, pid: int, nth: int) -> str:
    """As the layout's authors name it; nth: how many of this identity came before."""
    if layout == "market1501":
        return Path(shot.relative_path()).with_suffix(".jpg").name
    if layout == "dukemtmcreid":
        return f"{pid:04d}_c{shot.camera}_f{shot.frame:07d}.jpg"
    if layout == "veri776":
        return f"{pid:04d}_c{shot.camera:03d}_{shot.frame:08d}_{shot.index}.jpg"
    if layout == "msmt17_reorganised":
        return f"{pid:04d}_c{shot.camera}_{nth:04d}.jpg"
    frame = f"{shot.frame % 10_000:04d}_{shot.index}"
    return f"{pid:04d}_{nth:03d}_{shot.camera:02d}_0303morning_{frame}.jpg"
