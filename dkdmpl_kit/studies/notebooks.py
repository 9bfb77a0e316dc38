"""Build and run the kit's notebooks; their pages are in `pages.py`, learner's copies
and slides in `handouts.py`.

1. A notebook's source is `notebooks/NN_name.py` (jupytext `py:percent`);
   `build_notebooks` makes `NN_name.ipynb` of it, the same bytes each time, without
   outputs. Edit the source, build, commit both: a test fails when they differ. The
   notebook that a grid's cell runs (`notebooks/cell/one_run`) is built with them, and
   is none of the course.
2. `run_notebooks` executes them through papermill, each in its own process, with this
   very Python as the kernel and the notebook's folder as the working directory.
   Parameters override the cell tagged `parameters`; an unknown name is an error before
   anything runs. In the notebook a tuple is a list, and a Path an absolute string.
3. `OUT/notebooks` then holds `NAME.ipynb` (executed), `NAME.html` and `notebooks.json`
   (seconds, parameters, errors). One that fails or is interrupted leaves
   `NAME.failed.ipynb` to look at, and nothing under its final name.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import read_json, write_atomic, write_json

KERNELSPEC = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
NAMES = "[0-9][0-9]_*"
CELL = "cell/one_run"  # beside the course: what one cell of a grid runs


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


def _need(module: str) -> Any:
    """Import, but hide rfc3987_syntax from jsonschema: no notebook needs it, and it
    takes longer than all the rest.
    """
    hidden = {} if "rfc3987_syntax" in sys.modules else {"rfc3987_syntax": None}
    sys.modules.update(hidden)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise KitError(
            f"Notebooks need the package {error.name}: pip install 'dkdmpl-kit[notebooks]'."
        ) from error
    finally:
        for name in hidden:
            del sys.modules[name]


def _digest(source: Path) -> str:
    return hashlib.sha256(source.read_bytes()).hexdigest()


def _check_literals(source: Path, cell: Any) -> None:
    """papermill puts its overrides *after* the parameters cell: anything derived there
    would keep the old value.
    """
    for statement in ast.parse(cell.source).body:
        try:
            ast.literal_eval(getattr(statement, "value", None) or statement)
        except ValueError as error:
            raise KitError(
                f"{source.name}: the parameters cell holds literals only, but its line "
                f"{statement.lineno} "
                "is none; derive it in the next cell."
            ) from error


def _generated(source: Path) -> str:
    nbformat = _need("nbformat")
    jupytext = _need("jupytext")
    notebook = jupytext.read(source, fmt="py:percent")
    seen = {}
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
    )
    notebook.nbformat = 4
    notebook.nbformat_minor = 5
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {k: v for k, v in cell.metadata.items() if not k.startswith("lines_to_")}
        )
        if "parameters" in cell.metadata.get("tags", []):
            _check_literals(source, cell)
        # an id from the content: the same at every build, and a cell that is added
        # leaves its neighbours' alone
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
    nbformat.validate(notebook)
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def build_notebooks(folder: str | Path, *, check: bool = False) -> list[str]:
    """Make every `NN_name.ipynb` of `folder` from its `NN_name.py`; return the names of
    those that were not in step.

    With `check` nothing is written, and an `.ipynb` whose source is gone counts too
    (delete it by hand).
    """
    folder = Path(folder)
    stale = []
    for source in [*sorted(folder.glob(NAMES + ".py")), *folder.glob(CELL + ".py")]:
        text = _generated(source)
        target = source.with_suffix(".ipynb")
        if not target.exists() or target.read_bytes() != text.encode():
            stale.append(target.name)
            if not check:
                write_atomic(target, text)
    found = (
        [*sorted(folder.glob(NAMES + ".ipynb")), *folder.glob(CELL + ".ipynb")]
        if check
        else []
    )
    return stale + [path.name for path in found if not path.with_suffix(".py").exists()]


def _literal(name: str, value: Any) -> Any:
    value = str(value.resolve()) if isinstance(value, Path) else value
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_literal(name, item) for item in value]
    raise KitError(
        f"Notebook parameter {name} is a {type(value).__name__}; give a number, text, "
        "bool or list."
    )


def _pattern(path: str | Path) -> str:
    """papermill runs str.format over the paths it is given."""
    return str(path).replace("{", "{{").replace("}", "}}")


def notebook_parameters(source: str | Path) -> dict[str, str]:
    """{name: default as written} of the cell tagged `parameters`; {} where there is
    none.
    """
    if not Path(source).is_file():
        raise KitError(f"There is no notebook {source}.")
    return {
        name: found["default"]
        for name, found in _need("papermill").inspect_notebook(_pattern(source)).items()
    }


def check_parameters(source: str | Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as plain literals; KitError names those that the notebook does not
    have, and those it has.
    """
    valid = notebook_parameters(source)
    if unknown := ", ".join(sorted(set(parameters) - set(valid))):
        raise KitError(
            f"Notebook {Path(source).stem} has no parameter {unknown}; it has: "
            f"{', '.join(valid)}."
        )
    return {name: _literal(name, value) for name, value in parameters.items()}


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
    final, page, failed, running, running_page = (
        folder / file
        for file in (
            f"{name}.ipynb",
            f"{name}.html",
            f"{name}.failed.ipynb",
            f".{name}.running.ipynb",
            f".{name}.running.html",
        )
    )
    write_atomic(running, source.read_bytes())
    for old in (final, page, failed):
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
        os.replace(running, final)
    finally:
        running_page.unlink(missing_ok=True)
        if running.exists():
            os.replace(running, failed)
    return NotebookRun(
        name, round(time.monotonic() - started, 2), parameters, _digest(source)
    )


def _attend(
    request: dict[str, Any],
    timeout_s: float,
    progress: Callable[[int, int], None] | None,
    stop: threading.Event,
    log_path: Path | None,
    environment: Mapping[str, str],
) -> str | None:
    """Start the child, wait for it, say in a line why it failed or None. A kernel whose
    child is gone ends itself.
    """
    with tempfile.TemporaryDirectory(prefix="dkdmpl-notebook-") as scratch:
        folder = Path(scratch)
        deadline = time.monotonic() + timeout_s
        seen = None
        write_json(folder / "request.json", request)
        log_path = log_path or folder / "log"
        with log_path.open("ab") as log:
            child = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "dkdmpl_kit.studies.notebooks",
                    str(folder / "request.json"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(folder) | environment,
            )
        try:
            while child.poll() is None:
                if time.monotonic() > deadline:
                    return f"the notebook took more than {timeout_s:g} s"
                if stop.wait(0.1):
                    return "stopped"
                cells = re.findall(
                    rb"(\d+)/(\d+) \[", log_path.read_bytes()[-400:]
                )  # papermill's own bar
                if progress is not None and cells and cells[-1] != seen:
                    seen = cells[-1]
                    progress(int(seen[0]), int(seen[1]))
        finally:
            child.kill()
            child.wait()
        if child.returncode == 0:
            return None
        told = folder / "reason" if (folder / "reason").exists() else log_path
        return (
            told.read_text(errors="replace").strip().splitlines()
            or [f"exit status {child.returncode}"]
        )[-1]


def _environment(folder: Path) -> dict[str, str]:
    """The child's environment: this Python is the kernel, whatever kernels, start-up
    files and backend the user has.
    """
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        **KERNELSPEC,
    }
    write_json(folder / "jupyter" / "kernels" / spec.pop("name") / "kernel.json", spec)
    env = {
        key: value for key, value in os.environ.items() if key != "MPLBACKEND"
    }  # Agg would lose every picture
    for key, first in (
        ("JUPYTER_PATH", folder / "jupyter"),
        ("PYTHONPATH", Path(__file__).resolve().parents[2]),
    ):
        env[key] = os.pathsep.join([str(first), *filter(None, [env.get(key)])])
    return {
        **env,
        "IPYTHONDIR": str(folder / "ipython"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def _last_cell(running: Path) -> tuple[int | None, str]:
    """(In [number], first line) of the last code cell that was started; (None, "") if
    none was.
    """
    cells = read_json(running)["cells"] if running.exists() else []
    code = [
        cell
        for cell in cells
        if cell["cell_type"] == "code" and "".join(cell["source"]).strip()
    ]
    begun = [
        k
        for k, cell in enumerate(code)
        if cell["metadata"].get("papermill", {}).get("start_time")
    ]
    return (
        (begun[-1] + 1, "".join(code[begun[-1]]["source"]).strip().splitlines()[0][:100])
        if begun
        else (None, "")
    )


def _child(request_path: Path) -> int:
    """`python -m dkdmpl_kit.studies.notebooks REQUEST`: execute, export; why a cell
    failed goes to `reason` beside REQUEST.
    """
    request = json.loads(request_path.read_text())
    papermill = _need("papermill")
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    source = Path(request["source"])
    if any(
        "solution" in cell["metadata"].get("tags", []) for cell in read_json(source)["cells"]
    ):
        os.environ["DKDMPL_SOLUTIONS"] = (
            "1"  # its own solutions must pass its checks (course.STRICT)
        )
    try:
        notebook = papermill.execute_notebook(
            _pattern(source),
            _pattern(request["target"]),
            request["parameters"],
            kernel_name=KERNELSPEC["name"],
            language="python",
            cwd=source.parent,
            execution_timeout=request["cell_timeout_s"],
        )
    except papermill.PapermillExecutionError as error:
        reason = f"{error.ename}: {(error.evalue.strip().splitlines() or [''])[-1]}"
    except CellTimeoutError:
        reason = f"the cell took more than {request['cell_timeout_s']:g} s"
    except DeadKernelError:
        reason = "its Python died (out of memory, or a crash in compiled code)"
    else:
        from dkdmpl_kit.studies.pages import export_html

        Path(request["page"]).write_text(export_html(notebook, source), encoding="utf-8")
        return 0
    (request_path.parent / "reason").write_text(reason[:400])
    return 1


def default_folder() -> Path:
    """notebooks/ of the checkout that holds this package."""
    return Path(__file__).resolve().parents[2] / "notebooks"


def select_notebooks(names: str | Sequence[str], notebooks_dir: str | Path) -> list[Path]:
    """Paths of the notebooks asked for, in order of number: "all", or names such as
    "02_clustering" or just "02".
    """
    found = {path.stem: path for path in sorted(Path(notebooks_dir).glob(NAMES + ".ipynb"))}
    if not found:
        raise KitError(
            f"There are no notebooks NN_name.ipynb in {notebooks_dir}; name the folder "
            "that holds them."
        )
    wanted = (
        list(found) if names == "all" else [names] if isinstance(names, str) else list(names)
    )
    for name in wanted:
        if not any(name in (stem, stem[:2]) for stem in found):
            raise KitError(f"There is no notebook {name!r}; choose from: {', '.join(found)}.")
    return [path for stem, path in found.items() if {stem, stem[:2]} & set(wanted)]


def run_notebooks(
    names: str | Sequence[str] = "all",
    *,
    notebooks_dir: str | Path,
    out_dir: str | Path,
    parameters: Mapping[str, Any] | None = None,
    jobs: int = 1,
    timeout_s: float = 3600.0,
    resume: bool = False,
    progress: bool = True,
) -> list[NotebookRun]:
    """Run notebooks in order, `jobs` at a time, into `out_dir`/notebooks; the first
    failure ends all and is raised.

    `parameters` go to every notebook, and `out_dir` to those with a parameter of that
    name. With `resume`, a notebook that came to its end with the same source and
    parameters is not run again. notebooks.json is written after each.
    """
    from tqdm import tqdm

    from dkdmpl_kit.studies.pages import export_course

    sources = select_notebooks(names, notebooks_dir)
    folder = Path(out_dir).resolve() / "notebooks"
    given: dict[str, dict[str, Any]] = {}
    for source in sources:  # all are checked before the first one runs
        extra = (
            {"out_dir": str(folder.parent)}
            if "out_dir" in notebook_parameters(source)
            else {}
        )
        given[source.stem] = check_parameters(source, {**extra, **(parameters or {})})
    old = read_json(folder / "notebooks.json") if (folder / "notebooks.json").exists() else []
    bar = tqdm(total=len(sources), disable=not progress, unit="notebook")
    batch = _Batch(
        folder,
        given,
        {record["name"]: NotebookRun(**record) for record in old},
        timeout_s,
        resume,
        bar,
    )
    pool = ThreadPoolExecutor(max(1, jobs))
    try:
        runs = [
            future.result()
            for future in [pool.submit(batch.run, source) for source in sources]
        ]
    finally:
        # Ctrl-C: ends the children, each of which leaves its failed copy
        batch.stop.set()
        pool.shutdown(cancel_futures=True)
        bar.close()
    if batch.failures:
        raise batch.failures[0]
    export_course(Path(notebooks_dir), folder)
    return runs


@dataclass
class _Batch:
    """What the notebooks of one `run_notebooks` share."""

    folder: Path
    given: dict[str, dict[str, Any]]
    records: dict[str, NotebookRun]
    timeout_s: float
    resume: bool
    bar: Any
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    failures: list[NotebookFailed] = field(default_factory=list)

    def is_done(self, source: Path) -> bool:
        name = source.stem
        old = self.records.get(source.stem)
        return (
            old is not None
            and old == NotebookRun(name, old.seconds, self.given[name], _digest(source))
            and all(
                (self.folder / f"{name}{suffix}").exists() for suffix in (".ipynb", ".html")
            )
        )

    def run(self, source: Path) -> NotebookRun | None:
        name = source.stem
        started = time.monotonic()
        if not (self.stop.is_set() or (self.resume and self.is_done(source))):
            try:
                record = run_notebook(
                    source,
                    self.folder,
                    self.given[name],
                    timeout_s=self.timeout_s,
                    stop=self.stop,
                    progress=lambda done, of: self.bar.set_postfix_str(
                        f"{name}, cell {done} of {of}"
                    ),
                )
            except NotebookFailed as failure:
                self.stop.set()
                self.failures.append(failure)
                record = NotebookRun(
                    name,
                    round(time.monotonic() - started, 2),
                    self.given[name],
                    _digest(source),
                    failure.reason,
                )
            with self.lock:
                self.records[name] = record
                write_json(
                    self.folder / "notebooks.json",
                    [asdict(r) for _, r in sorted(self.records.items())],
                )
        self.bar.update()
        return self.records.get(name)


if __name__ == "__main__":
    sys.exit(_child(Path(sys.argv[1])))
