"""All results of a folder as one page: `write_report`. It is self-contained, and a
policy in it forbids every request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import read_json, write_atomic
from dkdmpl_kit.studies.report_runs import runs_section
from dkdmpl_kit.studies.results import collect_runs
from dkdmpl_kit.studies.tables import flat, page, pairs_of, picture, table_of, text_of

FIRST = ("preset", "seed", "data", "data_fingerprint", "fingerprint")


def write_report(out_dir: str | Path) -> Path:
    """Gather what notebooks and runs left under `out_dir` into `out_dir`/report.html;
    return its path.

    Reads **/metrics.json ({"notebook", "metrics", and optionally "table": {"columns",
    "rows"}, "figures": [paths]}), the runs of any tree of folders
    (`results.collect_runs`), figures/*.png with a .json of the same name beside
    ("caption", and where it comes from) and notebooks/notebooks.json. Shares (mAP, ARI,
    outliers) are shown in percent.
    """
    out = Path(out_dir)
    metrics = sorted(
        map(_metrics, sorted(out.rglob("metrics.json"))), key=lambda entry: entry["notebook"]
    )
    records = collect_runs(out)
    figures = _figures(out, metrics)
    if not (metrics or records or figures):
        raise KitError(
            f"There is nothing to report in {out} (metrics.json, runs, figures): run "
            "`dkdmpl demo` first."
        )
    lead = (
        f"{out.resolve().name}: what the notebooks and training runs of this folder measured."
    )
    return write_atomic(
        out / "report.html",
        page(
            "Report",
            lead,
            {
                "Results": _results(metrics),
                "Training runs": runs_section(records, out),
                "Figures": "".join(map(_figure, figures)),
                "Notebooks": _notebooks(out),
                "Numbers by notebook": _numbers(metrics),
                "Provenance": _provenance([*records, *metrics]),
            },
        ),
    )


def _metrics(path: Path) -> dict[str, Any]:
    entry = read_json(path)
    table = (
        entry.get("table") or {"columns": [], "rows": []} if isinstance(entry, dict) else {}
    )
    if not (
        "columns" in table
        and all(len(row) == len(table["columns"]) for row in table.get("rows", []))
    ):
        raise KitError(
            f"{path} is not a notebook's record, or a row of its table is not as long "
            "as the columns."
        )
    return {
        "metrics": {},
        "figures": [],
        **entry,
        "notebook": str(entry.get("notebook", path.parent.name)),
        "table": table,
        "folder": path.parent,
    }


def _results(metrics: Sequence[Mapping[str, Any]]) -> str:
    return "".join(
        f"<h3>{escape(entry['notebook'])}</h3>"
        + table_of(entry["table"]["columns"], entry["table"]["rows"])
        for entry in metrics
        if entry["table"]["rows"]
    )


def _numbers(metrics: Sequence[Mapping[str, Any]]) -> str:
    return "".join(
        f"<details><summary>{escape(entry['notebook'])}</summary>{pairs_of(entry['metrics'])}</details>"
        for entry in metrics
        if entry["metrics"]
    )


def _figures(out: Path, metrics: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Pictures in the order of the notebooks that name them, then those of figures/
    that none named.
    """
    named = [
        (entry["folder"] / name if (entry["folder"] / name).exists() else out / name)
        for entry in metrics
        for name in entry["figures"]
    ]
    return list(
        {
            path.resolve(): path for path in [*named, *sorted(out.glob("figures/*.png"))]
        }.values()
    )


def _figure(path: Path) -> str:
    if not path.exists():
        return f'<p class="failed">Missing picture: {escape(str(path))}</p>'
    beside = path.with_suffix(".json")
    facts = dict(read_json(beside)) if beside.exists() else {}
    caption = str(facts.pop("caption", path.stem.replace("_", " ")))
    origin = " · ".join(
        f"{k}: {text_of(v)}" for k, v in facts.items() if not isinstance(v, (dict, list))
    )
    return picture(path.read_bytes(), caption, origin)


def _notebooks(out: Path) -> str:
    path = out / "notebooks" / "notebooks.json"
    lines = ""
    for record in read_json(path) if path.exists() else []:
        name = record["name"]
        failed = record["error"] is not None
        links = " · ".join(
            f'<a href="notebooks/{quote(name)}{suffix}">{suffix[1:]}</a>'
            for suffix in ((".failed.ipynb",) if failed else (".html", ".ipynb"))
        )
        state = (
            f'<span class="failed">{escape(record["error"])}</span>'
            if failed
            else f"{record['seconds']:.0f} s"
        )
        lines += f"<tr><td>{escape(name)}</td><td>{links}</td><td>{state}</td></tr>"
    return f'<table class="text"><tbody>{lines}</tbody></table>' if lines else ""


def _provenance(records: Sequence[Mapping[str, Any]]) -> str:
    """Environment and settings of all runs and notebooks: a value that differs between
    them lists all it was.
    """
    merged: dict[str, dict[str, list[str]]] = {"environment": {}, "settings": {}}
    for record in records:
        prints = {
            key: record[key] for key in ("data_fingerprint", "fingerprint") if key in record
        }
        for name, values in merged.items():
            for key, value in flat(
                {**(record.get(name) or {}), **(prints if name == "settings" else {})}
            ).items():
                if value not in (None, [], {}) and text_of(value) not in values.setdefault(
                    key, []
                ):
                    values[key].append(text_of(value))
    environment, settings = (
        {key: ", ".join(v) for key, v in values.items()} for values in merged.values()
    )
    facts = {key: settings.pop(key) for key in FIRST if key in settings}
    more = (
        f"<details><summary>All settings</summary>{pairs_of(settings)}</details>"
        if settings
        else ""
    )
    return pairs_of({**facts, **environment}) + more if facts or environment else ""
