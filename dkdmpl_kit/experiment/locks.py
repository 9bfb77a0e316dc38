"""One writer of a run's folder, and what earlier writers left there when they were
killed.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from dkdmpl_kit.data.writing import cannot_write
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment.files import read_record

LOCK = "run.lock"
CHECKPOINT = {  # the fields of checkpoint.json, which names the weights of the last epoch
    "epoch": int,
    "weights": str,
    "history": list,
}


@contextlib.contextmanager
def claim(
    path: Path, *, wait: bool = True, stop: threading.Event | None = None
) -> Iterator[bool]:
    """Hold the lock file `path` for this process alone, and make its folder.

    Yields False, and holds nothing, where another process holds it and `wait` is not
    set, or `stop` came. The system frees a lock when its process ends, however it ends.
    KitError where the file cannot be made.
    """
    from filelock import FileLock, Timeout

    stopped = stop.is_set if stop is not None else None
    lock = FileLock(path, thread_local=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=wait, poll_interval=0.2, cancel_check=stopped)
    except Timeout:  # it is an OSError, too
        yield False
        return
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield True
    finally:
        lock.release()


@contextlib.contextmanager
def one_writer(run_dir: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a run's folder while it is written, and begin by taking away what killed
    writers left in it.

    KitError where another process writes it; with `wait` a line says so, and its end is
    waited for.
    """
    with contextlib.ExitStack() as held:
        mine = held.enter_context(claim(run_dir / LOCK, wait=False))
        if not mine and wait:
            print(f"Another process trains {run_dir.name}: waiting for its end ...")
            mine = held.enter_context(claim(run_dir / LOCK))
        if not mine:
            raise KitError(
                f"{run_dir} is being written by another process: wait for its end, or "
                "choose another run_name or out_dir."
            )
        sweep(run_dir)
        yield
        if (run_dir / "result.json").exists():
            # decoded pictures, which only a run that goes on needs
            shutil.rmtree(run_dir / "cache", ignore_errors=True)


def sweep(run_dir: Path) -> None:
    """Take away what a killed writer leaves: parts of files, weights that
    checkpoint.json does not name, and pictures that were not wholly decoded.

    Only for who holds the folder (`one_writer`).
    """
    for part in (*run_dir.glob("*.part"), *run_dir.glob("epochs/*.part")):
        part.unlink(missing_ok=True)
    for unfinished in run_dir.glob("cache/pixels-*"):
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
    named = None
    if (run_dir / "checkpoint.json").exists():
        named = read_record(run_dir / "checkpoint.json", CHECKPOINT)["weights"]
        if not (run_dir / named).is_file():
            return  # whatever else lies there may be what someone wants to restore
    for weights in run_dir.glob("checkpoint-*.safetensors"):
        if weights.name != named:
            weights.unlink(missing_ok=True)
