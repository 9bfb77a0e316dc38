"""Identities of a training split held out to choose settings on, so that the test split
stays untouched until the settings are frozen.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from dkdmpl_kit.data.files import expanded
from dkdmpl_kit.data.layouts import read_dataset
from dkdmpl_kit.data.records import SPLITS, ReIDDataset, ReIDImage
from dkdmpl_kit.data.scratch import scratch_folder
from dkdmpl_kit.data.table import write_table
from dkdmpl_kit.errors import KitError

PATTERN = r"(?P<pid>\d+)_c(?P<camid>\d+)"  # how the files of the new folder are named
TABLE = "crops.jsonl"  # what the new folder of a table's data set holds


def hold_out(
    dataset: ReIDDataset, out: str | os.PathLike, *, share: float = 1 / 3, seed: int = 0
) -> ReIDDataset:
    """A folder of links in which `share` of the training identities is the test split.

    dataset: the test split is not looked at. out: a new folder; it gets train/, query/ and
    gallery/, read back as data="folder" with `PATTERN`, or of a table's data set the table
    `TABLE` (boxes and tracks cannot be links). Of each held-out identity one
    picture a camera, drawn by `seed`, is a query where it was seen by two cameras or more;
    the others are the gallery. KitError: training identities or cameras that are unknown,
    a share that leaves fewer than two identities on a side, nobody held out who was seen by
    two cameras, or nothing to search in, a folder that is there.
    """
    out = expanded(out)
    of_identity: dict[int, list[ReIDImage]] = defaultdict(list)
    for image in dataset.train:
        if image.pid is None or image.camid is None:
            raise KitError(
                f"{image.path} has no known identity or camera: only a training split with "
                "both can be divided."
            )
        of_identity[image.pid].append(image)
    if not 0 < share < 1:
        raise KitError(f"share={share} must lie between 0 and 1.")
    pids = sorted(of_identity)
    held_out = round(share * len(pids))
    if min(held_out, len(pids) - held_out) < 2:
        raise KitError(
            f"share={share} of {len(pids)} training identities leaves fewer than two on one "
            "side: choose another share."
        )
    if out.exists():
        raise KitError(f"{out} is already there: give a new folder.")
    draws = random.Random(seed)
    draws.shuffle(pids)
    splits: dict[str, list[ReIDImage]] = {"train": [], "query": [], "gallery": []}
    for pid in sorted(pids[held_out:]):
        splits["train"] += of_identity[pid]
    for pid in sorted(pids[:held_out]):
        queries = _queries(of_identity[pid], draws)
        splits["query"] += queries
        taken = {image.path for image in queries}
        splits["gallery"] += [x for x in of_identity[pid] if x.path not in taken]
    if not splits["query"]:
        raise KitError(
            f"None of the {held_out} held-out identities was seen by two cameras, so that "
            "nothing could be ranked: choose a larger share, or another seed."
        )
    if not splits["gallery"]:
        raise KitError(
            f"The {held_out} held-out identities have one picture a camera, all of them "
            "queries, so that the gallery would be empty: choose a larger share."
        )
    if dataset.name == "table":
        held = replace(dataset, **{split: tuple(splits[split]) for split in SPLITS})
        write_table(out / TABLE, held)
        return read_dataset("table", table=out / TABLE)
    _link(splits, out)
    return read_dataset("folder", out, pattern=PATTERN)


def how_to_read(dataset: ReIDDataset) -> str:
    """The flags with which a data set of `hold_out` is read."""
    if dataset.name == "table":
        return f"--data table --table {dataset.root / TABLE}"
    return f"--data folder --data-root {dataset.root} --pattern '{PATTERN}'"


def _queries(images: list[ReIDImage], draws: random.Random) -> list[ReIDImage]:
    """One picture a camera, where there are two cameras or more."""
    by_camera: dict[int, list[ReIDImage]] = defaultdict(list)
    for image in sorted(images, key=lambda one: one.path):
        by_camera[image.camid].append(image)
    if len(by_camera) < 2:
        return []
    return [draws.choice(by_camera[camera]) for camera in sorted(by_camera)]


def _link(splits: dict[str, list[ReIDImage]], out: Path) -> None:
    """Links to the pictures, all of them or no folder."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(out.parent, f".{out.name}.") as part:
            for split, images in splits.items():
                (part / "whole" / split).mkdir(parents=True)
                for number, image in enumerate(images):
                    # cameras are counted from 1 in names, as the benchmarks do
                    name = f"{image.pid:04d}_c{image.camid + 1}_{number:06d}"
                    link = part / "whole" / split / f"{name}{image.path.suffix.lower()}"
                    link.symlink_to(image.path.resolve())
            (part / "whole").replace(out)
    except OSError as error:
        raise KitError(f"Cannot write {out}: {error.strerror or error}.") from error
