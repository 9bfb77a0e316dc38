"""A data set that a table names: pictures, or boxes of pictures, with what is known of
each.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from dkdmpl_kit.data.columns import Columns, columns_of
from dkdmpl_kit.data.decoding import upright_size
from dkdmpl_kit.data.files import (
    Box,
    Remark,
    expanded,
    file_and_box,
    part_name,
    printable,
    why_no_file,
)
from dkdmpl_kit.data.records import SPLITS, ReIDDataset, ReIDImage
from dkdmpl_kit.data.rows import Rows, read_rows
from dkdmpl_kit.data.splits import (
    HELD_OUT,
    SPLIT_OF_FOLDER,
    codes_of,
    marks_of,
    names_of,
    several_in,
    split_of,
    with_queries,
)
from dkdmpl_kit.errors import KitError

# identities that name nobody: WildlifeDatasets writes "unknown", trackers -1
NOBODY = ("-1", "unknown")
SPLIT_WORDS = SPLIT_OF_FOLDER | {"database": "gallery"} | dict.fromkeys(HELD_OUT, "val")
IMAGE_FOLDER = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
NOT_READ = "not read, of the table's columns"
OF_VAL = "of a split that is neither trained nor measured on"
CLIPPED = "clipped to the picture, by a pixel at most"
ROUNDING = 1  # pixels that a box may reach over its picture's edge


@dataclass
class _Row:
    """One row: where it stands, and what it says."""

    place: str
    file: Path
    box: Box | None
    identity: str | None
    camera: str | None
    split: str | None
    track: tuple[str, str, str] | None  # video, camera, track

    @property
    def path(self) -> Path:
        return self.file if self.box is None else part_name(self.file, self.box)


def read_table(
    table: str | Path,
    root: str | Path | None = None,
    *,
    splits: bool = True,
    skip_missing: bool = False,
) -> ReIDDataset:
    """The data set that a table names, .csv (or .tsv, .txt), .jsonl or .parquet.

    A row is a picture. Its columns, of which the first is needed (`NAMES` has what else
    they may be called): path, below `root` (default: the table's folder); identity and
    camera, numbers or texts; split, as folders are called (`splits.SPLIT_OF_FOLDER`),
    rows of val being left out; track, of a video's tracklet, which belongs to one camera
    and one `video`; x, y, w, h or `bbox`, in pixels of the upright picture: the row is
    that part of it, and its path ends in "#xywh=x,y,w,h". Empty cells, -1, NaN and
    "unknown" say nothing. Without a column split, folders make the splits as they do for
    data="folder"; `splits`=False makes all train. table may be a folder: an ImageFolder of
    Hugging Face, whose metadata files name pictures beside themselves.

    Columns that are not read are in the remarks. `skip_missing`: so are rows whose file is
    missing, which are an error otherwise. KitError names the row: a path twice (with one
    box), a box off its picture by more than `ROUNDING` pixels, a split of no known name.
    """
    sources, root = _sources(expanded(table), root)
    rows, remarks = [], []
    for source, base in sources:
        found = read_rows(source)
        columns = columns_of(found)
        rows += _rows(found, columns, base)
        remarks += [Remark(name, NOT_READ) for name in columns.unread]
    if not rows:
        raise KitError(f"table {printable(table)} has no rows below its header.")
    _refuse_splits(rows)
    rows, missing = _without_missing(rows, root, table, skip_missing)
    clipped = _clip(rows)
    _refuse_twice(rows)
    _refuse_doubled_tracks(rows)
    dataset = _dataset(rows, root, splits)
    remarks = list(dict.fromkeys(remarks))
    remarks += [Remark(dataset.relative(row.path), why) for row, why in missing]
    remarks += [Remark(dataset.relative(row.path), CLIPPED, read=True) for row in clipped]
    remarks += [*dataset.remarks, *several_in(dataset)]
    return replace(dataset, remarks=tuple(sorted(remarks, key=lambda remark: remark.name)))


def _sources(table: Path, root: str | Path | None) -> tuple[list[tuple[Path, Path]], Path]:
    """([(table, folder that its paths are relative to)], the data set's folder)."""
    # unlike Path.is_dir these do not stop at names of no file system
    if not os.path.isdir(table):
        root = table.parent if root is None else expanded(root)
        if not os.path.isdir(root):
            raise KitError(
                f"data_root {printable(root)} is not a folder: give the folder that the "
                f"paths in {printable(table)} are relative to."
            )
        return [(table, root)], root
    if root is not None and expanded(root) != table:
        raise KitError(
            f"table {printable(table)} is a folder, whose metadata files name pictures beside "
            f"themselves: leave data_root ({printable(root)}) out, or give one file."
        )
    found = sorted(path for name in IMAGE_FOLDER for path in table.rglob(name))
    if not found:
        raise KitError(
            f"table {printable(table)} is a folder without {', '.join(IMAGE_FOLDER[:-1])} or "
            f"{IMAGE_FOLDER[-1]}: give the file that names the pictures."
        )
    return [(path, path.parent) for path in found], table


# ---- rows


def _rows(rows: Rows, columns: Columns, base: Path) -> list[_Row]:
    """The rows of one table, as they stand."""

    def known(role: str, nobody: Sequence[str] = ()) -> list[str | None]:
        if role not in columns.of:
            return [None] * len(rows)
        texts = rows.texts(columns.of[role])
        return [None if text is None or text.lower() in nobody else text for text in texts]

    paths = rows.texts(columns.of["path"])
    identities, cameras = known("identity", NOBODY), known("camera", NOBODY)
    tracks, videos, splits = known("track", NOBODY), known("video"), known("split")
    boxes = _boxes(rows, columns.box)
    found = []
    for index, text in enumerate(paths):
        if text is None:
            raise KitError(f"{rows.place(index)} has no path.")
        file, box = file_and_box(_file(base, text))
        if box is not None and boxes[index] is not None:
            raise KitError(
                f"{rows.place(index)} names a part of a picture ({printable(text)}) and has "
                "a box as well: keep one of the two."
            )
        track = tracks[index] and (videos[index] or "", cameras[index] or "", tracks[index])
        found.append(
            _Row(
                rows.place(index),
                file,
                box or boxes[index],
                identities[index],
                cameras[index],
                splits[index],
                track or None,
            )
        )
    return found


def _refuse_splits(rows: Sequence[_Row]) -> None:
    """KitError where some rows have a split, and others none or one of no known name."""
    if all(row.split is None for row in rows):
        return
    for row in rows:
        if row.split is None:
            raise KitError(
                f"{row.place} has no split, which other rows have: write train, query, "
                "gallery or test, or leave the column empty."
            )
        if row.split.lower() not in SPLIT_WORDS:
            raise KitError(
                f"{row.place} has the split {printable(row.split)!r}: write train, query, "
                "gallery or test."
            )


def _file(base: Path, text: str) -> Path:
    """The file that a row names; a Windows path's \\ becomes / where that is no name."""
    if "\\" in text and os.sep == "/" and not os.path.lexists(base / text):
        text = text.replace("\\", "/")
    return base / text


def _boxes(rows: Rows, columns: tuple[str, ...]) -> list[Box | None]:
    """Each row's box in whole pixels, None for all of the picture; its edges are rounded
    as Pillow's `crop` does.
    """
    if not columns:
        return [None] * len(rows)
    if len(columns) == 1:
        cells = [_numbers(cell) for cell in rows.lists(columns[0])]
    else:
        cells = [list(four) for four in zip(*(rows.texts(name) for name in columns))]
    return [_box(rows.place(index), four) for index, four in enumerate(cells)]


def _numbers(cell: str | Sequence[object] | None) -> list[object]:
    """The four entries of a cell such as "[10, 20, 30, 60]", (10, 20, 30, 60) or 10 20 30 60."""
    if cell is None:
        return [None] * 4
    if not isinstance(cell, str):
        return list(cell)
    return re.split(r"[\s,;]+", cell.strip("[]() \t"))


def _box(place: str, four: Sequence[object]) -> Box | None:
    if len(four) == 4 and all(entry is None for entry in four):
        return None
    said = f"{place} has the box {', '.join('' if e is None else str(e) for e in four)}"
    try:
        x, y, width, height = (float(entry) for entry in four)
        left, top = round(x), round(y)
        right, bottom = round(x + width), round(y + height)
    except (TypeError, ValueError, OverflowError):
        raise KitError(
            f"{printable(said)}: write four numbers of pixels, x, y, width and height."
        ) from None
    if right - left < 1 or bottom - top < 1:
        raise KitError(f"{said}: its width and height must be one pixel at least.")
    return left, top, right - left, bottom - top


# ---- what all rows together must fit to


def _without_missing(
    rows: list[_Row], root: Path, table: str | Path, skip: bool
) -> tuple[list[_Row], list[tuple[_Row, str]]]:
    """(the rows whose file is there, the others and why not)."""
    why = {file: why_no_file(file) for file in dict.fromkeys(row.file for row in rows)}
    missing = [(row, why[row.file]) for row in rows if why[row.file]]
    if not missing:
        return rows, []
    row, reason = missing[0]
    if skip and len(missing) < len(rows):
        return [row for row in rows if not why[row.file]], missing
    raise KitError(
        f"{len(missing):,} of {len(rows):,} pictures in {printable(table)} cannot be read, "
        f"first {printable(row.file)} in {row.place} ({reason}): give the folder that the "
        f"paths are relative to as data_root (now {printable(root)})"
        + (", or leave them out with --skip-corrupt." if len(missing) < len(rows) else ".")
    )


def _clip(rows: list[_Row]) -> list[_Row]:
    """Clip boxes that reach over the edge by `ROUNDING`; -> those rows. KitError for what
    lies farther out. Where the picture cannot be read, decoding says so.
    """
    files = list(dict.fromkeys(row.file for row in rows if row.box))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        sizes = dict(zip(files, pool.map(upright_size, files)))
    clipped, off = [], []
    for row in rows:
        if row.box is None:
            continue
        x, y, width, height = row.box
        right, bottom = x + width, y + height
        size = sizes[row.file]
        across, down = size or (max(right, 1), max(bottom, 1))
        reach = max(-x, -y, right - across, bottom - down)
        inside = max(x, 0), max(y, 0), min(right, across), min(bottom, down)
        flat = inside[2] <= inside[0] or inside[3] <= inside[1]
        if reach > ROUNDING or flat:
            off.append((row, size))
        elif reach > 0:
            row.box = (*inside[:2], inside[2] - inside[0], inside[3] - inside[1])
            clipped.append(row)
    if off:
        row, size = off[0]
        picture = f"of {size[0]} x {size[1]} pixels" if size else "(its size is unknown)"
        boxes = "1 box lies" if len(off) == 1 else f"{len(off):,} boxes lie"
        raise KitError(
            f"{boxes} off the picture, first {', '.join(map(str, row.box))} (x, y, width, "
            f"height) in {row.place}, and {printable(row.file)} is {picture}: correct the "
            "boxes, or clip them."
        )
    return clipped


def _refuse_twice(rows: Sequence[_Row]) -> None:
    """KitError where two rows name one picture, or one part of a picture."""
    first: dict[tuple[str, Box | None], _Row] = {}
    twice = []
    for row in rows:
        known = first.setdefault((os.path.normpath(row.file), row.box), row)
        if known is not row:
            twice.append((known, row))
    if twice:
        known, row = twice[0]
        more = f" (and {len(twice) - 1:,} more pairs)" if len(twice) > 1 else ""
        raise KitError(
            f"{known.place} and {row.place} name the same picture, "
            f"{printable(row.path.name)}{more}: keep one of them."
        )


def _refuse_doubled_tracks(rows: Sequence[_Row]) -> None:
    """KitError where two boxes of one picture are of one track: nobody is there twice."""
    first: dict[tuple[str, tuple], _Row] = {}
    for row in rows:
        if row.track is None or row.box is None:
            continue
        known = first.setdefault((os.path.normpath(row.file), row.track), row)
        if known is not row:
            raise KitError(
                f"{known.place} and {row.place} are two boxes of one picture in the one track "
                f"{printable(row.track[-1])!r}, and nobody is there twice: correct the tracks."
            )


def _dataset(rows: Sequence[_Row], root: Path, with_splits: bool) -> ReIDDataset:
    pids = codes_of([row.identity for row in rows if row.identity is not None])
    camids = codes_of([row.camera for row in rows if row.camera is not None])
    ordered = sorted({row.track for row in rows if row.track is not None})
    tracks = {track: number for number, track in enumerate(ordered)}
    found: dict[str, list[ReIDImage]] = defaultdict(list)
    splits = _splits(rows, root) if with_splits else ["train"] * len(rows)
    for row, split in zip(rows, splits):
        found[split].append(
            ReIDImage(
                row.path,
                None if row.identity is None else pids[row.identity],
                None if row.camera is None else camids[row.camera],
                None if row.track is None else tracks[row.track],
            )
        )
    if found["query"] and not found["gallery"]:
        raise KitError(
            f"the table of {printable(root)} has queries and no gallery to search in: call "
            "the split of some rows gallery."
        )
    dataset = ReIDDataset(
        "table",
        root,
        *(tuple(found[split]) for split in SPLITS),
        pid_names=names_of(pids),
        camid_names=names_of(camids),
    )
    if not dataset.images():
        raise KitError(f"the table of {printable(root)} has no rows but those of val.")
    held = [Remark(dataset.relative(image.path), OF_VAL) for image in found["val"]]
    dataset = replace(dataset, remarks=tuple(held))
    return dataset if found["query"] else with_queries(dataset)


def _splits(rows: Sequence[_Row], root: Path) -> list[str]:
    """Each row's split: by its column, else by the folders on its path, else train."""
    if rows[0].split is not None:
        return [SPLIT_WORDS[row.split.lower()] for row in rows]
    files = dict.fromkeys(row.file for row in rows)
    names = {file: Path(os.path.relpath(file, root)).as_posix() for file in files}
    marks = marks_of({os.path.dirname(name) for name in names.values()})
    if not marks:
        return ["train"] * len(rows)
    cure = ", or give the table a column split"
    return [split_of(root, names[row.file], marks, cure) for row in rows]


def write_table(path: Path, dataset: ReIDDataset) -> Path:
    """Write a data set as .jsonl that `read_table` reads: whole paths, boxes, identities
    and cameras as the files call them, splits and tracks.
    """
    from dkdmpl_kit.data.writing import write_atomic

    lines = []
    for split in SPLITS:
        for image in getattr(dataset, split):
            file, box = file_and_box(image.path)
            row = {"path": str(file.absolute()), "split": split}
            if image.pid is not None:
                row["identity"] = dataset.identity(image.pid)
            if image.camid is not None:
                row["camera"] = dataset.camera(image.camid)
            if image.track is not None:
                row["track"] = image.track
            if box is not None:
                row["bbox"] = box
            lines.append(json.dumps(row))
    return write_atomic(path, "\n".join(lines) + "\n")
