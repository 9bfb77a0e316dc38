"""Readers of the layouts in which re-ID data sets come, and of a plain folder of crops.

A layout with fixed folders is one row of `LAYOUTS`. Listings are sorted, so every
machine reads the same order.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from dkdmpl_kit.data.files import (
    Remark,
    expanded,
    list_folder,
    printable,
    some,
    why_no_file,
)
from dkdmpl_kit.data.patience import in_time
from dkdmpl_kit.data.records import SPLITS, ReIDDataset, ReIDImage
from dkdmpl_kit.data.splits import (
    codes_of,
    marks_of,
    names_of,
    several_in,
    split_of,
    with_queries,
)
from dkdmpl_kit.data.table import read_table
from dkdmpl_kit.errors import KitError, check_option

MOST_DIGITS = 18  # of an identity or a camera, which are kept as 64-bit integers
WITHIN = "in a folder within"
IN_NO_LIST = "named in no list, so no part of the data set"
LIST_FILE = "a list of the data set"
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
LIST_EXAMPLE = "0000/0000_000_01_0303morning_0015_0.jpg 0"
LIST_LINE = re.compile(r"(?P<path>(?:\S*/)?\d+_\d+_(?P<camid>\d+)_[^\s/]+)\s+(?P<pid>\d+)")


@dataclass
class _Found:
    """What a reader gathers on its way."""

    splits: dict[str, list[ReIDImage]]
    remarks: list[Remark] = field(default_factory=list)
    pid_names: dict[int, str] = field(default_factory=dict)
    camid_names: dict[int, str] = field(default_factory=dict)


def read_dataset(
    name: str,
    root: str | Path | None = None,
    *,
    pattern: str | None = None,
    table: str | Path | None = None,
    allow_withdrawn: bool = False,
    splits: bool = True,
    skip_missing: bool = False,
) -> ReIDDataset:
    """Read a data set under `root`.

    name: "market1501", "synthetic", "msmt17", "veri776", "dukemtmcreid", "folder" for
    any folder of crops, or "table" for the pictures and boxes that `table` names
    (`table.read_table`, which takes `root`, `splits` and `skip_missing`). "msmt17"
    reads whichever copy lies there and names the result after it: "msmt17" (V1),
    "msmt17_v2" or "msmt17_reorganised" (these can be asked for as well). Its test
    identities are numbered on from train's, as both start at 0 on disk; its list files,
    where it has them, say what belongs to it: other pictures are ignored. "folder":
    `pattern` is a regex with the named groups `pid` and/or `camid`, searched in each
    picture's path below `root` (forward slashes); their texts are numbered from 0 in
    sorted order, and 0065 and 65 are one. Without a pattern only the pictures are
    known. Folders named train, query, gallery or test (`splits.SPLIT_OF_FOLDER`), at
    any depth, make the splits (`with_queries`); without them, or with splits=False, all
    is train; a folder val among them is an error, as it is in no split. "dukemtmcreid"
    was withdrawn by its authors over consent and needs `allow_withdrawn=True`.

    A picture whose name does not fit is an error. All other files are left out, and
    `.account()` of the result names each with the reason. Raises `KitError`.
    """
    check_option("name", name, (*dict.fromkeys((*LAYOUTS, *MSMT17)), "folder", "table"))
    if pattern is not None and name != "folder":
        raise KitError(
            f'pattern= belongs to name="folder"; {name} has its own '
            f"{'columns' if name == 'table' else 'file names'}."
        )
    if name == "table":
        if table is None:
            raise KitError('name="table" needs table=, the file that names the pictures.')
        return read_table(table, root, splits=splits, skip_missing=skip_missing)
    for given, value in (("table", table), ("skip_missing", skip_missing)):
        if value:
            raise KitError(f'{given}= belongs to name="table"; {name} is a folder.')
    if root is None:
        raise KitError(f"name={name!r} needs root, the folder that holds the data set.")
    root = expanded(root)
    if not _is_folder(root):
        raise KitError(
            f"data folder {printable(root)} does not exist or is not a folder; give the "
            "folder that holds the data set."
        )
    if name == "folder":
        return _read_folder(root, pattern, splits)
    if not splits:
        raise KitError(f'splits=False belongs to name="folder"; {name} has its own folders.')
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


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a looping link, a name of no file system
        return False


def _dataset(
    name: str, root: Path, found: _Found, may_be_empty: Collection[str] = ()
) -> ReIDDataset:
    for split in SPLITS:
        if not found.splits[split] and split not in may_be_empty:
            raise KitError(
                f"the {split} split of {name} at {printable(root)} is empty; put pictures "
                "into its folder."
            )
    splits = [tuple(found.splits[split]) for split in SPLITS]
    dataset = ReIDDataset(
        name, root, *splits, pid_names=found.pid_names, camid_names=found.camid_names
    )
    remarks = sorted([*found.remarks, *several_in(dataset)], key=lambda remark: remark.name)
    return replace(dataset, remarks=tuple(remarks))


def _below(prefix: str, remarks: list[Remark]) -> list[Remark]:
    return [replace(remark, name=f"{prefix}/{remark.name}") for remark in remarks]


def _outside(root: Path, name: str, folders: Collection[str], lists=()) -> list[Remark]:
    """What lies in `root` beside the `folders` and lists of the data set `name`."""
    why = f"outside the folders of {name}"
    top = list_folder(root)
    remarks = [Remark(picture, why) for picture in top.pictures]
    remarks += [Remark(f"{other}/", why) for other in top.folders if other not in folders]
    for remark in top.remarks:
        remarks.append(Remark(remark.name, LIST_FILE) if remark.name in lists else remark)
    return remarks


def _missing_folder(root: Path, name: str, expected: str) -> KitError:
    there = list_folder(root)
    found = ", ".join(map(printable, there.folders[:6])) or "no folders"
    if len(there.folders) > 6:
        found += ", ..."
    return KitError(
        f"{printable(root)} is not laid out as {name}: expected {expected}, found {found} "
        f"and {len(there.pictures)} pictures; give the data set's folder."
    )


def _read_splits(root: Path, name: str) -> _Found:
    layout = LAYOUTS[name]
    found = _Found({split: [] for split in SPLITS})
    for split, folder in zip(SPLITS, layout.folders):
        if not _is_folder(root / folder):
            raise _missing_folder(root, name, f"the folder {folder}")
        _read_split(root / folder, name, split, found)
    found.remarks += _outside(root, name, layout.folders)
    return found


def _read_split(folder: Path, name: str, split: str, found: _Found) -> None:
    """Add the pictures of one folder to `found`."""
    layout = LAYOUTS[name]
    why_dropped = {}
    if layout.junk is not None:
        why_dropped[layout.junk] = f"junk (identity {layout.junk})"
    if layout.distractor is not None and split != "gallery":
        why_dropped[layout.distractor] = (
            f"background (identity {layout.distractor}) outside the gallery"
        )
    matcher = re.compile(layout.file_name)
    there = list_folder(folder)
    for picture in there.pictures:
        path = folder / picture
        match = matcher.match(picture)
        if match is None:
            raise KitError(
                f"{printable(path)} is not named as {name}'s pictures are "
                f"({layout.example}); rename it."
            )
        pid = _number(match["pid"], "identity", path)
        camid = _camera(match["camid"], path, name, layout.example)
        if pid in why_dropped:
            found.remarks.append(Remark(f"{folder.name}/{picture}", why_dropped[pid]))
            continue
        found.pid_names.setdefault(pid, match["pid"])
        found.camid_names.setdefault(camid, match["camid"])
        found.splits[split].append(ReIDImage(path, pid, camid))
    found.remarks += _below(folder.name, there.remarks)
    found.remarks += [Remark(f"{folder.name}/{name}/", WITHIN) for name in there.folders]


def _number(text: str, what: str, where: object) -> int:
    """An identity or a camera as files write it; KitError above `MOST_DIGITS`."""
    if len(text.lstrip("-0")) > MOST_DIGITS:
        raise KitError(
            f"{printable(where)} has the {what} {text}, a number of more than {MOST_DIGITS} "
            "digits, which cannot be kept; give it a shorter one."
        )
    return int(text)


def _camera(text: str, where: Path, name: str, example: str) -> int:
    """A camera as file names write it (from 1) -> camid from 0."""
    number = _number(text, "camera", where)
    if number < 1:
        raise KitError(
            f"{printable(where)} has the camera {text}, and the cameras of {name} start at 1 "
            f"({example}); rename it."
        )
    return number - 1


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
    found = read(root, version)
    offset = 1 + max((image.pid for image in found.splits["train"]), default=-1)
    train_names = {image.pid for image in found.splits["train"]}
    names = {pid: name for pid, name in found.pid_names.items() if pid in train_names}
    for split in ("query", "gallery"):
        moved = []
        for image in found.splits[split]:
            names[image.pid + offset] = found.pid_names[image.pid]
            moved.append(replace(image, pid=image.pid + offset))
        found.splits[split] = moved
    found.pid_names = names
    return _dataset(version, root, found)


def _read_lists(root: Path, version: str) -> _Found:
    """The splits as the four list files name them.

    Case does not count: a .JPG on disk may be a .jpg in a list.
    """
    found = _Found({split: [] for split in SPLITS})
    waiting = {}
    for folder in MSMT17[version]:
        if not _is_folder(root / folder):
            raise _missing_folder(root, version, f"the folder {folder}")
        there = list_folder(root / folder, deep=True)
        waiting[folder] = {name.lower(): name for name in there.pictures}
        found.remarks += _below(folder, there.remarks)
    train, test = MSMT17[version]
    parts = {
        "train": ("train", train),
        "val": ("train", train),
        "query": ("query", test),
        "gallery": ("gallery", test),
    }
    for part, (split, folder) in parts.items():
        rows = _read_list(root, part, root / folder, waiting[folder], found)
        found.splits[split] += rows
    for folder, left in waiting.items():
        found.remarks += [Remark(f"{folder}/{name}", IN_NO_LIST) for name in left.values()]
    lists = [f"list_{part}.txt" for part in parts]
    found.remarks += _outside(root, version, MSMT17[version], lists)
    return found


def _read_list(
    root: Path, part: str, folder: Path, waiting: dict[str, str], found: _Found
) -> list[ReIDImage]:
    """Lines "0000/0000_000_01_0303morning_0015_0.jpg 0": picture and pid.

    The third field of the name is the camera. waiting: {lower-case name: name} of the
    pictures in `folder` that no list has named yet; those named here leave it.
    found: gains what the list calls each identity and camera.
    """
    source = root / f"list_{part}.txt"
    rows = []
    absent = []
    if why_no_file(source):
        raise _missing_folder(root, "msmt17", f"the file {source.name}")
    text = source.read_text(encoding="utf-8-sig", errors="replace")
    for line in map(str.strip, text.splitlines()):
        if not line:
            continue
        match = LIST_LINE.fullmatch(line.replace("\\", "/"))
        if match is None or set(match["camid"]) == {"0"}:
            camera = "" if match is None else " (cameras start at 1)"
            raise KitError(
                f"{printable(source)} has the line {line!r}, expected "
                f"'{LIST_EXAMPLE}'{camera}; restore the official list."
            )
        name = waiting.pop(match["path"].lower(), None)
        if name is None:
            absent.append(match["path"])
        pid = _number(match["pid"], "identity", source)
        camid = _number(match["camid"], "camera", source) - 1
        found.pid_names.setdefault(pid, match["pid"])
        found.camid_names.setdefault(camid, match["camid"])
        rows.append((name, pid, camid))
    if absent:
        raise KitError(
            f"{printable(source)} names {len(absent)} pictures that are not in "
            f"{printable(folder)} or were named before, first {absent[0]}; unpack the "
            "official archive again."
        )
    return [ReIDImage(folder / name, pid, camid) for name, pid, camid in sorted(rows)]


def _read_folder(root: Path, pattern: str | None, with_splits: bool) -> ReIDDataset:
    there = list_folder(root, deep=True)
    pictures = there.pictures
    if not pictures:
        others = [remark.name for remark in there.remarks]
        beside = f", only {len(others)} other files ({some(others)})" if others else ""
        raise KitError(
            f"{printable(root)} holds no picture{beside}; give the folder that holds the crops."
        )
    texts = _match_pattern(root, pictures, pattern)
    codes = {group: codes_of(texts[group]) for group in texts}
    found = _Found({split: [] for split in SPLITS}, there.remarks)
    marks = marks_of(there.folders) if with_splits else {}
    for index, picture in enumerate(pictures):
        split = split_of(root, picture, marks) if marks else "train"
        ids = {"pid": None, "camid": None}
        for group in texts:
            ids[group] = codes[group][texts[group][index]]
        found.splits[split].append(ReIDImage(root / picture, **ids))
    found.pid_names = names_of(codes.get("pid", {}))
    found.camid_names = names_of(codes.get("camid", {}))
    present = set(marks.values()) or {"train"}
    may_be_empty = set(SPLITS) - present
    if "query" in present:
        may_be_empty.discard("gallery")  # queries need a gallery to search in
    dataset = _dataset("folder", root, found, may_be_empty)
    return dataset if "query" in present else with_queries(dataset)


def _match_pattern(
    root: Path, pictures: list[str], pattern: str | None
) -> dict[str, list[str]]:
    """{"pid": [...], "camid": [...]}: what each group of the pattern says of each picture."""
    if pattern is None:
        return {}
    try:
        matcher = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise KitError(
            f"pattern {pattern!r} is not a regular expression ({error})."
        ) from error
    groups = [group for group in ("pid", "camid") if group in matcher.groupindex]
    if not groups:
        raise KitError(
            f"pattern {pattern!r} has neither a group (?P<pid>...) nor (?P<camid>...); "
            "name at least one."
        )
    matches = in_time(
        lambda: [matcher.search(picture) for picture in pictures],
        f"pattern {pattern!r} takes very long for {len(pictures)} names, as "
        "patterns like (a+)+ do: write it without a repetition in a repetition.",
    )
    unmatched = [
        picture
        for picture, match in zip(pictures, matches)
        if match is None or any(match[group] is None for group in groups)
    ]
    if unmatched:
        raise KitError(
            f"pattern {pattern!r} does not fit {len(unmatched)} of {len(pictures)} "
            f"pictures under {printable(root)}, first {printable(unmatched[0])}; change the "
            "pattern, or move those pictures away."
        )
    return {group: [match[group] for match in matches] for group in groups}
