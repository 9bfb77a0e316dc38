"""Files that may not be there yet, and settings without the folders of one machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dkdmpl_kit.experiment import read_json, read_record

# settings that name a place of one machine
FOLDERS = ("out_dir", "data_root", "table", "corrections")


def read_if_there(
    path: Path, default: Any = None, fields: Mapping[str, type | tuple] | None = None
) -> Any:
    """The JSON of a file, or `default` where the file does not exist; of an object with
    `fields`, {name: type}, where those are given.
    """
    if not path.exists():
        return default
    return read_json(path) if fields is None else read_record(path, fields)


def portable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the folders of the machine that made them."""
    return {name: value for name, value in settings.items() if name not in FOLDERS}


def real(path: Path) -> Path:
    """A path with its links followed, as far as they can be: a link that leads in circles
    stays as it is.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path.absolute()


def is_inside(path: Path, folder: Path) -> bool:
    """Whether what a path leads to lies in `folder`, links followed."""
    return real(path).is_relative_to(real(folder))
