"""Readers of the layouts in which re-ID data sets come, and of a plain folder of crops.

A layout with fixed folders is one row of `LAYOUTS`. Listings are sorted, so every
machine reads the same order.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from dkdmpl_kit.data.records import SPLITS, ReIDDataset, ReIDImage
from dkdmpl_kit.errors import KitError, check_option

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
WITHDRAWN = (
    "DukeMTMC-reID was withdrawn by its authors in 2019, as the people in it never gave "
    "consent"
)


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk, where its folders are fixed."""

    folders: tuple[str, str, str]  # train, query, gallery
    file_name: str  # a regex with groups pid and camid; cameras count from 1 on disk
    example: str
    junk: int | None = None  # dropped everywhere
    distractor: int | None = None  # background, kept in the gallery alone


BOUNDING_BOX = ("bounding_box_train", "query", "bounding_box_test")
MARKET = Layout(
    BOUNDING_BOX,
    r"(?P<pid>-1|\d+)_c(?P<camid>\d+)s\d+_\d+_\d+",
    "0002_c1s1_000451_03.jpg",
    -1,
    0,
)
LAYOUTS = {
    "market1501": MARKET,
    "synthetic": MARKET,
    "dukemtmcreid": Layout(
        BOUNDING_BOX, r"(?P<pid>\d+)_c(?P<camid>\d+)_f\d+", "0001_c2_f0046182.jpg"
    ),
    # the copy of MSMT17 that many research codes re-organise; it does not say of which
    # version
    "msmt17_reorganised": Layout(
        BOUNDING_BOX, r"(?P<pid>\d+)_c(?P<camid>\d+)_", "0000_c1_0003.jpg"
    ),
    "veri776": Layout(
        ("image_train", "image_query", "image_test"),
        r"(?P<pid>\d+)_c(?P<camid>\d+)_\d+_\d+",
        "0001_c001_00016450_0.jpg",
    ),
}
# Folders of train and test. V1 and V2 (faces blurred: other results) have list files
# beside theirs.
MSMT17 = {
    "msmt17": ("train", "test"),
    "msmt17_v2": ("mask_train_v2", "mask_test_v2"),
    "msmt17_reorganised": (BOUNDING_BOX[0], BOUNDING_BOX[2]),
}
LIST_LINE = re.compile(r"(?P<path>(?:\S*/)?\d+_\d+_(?P<camid>\d+)_[^\s/]+)\s+(?P<pid>\d+)")
SPLIT_OF_FOLDER = {
    "train": "train",
    "query": "query",
    "gallery": "gallery",
    "test": "gallery",
}
for _layout in LAYOUTS.values():
    SPLIT_OF_FOLDER.update(zip(_layout.folders, SPLITS))


def read_dataset(
    name: str, root: str | Path, *, pattern: str | None = None, allow_withdrawn: bool = False
) -> ReIDDataset:
    """Read a data set under `root`.

    name: "market1501", "synthetic", "msmt17", "veri776", "dukemtmcreid", or "folder"
    for any folder of crops. "msmt17" reads whichever copy lies there and names the
    result after it: "msmt17" (V1), "msmt17_v2" or "msmt17_reorganised" (these can be
    asked for as well). Its test identities are numbered on from train's, as both start
    at 0 on disk; its list files, where it has them, say what belongs to it: other
    pictures are ignored. "folder": `pattern` is a regex with the named groups `pid`
    and/or `camid`, searched in each picture's path below `root` (forward slashes);
    their texts are numbered from 0 in sorted order. Without a pattern only the pictures
    are known. Folders named train, query, gallery or test, at any depth, make the
    splits (`_with_queries`); without them all is train. "dukemtmcreid" was withdrawn by
    its authors over consent and needs `allow_withdrawn=True`. Files that are not
    pictures are ignored; a picture whose name does not fit is an error. Raises
    `KitError`.
    """
    check_option("name", name, (*dict.fromkeys((*LAYOUTS, *MSMT17)), "folder"))
    root = Path(root).expanduser()
    if not root.is_dir():
        raise KitError(
            f"data folder {root} does not exist or is not a folder; give the folder that "
            "holds the data set."
        )
    if name == "folder":
        return _read_folder(root, pattern)
    if pattern is not None:
        raise KitError(f'pattern= belongs to name="folder"; {name} has its own file names.')
    if name == "dukemtmcreid":
        if not allow_withdrawn:
            raise KitError(
                f"{WITHDRAWN}; prefer another data set, or give allow_withdrawn=True "
                "(--allow-withdrawn)."
            )
        warnings.warn(f"{WITHDRAWN}: prefer another data set.", stacklevel=2)
    if name in MSMT17:
        return _read_msmt17(root, name)
    return _dataset(name, root, _read_splits(root, name))


def _dataset(
    name: str, root: Path, splits: dict[str, list[ReIDImage]], may_be_empty=()
) -> ReIDDataset:
    for split in SPLITS:
        if not splits[split] and split not in may_be_empty:
            raise KitError(
                f"the {split} split of {name} at {root} is empty; put pictures into "
                "its folder."
            )
    return ReIDDataset(name, root, *(tuple(splits[split]) for split in SPLITS))


def _listing(folder: Path, *, deep: bool = False) -> tuple[list[str], list[str]]:
    """Sorted names of the pictures and of the folders in `folder`.

    deep: of all below it, as paths with '/'.
    """
    pictures = []
    folders = []
    waiting = [("", ())]
    while waiting:
        prefix, above = waiting.pop()
        here = os.path.realpath(os.path.join(folder, prefix))
        if here in above:  # a link back to a folder above
            continue
        try:
            entries = list(os.scandir(here))
        except OSError as error:
            raise KitError(
                f"folder {here} cannot be read ({error.strerror}); check its permissions."
            ) from error
        for entry in entries:
            if entry.name.startswith((".", "__MACOSX")):  # left by file managers
                continue
            if entry.is_dir():
                folders.append(prefix + entry.name)
                if deep:
                    waiting.append((f"{prefix}{entry.name}/", (*above, here)))
            elif entry.name.lower().endswith(PICTURES):
                pictures.append(prefix + entry.name)
    return sorted(pictures), sorted(folders)


def _missing_folder(root: Path, name: str, expected: str) -> KitError:
    pictures, folders = _listing(root)
    found = ", ".join(folders[:6]) or "no folders"
    if len(folders) > 6:
        found += ", ..."
    return KitError(
        f"{root} is not laid out as {name}: expected {expected}, found {found} and "
        f"{len(pictures)} pictures; give the data set's folder."
    )


def _read_splits(root: Path, name: str) -> dict[str, list[ReIDImage]]:
    return {split: _read_split(root, name, LAYOUTS[name], split) for split in SPLITS}


def _read_split(root: Path, name: str, layout: Layout, split: str) -> list[ReIDImage]:
    folder = root / layout.folders[SPLITS.index(split)]
    if not folder.is_dir():
        raise _missing_folder(root, name, f"the folder {folder.name}")
    dropped = {layout.junk} if split == "gallery" else {layout.junk, layout.distractor}
    matcher = re.compile(layout.file_name)
    images = []
    for picture in _listing(folder)[0]:
        match = matcher.match(picture)
        if match is None or int(match["camid"]) < 1:
            raise KitError(
                f"{folder / picture} is not named as {name}'s pictures are "
                f"({layout.example}); rename it."
            )
        pid = int(match["pid"])
        camid = int(match["camid"]) - 1
        if pid not in dropped:
            images.append(ReIDImage(folder / picture, pid, camid))
    return images


def _read_msmt17(root: Path, name: str) -> ReIDDataset:
    wanted = MSMT17 if name == "msmt17" else (name,)
    found = [version for version in wanted if (root / MSMT17[version][0]).is_dir()]
    if not found:
        expected = " or ".join(MSMT17[version][0] for version in wanted)
        raise _missing_folder(root, name, f"the folder {expected}")
    if len(found) > 1:
        raise KitError(
            f"{root} holds {' and '.join(found)}, whose results differ; give each a "
            "folder of its own."
        )
    version = found[0]
    read = _read_splits if version in LAYOUTS else _read_lists
    splits = read(root, version)
    offset = 1 + max((image.pid for image in splits["train"]), default=-1)
    for split in ("query", "gallery"):
        splits[split] = [replace(image, pid=image.pid + offset) for image in splits[split]]
    return _dataset(version, root, splits)


def _read_lists(root: Path, version: str) -> dict[str, list[ReIDImage]]:
    """The splits as the four list files name them.

    Case does not count: a .JPG on disk may be a .jpg in a list.
    """
    on_disk = {}
    for folder in MSMT17[version]:
        if not (root / folder).is_dir():
            raise _missing_folder(root, version, f"the folder {folder}")
        pictures, _ = _listing(root / folder, deep=True)
        on_disk[folder] = {name.lower(): name for name in pictures}

    def read(part: str, folder: str) -> list[ReIDImage]:
        return _read_list(root, part, root / folder, on_disk[folder])

    train, test = MSMT17[version]
    return {
        "train": read("train", train) + read("val", train),
        "query": read("query", test),
        "gallery": read("gallery", test),
    }


def _read_list(
    root: Path, part: str, folder: Path, waiting: dict[str, str]
) -> list[ReIDImage]:
    """Lines "0000/0000_000_01_0303morning_0015_0.jpg 0": picture and pid.

    The third field of the name is the camera. waiting: {lower-case name: name} of the
    pictures in `folder` that no list has named yet; those named here leave it.
    """
    source = root / f"list_{part}.txt"
    rows = []
    absent = []
    if not source.is_file():
        raise _missing_folder(root, "msmt17", f"the file {source.name}")
    text = source.read_text(encoding="utf-8-sig", errors="replace")
    for line in map(str.strip, text.splitlines()):
        if not line:
            continue
        match = LIST_LINE.fullmatch(line.replace("\\", "/"))
        if match is None or int(match["camid"]) < 1:
            raise KitError(
                f"{source} has the line {line!r}, expected "
                "'0000/0000_000_01_0303morning_0015_0.jpg 0'; restore the official list."
            )
        name = waiting.pop(match["path"].lower(), None)
        if name is None:
            absent.append(match["path"])
        rows.append((name, int(match["pid"]), int(match["camid"]) - 1))
    if absent:
        raise KitError(
            f"{source} names {len(absent)} pictures that are not in {folder} or were "
            f"named before, first {absent[0]}; unpack the official archive again."
        )
    return [ReIDImage(folder / name, pid, camid) for name, pid, camid in sorted(rows)]


def _read_folder(root: Path, pattern: str | None) -> ReIDDataset:
    pictures, folders = _listing(root, deep=True)
    if not pictures:
        raise KitError(
            f"{root} holds no picture ({', '.join(PICTURES)}); give the folder that "
            "holds the crops."
        )
    texts = _match_pattern(root, pictures, pattern)
    codes = {group: _codes(texts[group]) for group in texts}
    splits = {split: [] for split in SPLITS}
    marked = {_split_folder(folder) for folder in folders} - {None}
    for index, picture in enumerate(pictures):
        folder = _split_folder(os.path.dirname(picture)) if marked else "train"
        if folder is None:
            raise KitError(
                f"{root / picture} lies outside the folders that make the splits "
                f"({', '.join(sorted(marked))}); move or remove it."
            )
        ids = {"pid": None, "camid": None}
        for group in texts:
            ids[group] = codes[group][texts[group][index]]
        splits[SPLIT_OF_FOLDER[folder]].append(ReIDImage(root / picture, **ids))
    present = {SPLIT_OF_FOLDER[folder] for folder in marked or {"train"}}
    may_be_empty = set(SPLITS) - present
    if "query" in present:
        may_be_empty.discard("gallery")  # queries need a gallery to search in
    dataset = _dataset("folder", root, splits, may_be_empty)
    return dataset if "query" in present else _with_queries(dataset)


def _split_folder(folder: str) -> str | None:
    """The first part of a path that names a split."""
    return next((part for part in folder.split("/") if part in SPLIT_OF_FOLDER), None)


def _match_pattern(
    root: Path, pictures: list[str], pattern: str | None
) -> dict[str, list[str]]:
    """{"pid": [...], "camid": [...]}: what each group of the pattern says of each picture."""
    if pattern is None:
        return {}
    try:
        matcher = re.compile(pattern)
    except re.error as error:
        raise KitError(
            f"pattern {pattern!r} is not a regular expression ({error})."
        ) from error
    groups = [group for group in ("pid", "camid") if group in matcher.groupindex]
    if not groups:
        raise KitError(
            f"pattern {pattern!r} has neither a group (?P<pid>...) nor (?P<camid>...); "
            "name at least one."
        )
    matches = [matcher.search(picture) for picture in pictures]
    unmatched = [
        picture
        for picture, match in zip(pictures, matches)
        if match is None or any(match[group] is None for group in groups)
    ]
    if unmatched:
        raise KitError(
            f"pattern {pattern!r} does not fit {len(unmatched)} of {len(pictures)} "
            f"pictures under {root}, first {unmatched[0]}; change the pattern, or move "
            "those pictures away."
        )
    return {group: [match[group] for match in matches] for group in groups}


def _codes(texts: list[str]) -> dict[str, int]:
    """0 ... n-1 for the unique texts in sorted order.

    Where all are numbers they are sorted by value: camera 10 comes after camera 2.
    """
    numbers = all(text.isdecimal() for text in texts)
    unique = sorted(set(texts), key=lambda text: (int(text) if numbers else 0, text))
    return {text: code for code, text in enumerate(unique)}


def _with_queries(dataset: ReIDDataset) -> ReIDDataset:
    """Make queries of a test folder: the first picture of each identity in each camera.

    The gallery keeps them, as the protocol leaves out pictures of the query's own
    identity and camera. Where cameras are unknown the first picture of each identity
    with two or more becomes a query and leaves the gallery. Where identities are
    unknown there is no query.
    """
    groups = defaultdict(list)
    for image in dataset.gallery:
        if image.pid is not None:
            groups[image.pid, image.camid].append(image)
    query = tuple(
        group[0] for group in groups.values() if group[0].camid is not None or len(group) > 1
    )
    taken = {image.path for image in query if image.camid is None}
    gallery = tuple(image for image in dataset.gallery if image.path not in taken)
    return replace(dataset, query=query, gallery=gallery)


def ignored_pictures(dataset: ReIDDataset) -> list[str]:
    """Pictures in the folders of `dataset` that belong to no split, below root, sorted.

    They are junk, or named in no list.
    """
    read = {dataset.relative(path) for path in dataset.paths()}
    folders = sorted({name.split("/")[0] for name in read if "/" in name})
    ignored = []
    for folder in folders:
        pictures, _ = _listing(dataset.root / folder, deep=True)
        present = [f"{folder}/{name}" for name in pictures]
        ignored += [name for name in present if name not in read]
    return ignored
