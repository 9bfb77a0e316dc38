"""The one way in which the kit writes a file: whole, or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from dkdmpl_kit.data.scratch import owned, remove_abandoned
from dkdmpl_kit.errors import KitError

# what the user can do where the place itself is right
ROOM = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or raise your quota",
    errno.EFBIG: "allow larger files (ulimit -f)",
}


def write_atomic(path: str | os.PathLike, content: str | bytes) -> Path:
    """Write a file so that it exists whole or not at all; an unwritable folder is one
    clear sentence.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent, path.name + ".")
        handle, part = tempfile.mkstemp(
            dir=path.parent, prefix=owned(path.name + "."), suffix=".part"
        )
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(part, 0o644)
        os.replace(part, path)
        part = None
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        # a full disk must not be filled further by what could not be finished
        if part is not None:
            Path(part).unlink(missing_ok=True)
    return path


def cannot_write(path: str | os.PathLike, error: OSError) -> KitError:
    """The sentence for a file or folder that could not be written."""
    reason = error.strerror or error
    if error.errno in ROOM:
        # another out_dir would leave behind what a run has done so far
        return KitError(
            f"Cannot write {path}: {reason}; {ROOM[error.errno]} and give the same command "
            "again (train: with --resume), as everything that became whole is kept."
        )
    return KitError(f"Cannot write {path}: {reason}; choose another out_dir.")
