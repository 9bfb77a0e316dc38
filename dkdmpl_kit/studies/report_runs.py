"""The runs of a folder as a part of its page: for each set of pictures means, paired
differences, curves, every run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dkdmpl_kit.experiment import read_json
from dkdmpl_kit.studies.published import NAMES, published_rows, why_not_comparable
from dkdmpl_kit.studies.publishing import figures_of
from dkdmpl_kit.studies.results import (
    MEASURES,
    Row,
    Spread,
    baseline_of,
    by_data,
    by_row,
    differences,
    repeated,
    spread,
    spreads,
)
from dkdmpl_kit.studies.tables import TITLE, Html, cell_of, key_of, picture, table_of

POINTS = ("mAP", "rank1", "ari")  # measures whose differences are worth a column
CAPTIONS = {
    "result_bars": "mAP of the last epoch: the bar is the mean, a dot a seed; lines "
    "join runs of one seed",
    "training_curves": "Over the epochs: the mean over seeds, and their range",
    "paired_differences": "Differences of runs with the same seed, in mAP points",
}


def runs_section(records: Sequence[Mapping[str, Any]], out: Path) -> str:
    """HTML of all runs: the grids that made them, then a part for each set of pictures;
    "" where there are no runs.
    """
    if not records:
        return ""
    parts = "".join(
        f"<h3>{escape(label)}</h3>{_pictures(list(group), out)}"
        for label, group in by_data(list(records)).items()
    )
    return _grids(out) + parts


def _grids(out: Path) -> str:
    """What each grid below the folder was for, and which of its cells are missing."""
    text = ""
    for path in sorted(out.rglob("grid-*.json")):
        grid = read_json(path)
        folders = {name: path.parent / "runs" / name for name in grid["cells"]}
        missing = [
            name for name, folder in folders.items() if not (folder / "result.json").exists()
        ]
        text += (
            f"<p><b>{escape(path.stem.removeprefix('grid-'))}</b>: "
            f"{len(folders) - len(missing)} of {len(folders)} runs "
            f"are done. {escape(' '.join(str(grid.get('about', '')).split()))}</p>"
        )
        text += "".join(
            f'<p class="failed">{escape(name)}: {escape(_why_missing(folders[name]))}</p>'
            for name in missing
        )
    return text


def _why_missing(folder: Path) -> str:
    cell = (
        read_json(folder / "cell.json")
        if (folder / "cell.json").exists()
        else {"attempts": []}
    )
    tried = cell["attempts"][-1:]
    return str(tried[0]["error"] or "cut, or still running") if tried else "not run"


def _pictures(records: list[dict], out: Path) -> str:
    """The runs on one set of pictures; means over seeds only where seeds were repeated
    and no run contradicts another.
    """
    table = by_row(records)
    complaint = repeated(records)
    several = sum(map(len, table.values())) > len(table)
    text = f'<p class="failed">{escape(complaint)}</p>' if complaint else ""
    if several and not complaint:
        rows = [
            [row.label, len(runs), *(_spread(m, found.get(m)) for m in MEASURES)]
            for row, runs in table.items()
            for found in [spreads(runs.values())]
        ]
        text += (
            table_of(("method", "seeds", *MEASURES), rows)
            + "<p>Mean over the seeds, last epoch; ± is their standard "
            "deviation.</p>" + _paired(table)
        )
        text += "".join(_figure(name, figure) for name, figure in figures_of(records).items())
    text += _published(records)
    runs = _runs(records, out)
    return text + (
        f"<details><summary>Every run ({len(records)})</summary>{runs}</details>"
        if several
        else runs
    )


def _figure(name: str, figure: Any) -> str:
    from dkdmpl_kit.viz import figure_png

    kind, _, family = name.partition("-")
    return picture(
        figure_png(figure),
        CAPTIONS[kind] + (f" ({family.replace('-', ', ')})" if family else ""),
    )


def _spread(measure: str, found: Spread | None) -> Any:
    if found is None or found.deviation is None:
        return found and found.mean
    if measure == "n_clusters":
        return f"{found.mean:.0f} ± {found.deviation:.0f}"
    return f"{cell_of(measure, found.mean)} ± {cell_of(measure, found.deviation)}"


def _paired(table: Mapping[Row, Mapping[int, dict]]) -> str:
    """Each row against cluster contrast of the same seeds: mean difference and its 95 %
    interval, and mAP seed by seed.
    """
    rows = []
    for row, runs in table.items():
        base = baseline_of(row, table)
        found = {m: differences(runs, table[base], m) for m in POINTS} if base else {}
        if any(found.values()):
            by_seed = ", ".join(
                f"{seed}: {100 * value:+.1f}" for seed, value in found["mAP"].items()
            )
            seeds = max(map(len, found.values()))
            rows.append(
                [
                    row.label,
                    base.label,
                    seeds,
                    *(interval_text(found[m].values()) for m in POINTS),
                    by_seed or None,
                ]
            )
    if not rows:
        return ""
    columns = [
        "method",
        "minus",
        "pairs",
        *(f"{TITLE[key_of(m)]} points" for m in POINTS),
        "mAP points by seed",
    ]
    return (
        "<p>Differences to cluster contrast with the same seed, in percentage points: "
        "the mean, and its 95 % interval "
        "(Student's t) in brackets. An interval that holds 0 leaves open which is "
        "better.</p>" + table_of(columns, rows)
    )


def interval_text(values: Any) -> str | None:
    """ "+1.2 [−0.3, +2.7]" in percentage points from shares; without an interval for a
    single value, None for none.
    """
    if not (values := list(values)):
        return None
    found = spread(100 * value for value in values)
    if found.interval is None:
        return f"{found.mean:+.1f}"
    return f"{found.mean:+.1f} [{found.mean - found.interval:+.1f}, {found.mean + found.interval:+.1f}]"


def _published(records: Sequence[Mapping[str, Any]]) -> str:
    """Other people's figures in a place of their own, only where these pictures are the
    data set that they are about.
    """
    data = records[-1]["settings"].get("data", "synthetic")
    if data not in NAMES:
        return ""
    told = next((record for record in records if "data_name" in record), {})
    if reason := why_not_comparable(told.get("data_name", data), told.get("statistics")):
        return f'<div class="others"><p>{escape(reason)}</p></div>'
    columns = ("published method", "mAP in percent", "Rank-1 in percent", "source")
    return (
        f'<div class="others"><h3>Published by others on {NAMES[data]}</h3><p>Quoted '
        "from the sources named, not measured "
        "by this kit: ResNet-50, other code, other settings, without labels unless it "
        "says supervised. None of these is in "
        f"our tables and means.</p>{table_of(columns, published_rows(data))}</div>"
    )


def _runs(records: Sequence[Mapping[str, Any]], out: Path) -> str:
    """One row a run, with a link to its executed notebook."""
    rows = []
    for record in records:
        history = record.get("history") or []
        final = record["final"] or {}
        last = [
            final.get(
                m, next((r[m] for r in reversed(history) if r.get(m) is not None), None)
            )
            for m in MEASURES
        ]
        seconds = sum(sum((r.get("seconds") or {}).values()) for r in history)
        rows.append([_name(record, out), len(history), *last, round(seconds / 60, 1)])
    return (
        table_of(("run", "epochs", *MEASURES, "minutes"), rows)
        + "<p>Each quantity as it was last measured in the run.</p>"
    )


def _name(record: Mapping[str, Any], out: Path) -> str:
    where = record.get("where", "")
    name = where.replace("runs/", "", 1) if "/" in where else record["run"]
    page = f"{where}/one_run.html"
    return (
        Html(f'<a href="{quote(page)}">{escape(name)}</a>')
        if where and (out / page).exists()
        else name
    )
