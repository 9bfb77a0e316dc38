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

STYLE = """:root { color-scheme: light dark; --ink: #1c2024; --paper: #fff; --soft: #667; --line: #dde; --wash: #f5f6f8;
  --link: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --paper: #16181b; --soft: #9aa3ad; --line: #33383e;
  --wash: #1f2226; --link: #56b4e9; } }
body { margin: 0 auto; max-width: 64rem; padding: 2rem 1.25rem 4rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.8rem; margin: 0; } h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; } h3 { font-size: 1rem; }
a { color: var(--link); } nav a { margin-right: 1rem; } p, figcaption, small { color: var(--soft); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0 1rem; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th { white-space: nowrap; background: var(--wash); } tbody tr:hover { background: var(--wash); } summary { cursor: pointer; }
th:first-child, td:first-child, .text td { text-align: left; } .text td { overflow-wrap: anywhere; } .failed { color: #d55e00; }
figure { margin: 1.2rem 0; } figure img { max-width: 100%; height: auto; background: #fff; padding: .5rem;
  border: 1px solid var(--line); border-radius: 6px; box-sizing: border-box; }"""
PERCENT = {"map": "mAP", "rank1": "Rank-1", "rank5": "Rank-5", "rank10": "Rank-10", "minp": "mINP", "ari": "ARI", "nmi": "NMI",
           "purity": "purity", "outlierfraction": "outliers", "outliers": "outliers"}
LABEL = {**PERCENT, "nclusters": "clusters"}
HISTORY = ("mAP", "rank1", "mINP", "ari", "n_clusters", "outlier_fraction")


def write_report(out_dir: str | Path) -> Path:
    """Gather what notebooks and runs left under `out_dir` into `out_dir`/report.html; returns its path.

    Reads **/metrics.json ({"notebook", "metrics", and optionally "table": {"columns", "rows"}, "figures": [paths]}), runs/*/history.jsonl
    with config.json and environment.json, figures/*.png with a .json of the same name (its "caption", and where it comes from), and
    notebooks/notebooks.json. Shares (mAP, ARI, outliers ...) are shown in percent.
    """
    out = Path(out_dir)
    metrics = sorted((read_json(path) | {"folder": path.parent} for path in sorted(out.rglob("metrics.json"))),
                     key=lambda entry: str(entry.get("notebook")))
    histories = {path.parent.name: _history(path) for path in sorted(out.glob("runs/*/history.jsonl"))}
    figures = _figures(out, metrics)
    if not (metrics or histories or figures):
        raise KitError(f"there is nothing to report in {out}: no metrics.json, runs or figures; run the notebooks or `dkdmpl demo` first.")
    sections = {"Results": _results(metrics), "Training runs": _runs(histories), "Figures": "".join(map(_figure, figures)),
                "Notebooks": _notebooks(out), "Numbers by notebook": _numbers(metrics), "Provenance": _provenance(out)}
    sections = {title: body for title, body in sections.items() if body}
    links = "".join(f'<a href="#{title.split()[0].lower()}">{title}</a>' for title in sections)
    body = "".join(f'<h2 id="{title.split()[0].lower()}">{title}</h2>{text}' for title, text in sections.items())
    page = (f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">{POLICY}<meta name="viewport" content="width=device-width">'
            f"<title>dkdmpl_kit report</title><style>{STYLE}</style></head><body><h1>Report</h1><p>{escape(out.resolve().name)}: what the "
            f"notebooks and training runs of this folder measured.</p><nav>{links}</nav>{body}</body></html>\n")
    return write_atomic(out / "report.html", page)


def _history(path: Path) -> list[dict[str, Any]]:
    """The records of a run; a last line without its newline is one that is still being written."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n") and line.strip()]
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise KitError(f"{path} is not JSON lines ({error}): restore it or remove the run.") from error


def _key(column: Any) -> str:
    return re.sub(r"[^a-z0-9]", "", str(column).lower())


def _cell(column: Any, value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, float):
        return f"{100 * value:.1f}" if _key(column) in PERCENT and abs(value) <= 1 else f"{value:.4g}"
    return escape(value if isinstance(value, str) else json.dumps(value, default=str))


def _table(columns: Sequence[Any], rows: Iterable[Sequence[Any]], *, style: str = "") -> str:
    rows = [list(row) for row in rows]
    percent = [_key(c) in PERCENT and any(isinstance(row[k], float) for row in rows if k < len(row)) for k, c in enumerate(columns)]
    head = "".join(f"<th>{escape(LABEL.get(_key(c), str(c)))}{' %' * p}</th>" for c, p in zip(columns, percent))
    body = "".join("<tr>" + "".join(f"<td>{_cell(c, v)}</td>" for c, v in zip(columns, row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table class="{style}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _results(metrics: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"<h3>{escape(str(entry.get('notebook', '')))}</h3>" + _table(entry["table"]["columns"], entry["table"]["rows"])
                   for entry in metrics if entry.get("table"))


def _pairs(values: Mapping[str, Any]) -> str:
    rows = ((f"{key} %" if _cell(key, value) != _cell("", value) else key, _cell(key, value)) for key, value in values.items())
    body = "".join(f"<tr><td>{escape(str(key))}</td><td>{value}</td></tr>" for key, value in rows)
    return f'<div class="scroll"><table class="text"><tbody>{body}</tbody></table></div>'


def _numbers(metrics: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"<details><summary>{escape(str(entry.get('notebook', '')))}</summary>{_pairs(entry['metrics'])}</details>"
                   for entry in metrics if entry.get("metrics"))


def _runs(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One row a run: each quantity as it was last measured."""
    rows = []
    for name, records in histories.items():
        last = {key: next((r[key] for r in reversed(records) if r.get(key) is not None), None) for key in HISTORY}
        seconds = sum(sum((r.get("seconds") or {}).values()) for r in records)
        rows.append([name, len(records), *last.values(), round(seconds / 60, 1)])
    columns = ("run", "epochs", *HISTORY, "minutes")
    return rows and _table(columns, rows) + "<p>Each quantity as it was last measured in the run.</p>" or ""


def _figures(out: Path, metrics: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Pictures in the order of the notebooks that name them, then those of figures/ that none named."""
    named = [(entry["folder"] / name if (entry["folder"] / name).exists() else out / name)
             for entry in metrics for name in entry.get("figures", [])]
    return list({path.resolve(): path for path in [*named, *sorted(out.glob("figures/*.png"))]}.values())


def _figure(path: Path) -> str:
    if not path.exists():
        return f'<p class="failed">Missing picture: {escape(str(path))}</p>'
    beside = path.with_suffix(".json")
    facts = dict(read_json(beside)) if beside.exists() else {}
    caption = str(facts.pop("caption", path.stem.replace("_", " ")))
    facts_line = " · ".join(f"{key}: {value if isinstance(value, str) else json.dumps(value)}" for key, value in facts.items())
    data = base64.b64encode(path.read_bytes()).decode()
    return (f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}"><figcaption>{escape(caption)}'
            f"{'<br>' * bool(facts)}<small>{escape(facts_line)}</small></figcaption></figure>")


def _notebooks(out: Path) -> str:
    path, lines = out / "notebooks" / "notebooks.json", []
    for record in read_json(path) if path.exists() else []:
        name, failed = record["name"], record["error"] is not None
        suffixes = (".failed.ipynb",) if failed else (".html", ".ipynb")
        links = " · ".join(f'<a href="notebooks/{quote(name + suffix)}">{escape(suffix[1:])}</a>' for suffix in suffixes)
        state = f'<span class="failed">{escape(record["error"])}</span>' if failed else f"{record['seconds']:.0f} s"
        lines.append(f"<tr><td>{escape(name)}</td><td>{links}</td><td>{state}</td></tr>")
    return f'<table class="text"><tbody>{"".join(lines)}</tbody></table>' if lines else ""


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {prefix + str(key): item}
    return flat


def _provenance(out: Path) -> str:
    """Environment and settings of all runs together: a value that differs between runs lists what it was."""
    from . import __version__

    tables = []
    for name in ("environment.json", "config.json"):
        merged: dict[str, list[str]] = {}
        for path in sorted(out.glob(f"runs/*/{name}")):
            for key, value in _flat(read_json(path)).items():
                text = value if isinstance(value, str) else json.dumps(value)
                merged.setdefault(key, []).extend([text] if text not in merged.get(key, []) else [])
        tables.append({key.removeprefix("settings.").removeprefix("packages."): ", ".join(values) for key, values in merged.items()})
    environment, settings = tables
    facts = {key: settings.pop(key) for key in ("preset", "seed", "data", "data_fingerprint", "fingerprint") if key in settings}
    body = _pairs({"dkdmpl_kit": __version__, **facts, **environment})
    return body + (f"<details><summary>All settings of the runs</summary>{_pairs(settings)}</details>" if settings else "")
