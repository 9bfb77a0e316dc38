"""What is not finished yet carries the name of who makes it, so that the next one can
take away what a killed process left.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path


def owned(start: str) -> str:
    """`start`, this machine and this process: how the name of something unfinished
    begins.
    """
    return f"{start}{socket.gethostname()}-{os.getpid()}-"


def lives(process: int) -> bool:
    """Whether a process of this machine lives; True where that cannot be asked."""
    if os.name != "posix":  # there, signal 0 is not a question
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def remove_abandoned(folder: Path, start: str) -> None:
    """Remove files and folders in `folder` whose name begins as `owned(start)`, of
    processes of this machine that live no more.
    """
    machine = f"{start}{socket.gethostname()}-"
    for path in folder.glob(f"{glob.escape(machine)}*-*"):
        process = path.name.removeprefix(machine).partition("-")[0]
        if not process.isdecimal() or lives(int(process)):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def scratch_folder(folder: Path, start: str) -> Iterator[Path]:
    """A new folder in `folder`, whose name begins with `start`, until the `with` ends."""
    remove_abandoned(folder, start)
    with tempfile.TemporaryDirectory(prefix=owned(start), dir=folder) as scratch:
        yield Path(scratch)
