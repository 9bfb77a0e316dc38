"""Files that exist whole or not at all, and JSON."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from dkdmpl_kit.errors import KitError


def write_atomic(path: str | os.PathLike, content: str | bytes) -> Path:
    """Write a file so that it exists whole or not at all; an unwritable folder is one
    clear sentence.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(
            dir=path.parent, prefix=path.name + ".", suffix=".part"
        )
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(part, 0o644)
        os.replace(part, path)
    except OSError as error:
        raise KitError(
            f"Cannot write {path}: {error.strerror}; choose another out_dir."
        ) from error
    return path


def write_json(path: str | os.PathLike, value: object) -> Path:
    """`write_atomic` for JSON."""
    return write_atomic(path, json.dumps(value, indent=1, default=str) + "\n")


def read_json(path: str | os.PathLike) -> object:
    """Read JSON that the kit wrote; missing or damaged files are one clear sentence."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise KitError(
            f"There is no {path}: was this run written by the kit, and is the path right?"
        ) from None
    except ValueError as error:
        raise KitError(
            f"{path} is not valid JSON ({error}): restore it or start the run anew."
        ) from error
