"""Several notebooks, some at a time, with a record of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dkdmpl_kit.experiment import write_json
from dkdmpl_kit.studies.notebooks.process import (
    NotebookFailed,
    NotebookRun,
    read_records,
    run_notebook,
)
from dkdmpl_kit.studies.notebooks.sources import (
    check_parameters,
    digest,
    notebook_parameters,
    select_notebooks,
)
from dkdmpl_kit.studies.pages import export_course


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
    sources = select_notebooks(names, notebooks_dir)
    folder = Path(out_dir).resolve() / "notebooks"
    given: dict[str, dict[str, Any]] = {}
    for source in sources:  # all are checked before the first one runs
        mine = dict(parameters or {})
        if "out_dir" in notebook_parameters(source):
            mine.setdefault("out_dir", str(folder.parent))
        given[source.stem] = check_parameters(source, mine)
    records = {r["name"]: NotebookRun(**r) for r in read_records(folder / "notebooks.json")}
    bar = tqdm(total=len(sources), disable=not progress, unit="notebook")
    batch = _Batch(folder, given, records, timeout_s, resume, bar)
    pool = ThreadPoolExecutor(max(1, jobs))
    try:
        futures = [pool.submit(batch.run, source) for source in sources]
        runs = [future.result() for future in futures]
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
    given: dict[str, dict[str, Any]]  # parameters, by notebook
    records: dict[str, NotebookRun]
    timeout_s: float
    resume: bool
    bar: tqdm
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    failures: list[NotebookFailed] = field(default_factory=list)

    def is_done(self, source: Path) -> bool:
        """Whether it came to its end with this source and these parameters."""
        name = source.stem
        old = self.records.get(name)
        if old is None:
            return False
        same = NotebookRun(name, old.seconds, self.given[name], digest(source))
        files = [self.folder / f"{name}{suffix}" for suffix in (".ipynb", ".html")]
        return old == same and all(file.exists() for file in files)

    def run(self, source: Path) -> NotebookRun | None:
        """Run it unless it is done, or another one failed; its record, old or new."""
        if not (self.stop.is_set() or (self.resume and self.is_done(source))):
            record = self._execute(source)
            with self.lock:
                self.records[record.name] = record
                written = [asdict(r) for _, r in sorted(self.records.items())]
                write_json(self.folder / "notebooks.json", written)
        self.bar.update()
        return self.records.get(source.stem)

    def _execute(self, source: Path) -> NotebookRun:
        name = source.stem
        started = time.monotonic()

        def show(done: int, of: int) -> None:
            self.bar.set_postfix_str(f"{name}, cell {done} of {of}")

        try:
            return run_notebook(
                source,
                self.folder,
                self.given[name],
                timeout_s=self.timeout_s,
                stop=self.stop,
                progress=show,
            )
        except NotebookFailed as failure:
            self.stop.set()
            self.failures.append(failure)
            seconds = round(time.monotonic() - started, 2)
            return NotebookRun(
                name, seconds, self.given[name], digest(source), failure.reason
            )
