"""One cell of a grid: one papermill run of notebooks/cell/one_run in its own process,
and what it leaves in its run folder.

Beside what `fit` writes, the folder then holds `one_run.ipynb` and `.html` (executed),
`train.log` (a line an epoch), `cell.log` (papermill's own) and `cell.json` (parameters,
and every attempt with its time and error).
"""

from __future__ import annotations

import dataclasses
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import Config, claim, preset, write_json
from dkdmpl_kit.studies.files import read_if_there
from dkdmpl_kit.studies.notebooks import CELL, NotebookFailed, default_folder, run_notebook

OWN_PARAMETERS = (  # settings that are parameters of the notebook; others go in a list
    "preset",
    "data",
    "data_root",
    "table",
    "pattern",
    "method",
    "seed",
    "out_dir",
    "run_name",
)
LOGGED = {  # what a line of train.log shows, and its name in an epoch's record
    "loss": "loss",
    "clusters": "n_clusters",
    "outliers": "outlier_fraction",
    "ARI": "ari",
    "mAP": "mAP",
}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class CellOutcome:
    """How the attempt at a cell ended: "busy" means that another process has the cell;
    `reason` is the one line that says why it failed or stopped.
    """

    state: Literal["done", "busy", "stopped", "failed"]
    reason: str = ""


def parameters_of(config: Config, *, allow_withdrawn: bool = False) -> dict:
    """The notebook's parameters: `OWN_PARAMETERS`, and under `settings` what differs from
    the preset, as ["eps=0.5", ...].
    """
    values = dataclasses.asdict(config)
    usual = dataclasses.asdict(preset(config.preset))
    own = {name: values.pop(name) for name in OWN_PARAMETERS}
    changed = [f"{name}={v}" for name, v in values.items() if v != usual[name]]
    return {**own, "settings": changed, "allow_withdrawn": allow_withdrawn}


def is_done(config: Config) -> bool:
    """Whether the run has its result under these very settings, and its notebook came
    to its end (a run that `dkdmpl train` made has no notebook).
    """
    folder = config.run_dir
    started = read_if_there(folder / "config.json", fields={"fingerprint": str})
    if started is None or not (folder / "result.json").exists():
        return False
    cell = read_if_there(folder / "cell.json", {"state": "done"}, {"state": str})
    settings = started.get("settings")
    corrections = settings.get("corrections", "") if isinstance(settings, dict) else ""
    same = started["fingerprint"] == config.fingerprint() and corrections == config.corrections
    return cell["state"] == "done" and same


def run_cell(
    config: Config,
    *,
    threads: int = 1,
    allow_withdrawn: bool = False,
    notebook: Path | None = None,
    wait: bool = False,
    stop: threading.Event | None = None,
) -> CellOutcome:
    """Run the cell's notebook once, unless it is done; `wait` for another process that
    has the cell.

    A run that was cut is continued from its last whole epoch. Every attempt is written
    to cell.json, before and after.
    """
    folder = config.run_dir
    with claim(folder / "cell.lock", wait=wait, stop=stop) as mine:
        if not mine:
            return CellOutcome("busy")
        if is_done(config):
            return CellOutcome("done")
        parameters = parameters_of(config, allow_withdrawn=allow_withdrawn)
        told = read_if_there(folder / "cell.json", {"attempts": []}, {"attempts": list})
        attempt = {"started": _now(), "seconds": None, "error": None}
        cell = {"parameters": parameters, "attempts": [*told["attempts"], attempt]}
        write_json(folder / "cell.json", {"state": "running", **cell})
        begun = time.monotonic()
        outcome = _run_notebook(config, parameters, threads, notebook, stop)
        attempt["seconds"] = round(time.monotonic() - begun, 1)
        attempt["error"] = outcome.reason or None
        write_json(folder / "cell.json", {"state": outcome.state, **cell})
        return outcome


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _run_notebook(
    config: Config,
    parameters: Mapping[str, object],
    threads: int,
    notebook: Path | None,
    stop: threading.Event | None,
) -> CellOutcome:
    """Execute the notebook; a failure is an outcome, not an exception."""
    try:
        run_notebook(
            notebook or default_folder() / f"{CELL}.ipynb",
            config.run_dir,
            parameters,
            timeout_s=math.inf,
            stop=stop,
            log=config.run_dir / "cell.log",
            environment=dict.fromkeys(THREAD_VARIABLES, str(threads)),
        )
    except NotebookFailed as failure:
        stopped = stop is not None and stop.is_set()
        return CellOutcome("stopped" if stopped else "failed", failure.reason)
    except KitError as error:
        return CellOutcome("failed", f"KitError: {error}")
    if not (config.run_dir / "result.json").exists():
        return CellOutcome(
            "failed", "KitError: the notebook came to its end without a result.json"
        )
    return CellOutcome("done")


def epoch_log(config: Config) -> Callable[[dict], None]:
    """A function of an epoch's record: it prints a line, appends the line to train.log of
    the run, and writes TensorBoard's scalars where that is installed.

    Each call of `epoch_log` starts with a line that says from which epoch the run goes
    on.
    """
    from dkdmpl_kit.training.tensorboard import tensorboard_writer

    folder = config.run_dir
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_scalars = tensorboard_writer(folder)
    except KitError:  # not installed
        write_scalars = None

    def say(line: str) -> None:
        print(line)
        with (folder / "train.log").open("a") as log:
            log.write(f"{_now()} {line}\n")

    begun = read_if_there(folder / "checkpoint.json", {"epoch": 0}, {"epoch": int})["epoch"]
    say(f"{config.name}: from epoch {begun} to {config.epochs}, process {os.getpid()}")

    def on_epoch(record: dict) -> None:
        shown = [
            f"{label} {record[key]:.4g}"
            for label, key in LOGGED.items()
            if record.get(key) is not None
        ]
        say(f"epoch {record['epoch']:3d}  " + "  ".join(shown))
        if write_scalars:
            write_scalars(record)

    return on_epoch
