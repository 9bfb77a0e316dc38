"""One cell of a grid: one papermill run of notebooks/cell/one_run in its own process,
and what it leaves in its run folder.

Beside what `fit` writes, the folder then holds `one_run.ipynb` and `.html` (executed),
`train.log` (a line an epoch), `cell.log` (papermill's own) and `cell.json` (parameters,
and every attempt with its time and error).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import Config, preset, read_json, write_json
from dkdmpl_kit.studies.notebooks import CELL, NotebookFailed, default_folder, run_notebook

NAMED = (
    "preset",
    "data",
    "data_root",
    "pattern",
    "method",
    "seed",
    "out_dir",
    "run_name",
)  # parameters of their own


@dataclass(frozen=True)
class Outcome:
    """`state`: "done", "busy" (another process has the cell), "stopped" or "failed"
    with its `reason`, one line.
    """

    state: str
    reason: str = ""


def parameters_of(config: Config, *, allow_withdrawn: bool = False) -> dict:
    """The notebook's parameters: `NAMED`, and under `settings` what differs from the
    preset, as ["eps=0.5", ...].
    """
    mine = dataclasses.asdict(config)
    base = dataclasses.asdict(preset(config.preset))
    others = [
        f"{name}={value}"
        for name, value in mine.items()
        if name not in NAMED and value != base[name]
    ]
    return {
        **{name: mine[name] for name in NAMED},
        "settings": others,
        "allow_withdrawn": allow_withdrawn,
    }


def is_done(config: Config) -> bool:
    """Whether the run has its result under these very settings, and its notebook came
    to its end (old runs have none).
    """
    folder = config.run_dir
    if not ((folder / "result.json").exists() and (folder / "config.json").exists()):
        return False
    cell = (
        read_json(folder / "cell.json")
        if (folder / "cell.json").exists()
        else {"state": "done"}
    )
    return (
        cell["state"] == "done"
        and read_json(folder / "config.json")["fingerprint"] == config.fingerprint()
    )


@contextlib.contextmanager
def claim(
    path: Path, *, wait: bool = True, stop: threading.Event | None = None
) -> Iterator[bool]:
    """Hold the file `path` for this process alone; False where another holds it and
    `wait` is not set, or `stop` came.

    The system frees it when the process ends, however it ends. Where there is no flock
    (Windows) nothing is held.
    """
    try:
        import fcntl
    except ImportError:
        yield True
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not wait or (stop is not None and stop.is_set()):
                    yield False
                    return
                time.sleep(0.2)
        yield True


def run_cell(
    config: Config,
    *,
    threads: int = 1,
    allow_withdrawn: bool = False,
    notebook: Path | None = None,
    wait: bool = False,
    stop: threading.Event | None = None,
) -> Outcome:
    """Run the cell's notebook once, unless it is done; `wait` for another process that
    has the cell.

    A run that was cut is continued from its last whole epoch. Every attempt is written
    to cell.json, before and after.
    """
    folder = config.run_dir
    with claim(folder / "cell.lock", wait=wait, stop=stop) as mine:
        if not mine:
            return Outcome("busy")
        if is_done(config):
            return Outcome("done")
        parameters = parameters_of(config, allow_withdrawn=allow_withdrawn)
        earlier = (
            read_json(folder / "cell.json")["attempts"]
            if (folder / "cell.json").exists()
            else []
        )
        attempt = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": None,
            "error": None,
        }

        def write(state: str) -> None:
            write_json(
                folder / "cell.json",
                {"state": state, "parameters": parameters, "attempts": [*earlier, attempt]},
            )

        write("running")
        begun = time.monotonic()
        outcome = _run_notebook(config, parameters, threads, notebook, stop)
        attempt |= {
            "seconds": round(time.monotonic() - begun, 1),
            "error": outcome.reason or None,
        }
        write(outcome.state)
        return outcome


def _run_notebook(
    config: Config,
    parameters: dict,
    threads: int,
    notebook: Path | None,
    stop: threading.Event | None,
) -> Outcome:
    """Execute the notebook; a failure is an outcome, not an exception."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    try:
        run_notebook(
            notebook or default_folder() / f"{CELL}.ipynb",
            config.run_dir,
            parameters,
            timeout_s=math.inf,
            stop=stop,
            log=config.run_dir / "cell.log",
            environment=dict.fromkeys(names, str(threads)),
        )
    except NotebookFailed as failure:
        return Outcome(
            "stopped" if stop is not None and stop.is_set() else "failed", failure.reason
        )
    except KitError as error:
        return Outcome("failed", f"KitError: {error}")
    if not (config.run_dir / "result.json").exists():
        return Outcome(
            "failed", "KitError: the notebook came to its end without a result.json"
        )
    return Outcome("done")


def epoch_log(config: Config) -> Callable[[dict], None]:
    """Print a line an epoch, append it to train.log of the run, and write TensorBoard's
    scalars where it is installed.

    Each call of this function starts with a line that says from which epoch the run
    goes on.
    """
    from dkdmpl_kit.training.tensorboard import tensorboard_writer

    folder = config.run_dir
    folder.mkdir(parents=True, exist_ok=True)
    try:
        scalars = tensorboard_writer(folder)
    except KitError:  # not installed
        scalars = None

    def say(line: str) -> None:
        print(line)
        with (folder / "train.log").open("a") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {line}\n")

    begun = (
        read_json(folder / "checkpoint.json")["epoch"]
        if (folder / "checkpoint.json").exists()
        else 0
    )
    say(f"{config.name}: from epoch {begun} to {config.epochs}, process {os.getpid()}")

    def on_epoch(record: dict) -> None:
        shown = {
            "loss": "loss",
            "clusters": "n_clusters",
            "outliers": "outlier_fraction",
            "ARI": "ari",
            "mAP": "mAP",
        }
        say(
            f"epoch {record['epoch']:3d}  "
            + "  ".join(
                f"{label} {record[key]:.4g}"
                for label, key in shown.items()
                if record.get(key) is not None
            )
        )
        if scalars:
            scalars(record)

    return on_epoch
