"""All results of a folder as one page: `write_report`. The page is self-contained, and
a policy in it forbids every request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import read_json, write_atomic
from dkdmpl_kit.studies.files import read_if_there
from dkdmpl_kit.studies.report_runs import Picture, grid_states, run_groups
from dkdmpl_kit.studies.results import collect_runs
from dkdmpl_kit.studies.tables import flat, render, table, text_of

FIRST = ("preset", "seed", "data", "data_fingerprint", "fingerprint")  # above the others


@dataclass(frozen=True)
class NotebookRecord:
    """What a notebook wrote to metrics.json in `folder`: its numbers {name: value}, a
    table, and the names of its pictures.
    """

    name: str
    folder: Path
    metrics: Mapping[str, Any]
    table: pd.DataFrame
    figures: Sequence[str]
    origin: Mapping[str, Any]  # "environment", "settings" and fingerprints, if it says so


def write_report(out_dir: str | Path) -> Path:
    """Gather what notebooks and runs left under `out_dir` into `out_dir`/report.html;
    return its path.

    Reads **/metrics.json ({"notebook", "metrics", and optionally "table": {"columns",
    "rows"}, "figures": [paths]}), the runs of any tree of folders
    (`results.collect_runs`), figures/*.png with a .json of the same name beside
    ("caption", and where it comes from) and notebooks/notebooks.json. Shares (mAP, ARI,
    outliers) are shown in percent. KitError names a broken file, or says that there is
    nothing to report.
    """
    out = Path(out_dir)
    found = [_notebook_record(path) for path in sorted(out.rglob("metrics.json"))]
    notebooks = sorted(found, key=lambda notebook: notebook.name)
    records = collect_runs(out)
    pictures = _pictures(out, notebooks)
    if not (notebooks or records or pictures):
        raise KitError(
            f"There is nothing to report in {out} (metrics.json, runs, figures): run "
            "`dkdmpl demo` first."
        )
    facts, settings = _provenance([*records, *(notebook.origin for notebook in notebooks)])
    page = render(
        "report.html.j2",
        folder=out.resolve().name,
        notebooks=notebooks,
        grids=grid_states(out) if records else [],
        groups=run_groups(records, out),
        pictures=pictures,
        executed_notebooks=read_if_there(out / "notebooks" / "notebooks.json", []),
        facts=facts,
        settings=settings,
    )
    return write_atomic(out / "report.html", page)


def _notebook_record(path: Path) -> NotebookRecord:
    entry = read_json(path)
    shown = {}
    if isinstance(entry, dict):
        shown = entry.get("table") or {"columns": [], "rows": []}
    columns = shown.get("columns")
    rows = shown.get("rows", [])
    if columns is None or any(len(row) != len(columns) for row in rows):
        raise KitError(
            f"{path} is not a notebook's record, or a row of its table is not as long "
            "as the columns."
        )
    return NotebookRecord(
        name=str(entry.get("notebook", path.parent.name)),
        folder=path.parent,
        metrics=entry.get("metrics", {}),
        table=table(columns, rows),
        figures=entry.get("figures", []),
        origin=entry,
    )


def _pictures(out: Path, notebooks: Sequence[NotebookRecord]) -> list[Picture]:
    """Pictures in the order of the notebooks that name them, then those of figures/
    that no notebook named; each once.
    """
    paths = []
    for notebook in notebooks:
        for name in notebook.figures:
            beside = notebook.folder / name
            paths.append(beside if beside.exists() else out / name)
    paths += sorted(out.glob("figures/*.png"))
    once = {path.resolve(): path for path in paths}
    return [_picture(path) for path in once.values()]


def _picture(path: Path) -> Picture:
    if not path.exists():
        return Picture(None, str(path))
    facts = dict(read_if_there(path.with_suffix(".json"), {}))
    caption = str(facts.pop("caption", path.stem.replace("_", " ")))
    origin = [
        f"{name}: {text_of(value)}"
        for name, value in facts.items()
        if not isinstance(value, (dict, list))
    ]
    return Picture(path.read_bytes(), caption, " · ".join(origin))


def _provenance(
    records: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, str], dict[str, str]]:
    """(facts that matter most and environment, other settings) of all runs and
    notebooks: a value that differs between them lists all it was.
    """
    settings: dict[str, dict[str, None]] = {}
    environment: dict[str, dict[str, None]] = {}
    for record in records:
        prints = {
            name: record[name]
            for name in ("data_fingerprint", "fingerprint")
            if name in record
        }
        _add(settings, flat({**(record.get("settings") or {}), **prints}))
        _add(environment, flat(record.get("environment") or {}))
    values = {name: ", ".join(seen) for name, seen in settings.items()}
    facts = {name: values.pop(name) for name in FIRST if name in values}
    facts |= {name: ", ".join(seen) for name, seen in environment.items()}
    return facts, values


def _add(seen: dict[str, dict[str, None]], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if value not in (None, [], {}):
            seen.setdefault(name, {})[text_of(value)] = None
