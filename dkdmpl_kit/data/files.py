"""What lies in a folder: pictures, other files, and names that are not files at all.

Nothing is opened here but folders, so that a pipe or a device cannot stop a reader.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from dkdmpl_kit.errors import KitError

# formats of Pillow that are not photographs: EPS would start another program
# (Ghostscript), for the next ones Pillow knows the name alone, and the last are icons
NOT_READ = ("EPS", "BUFR", "GRIB", "HDF5", "MPEG", "WMF", "ICO", "ICNS", "CUR")
# endings of pictures and films that Pillow does not read by itself
CONVERTED = frozenset(
    ".heic .heif .jxl .svg .pdf .ai .raw .dng .cr2 .cr3 .nef .arw .raf .orf .rw2 "
    ".mp4 .avi .mov .mkv .webm .wmv".split()
)
HIDDEN = "hidden"
NO_PICTURE = "no picture"
OTHER_FORMAT = "in a format that is not read: convert to JPEG or PNG"
NOWHERE = "a link to nothing"
LOOPING = "a link that leads back to itself"
ABOVE = "a link to a folder above"
AGAIN = "a link to a folder that is read already"
SEVERAL = "of several pictures (animation, pages), of which the first is read"
SHOWN = 3  # names that a line of a summary lists
# how the name of a part of a picture ends: x, y, width and height in pixels of the upright
# picture, as W3C's Media Fragments URI 1.0 (2012), section 4.2.2, writes them
PART = re.compile(r"(?s)(.+)#xywh=(?:pixel:)?(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9})")

Box = tuple[int, int, int, int]  # x, y, width, height


@dataclass(frozen=True, slots=True)
class Remark:
    """A file or folder of a data set of which one should know: `name` below the data
    set's folder ('/' at the end of a folder's), and `why` it is left out. `read`: it is
    not left out, and `why` says what of it is read.
    """

    name: str
    why: str
    read: bool = False


@dataclass
class Listing:
    """Sorted names below a folder, as paths with '/'.

    pictures: what has the ending of a picture. folders: what was looked into, or, where
    the listing is not deep, could be. remarks: everything else.
    """

    pictures: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)


@cache
def picture_formats() -> tuple[str, ...]:
    """Names of the formats that are read: all of Pillow's but `NOT_READ`."""
    from PIL import Image

    Image.init()
    known = {name for name in Image.registered_extensions().values() if name in Image.OPEN}
    # what most pictures are is tried first
    first = [name for name in ("JPEG", "PNG") if name in known]
    return (*first, *sorted(known - {*first, *NOT_READ}))


@cache
def picture_endings() -> frozenset[str]:
    """Endings of file names that are read as pictures, in lower case: ".jpg" ..."""
    from PIL import Image

    formats = {*picture_formats(), "MPO"}  # MPO is read by the reader of JPEG
    known = Image.registered_extensions()
    return frozenset(ending for ending, name in known.items() if name in formats)


def expanded(path: str | Path) -> Path:
    """`path` with a leading ~ or ~name as the home folder that it stands for.

    The one home of this rule. KitError where there is no such home folder: a folder
    called ~ is never meant.
    """
    text = os.path.expanduser(path)
    if text.startswith("~"):
        raise KitError(
            f"{printable(path)} starts with ~, and this machine knows no such home folder; "
            "write the whole path (./~ for a name that starts so)."
        )
    return Path(text)


def printable(name: object) -> str:
    r"""A file's name for a message: what cannot be shown (line ends, escapes, bytes that
    are not text) as \x.. or \u....
    """
    text = str(name)
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    # how Python carries a byte of a name that is not text
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")


def some(names: Sequence[object], shown: int = SHOWN) -> str:
    """The first `shown` of the names, and how many more there are."""
    said = ", ".join(map(printable, names[:shown]))
    if len(names) > shown:
        said += f" and {len(names) - shown:,} more"
    return said


def part_name(file: str | os.PathLike, box: Box) -> Path:
    """The name of a part of a picture: "frame.jpg#xywh=10,20,30,60"."""
    return Path(f"{os.fspath(file)}#xywh={','.join(map(str, box))}")


def file_and_box(path: str | os.PathLike) -> tuple[Path, Box | None]:
    """The file in which a picture lies, and its box (x, y, width, height) where it is a
    part of that file's picture, else None.

    The one home of this rule: a picture is named by its path everywhere, and a part of one
    by `part_name`. A file of that very name is a picture of its own.
    """
    text = os.fspath(path)
    match = PART.fullmatch(text) if "#xywh=" in text else None
    if match is None or os.path.lexists(text):
        return Path(path), None
    x, y, width, height = map(int, match.groups()[1:])
    return Path(match[1]), (x, y, width, height)


def file_of(path: str | os.PathLike) -> Path:
    """The file in which a picture lies: `file_and_box` without the box."""
    return file_and_box(path)[0]


def real_name(path: str | os.PathLike) -> str:
    """The one name of a picture, whichever links lead to its file."""
    file, box = file_and_box(path)
    real = os.path.realpath(file)
    return real if box is None else os.fspath(part_name(real, box))


def why_no_file(path: str | os.PathLike) -> str | None:
    """Why nothing can be read at `path`: missing, a folder, a pipe ...; None for a file,
    and for a part of the picture in one.
    """
    try:
        path = file_of(path)
        mode = os.stat(path).st_mode
    except ValueError:  # a null byte
        return "no file can have this name"
    except OSError as error:
        if error.errno == errno.ELOOP:
            return LOOPING
        if error.errno == errno.ENOENT:
            return NOWHERE if os.path.islink(path) else "there is no such file"
        return f"it cannot be reached: {error.strerror}"
    return None if stat.S_ISREG(mode) else _kind(mode)


def _kind(mode: int) -> str:
    """What a mode of `os.stat` that is not a file's stands for."""
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((name for test, name in kinds if test(mode)), "not a file")


def list_folder(folder: str | Path, *, deep: bool = False) -> Listing:
    """What lies in `folder`, and, where `deep`, in all folders below it.

    Links to folders are followed, but not to a folder above, and within a linked folder
    only to what was not read yet: links that lead in circles end. What has a picture's
    ending counts as a picture whatever lies behind it: decoding says why it cannot be
    read. KitError for a folder that cannot be read.
    """
    found = Listing()
    top = os.path.realpath(folder)
    visited = {top}
    # (prefix of names, real path, whether a link led here); linked folders come last
    waiting = [("", top, False)]
    linked = []
    while waiting or linked:
        prefix, here, by_link = waiting.pop() if waiting else linked.pop(0)
        for entry in _entries(here):
            name = prefix + entry.name
            if entry.name.startswith((".", "__MACOSX")):  # left by file managers
                slash = "/" if entry.is_dir(follow_symlinks=False) else ""
                found.remarks.append(Remark(name + slash, HIDDEN))
                continue
            if not _is_folder(entry):
                _add_file(found, name, entry)
                continue
            if not deep:
                found.folders.append(name)
            elif not entry.is_symlink():
                real = os.path.join(here, entry.name)
                visited.add(real)
                found.folders.append(name)
                waiting.append((f"{name}/", real, by_link))
            else:
                real = os.path.realpath(entry.path)
                refused = _why_not_follow(real, here, by_link and real in visited)
                if refused:
                    found.remarks.append(Remark(name, refused))
                    continue
                visited.add(real)
                found.folders.append(name)
                linked.append((f"{name}/", real, True))
    found.pictures.sort()
    found.folders.sort()
    found.remarks.sort(key=lambda remark: remark.name)
    return found


def _entries(folder: str) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise KitError(
            f"folder {printable(folder)} cannot be read ({error.strerror}); check its "
            "permissions."
        ) from error


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a looping link
        return False


def _add_file(found: Listing, name: str, entry: os.DirEntry) -> None:
    ending = os.path.splitext(entry.name)[1].lower()
    if ending in picture_endings():
        found.pictures.append(name)
        return
    why = None if entry.is_file(follow_symlinks=False) else why_no_file(entry.path)
    if why is None:
        why = OTHER_FORMAT if ending in CONVERTED else NO_PICTURE
    found.remarks.append(Remark(name, why))


def _why_not_follow(real: str, here: str, again: bool) -> str | None:
    """Why the link in `here` to the folder `real` is not followed, or None."""
    if f"{here}{os.sep}".startswith(os.path.join(real, "")):
        return ABOVE
    return AGAIN if again else None
