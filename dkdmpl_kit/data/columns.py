"""Which column of a table says what."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dkdmpl_kit.data.files import picture_endings, printable, some
from dkdmpl_kit.data.rows import Rows
from dkdmpl_kit.errors import KitError

# what each column may be called, the first that is there is read; spaces, hyphens and
# capitals do not count. The first ones are the kit's own, file_name is that of Hugging
# Face's ImageFolder, path, identity and original_split are those of WildlifeDatasets
NAMES = {
    "path": (
        *("path", "file_name", "filename", "file", "file_path", "filepath"),
        *("image", "image_path", "image_file", "image_name", "img", "img_path"),
    ),
    "identity": (
        *("identity", "pid", "person_id", "vehicle_id", "individual", "individual_id"),
        *("animal_id", "id"),
    ),
    "camera": ("camera", "camid", "cam", "camera_id", "cam_id", "camera_name"),
    "split": ("split", "subset", "original_split"),
    "track": ("track", "track_id", "tracklet", "tracklet_id"),
    "video": ("video", "video_id", "sequence"),
}
BOX_COLUMN = "bbox"  # x, y, width and height in one cell
BOX_COLUMNS = (
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
    ("bbox_x", "bbox_y", "bbox_w", "bbox_h"),
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
    ("bb_left", "bb_top", "bb_width", "bb_height"),
)


@dataclass
class Columns:
    """Which column of a table says what: `of` roles, `box` of one or four, the others."""

    of: dict[str, str] = field(default_factory=dict)
    box: tuple[str, ...] = ()
    unread: list[str] = field(default_factory=list)


def _plain(name: str) -> str:
    """A column's name as `NAMES` writes it: "Camera ID" is camera_id."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def columns_of(rows: Rows) -> Columns:
    """Which column says what; KitError where none has the paths, or boxes are in doubt."""
    by_name: dict[str, str] = {}
    for column in rows.columns:
        by_name.setdefault(_plain(column), column)
    found = Columns()
    for role, names in NAMES.items():
        column = next((by_name[name] for name in names if name in by_name), None)
        if column is None or (role == "video" and "track" not in found.of):
            continue
        if _plain(column) == "id" and _counts_rows(rows.texts(column)):
            continue
        found.of[role] = column
    if "path" not in found.of:
        raise KitError(_no_paths(rows))
    found.box = _box_columns(rows, by_name)
    read = {*found.of.values(), *found.box}
    found.unread = [column for column in rows.columns if column not in read]
    return found


def _counts_rows(texts: Sequence[str | None]) -> bool:
    """Whether a column "id" numbers the rows, and no identities: no value is there twice."""
    return len(texts) > 1 and len(set(texts)) == len(texts)


def _no_paths(rows: Rows) -> str:
    columns = [printable(column) for column in rows.columns]
    said = f"table {printable(rows.source)} has no column path: it has {some(columns, 12)}"
    if any(Path(column).suffix.lower() in picture_endings() for column in rows.columns):
        return f"{said}; its first row must be a header, such as path,identity,camera."
    known = {name: name for name in NAMES["path"]}
    close = [
        column
        for column in rows.columns
        if difflib.get_close_matches(_plain(column), known, 1, 0.6)
    ]
    if close:
        return f"{said}; is it {' or '.join(map(printable, close))}? Call that one path."
    return f"{said}; call the column of file names path, file_name or image."


def _box_columns(rows: Rows, by_name: dict[str, str]) -> tuple[str, ...]:
    four = next((names for names in BOX_COLUMNS if all(n in by_name for n in names)), ())
    if four and BOX_COLUMN in by_name:
        raise KitError(
            f"table {printable(rows.source)} has boxes in {', '.join(four)} and in "
            f"{BOX_COLUMN}: keep one of the two."
        )
    if four:
        return tuple(by_name[name] for name in four)
    if BOX_COLUMN in by_name:
        return (by_name[BOX_COLUMN],)
    # a lone x may be anything; a lone w beside x is a box with a part missing
    begun = [names for names in BOX_COLUMNS if sum(name in by_name for name in names) > 1]
    for names in begun:
        there = [name for name in names if name in by_name]
        if not {"width", "height"}.issuperset(there):  # most often the picture's own
            lost = [name for name in names if name not in by_name]
            raise KitError(
                f"table {printable(rows.source)} has {', '.join(there)} but not "
                f"{', '.join(lost)}: a box needs all four."
            )
    return ()
