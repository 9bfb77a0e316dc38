"""Two runs, or two folders of runs, side by side: settings and environments that
differ, measures with their differences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import PLACE, write_atomic
from dkdmpl_kit.studies.report_runs import interval_text
from dkdmpl_kit.studies.results import (
    DEFAULTS,
    LABELS,
    MEASURES,
    collect_runs,
    data_label,
    method_of,
    rows_of,
    spread,
)
from dkdmpl_kit.studies.tables import PERCENT, TITLE, flat, key_of, page, table_of

NAMES = {"run_name", "out_dir", "data_root"}  # differ without any meaning


@dataclass(frozen=True)
class Section:
    """A part of a comparison: its heading, a sentence, and a table (no columns: none)."""

    heading: str
    sentence: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple, ...] = ()


def compare(a: str | Path, b: str | Path) -> list[Section]:
    """What differs between two runs, or two trees of runs; runs are paired by method,
    settings and seed where that can be.
    """
    sides = [_runs(folder) for folder in (a, b)]
    settings = [_values(side, _settings) for side in sides]
    places = [_values(side, lambda r: flat(r.get("environment") or {})) for side in sides]
    return [
        _differing("Settings", *settings),
        _differing("Environment", *places),
        _measures(*sides),
    ]


def _settings(record: Mapping) -> dict[str, object]:
    settings = {
        name: value
        for name, value in (DEFAULTS | record["settings"]).items()
        if name not in NAMES
    }
    return {"pictures (fingerprint)": record["data_fingerprint"], **settings}


def _runs(folder: str | Path) -> list[dict]:
    found = [record for record in collect_runs(folder) if record["run"] != "untrained"]
    if not found:
        raise KitError(
            f"There are no runs at or below {folder}: give a run's folder, or one that "
            "holds runs."
        )
    return found


def _values(records: Sequence[Mapping], of) -> dict[str, str]:
    """{name: every value that the records have}, as text."""
    seen: dict[str, dict[str, None]] = {}
    for record in records:
        for name, value in of(record).items():
            seen.setdefault(name, {})[str(value)] = None
    return {name: ", ".join(sorted(values)) for name, values in seen.items()}


def _differing(what: str, a: Mapping[str, str], b: Mapping[str, str]) -> Section:
    names = [name for name in dict.fromkeys([*a, *b]) if a.get(name) != b.get(name)]
    rows = tuple((name, a.get(name, "–"), b.get(name, "–")) for name in names)
    quiet = [name for name in names if name in PLACE]
    sentence = f"{len(names)} differ." if names else "All the same."
    return Section(
        what,
        sentence + (f" No result depends on {', '.join(quiet)}." if quiet else ""),
        ("name", "A", "B") if rows else (),
        rows,
    )


def _pairs(a: Sequence[dict], b: Sequence[dict]) -> tuple[list[tuple[str, dict, dict]], str]:
    """(row, run of A, run of B), and the sentence that says how they were paired."""
    if len(a) == len(b) == 1:
        same = method_of(a[0]) == method_of(b[0])
        return [
            (LABELS[method_of(a[0])] if same else "B − A", a[0], b[0])
        ], "One run against one run: no spread over seeds."
    for label, sentence in (
        (data_label, "Paired by pictures, method, settings and seed."),
        (
            lambda record: "",
            "The pictures differ; paired by method, settings and seed alone.",
        ),
    ):
        sides = [
            {
                (label(r), row.label, r["settings"]["seed"]): r
                for row, r in zip(rows_of(side), side)
            }
            for side in (a, b)
        ]
        if any(len(side) < len(runs) for side, runs in zip(sides, (a, b))):
            continue  # two runs with one key: not a pairing
        if common := [key for key in sides[0] if key in sides[1]]:
            several = len({key[0] for key in common}) > 1
            return [
                (
                    ", ".join(filter(None, [key[0] * several, key[1]])),
                    sides[0][key],
                    sides[1][key],
                )
                for key in common
            ], (
                f"{sentence} {len(common)} pairs; without a partner: "
                f"{len(a) - len(common)} in A, {len(b) - len(common)} in B."
            )
    return (
        [],
        "No run of A has a partner with the same method, settings and seed in B: the "
        "measures cannot be paired.",
    )


def _measures(a: Sequence[dict], b: Sequence[dict]) -> Section:
    """Every measure of both sides and B − A, one row a method and measure."""
    pairs, sentence = _pairs(a, b)
    if len({record["data_fingerprint"] for record in (*a, *b)}) > 1:
        sentence += " The two sides hold different pictures: part of a difference is the pictures' own."
    rows = []
    n = Counter(row for row, _, _ in pairs)
    for row in n:
        for measure in MEASURES:
            both = [
                (x["final"][measure], y["final"][measure])
                for name, x, y in pairs
                if name == row
                and x["final"]
                and y["final"]
                and None not in (x["final"].get(measure), y["final"].get(measure))
            ]
            if both:
                rows.append((row, *_measure_row(measure, both)))
    explain = " B − A with its 95 % interval (Student's t) from two pairs on." if rows else ""
    return Section(
        "Measures",
        sentence + explain,
        ("runs", "measure", "pairs", "A", "B", "B − A") if rows else (),
        tuple(rows),
    )


def _measure_row(measure: str, both: Sequence[tuple[float, float]]) -> tuple:
    share = key_of(measure) in PERCENT
    scale = 100 if share else 1
    left, right = (f"{scale * spread(side).mean:.1f}" for side in zip(*both))
    change = interval_text((y - x) * scale / 100 for x, y in both)
    return TITLE.get(key_of(measure), measure) + " %" * share, len(both), left, right, change


def comparison_text(sections: Sequence[Section]) -> str:
    """The comparison for a terminal, tables in Markdown."""
    parts = []
    for section in sections:
        parts.append(f"## {section.heading}\n\n{section.sentence}\n")
        for line in (
            [section.columns, ["---"] * len(section.columns), *section.rows]
            if section.columns
            else []
        ):
            parts.append("| " + " | ".join(str(cell) for cell in line) + " |")
        parts.append("")
    return "\n".join(parts)


def comparison_page(
    sections: Sequence[Section], a: str | Path, b: str | Path, path: str | Path
) -> Path:
    """Write the comparison as a page that requests nothing."""
    names = [Path(side).resolve() for side in (a, b)]
    shown = [
        p.name if names[0].name != names[1].name else f"{p.parent.parent.name}/{p.name}"
        for p in names
    ]
    return write_atomic(
        path,
        page(
            "Comparison",
            f"A: {shown[0]}. B: {shown[1]}.",
            {
                s.heading: f"<p>{escape(s.sentence)}</p>"
                + (table_of(s.columns, s.rows) if s.columns else "")
                for s in sections
            },
        ),
    )
