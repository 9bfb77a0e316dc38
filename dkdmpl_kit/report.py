"""All results of a run as one page: `write_report`. It is self-contained, and a policy in it forbids every request."""
from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .errors import KitError
from .experiment import read_json, write_atomic
from .pages import POLICY
from .results import LABELS, MEASURES, Spread, by_method, collect_runs, summary

STYLE = """:root { color-scheme: light dark; --ink: #1c2024; --paper: #fff; --soft: #667; --line: #dde; --wash: #f5f6f8;
  --link: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --paper: #16181b; --soft: #9aa3ad; --line: #33383e;
  --wash: #1f2226; --link: #56b4e9; } }
body { margin: 0 auto; max-width: 64rem; padding: 2rem 1.25rem 4rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.8rem; margin: 0; } h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; } h3 { font-size: 1rem; }
a { color: var(--link); } nav a { margin-right: 1rem; } p, figcaption, small { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0 1rem; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th, tbody tr:hover { background: var(--wash); } th { white-space: nowrap; } summary { cursor: pointer; }
th:first-child, td:first-child, .text td { text-align: left; } .text td { overflow-wrap: anywhere; }
.failed { color: #d55e00; }
figure { margin: 1.2rem 0; } figure img { max-width: 100%; height: auto; background: #fff; padding: .5rem;
  border: 1px solid var(--line); border-radius: 6px; box-sizing: border-box; }"""
PERCENT = {"map": "mAP", "rank1": "Rank-1", "rank5": "Rank-5", "rank10": "Rank-10", "minp": "mINP", "ari": "ARI",
           "nmi": "NMI", "purity": "purity", "outlierfraction": "outliers", "outliers": "outliers"}
TITLE = {**PERCENT, "nclusters": "clusters"}
FIRST = ("preset", "seed", "data", "data_fingerprint", "fingerprint")


def write_report(out_dir: str | Path) -> Path:
    """Gather what notebooks and runs left under `out_dir` into `out_dir`/report.html; return its path.

    Reads **/metrics.json ({"notebook", "metrics", and optionally "table": {"columns", "rows"}, "figures": [paths]}),
    the runs (`results.collect_runs`), figures/*.png with a .json of the same name beside ("caption", and where it comes
    from) and notebooks/notebooks.json. Shares (mAP, ARI, outliers) are shown in percent.
    """
    out = Path(out_dir)
    metrics = sorted(map(_metrics, sorted(out.rglob("metrics.json"))), key=lambda entry: entry["notebook"])
    records = collect_runs(out)
    figures = _figures(out, metrics)
    if not (metrics or records or figures):
        raise KitError(f"There is nothing to report in {out} (metrics.json, runs, figures): run `dkdmpl demo` first.")
    sections = {"Results": _results(metrics), "Training runs": _runs(records),
                "Figures": "".join(map(_figure, figures)), "Notebooks": _notebooks(out),
                "Numbers by notebook": _numbers(metrics), "Provenance": _provenance([*records, *metrics])}
    sections = {title: text for title, text in sections.items() if text}
    links = "".join(f'<a href="#{title.split()[0].lower()}">{title}</a>' for title in sections)
    body = "".join(f'<h2 id="{title.split()[0].lower()}">{title}</h2>{text}' for title, text in sections.items())
    page = ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">' + POLICY
            + '<meta name="viewport" content="width=device-width"><title>dkdmpl_kit report</title>'
            f"<style>{STYLE}</style></head><body><h1>Report</h1><p>{escape(out.resolve().name)}: what the notebooks "
            f"and training runs of this folder measured.</p><nav>{links}</nav>{body}</body></html>\n")
    return write_atomic(out / "report.html", page)


def _metrics(path: Path) -> dict[str, Any]:
    entry = read_json(path)
    table = entry.get("table") or {"columns": [], "rows": []} if isinstance(entry, dict) else {}
    if not ("columns" in table and all(len(row) == len(table["columns"]) for row in table.get("rows", []))):
        raise KitError(f"{path} is not a notebook's record, or a row of its table is not as long as the columns.")
    return {"metrics": {}, "figures": [], **entry, "notebook": str(entry.get("notebook", path.parent.name)),
            "table": table, "folder": path.parent}


def _key(column: Any) -> str:
    return re.sub(r"[^a-z0-9]", "", str(column).lower())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _cell(column: Any, value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, float):
        return f"{100 * value:.1f}" if _key(column) in PERCENT and abs(value) <= 1 else f"{value:.4g}"
    return escape(_text(value))


def _table(columns: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    rows, head = list(rows), ""
    for k, column in enumerate(columns):
        percent = _key(column) in PERCENT and any(isinstance(row[k], float) or "±" in str(row[k]) for row in rows)
        head += f"<th>{escape(TITLE.get(_key(column), str(column)))}{' %' * percent}</th>"
    body = "".join(f"<tr>{''.join(f'<td>{_cell(c, v)}</td>' for c, v in zip(columns, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _pairs(values: Mapping[str, Any]) -> str:
    body = ""
    for key, value in values.items():
        unit = " %" * (_key(key) in PERCENT and isinstance(value, float))
        body += f"<tr><td>{escape(str(key))}{unit}</td><td>{_cell(key, value)}</td></tr>"
    return f'<div class="scroll"><table class="text"><tbody>{body}</tbody></table></div>'


def _results(metrics: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"<h3>{escape(entry['notebook'])}</h3>" + _table(entry["table"]["columns"], entry["table"]["rows"])
                   for entry in metrics if entry["table"]["rows"])


def _numbers(metrics: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"<details><summary>{escape(entry['notebook'])}</summary>{_pairs(entry['metrics'])}</details>"
                   for entry in metrics if entry["metrics"])


def _runs(records: Sequence[Mapping[str, Any]]) -> str:
    """Mean and deviation by method where there are several seeds, and one row a run."""
    rows, table = [], by_method(list(records))
    for record in records:
        history, final = record.get("history") or [], record["final"] or {}
        last = [final.get(m, next((r[m] for r in reversed(history) if r.get(m) is not None), None)) for m in MEASURES]
        seconds = sum(sum((r.get("seconds") or {}).values()) for r in history)
        rows.append([record["run"], len(history), *last, round(seconds / 60, 1)])
    methods = [[LABELS[method], len(table[method]), *(_spread(m, measured.get(m)) for m in MEASURES)]
               for method, measured in summary(list(records)).items()]
    # the mean is over seeds: two runs of one method and seed are no such table
    clear = sum(map(len, table.values())) == sum(record["final"] is not None for record in records) > len(table)
    several = _table(("method", "seeds", *MEASURES), methods) if clear else ""
    text = "<p>Each quantity as it was last measured in the run; ± is the standard deviation over seeds.</p>"
    return several + _table(("run", "epochs", *MEASURES, "minutes"), rows) + text if rows else ""


def _spread(measure: str, found: Spread | None) -> Any:
    if found is None or found.deviation is None:
        return found and found.mean
    return f"{_cell(measure, found.mean)} ± {_cell(measure, found.deviation)}"


def _figures(out: Path, metrics: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Pictures in the order of the notebooks that name them, then those of figures/ that none named."""
    named = [(entry["folder"] / name if (entry["folder"] / name).exists() else out / name)
             for entry in metrics for name in entry["figures"]]
    return list({path.resolve(): path for path in [*named, *sorted(out.glob("figures/*.png"))]}.values())


def _figure(path: Path) -> str:
    if not path.exists():
        return f'<p class="failed">Missing picture: {escape(str(path))}</p>'
    beside = path.with_suffix(".json")
    facts = dict(read_json(beside)) if beside.exists() else {}
    caption = escape(str(facts.pop("caption", path.stem.replace("_", " "))))
    origin = escape(" · ".join(f"{k}: {_text(v)}" for k, v in facts.items() if not isinstance(v, (dict, list))))
    data = base64.b64encode(path.read_bytes()).decode()
    return (f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}'
            f'{"<br>" * bool(origin)}<small>{origin}</small></figcaption></figure>')


def _notebooks(out: Path) -> str:
    path, lines = out / "notebooks" / "notebooks.json", ""
    for record in read_json(path) if path.exists() else []:
        name, failed = record["name"], record["error"] is not None
        links = " · ".join(f'<a href="notebooks/{quote(name)}{suffix}">{suffix[1:]}</a>'
                           for suffix in ((".failed.ipynb",) if failed else (".html", ".ipynb")))
        state = f'<span class="failed">{escape(record["error"])}</span>' if failed else f"{record['seconds']:.0f} s"
        lines += f"<tr><td>{escape(name)}</td><td>{links}</td><td>{state}</td></tr>"
    return f'<table class="text"><tbody>{lines}</tbody></table>' if lines else ""


def _flat(value: Mapping[str, Any]) -> dict[str, Any]:
    """{"a": 1, "b": {"c": 2}} -> {"a": 1, "c": 2}"""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item) if isinstance(item, Mapping) else {str(key): item}
    return flat


def _provenance(records: Sequence[Mapping[str, Any]]) -> str:
    """Environment and settings of all runs and notebooks: a value that differs between them lists all it was."""
    merged: dict[str, dict[str, list[str]]] = {"environment": {}, "settings": {}}
    for record in records:
        prints = {key: record[key] for key in ("data_fingerprint", "fingerprint") if key in record}
        for name, values in merged.items():
            for key, value in _flat({**(record.get(name) or {}), **(prints if name == "settings" else {})}).items():
                if _text(value) not in values.setdefault(key, []):
                    values[key].append(_text(value))
    environment, settings = ({key: ", ".join(v) for key, v in values.items()} for values in merged.values())
    facts = {key: settings.pop(key) for key in FIRST if key in settings}
    more = f"<details><summary>All settings</summary>{_pairs(settings)}</details>" if settings else ""
    return _pairs({**facts, **environment}) + more if facts or environment else ""
