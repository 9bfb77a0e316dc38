"""Grids of runs: every combination of the axes in a YAML file, each cell in its own
process, resumable.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm.auto import tqdm

from dkdmpl_kit.data import ReIDDataset
from dkdmpl_kit.errors import KitError, check_option
from dkdmpl_kit.experiment import (
    PICTURES,
    Config,
    open_dataset,
    preset,
    read_text,
    write_json,
)
from dkdmpl_kit.studies.grid_cell import CellOutcome, is_done, run_cell
from dkdmpl_kit.studies.notebooks import notebook_tool

ENTRIES = ("about", "preset", "settings", "axes", "also")  # of a grid file
OWN = ("out_dir", "run_name")  # settings that a grid gives its cells itself
LARGEST_FILE = 1_000_000  # letters of a grid file
LARGEST_DOCUMENT = 100_000  # entries of one, aliases written out
MOST_CELLS = 10_000
NOT_SETTINGS = ("name", "preset", "settings")  # entries of a group that are no settings
EXECUTORS = {  # submitit's names of clusters; "local" does without submitit
    "local": None,
    "slurm": "slurm",
    "auto": None,
    "local-submitit": "local",
}


def load_grid(path: str | Path) -> dict:
    """A grid file as written. KitError where it cannot be read, has no axes or unknown
    entries.
    """
    import yaml

    try:
        text = read_text(path)
    except FileNotFoundError as error:
        raise KitError(f"The grid {path} cannot be read: {error.strerror}.") from error
    if len(text) > LARGEST_FILE:
        raise KitError(
            f"The grid {path} has {len(text):,} letters, more than {LARGEST_FILE:,}: is it "
            "the right file?"
        )
    try:
        grid = _loaded(text, path)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, KitError):
            raise
        lines = str(error).splitlines() or [type(error).__name__]
        raise KitError(f"The grid {path} is not valid YAML: {lines[0]}.") from error
    axes = grid.get("axes") if isinstance(grid, dict) else None
    lists = isinstance(axes, dict) and all(isinstance(v, list) for v in axes.values())
    if not lists:
        raise KitError(
            f"The grid {path} needs an entry 'axes': a list of values for each setting "
            "that varies."
        )
    unknown = sorted(map(str, set(grid) - set(ENTRIES)))
    if unknown:
        raise KitError(
            f"The grid {path} has unknown entries {unknown}; it knows {', '.join(ENTRIES)}."
        )
    for name, kind in (("settings", dict), ("also", list)):
        if not isinstance(grid.get(name, kind()), kind):
            raise KitError(
                f"The grid {path} needs a {kind.__name__} as its entry {name!r}, not "
                f"{grid[name]!r}."
            )
    if not all(isinstance(cell, dict) for cell in grid.get("also", [])):
        raise KitError(f"The grid {path} needs {{setting: value}} for each cell of 'also'.")
    _check_places(path, grid)
    return grid


def _loaded(text: str, path: str | Path) -> object:
    """The document, if its aliases (*name) do not make it larger than `LARGEST_DOCUMENT`
    entries: a few lines of them can stand for more than any memory holds.
    """
    import yaml

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _entries(node, {}) > LARGEST_DOCUMENT:
            raise KitError(
                f"The grid {path} has more than {LARGEST_DOCUMENT:,} entries with its "
                "aliases (*name) written out: write what it needs without them."
            )
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _entries(node, known: dict[int, float]) -> float:
    """How many entries a YAML node has with its aliases written out; infinite where one
    holds itself.
    """
    if id(node) not in known:
        known[id(node)] = math.inf  # until it is counted: it holds itself
        children = node.value if isinstance(node.value, list) else []
        flat = [item for child in children for item in _pair(child)]
        known[id(node)] = 1 + sum(_entries(child, known) for child in flat)
    return known[id(node)]


def _pair(child) -> tuple:
    return child if isinstance(child, tuple) else (child,)


def _check_places(path: str | Path, grid: dict) -> None:
    """KitError where a grid file says where its runs lie, which is --out's to say."""
    groups = [
        value
        for values in (*grid["axes"].values(), grid.get("also", []))
        for value in values
        if isinstance(value, dict)
    ]
    inner = [group.get("settings", {}) for group in groups]
    for settings in (grid.get("settings", {}), grid["axes"], *groups, *inner):
        if not isinstance(settings, dict):
            raise KitError(f"The grid {path} has settings {settings!r}: {{name: value}}.")
        if nameless := [name for name in settings if not isinstance(name, str)]:
            raise KitError(f"The grid {path} has {nameless[0]!r} as the name of a setting.")
        found = sorted(set(OWN) & set(settings))
        if found:
            raise KitError(
                f"The grid {path} sets {found[0]}, but where runs lie is said by --out, and "
                "their names follow from the cells: take it out."
            )


def read_grid(
    path: str | Path, out_dir: str | Path, changes: Mapping[str, object] | None = None
) -> list[Config]:
    """The configurations of a grid file: `preset`, `settings` {name: value}, `axes`
    {name: [values]} and `also`.

    A value of an axis may be a group of settings, {name, preset, settings, and any
    setting}: so an axis `data` holds data sets, and any other name of an axis
    (`recipe`, say) whatever belongs together. `also` lists further cells that no axis
    gives, {name: value} each, once for every value of the axes it does not name.
    `${NAME}` in a data_root or table is the environment's. A run is named by its method, its
    seed and the values of the other axes. `changes` are settings that win over all of
    the file. KitError for unknown keys and settings, and for two cells of one name.
    """
    grid = load_grid(path)
    taken = sorted(set(OWN) & set(changes or {}))
    if taken:
        raise KitError(
            f"{taken[0]} cannot be set for every cell: --out says where the runs lie."
        )
    count = sum(
        math.prod(len(v) for name, v in grid["axes"].items() if name not in extra)
        for extra in [{}, *grid.get("also", [])]
    )
    if count > MOST_CELLS:
        raise KitError(
            f"The grid {path} has {count:,} cells, more than {MOST_CELLS:,}: each is a run "
            "of its own, so give its axes fewer values."
        )
    configs = []
    for extra in [{}, *grid.get("also", [])]:
        axes = {name: values for name, values in grid["axes"].items() if name not in extra}
        for values in itertools.product(*axes.values()):
            cell = extra | dict(zip(axes, values))
            configs.append(_config(grid, cell, out_dir, changes or {}))
    uses = Counter(config.name for config in configs)
    repeated = [name for name, n in uses.items() if n > 1]
    if repeated:
        others = "" if len(repeated) == 1 else "and others "
        raise KitError(
            f"The grid {path} has the cell {repeated[0]} {others}twice: give each cell "
            "once, and groups of settings different names."
        )
    return configs


def write_plan(path: str | Path, configs: Sequence[Config]) -> Path:
    """Write beside the runs what the grid file is for and which cells it has: the page
    then tells which are missing.
    """
    plan = {
        "about": load_grid(path).get("about", ""),
        "cells": [config.name for config in configs],
    }
    return write_json(Path(configs[0].out_dir) / f"grid-{Path(path).stem}.json", plan)


def _config(
    grid: dict, cell: dict, out_dir: str | Path, changes: Mapping[str, object]
) -> Config:
    """One cell: the preset, then the grid's settings, then those of groups, then single
    values, then `changes`.
    """
    groups = {axis: value for axis, value in cell.items() if isinstance(value, dict)}
    single = {axis: value for axis, value in cell.items() if axis not in groups}
    presets = [group["preset"] for group in groups.values() if "preset" in group]
    start = str(presets[-1] if presets else grid.get("preset", "demo"))
    config = preset(start, out_dir=str(Path(out_dir).resolve()))
    config = config.replace(**grid.get("settings", {}))
    for axis, group in groups.items():
        if "name" not in group:
            raise KitError(
                f"A group of settings on the axis {axis!r} needs a name: "
                "{name: ..., setting: value}."
            )
        own = {name: value for name, value in group.items() if name not in NOT_SETTINGS}
        config = config.replace(**group.get("settings", {}) | own)
    config = config.replace(**single).replace(**changes)
    names = []
    for axis, value in cell.items():
        if axis not in ("method", "seed"):
            names.append(str(value["name"]) if axis in groups else f"{axis}={value}")
    name = "-".join([*names, f"{config.method}-seed{config.seed}"])
    return config.replace(
        run_name=re.sub(r"[^\w=.,+-]", "_", name),
        data_root=_root(config.data_root),
        table=_root(config.table),
        corrections=_root(config.corrections),
    )


def _root(text: str) -> str:
    """An absolute folder, as cells run elsewhere; one whose variable is not set stays
    as it is (`_open` says so).
    """
    text = os.path.expandvars(text)
    if not text or "$" in text:
        return text
    return str(Path(text).expanduser().resolve())


def run_grid(
    configs: Sequence[Config],
    *,
    jobs: int = 1,
    threads: int = 1,
    retries: int = 1,
    executor: str = "local",
    options: Mapping[str, object] | None = None,
    allow_withdrawn: bool = False,
    notebook: Path | None = None,
    progress: bool = True,
) -> dict[str, str]:
    """Run each cell in its own process, `jobs` at a time with `threads` each; {name:
    why} of those without a result.

    Finished cells are left alone, cut ones continued, one that died is tried `retries`
    times more (bad input is not). Several `run_grid` on one folder share the work: no
    cell runs twice. Before the first run the data are rendered or opened once, and the
    untrained encoder is measured. `executor`: "local", or submitit's "slurm", "auto" or
    "local-submitit", with `options` for its update_parameters (slurm_partition,
    timeout_min, gpus_per_node ...). `notebook` replaces notebooks/cell/one_run. Ctrl-C
    ends the cells after their last whole epoch. KitError: no cells, an unknown executor,
    a package that is missing, or pictures that are missing for all cells.
    """
    if not configs:
        raise KitError("The grid has no cells: give each axis at least one value.")
    check_option("executor", executor, EXECUTORS)
    pending = [config for config in configs if not is_done(config)]
    if pending:
        notebook_tool("papermill")  # says what to install before anything is rendered
    stop = threading.Event()
    folder = Path(configs[0].out_dir) / "submitit"
    call = _caller(executor, {"cpus_per_task": threads, **(options or {})}, folder, stop)
    failed = _prepare(pending, configs, call, allow_withdrawn, progress)
    cell = functools.partial(
        call, run_cell, threads=threads, allow_withdrawn=allow_withdrawn, notebook=notebook
    )
    work = [config for config in configs if config.name not in failed]
    bar = tqdm(total=len(work), desc="grid", unit="run", disable=not progress)

    def run(config: Config, wait: bool) -> CellOutcome:
        outcome = _try_cell(cell, config, wait, retries, stop)
        bar.update(outcome.state != "busy")
        return outcome

    pool = ThreadPoolExecutor(max(1, jobs))
    try:
        for wait in (False, True):  # first what is free, then what another process had
            outcomes = list(pool.map(run, work, itertools.repeat(wait)))
            for config, outcome in zip(work, outcomes):
                if outcome.state == "failed":
                    failed[config.name] = outcome.reason
            work = [c for c, outcome in zip(work, outcomes) if outcome.state == "busy"]
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        bar.close()
    return {config.name: failed[config.name] for config in configs if config.name in failed}


def _try_cell(
    cell: Callable, config: Config, wait: bool, retries: int, stop: threading.Event
) -> CellOutcome:
    """Run a cell, and again a second later when it died; not after bad input."""
    outcome = cell(config, wait=wait)
    for _ in range(retries):
        if outcome.state != "failed" or outcome.reason.startswith("KitError"):
            break
        if stop.wait(1):
            break
        outcome = cell(config, wait=wait)
    return outcome


def _prepare(
    pending: Sequence[Config],
    configs: Sequence[Config],
    call: Callable,
    allow_withdrawn: bool,
    progress: bool,
) -> dict[str, str]:
    """Open every data set and measure the untrained encoder on it; {name: why} of the
    cells whose pictures are missing.
    """
    failed = {}
    several = len({_data_of(config) for config in configs}) > 1
    by_data: dict[tuple, list[Config]] = {}
    for config in pending:
        by_data.setdefault(_data_of(config), []).append(config)
    for cells in by_data.values():
        first = cells[0]
        try:
            dataset = _open(first, allow_withdrawn)
            if progress:
                print(dataset.summary())
            suffix = f"-{dataset.fingerprint()[:8]}" if several else ""
            path = Path(first.out_dir) / f"untrained{suffix}.json"
            if not path.exists():
                call(measure_untrained, first, path, allow_withdrawn=allow_withdrawn)
        except KitError as error:
            failed |= {config.name: str(error) for config in cells}
    if pending and len(failed) == len(configs):
        raise KitError(next(iter(failed.values())))
    return failed


def _data_of(config: Config) -> tuple:
    return tuple(getattr(config, name) for name in PICTURES)


def _open(config: Config, allow_withdrawn: bool) -> ReIDDataset:
    for name in ("data_root", "table"):
        place = getattr(config, name)
        unset = re.search(r"\$\{?(\w+)", place)
        if unset:
            raise KitError(
                f"{name}={place!r} (data={config.data}) is not known here: "
                f"export {unset[1]}=/its/{'file' if name == 'table' else 'folder'}, or leave "
                "it out."
            )
    return open_dataset(config, allow_withdrawn=allow_withdrawn)


def measure_untrained(
    config: Config,
    path: Path,
    *,
    allow_withdrawn: bool = False,
    stop: threading.Event | None = None,
) -> None:
    """Write the row of the untrained encoder: its measures on the data of `config`, as
    a record of a run.
    """
    from dkdmpl_kit.training import assess_untrained

    dataset = _open(config, allow_withdrawn)
    write_json(
        path,
        {
            "run": "untrained",
            "settings": dataclasses.asdict(config),
            "history": [],
            "data_fingerprint": dataset.fingerprint(),
            "statistics": dataset.statistics(),
            "final": assess_untrained(config, dataset),
        },
    )


def _caller(
    executor: str, options: Mapping[str, object], folder: Path, stop: threading.Event
) -> Callable:
    """call(function, *args, **kwargs): run it here, or as a job of submitit and wait; a
    job that dies is a `CellOutcome`.
    """
    if executor == "local":
        return lambda function, *args, **kwargs: function(*args, stop=stop, **kwargs)
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise KitError(
            f"--executor {executor} needs the package submitit: pip install 'dkdmpl-kit[runs]'."
        ) from error
    try:
        jobs = submitit.AutoExecutor(folder, cluster=EXECUTORS[executor])
        jobs.update_parameters(**{"timeout_min": 24 * 60, **options})
    except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
        raise KitError(
            f"submitit does not take this executor and its options: {' '.join(str(error).split())}"
        ) from error
    lock = threading.Lock()

    def call(function: Callable, *args: object, **kwargs: object) -> object:
        with lock:
            job = jobs.submit(function, *args, **kwargs)
        while not job.done():
            if stop.wait(0.5):
                job.cancel()
                return CellOutcome("stopped", "stopped")
        try:
            return job.result()
        except KitError:
            raise
        except Exception as error:  # the job's own, or submitit's: killed, out of time
            lines = str(error).strip().splitlines()
            reason = f"{type(error).__name__}: {lines[-1] if lines else ''}"
            return CellOutcome("failed", reason)

    return call
