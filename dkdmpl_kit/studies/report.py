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
from dkdmpl_kit.experiment import check_record, read_record, write_atomic
from dkdmpl_kit.studies.files import is_inside, read_if_there, real
from dkdmpl_kit.studies.notebooks import read_records
from dkdmpl_kit.studies.report_runs import Picture, grid_states, run_groups
from dkdmpl_kit.studies.results import collect_runs
from dkdmpl_kit.studies.tables import flat, render, table, text_of

PNG = b"\x89PNG\r\n\x1a\n"  # how a PNG begins
LARGEST_PICTURE_MB = 64
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
    "rows"}, "figures": [paths below `out_dir`]}), the runs of any tree of folders
    (`results.collect_runs`), figures/*.png with a .json of the same name beside
    ("caption", and where it comes from) and notebooks/notebooks.json. Shares (mAP, ARI,
    outliers) are shown in percent. A damaged run, and a figure that lies elsewhere, are
    left out, and the page says so. KitError names a broken record of a notebook, or says
    that there is nothing to report.
    """
    out = Path(out_dir)
    found = [_notebook_record(path) for path in sorted(out.rglob("metrics.json"))]
    notebooks = sorted(found, key=lambda notebook: notebook.name)
    left_out: list[str] = []
    records = collect_runs(out, left_out)
    pictures = _pictures(out, notebooks, left_out)
    if left_out and not (notebooks or records or pictures):
        raise KitError(left_out[0])
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
        left_out=left_out,
        executed_notebooks=read_records(out / "notebooks" / "notebooks.json"),
        facts=facts,
        settings=settings,
    )
    return write_atomic(out / "report.html", page)


def _notebook_record(path: Path) -> NotebookRecord:
    entry = read_record(path, {})
    kinds = {"metrics": dict, "figures": list, "settings": dict, "environment": dict}
    check_record(entry, {name: kinds[name] for name in kinds if name in entry}, path)
    shown = entry.get("table") or {"columns": [], "rows": []}
    check_record(shown, {"columns": list, "rows": list}, f"{path} (its 'table')")
    columns = shown["columns"]
    rows = shown["rows"]
    if any(not isinstance(row, list) or len(row) != len(columns) for row in rows):
        raise KitError(
            f"{path} is not a notebook's record, or a row of its table is not as long "
            "as the columns."
        )
    return NotebookRecord(
        name=str(entry.get("notebook", path.parent.name)),
        folder=path.parent,
        metrics=entry.get("metrics", {}),
        table=table(columns, rows),
        figures=[str(name) for name in entry.get("figures", [])],
        origin=entry,
    )


def _pictures(
    out: Path, notebooks: Sequence[NotebookRecord], left_out: list[str]
) -> list[Picture]:
    """Pictures in the order of the notebooks that name them, then those of figures/
    that no notebook named; each once. A sentence for each that is left out.

    A record may come from anywhere, and name any file of this machine: only pictures
    that lie in the folder get into its page.
    """
    paths = []
    for notebook in notebooks:
        for name in notebook.figures:
            beside = notebook.folder / name
            paths.append(beside if is_inside(beside, out) and beside.exists() else out / name)
    paths += sorted(out.glob("figures/*.png"))
    once = {real(path): path for path in paths}
    pictures = []
    for path in once.values():
        if not is_inside(path, out):
            left_out.append(f"The figure {path} lies outside of {out}, so it is not shown.")
            continue
        try:
            pictures.append(_picture(path))
        except KitError as error:
            left_out.append(str(error))
    return pictures


def _picture(path: Path) -> Picture:
    if not path.exists():
        return Picture(None, str(path))
    if not path.is_file() or path.stat().st_size > LARGEST_PICTURE_MB << 20:
        raise KitError(
            f"The figure {path} is not a file of at most {LARGEST_PICTURE_MB} MB, so it is "
            "not shown."
        )
    if not path.read_bytes().startswith(PNG):
        raise KitError(f"The figure {path} is not a PNG, so it is not shown.")
    facts = dict(read_if_there(path.with_suffix(".json"), {}, {}))
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
