"""One notebook in a process of its own: start it, attend to it, keep what it leaves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import check_record, write_atomic, write_json
from dkdmpl_kit.studies.files import read_if_there
from dkdmpl_kit.studies.notebooks.sources import KERNELSPEC, check_parameters, digest


class NotebookFailed(KitError):
    """A notebook did not reach its end: `.notebook`, `.cell` (its In [number], or None)
    and `.reason`, one line.
    """

    def __init__(
        self, notebook: str, cell: int | None, first_line: str, reason: str, copy: Path
    ) -> None:
        where = f", cell [{cell}] `{first_line}`" if cell else ""
        super().__init__(f"Notebook {notebook}{where}: {reason} (see {copy}).")
        self.notebook = notebook
        self.cell = cell
        self.reason = reason


@dataclass(frozen=True)
class NotebookRun:
    """One record of notebooks.json; `source` is the SHA-256 of the notebook, `error`
    None unless it failed.
    """

    name: str
    seconds: float
    parameters: dict[str, Any]
    source: str
    error: str | None = None


RECORD = {  # what an entry of notebooks.json holds
    "name": str,
    "seconds": (int, float),
    "parameters": dict,
    "source": str,
    "error": (str, type(None)),
}


def read_records(path: Path) -> list[dict[str, Any]]:
    """The entries of notebooks.json, each as a `NotebookRun` has them; [] where there is
    none. KitError where it was edited.
    """
    entries = read_if_there(path, [])
    if not isinstance(entries, list):
        raise KitError(f"{path} was edited: it is not a list; delete it.")
    for entry in entries:
        check_record(entry, RECORD, path)
    return [{name: entry[name] for name in RECORD} for entry in entries]


def run_notebook(
    source: str | Path,
    out_dir: str | Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = 3600.0,
    cell_timeout_s: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> NotebookRun:
    """Execute one notebook in its own process; write `out_dir`/NAME.ipynb and
    `out_dir`/NAME.html, both or neither.

    `timeout_s` holds for the whole notebook, `cell_timeout_s` for each of its cells;
    `progress(done, of)` hears of cells; setting `stop` ends it. NotebookFailed names
    the cell; NAME.failed.ipynb shows how far the notebook came. `log`: a file to which
    what papermill says is appended. `environment`: variables for this process and its
    kernel.
    """
    source = Path(source).resolve()
    folder = Path(out_dir).resolve()
    parameters = check_parameters(source, parameters or {})
    name = source.stem
    started = time.monotonic()
    notebook = folder / f"{name}.ipynb"
    page = folder / f"{name}.html"
    failed = folder / f"{name}.failed.ipynb"
    running = folder / f".{name}.running.ipynb"
    running_page = folder / f".{name}.running.html"
    write_atomic(running, source.read_bytes())
    for old in (notebook, page, failed):
        old.unlink(missing_ok=True)
    request = {
        "source": str(source),
        "target": str(running),
        "page": str(running_page),
        "parameters": parameters,
        "cell_timeout_s": cell_timeout_s,
    }
    try:
        reason = _attend(
            request, timeout_s, progress, stop or threading.Event(), log, environment or {}
        )
        if reason is not None:
            raise NotebookFailed(name, *_last_cell(running), reason, failed)
        os.replace(running_page, page)
        os.replace(running, notebook)
    finally:
        running_page.unlink(missing_ok=True)
        if running.exists():
            os.replace(running, failed)
    seconds = round(time.monotonic() - started, 2)
    return NotebookRun(name, seconds, parameters, digest(source))


def _attend(
    request: dict[str, Any],
    timeout_s: float,
    progress: Callable[[int, int], None] | None,
    stop: threading.Event,
    log_path: Path | None,
    environment: Mapping[str, str],
) -> str | None:
    """Start the child and wait for it; the line that says why it failed, or None. A
    child whose parent is gone ends itself, and a kernel whose child is gone does, too.
    """
    with tempfile.TemporaryDirectory(prefix="dkdmpl-notebook-") as scratch:
        folder = Path(scratch)
        request_path = write_json(folder / "request.json", request)
        log_path = log_path or folder / "log"
        # -P: no module of the current folder, whatever lies there, is ever imported
        command = [sys.executable, "-P", "-m", "dkdmpl_kit.studies.notebooks.child"]
        with log_path.open("ab") as log:
            child = subprocess.Popen(
                [*command, str(request_path)],
                # closed by the system when this process ends, however it ends
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=_environment(folder) | environment,
            )
        deadline = time.monotonic() + timeout_s
        seen = None
        try:
            while child.poll() is None:
                if time.monotonic() > deadline:
                    return f"the notebook took more than {timeout_s:g} s"
                if stop.wait(0.1):
                    return "stopped"
                now = _cells_done(log_path)
                if progress is not None and now is not None and now != seen:
                    seen = now
                    progress(*now)
        finally:
            child.kill()
            child.wait()
            child.stdin.close()
        if child.returncode == 0:
            return None
        told = folder / "reason" if (folder / "reason").exists() else log_path
        lines = told.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {child.returncode}"


def _cells_done(log_path: Path) -> tuple[int, int] | None:
    """(done, of) from papermill's own progress bar at the end of the log."""
    found = re.findall(rb"(\d+)/(\d+) \[", log_path.read_bytes()[-400:])
    return (int(found[-1][0]), int(found[-1][1])) if found else None


def _environment(folder: Path) -> dict[str, str]:
    """The child's environment: this Python is the kernel, whatever kernels, start-up
    files and backend the user has.
    """
    kernel = folder / "jupyter" / "kernels" / KERNELSPEC["name"] / "kernel.json"
    start = [sys.executable, "-P", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    names = {key: value for key, value in KERNELSPEC.items() if key != "name"}
    write_json(kernel, {"argv": start, **names})
    environment = dict(os.environ)
    environment.pop("MPLBACKEND", None)  # Agg would lose every picture
    checkout = Path(__file__).resolve().parents[3]
    for variable, first in (("JUPYTER_PATH", folder / "jupyter"), ("PYTHONPATH", checkout)):
        # an empty part would stand for the current folder
        before = filter(None, environment.get(variable, "").split(os.pathsep))
        environment[variable] = os.pathsep.join([str(first), *before])
    for variable, name in (("RUNTIME", "runtime"), ("CONFIG", "config"), ("DATA", "data")):
        # what Jupyter writes, also where there is no home folder
        environment[f"JUPYTER_{variable}_DIR"] = str(folder / name)
    environment["IPYTHONDIR"] = str(folder / "ipython")
    environment["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    return environment


def _last_cell(running: Path) -> tuple[int | None, str]:
    """(In [number], first line) of the last code cell that was started; (None, "") if
    none was.
    """
    last = (None, "")
    number = 0
    for cell in read_if_there(running, {"cells": []})["cells"]:
        code = "".join(cell["source"]).strip()
        if cell["cell_type"] != "code" or not code:
            continue
        number += 1
        if cell["metadata"].get("papermill", {}).get("start_time"):
            last = (number, code.splitlines()[0][:100])
    return last
