"""The runs of a folder as parts of its page: for each set of pictures means, paired
differences, figures, what others published, and every run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from markupsafe import Markup

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import check_record, read_record
from dkdmpl_kit.studies.exhibits import figures_of
from dkdmpl_kit.studies.files import read_if_there
from dkdmpl_kit.studies.literature import DATA_SETS, published_on, why_not_comparable
from dkdmpl_kit.studies.results import (
    MEASURES,
    Row,
    Spread,
    baseline_of,
    by_data,
    by_row,
    contradiction,
    differences,
    interval_text,
    spreads,
)
from dkdmpl_kit.studies.tables import cell_text, table, title_of

PAIRED = ("mAP", "rank1", "ari")  # measures whose differences are worth a column
CAPTIONS = {
    "result_bars": "mAP of the last epoch: the bar is the mean, a dot a seed; lines "
    "join runs of one seed",
    "training_curves": "Over the epochs: the mean over seeds, and their range",
    "distillation": "What the distillations add to cluster contrast: the cosine of their "
    "gradients with its own, and where the teacher's mass lies",
    "paired_differences": "Differences of runs with the same seed, in mAP points",
}


@dataclass(frozen=True)
class Picture:
    """A PNG in the page itself, with its caption and where it comes from; `png` None: the
    picture is missing, and the caption is its path.
    """

    png: bytes | None
    caption: str
    origin: str = ""


@dataclass(frozen=True)
class GridState:
    """What a grid below the folder was for, and which of its cells have no result,
    {name: why}.
    """

    name: str
    about: str
    n_cells: int
    missing: Mapping[str, str]

    @property
    def n_done(self) -> int:
        """How many cells have their result."""
        return self.n_cells - len(self.missing)


@dataclass(frozen=True)
class Beside:
    """What others published on the data set of some runs, or the reason why it does not
    belong beside them.
    """

    data: str
    results: pd.DataFrame | None = None
    reason: str | None = None


@dataclass(frozen=True)
class RunGroup:
    """The runs on one set of pictures, as the page shows them.

    several: some row has more than one seed. means, differences and pictures exist only
    then, and only where no run contradicts another (`complaint`). no_pictures: why
    figures could not be drawn.
    """

    label: str
    several: bool
    complaint: str | None
    runs: pd.DataFrame
    means: pd.DataFrame | None = None
    differences: pd.DataFrame | None = None
    pictures: Sequence[Picture] = field(default=())
    no_pictures: str = ""
    literature: Beside | None = None


def grid_states(out: Path) -> list[GridState]:
    """The state of each grid whose plan (grid-*.json) lies at or below `out`."""
    states = []
    for path in sorted(out.rglob("grid-*.json")):
        plan = read_record(path, {"cells": list})
        missing = {}
        for name in map(str, plan["cells"]):
            folder = path.parent / "runs" / name
            if not (folder / "result.json").exists():
                missing[name] = _why_missing(folder)
        about = " ".join(str(plan.get("about", "")).split())
        name = path.stem.removeprefix("grid-")
        states.append(GridState(name, about, len(plan["cells"]), missing))
    return states


def _why_missing(folder: Path) -> str:
    path = folder / "cell.json"
    try:
        attempts = read_if_there(path, {"attempts": []}, {"attempts": list})["attempts"]
        if not attempts:
            return "not run"
        last = check_record(attempts[-1], {"error": (str, type(None))}, path)
    except KitError as error:
        return str(error)
    return last["error"] or "cut, or still running"


def run_groups(records: Sequence[dict], out: Path) -> list[RunGroup]:
    """The runs of each set of pictures; links to executed notebooks start at `out`."""
    return [_group(label, group, out) for label, group in by_data(records).items()]


def _group(label: str, records: Sequence[dict], out: Path) -> RunGroup:
    rows = by_row(records)
    several = any(len(runs) > 1 for runs in rows.values())
    complaint = contradiction(records)
    shown: dict[str, Any] = {"literature": _beside(records)}
    if several and not complaint:
        shown |= {"means": _means(rows), "differences": _paired(rows)}
        try:
            shown["pictures"] = _drawn(records)
        except KitError as error:  # the core install has no matplotlib
            shown["no_pictures"] = str(error)
    return RunGroup(label, several, complaint, _every_run(records, out), **shown)


def _drawn(records: Sequence[dict]) -> list[Picture]:
    figures = figures_of(records)
    from dkdmpl_kit.viz import figure_png

    pictures = []
    for name, figure in figures.items():
        kind, _, family = name.partition("-")
        which = f" ({family.replace('-', ', ')})" if family else ""
        pictures.append(Picture(figure_png(figure), CAPTIONS[kind] + which))
    return pictures


def _means(rows: Mapping[Row, dict[int, dict]]) -> pd.DataFrame:
    """Mean and deviation over the seeds, a line a row and a column a measure."""
    lines = []
    for row, runs in rows.items():
        found = spreads(runs)
        texts = [_mean_text(measure, found.get(measure)) for measure in MEASURES]
        lines.append([row.label, len(runs), *texts])
    return table(["method", "seeds", *MEASURES], lines)


def _mean_text(measure: str, found: Spread | None) -> Any:
    if found is None:
        return None
    if found.deviation is None:
        return found.mean
    if measure == "n_clusters":
        return f"{found.mean:.0f} ± {found.deviation:.0f}"
    return f"{cell_text(found.mean, measure)} ± {cell_text(found.deviation, measure)}"


def _paired(rows: Mapping[Row, dict[int, dict]]) -> pd.DataFrame:
    """Each row against cluster contrast of the same seeds: mean difference and its 95 %
    interval, and mAP seed by seed.
    """
    lines = []
    for row, runs in rows.items():
        base = baseline_of(row, rows)
        if base is None:
            continue
        found = {measure: differences(runs, rows[base], measure) for measure in PAIRED}
        pairs = max(len(by_seed) for by_seed in found.values())
        if pairs == 0:
            continue
        intervals = [interval_text(by_seed.values()) for by_seed in found.values()]
        each = [f"{seed}: {100 * change:+.1f}" for seed, change in found["mAP"].items()]
        lines.append([row.label, base.label, pairs, *intervals, ", ".join(each) or None])
    points = [f"{title_of(measure)} points" for measure in PAIRED]
    return table(["method", "minus", "pairs", *points, "mAP points by seed"], lines)


def _beside(records: Sequence[Mapping[str, Any]]) -> Beside | None:
    """Results that others published, only where these pictures are the data set that
    they are about; None for data without such results.
    """
    data = records[-1]["settings"].get("data", "synthetic")
    if data not in DATA_SETS:
        return None
    told = next((record for record in records if "data_name" in record), {})
    reason = why_not_comparable(told.get("data_name", data), told.get("statistics"))
    if reason:
        return Beside(DATA_SETS[data], reason=reason)
    return Beside(DATA_SETS[data], published_on(data))


def _every_run(records: Sequence[Mapping[str, Any]], out: Path) -> pd.DataFrame:
    """One line a run, with a link to its executed notebook."""
    lines = []
    for record in records:
        history = record.get("history") or []
        measures = [_last_measured(record, history, measure) for measure in MEASURES]
        seconds = sum(sum((epoch.get("seconds") or {}).values()) for epoch in history)
        lines.append([_name(record, out), len(history), *measures, round(seconds / 60, 1)])
    return table(["run", "epochs", *MEASURES, "minutes"], lines)


def _last_measured(
    record: Mapping[str, Any], history: Sequence[Mapping], measure: str
) -> Any:
    final = record["final"] or {}
    if measure in final:
        return final[measure]
    measured = [e[measure] for e in history if e.get(measure) is not None]
    return measured[-1] if measured else None


def _name(record: Mapping[str, Any], out: Path) -> str:
    where = record.get("where", "")
    name = where.replace("runs/", "", 1) if "/" in where else record["run"]
    page = f"{where}/one_run.html"
    if where and (out / page).exists():
        return Markup('<a href="{}">{}</a>').format(quote(page), name)
    return name
