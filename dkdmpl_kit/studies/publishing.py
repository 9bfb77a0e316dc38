"""The figures of a set of runs, and what a README or a paper quotes of them: records,
tables, figures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dkdmpl_kit.experiment import write_atomic
from dkdmpl_kit.studies.results import (
    Row,
    baseline_of,
    by_data,
    by_row,
    differences,
    markdown_tables,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AGAINST = "cluster contrast with the same seed and the same other settings"


def figures_of(records: Sequence[dict]) -> dict[str, Figure]:
    """{name: figure} of the runs on one set of pictures: bars, curves, paired
    differences where there are pairs.

    Where settings vary beside the method there is one set of bars and curves for each
    setting (or group that varies together): its variants beside the methods as most
    runs have them.
    """
    from dkdmpl_kit import viz

    table = by_row(records)
    figures = {}
    for family in dict.fromkeys(tuple(name for name, _ in row.variant) for row in table):
        rows = _family(table, family)
        suffix = "".join(f"-{name}" for name in family)
        finals = {
            _key(row, "\n"): [r["final"]["mAP"] for r in table[row].values()] for row in rows
        }
        histories = {
            _key(row): [r["history"] for r in table[row].values()]
            for row in rows
            if row.method != "untrained"
        }
        if any(value is not None for values in finals.values() for value in values):
            title = "mAP of the last epoch, one dot a seed" + (
                f": {', '.join(family)}" if family else ""
            )
            figures[f"result_bars{suffix}"] = viz.result_bars(finals, title=title)
        if histories:
            figures[f"training_curves{suffix}"] = viz.training_curves(
                histories, title=", ".join(family)
            )
    points, same = paired_points(table)
    if points:
        figures["paired_differences"] = viz.paired_differences(
            points, baseline="cluster contrast" if same else AGAINST
        )
    return figures


def _family(table: dict[Row, dict], family: tuple[str, ...]) -> list[Row]:
    """The rows of one figure: those without a variant, of the methods that this family
    of variants has and the baseline.
    """
    variants = [row for row in table if tuple(name for name, _ in row.variant) == family]
    if not family:
        return variants
    methods = {"cluster_contrast"} | {row.method for row in variants}
    return [row for row in table if row.method in methods and not row.variant] + variants


def _key(row: Row, separator: str = " ") -> str:
    """The name by which the pictures know a row: a method's own, which has its colour,
    or the label of a variant.
    """
    return row.label.replace(", ", f",{separator}") if row.variant else row.method


def paired_points(table: dict[Row, dict[int, dict]]) -> tuple[dict[str, list[float]], bool]:
    """{name: mAP points against the baseline, a seed each}, and whether the baseline is
    the same for all rows.
    """
    points = {}
    baselines = set()
    for row, runs in table.items():
        base = baseline_of(row, table)
        found = differences(runs, table[base], "mAP") if base else {}
        if found:
            points[_key(row)] = [100 * value for value in found.values()]
            baselines.add(base)
    return points, len(baselines) < 2


def publish(records: Sequence[dict], folder: str | Path) -> list[Path]:
    """Write records.json, table.md, and figures with what made them beside each; a set
    of figures for each data set.
    """
    from dkdmpl_kit import viz

    folder = Path(folder)
    groups = by_data(records)
    written = [
        write_atomic(
            folder / "records.json",
            json.dumps(_rounded(records), separators=(",", ":")) + "\n",
        ),
        write_atomic(folder / "table.md", markdown_tables(records) + "\n"),
    ]
    for label, group in groups.items():
        runs = [record for record in group if record["run"] != "untrained"] or group
        metadata = {
            "runs": [r["run"] for r in group],
            "data_fingerprint": [group[0]["data_fingerprint"]],
            "settings": _portable(group[0]["settings"]),
            "environment": runs[-1].get("environment"),
        }
        suffix = (
            f"-{re.sub(r'[^a-z0-9]+', '-', label.lower()).strip('-')}"
            if len(groups) > 1
            else ""
        )
        written += [
            viz.save_figure(figure, folder / f"{name}{suffix}.png", metadata=metadata)
            for name, figure in figures_of(group).items()
        ]
    return written


def _portable(settings: dict) -> dict:
    """Settings without the folders of the machine that made them."""
    return {
        name: value
        for name, value in settings.items()
        if name not in ("out_dir", "data_root")
    }


def _rounded(value: object) -> object:
    """Floats to six digits, so that committed records stay small; folders to their
    names.
    """
    if isinstance(value, dict):
        return {
            k: Path(v).name if k in ("out_dir", "data_root") and v else _rounded(v)
            for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_rounded(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
