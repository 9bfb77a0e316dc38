"""Two runs, or two folders of runs, side by side: settings and environments that
differ, measures with their differences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import METHOD_LABELS, PLACE, write_atomic
from dkdmpl_kit.studies.results import (
    DEFAULTS,
    MEASURES,
    collect_runs,
    data_label,
    interval_text,
    method_of,
    rows_of,
    spread,
)
from dkdmpl_kit.studies.tables import (
    MISSING,
    flat,
    is_share,
    markdown,
    render,
    table,
    title_of,
)

IGNORED = {"run_name", "out_dir", "data_root", "table"}  # settings that differ without any meaning


@dataclass(frozen=True)
class Section:
    """A part of a comparison: its heading, a sentence, and a table (empty: none)."""

    heading: str
    sentence: str
    table: pd.DataFrame


class Pair(NamedTuple):
    """A run of A and the run of B that it is compared with, under the name of their row."""

    name: str
    a: dict
    b: dict


def compare(a: str | Path, b: str | Path) -> list[Section]:
    """What differs between two runs, or two trees of runs; runs are paired by method,
    settings and seed where that can be. A damaged run among others is left out, and the
    last section says so. KitError where a folder holds no runs, or damaged ones alone.
    """
    left_out: list[str] = []
    runs_a = _runs(a, left_out)
    runs_b = _runs(b, left_out)
    sections = [
        _differing("Settings", runs_a, runs_b, _settings),
        _differing("Environment", runs_a, runs_b, _environment),
        _measures(runs_a, runs_b),
    ]
    if left_out:
        sections.append(Section("Left out", " ".join(left_out), pd.DataFrame()))
    return sections


def _runs(folder: str | Path, left_out: list[str]) -> list[dict]:
    damaged: list[str] = []
    found = [
        record for record in collect_runs(folder, damaged) if record["run"] != "untrained"
    ]
    left_out += damaged
    if damaged and not found:
        raise KitError(damaged[0])
    if not found:
        raise KitError(
            f"There are no runs at or below {folder}: give a run's folder, or one that "
            "holds runs."
        )
    return found


def _settings(record: Mapping) -> dict[str, object]:
    settings = DEFAULTS | record["settings"]
    kept = {name: value for name, value in settings.items() if name not in IGNORED}
    return {"pictures (fingerprint)": record["data_fingerprint"], **kept}


def _environment(record: Mapping) -> dict[str, object]:
    return flat(record.get("environment") or {})


def _values(records: Sequence[Mapping], of: Callable[[Mapping], dict]) -> pd.Series:
    """Every value that the records have under each name, as text."""
    seen: dict[str, set[str]] = {}
    for record in records:
        for name, value in of(record).items():
            seen.setdefault(name, set()).add(str(value))
    return pd.Series({name: ", ".join(sorted(v)) for name, v in seen.items()}, dtype=object)


def _differing(
    heading: str, a: Sequence[dict], b: Sequence[dict], of: Callable[[Mapping], dict]
) -> Section:
    sides = {"A": _values(a, of), "B": _values(b, of)}
    names = list(dict.fromkeys([*sides["A"].index, *sides["B"].index]))
    both = pd.DataFrame(sides, index=names).fillna(MISSING)
    differing = both[both["A"] != both["B"]]
    quiet = [name for name in differing.index if name in PLACE]
    sentence = "All the same." if differing.empty else f"{len(differing)} differ."
    if quiet:
        sentence += f" No result depends on {', '.join(quiet)}."
    return Section(heading, sentence, differing.reset_index(names="name"))


def _pairs(a: Sequence[dict], b: Sequence[dict]) -> tuple[list[Pair], str]:
    """The pairs, and the sentence that says how they were made."""
    if len(a) == len(b) == 1:
        method = method_of(a[0])
        name = METHOD_LABELS[method] if method == method_of(b[0]) else "B − A"
        return [Pair(name, a[0], b[0])], "One run against one run: no spread over seeds."
    for pictures, sentence in (
        (data_label, "Paired by pictures, method, settings and seed."),
        (_any_pictures, "The pictures differ; paired by method, settings and seed alone."),
    ):
        keyed_a = _keyed(a, pictures)
        keyed_b = _keyed(b, pictures)
        if len(keyed_a) < len(a) or len(keyed_b) < len(b):
            continue  # two runs with one key cannot be paired
        common = [key for key in keyed_a if key in keyed_b]
        if not common:
            continue
        several = len({label for label, _, _ in common}) > 1
        pairs = []
        for key in common:
            label, row, _ = key
            name = f"{label}, {row}" if several and label else row
            pairs.append(Pair(name, keyed_a[key], keyed_b[key]))
        return pairs, (
            f"{sentence} {len(common)} pairs; without a partner: "
            f"{len(a) - len(common)} in A, {len(b) - len(common)} in B."
        )
    return [], (
        "No run of A has a partner with the same method, settings and seed in B: the "
        "measures cannot be paired."
    )


def _any_pictures(record: dict) -> str:
    return ""


def _keyed(runs: Sequence[dict], pictures: Callable[[dict], str]) -> dict[tuple, dict]:
    """{(pictures, row, seed): record}."""
    return {
        (pictures(record), row.label, record["settings"]["seed"]): record
        for row, record in zip(rows_of(runs), runs)
    }


def _measures(a: Sequence[dict], b: Sequence[dict]) -> Section:
    """Every measure of both sides and B − A, one line a method and measure."""
    pairs, sentence = _pairs(a, b)
    if len({record["data_fingerprint"] for record in (*a, *b)}) > 1:
        sentence += (
            " The two sides hold different pictures: part of a difference is the "
            "pictures' own."
        )
    lines = []
    for name in dict.fromkeys(pair.name for pair in pairs):
        same_row = [pair for pair in pairs if pair.name == name]
        for measure in MEASURES:
            measured = _measured(same_row, measure)
            if measured:
                lines.append((name, *_measure_line(measure, measured)))
    if lines:
        sentence += " B − A with its 95 % interval (Student's t) from two pairs on."
    return Section(
        "Measures", sentence, table(["runs", "measure", "pairs", "A", "B", "B − A"], lines)
    )


def _measured(pairs: Sequence[Pair], measure: str) -> list[tuple[float, float]]:
    """(A's, B's) final measure of the pairs that have both."""
    found = [
        ((pair.a["final"] or {}).get(measure), (pair.b["final"] or {}).get(measure))
        for pair in pairs
    ]
    return [both for both in found if None not in both]


def _measure_line(measure: str, both: Sequence[tuple[float, float]]) -> tuple:
    scale = 100 if is_share(measure) else 1
    a, b = (f"{scale * spread(side).mean:.1f}" for side in zip(*both))
    # interval_text writes shares in points: a number of clusters is not a share
    change = interval_text((y - x) * scale / 100 for x, y in both)
    unit = " %" if is_share(measure) else ""
    return title_of(measure) + unit, len(both), a, b, change


def comparison_text(sections: Sequence[Section]) -> str:
    """The comparison for a terminal, tables in Markdown."""
    parts = []
    for section in sections:
        parts.append(f"## {section.heading}\n\n{section.sentence}\n")
        if not section.table.empty:
            parts.append(markdown(section.table))
        parts.append("")
    return "\n".join(parts)


def comparison_page(
    sections: Sequence[Section], a: str | Path, b: str | Path, path: str | Path
) -> Path:
    """Write the comparison as a page that requests nothing; its path."""
    folders = [Path(side).resolve() for side in (a, b)]
    names = [folder.name for folder in folders]
    if names[0] == names[1]:
        names = [f"{folder.parent.parent.name}/{folder.name}" for folder in folders]
    page = render("comparison.html.j2", compared=sections, a=names[0], b=names[1])
    return write_atomic(path, page)
