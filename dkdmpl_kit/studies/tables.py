"""Building blocks of the kit's pages: style, tables, pictures. Everything that is given
to them is escaped.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from dkdmpl_kit.studies.pages import POLICY

STYLE = """:root { color-scheme: light dark; --ink: #1c2024; --paper: #fff; --soft: #667; --line: #dde; --wash: #f5f6f8;
  --link: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --paper: #16181b; --soft: #9aa3ad; --line: #33383e;
  --wash: #1f2226; --link: #56b4e9; } }
body { margin: 0 auto; max-width: 74rem; padding: 2rem 1.25rem 4rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.8rem; margin: 0; } h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; } h3 { font-size: 1rem; }
a { color: var(--link); } nav a { margin-right: 1rem; } p, figcaption, small { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0 1rem; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th, tbody tr:hover { background: var(--wash); } th { white-space: nowrap; } summary { cursor: pointer; }
th:first-child, td:first-child, .text td { text-align: left; }
td { white-space: nowrap; } td:first-child, .text td { white-space: normal; } .text td { overflow-wrap: anywhere; }
.failed { color: #d55e00; }
.others { border: 1px solid var(--line); border-radius: 6px; padding: .2rem 1rem; margin: 1.5rem 0; }
figure { margin: 1.2rem 0; } figure img { max-width: 100%; height: auto; background: #fff; padding: .5rem;
  border: 1px solid var(--line); border-radius: 6px; box-sizing: border-box; }"""
PERCENT = {
    "map": "mAP",
    "rank1": "Rank-1",
    "rank5": "Rank-5",
    "rank10": "Rank-10",
    "minp": "mINP",
    "ari": "ARI",
    "nmi": "NMI",
    "purity": "purity",
    "outlierfraction": "outliers",
    "outliers": "outliers",
}
TITLE = {**PERCENT, "nclusters": "clusters"}


class Html(str):
    """Text that is HTML already, and is not escaped again."""


def page(title: str, lead: str, sections: Mapping[str, str]) -> str:
    """A whole page that requests nothing: {heading: HTML} in order, empty ones left
    out, with links to each.
    """
    sections = {name: text for name, text in sections.items() if text}
    links = "".join(f'<a href="#{name.split()[0].lower()}">{name}</a>' for name in sections)
    body = "".join(
        f'<h2 id="{name.split()[0].lower()}">{name}</h2>{text}'
        for name, text in sections.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        + POLICY
        + f'<meta name="viewport" content="width=device-width"><title>dkdmpl_kit '
        f"{title.lower()}</title>"
        f"<style>{STYLE}</style></head><body><h1>{title}</h1><p>{escape(lead)}</p><nav>{links}</nav>{body}</body></html>\n"
    )


def key_of(column: Any) -> str:
    """The name of a column as `PERCENT` and `TITLE` know it."""
    return re.sub(r"[^a-z0-9]", "", str(column).lower())


def text_of(value: Any) -> str:
    """A value as text: itself, or as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def cell_of(column: Any, value: Any) -> str:
    """A cell's HTML: shares in percent where the column is one, a dash for what was not
    measured.
    """
    if isinstance(value, Html):
        return value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, float):
        return (
            f"{100 * value:.1f}"
            if key_of(column) in PERCENT and abs(value) <= 1
            else f"{value:.4g}"
        )
    return escape(text_of(value))


def table_of(columns: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A table; a column of shares gets its % in the head."""
    rows = list(rows)
    head = ""
    for k, column in enumerate(columns):
        percent = key_of(column) in PERCENT and any(
            isinstance(row[k], float) or "±" in str(row[k]) for row in rows
        )
        head += f"<th>{escape(TITLE.get(key_of(column), str(column)))}{' %' * percent}</th>"
    body = "".join(
        f"<tr>{''.join(f'<td>{cell_of(c, v)}</td>' for c, v in zip(columns, row))}</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def pairs_of(values: Mapping[str, Any]) -> str:
    """A table of names and values."""
    body = ""
    for key, value in values.items():
        unit = " %" * (key_of(key) in PERCENT and isinstance(value, float))
        body += f"<tr><td>{escape(str(key))}{unit}</td><td>{cell_of(key, value)}</td></tr>"
    return f'<div class="scroll"><table class="text"><tbody>{body}</tbody></table></div>'


def picture(png: bytes, caption: str, origin: str = "") -> str:
    """A PNG in the page itself, with its caption and, smaller, where it comes from."""
    data = base64.b64encode(png).decode()
    caption = escape(caption)
    origin = escape(origin)
    return (
        f'<figure><img alt="{caption}" '
        f'src="data:image/png;base64,{data}"><figcaption>{caption}'
        f"{'<br>' * bool(origin)}<small>{origin}</small></figcaption></figure>"
    )


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": 1, "b": {"c": 2}} -> {"a": 1, "b.c": 2}; the timings of a probe (`tried`)
    are left out.
    """
    found: dict[str, Any] = {}
    for key, item in value.items():
        if key != "tried":
            found |= (
                flat(item, f"{prefix}{key}.")
                if isinstance(item, Mapping)
                else {prefix + str(key): item}
            )
    return found
