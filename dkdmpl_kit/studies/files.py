"""Files that may not be there yet, and settings without the folders of one machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dkdmpl_kit.experiment import read_json

FOLDERS = ("out_dir", "data_root")  # settings that name a folder of one machine


def read_if_there(path: Path, default: Any = None) -> Any:
    """The JSON of a file, or `default` where the file does not exist."""
    return read_json(path) if path.exists() else default


def portable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the folders of the machine that made them."""
    return {name: value for name, value in settings.items() if name not in FOLDERS}
