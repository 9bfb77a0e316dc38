"""Files that exist whole or not at all, and JSON that is read with care."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from dkdmpl_kit.data.writing import write_atomic
from dkdmpl_kit.errors import KitError

LARGEST_MB = 256  # of a text file that is read: no file of the kit comes near it


def write_json(path: str | os.PathLike, value: object) -> Path:
    """`write_atomic` for JSON."""
    return write_atomic(path, json.dumps(value, indent=1, default=str) + "\n")


def read_text(path: str | os.PathLike) -> str:
    """The text of a file, UTF-8 or with a byte order mark of UTF-8 or UTF-16.

    KitError for what is not a file (a folder, a pipe, a device, a link that leads
    nowhere), for one above `LARGEST_MB`, and for bytes that are not text.
    FileNotFoundError where there is nothing.
    """
    path = Path(path)
    try:
        about = path.stat()
        # a pipe or a device would be waited for, or read, for ever
        if not stat.S_ISREG(about.st_mode):
            what = "a folder" if stat.S_ISDIR(about.st_mode) else "not an ordinary file"
            raise KitError(f"{path} is {what}: give a file.")
        if about.st_size > LARGEST_MB << 20:
            raise KitError(
                f"{path} has {about.st_size >> 20} MB, more than the {LARGEST_MB} that "
                "settings and records may have: is it the right file?"
            )
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(errno.ENOENT, "No such file", str(path)) from None
    except KitError:  # a ValueError, too
        raise
    except OSError as error:
        raise KitError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:  # a null byte in the name
        raise KitError(f"{str(path)!r} cannot be the name of a file: {error}.") from error
    utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise KitError(
            f"{path} is not text in UTF-8 ({error.reason} at byte {error.start}): save it "
            "as UTF-8."
        ) from error


def read_json(path: str | os.PathLike) -> object:
    """Read JSON that the kit wrote; missing or damaged files are one clear sentence."""
    try:
        return json.loads(read_text(path))
    except FileNotFoundError:
        raise KitError(
            f"There is no {path}: was this run written by the kit, and is the path right?"
        ) from None
    except KitError:
        raise
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise KitError(
            f"{path} is not valid JSON ({reason}): restore it or start the run anew."
        ) from error


def read_record(path: str | os.PathLike, fields: Mapping[str, type | tuple]) -> dict:
    """`read_json` of an object that has `fields`, {name: its type, or several}.

    KitError names the first field that is missing or of another type: the one check for
    whatever a person, or another program, made of the kit's files.
    """
    return check_record(read_json(path), fields, path)


def check_record(record: object, fields: Mapping[str, type | tuple], path: object) -> dict:
    """`record` where it is an object with `fields`; KitError names `path` otherwise."""
    damaged = f"{path} was not written by the kit, or was edited"
    if not isinstance(record, dict):
        raise KitError(f"{damaged}: it holds no object {{name: value}}; restore it.")
    for name, kind in fields.items():
        kinds = kind if isinstance(kind, tuple) else (kind,)
        found = record.get(name)
        # True is an int for Python, not for who reads an epoch's number
        right = isinstance(found, kinds) and not (
            isinstance(found, bool) and bool not in kinds
        )
        if name not in record or not right:
            said = "is missing" if name not in record else f"is {_shown(found)}"
            words = " or ".join(NAMES.get(k, k.__name__) for k in kinds)
            raise KitError(
                f"{damaged}: its {name!r} {said}, and should be {words}; restore it or "
                "start the run anew."
            )
    return record


NAMES = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else text[:37] + "..."
