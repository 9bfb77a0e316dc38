"""Grids of runs: every combination of the axes in a YAML file, each in its own process, resumable."""
from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm.auto import tqdm

from .errors import KitError
from .experiment import Config, open_dataset, preset, write_json


def read_grid(path: str | Path, out_dir: str | Path) -> list[Config]:
    """The configurations of a grid file: `preset`, `settings` {name: value}, `axes` {name: [values]} and `also`.

    `also` lists further cells that no axis gives, {name: value} each, once for every value of the axes it does not name.
    A run is named by its method, its seed and the values of the other axes. Unknown keys and settings raise `KitError`.
    """
    import yaml

    try:
        grid = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise KitError(f"The grid {path} cannot be read: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise KitError(f"The grid {path} is not valid YAML: {str(error).splitlines()[0]}.") from error
    if not isinstance(grid, dict) or not isinstance(grid.get("axes"), dict):
        raise KitError(f"The grid {path} needs an entry 'axes': a list of values for each setting that varies.")
    if unknown := set(grid) - {"preset", "settings", "axes", "also", "about"}:
        raise KitError(f"The grid {path} has unknown entries {sorted(unknown)}; it knows about, preset, settings, axes, also.")
    base = preset(grid.get("preset", "demo"), out_dir=str(out_dir)).replace(**grid.get("settings", {}))
    cells = []
    for extra in [{}, *grid.get("also", [])]:
        axes = {name: values for name, values in grid["axes"].items() if name not in extra}
        cells += [{**extra, **dict(zip(axes, values))} for values in itertools.product(*axes.values())]
    return [base.replace(**cell, run_name=_cell_name(base.replace(**cell), cell)) for cell in cells]


def _cell_name(config: Config, cell: dict) -> str:
    """The method and the seed, after the values of the other axes."""
    others = [f"{k}={v}" for k, v in cell.items() if k not in ("method", "seed")]
    return "-".join([*others, f"{config.method}-seed{config.seed}"])


def run_grid(configs: list[Config], *, jobs: int = 1, threads: int = 1, progress: bool = True) -> list[str]:
    """Train each configuration in its own process, `jobs` at a time with `threads` each; returns the names that failed.

    Finished runs are read, cut ones continued. The log of a run lies in its folder (train.log). Before the first run the
    data are rendered or checked once, so that the processes do not race for it, and the untrained encoder is measured.
    """
    if not configs:
        raise KitError("The grid has no cells: give each axis at least one value.")
    first = configs[0]
    dataset = open_dataset(first)
    if progress:
        print(dataset.summary())
    _measure_untrained(first, dataset)
    with ThreadPoolExecutor(jobs) as pool:
        done = list(tqdm(pool.map(lambda c: _run_cell(c, threads), configs), total=len(configs), desc="grid", unit="run",
                         disable=not progress))
    return [config.name for config, code in zip(configs, done) if code]


def _measure_untrained(config: Config, dataset) -> None:
    from .training import assess_untrained

    path = Path(config.out_dir) / "untrained.json"
    if not path.exists():
        write_json(path, {"run": "untrained", "settings": dataclasses.asdict(config), "history": [],
                          "data_fingerprint": dataset.fingerprint(), "final": assess_untrained(config, dataset)})


def _run_cell(config: Config, threads: int) -> int:
    """One process for one run; its settings travel as JSON on standard input."""
    config.run_dir.mkdir(parents=True, exist_ok=True)
    env = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads), NUMBA_NUM_THREADS=str(threads))
    with open(config.run_dir / "train.log", "a") as log:
        process = subprocess.run([sys.executable, "-m", "dkdmpl_kit", "train", "--config", "-", "--resume", "--quiet"],
                                 input=json.dumps(dataclasses.asdict(config)), text=True, stdout=log,
                                 stderr=subprocess.STDOUT, env=env, check=False)
    return process.returncode
