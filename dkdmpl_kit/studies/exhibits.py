"""What a README or a paper shows of a set of runs: records, tables and figures."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import write_atomic
from dkdmpl_kit.studies.files import FOLDERS, portable
from dkdmpl_kit.studies.results import (
    Row,
    baseline_of,
    by_data,
    by_row,
    differences,
    markdown_tables,
    spread,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AGAINST = "cluster contrast with the same seed and the same other settings"


def drawing():
    """The module `viz`. KitError says what to install where matplotlib is missing."""
    try:
        from dkdmpl_kit import viz
    except ModuleNotFoundError as error:
        raise KitError(
            f"Figures need the package {error.name}: pip install 'dkdmpl-kit[notebooks]'."
        ) from error
    return viz


def figures_of(records: Sequence[dict]) -> dict[str, Figure]:
    """{name: figure} of the runs on one set of pictures: bars, curves, paired
    differences where there are pairs. KitError where matplotlib is missing.

    Where settings vary beside the method there is one set of bars and curves for each
    setting (or group that varies together): its variants beside the methods as most
    runs have them.
    """
    viz = drawing()
    table = by_row(records)
    figures = {}
    for family in dict.fromkeys(_family_of(row) for row in table):
        rows = _rows_of_family(table, family)
        suffix = "".join(f"-{name}" for name in family)
        finals = {
            _figure_name(row, "\n"): [run["final"]["mAP"] for run in table[row].values()]
            for row in rows
        }
        histories = {
            _figure_name(row): [run["history"] for run in table[row].values()]
            for row in rows
            if row.method != "untrained"
        }
        settings = ", ".join(family)
        if any(value is not None for values in finals.values() for value in values):
            title = "mAP of the last epoch, one dot a seed"
            if family:
                title += f": {settings}"
            figures[f"result_bars{suffix}"] = viz.result_bars(finals, title=title)
        if histories:
            curves = viz.training_curves(histories, title=settings)
            figures[f"training_curves{suffix}"] = curves
        distilled = {
            name: runs
            for name, runs in histories.items()
            if any(_distils(record) for run in runs for record in run)
        }
        if distilled:
            figures[f"distillation{suffix}"] = viz.training_curves(
                distilled,
                metrics=viz.DISTILLATION,
                references=viz.ADDS_NOTHING,
                title=settings,
            )
    points, same_baseline = _paired_points(table)
    if points:
        figures["paired_differences"] = viz.paired_differences(
            points,
            {name: spread(values).interval for name, values in points.items()},
            baseline="cluster contrast" if same_baseline else AGAINST,
        )
    return figures


def _distils(record: dict) -> bool:
    return record.get("gkd_cosine") is not None or record.get("skd_cosine") is not None


def _family_of(row: Row) -> tuple[str, ...]:
    """The names of the settings in which a row is unusual."""
    return tuple(name for name, _ in row.variant)


def _rows_of_family(table: dict[Row, dict], family: tuple[str, ...]) -> list[Row]:
    """The rows of one figure: those without a variant, of the methods that this family
    of variants has and the baseline, then the variants.
    """
    variants = [row for row in table if _family_of(row) == family]
    if not family:
        return variants
    methods = {"cluster_contrast"} | {row.method for row in variants}
    usual = [row for row in table if row.method in methods and not row.variant]
    return usual + variants


def _figure_name(row: Row, separator: str = " ") -> str:
    """The name by which the figures know a row: a method's own, which has its colour,
    or the label of a variant.
    """
    return row.label.replace(", ", f",{separator}") if row.variant else row.method


def _paired_points(table: dict[Row, dict[int, dict]]) -> tuple[dict[str, list[float]], bool]:
    """{name: mAP points against the baseline, a seed each}, and whether the baseline is
    the same for all rows.
    """
    points = {}
    baselines = set()
    for row, runs in table.items():
        base = baseline_of(row, table)
        found = differences(runs, table[base], "mAP") if base else {}
        if found:
            points[_figure_name(row)] = [100 * value for value in found.values()]
            baselines.add(base)
    return points, len(baselines) < 2


def write_exhibits(records: Sequence[dict], folder: str | Path) -> list[Path]:
    """Write records.json, table.md, and figures with what made them beside each; a set
    of figures for each data set. The paths; KitError where matplotlib is missing.
    """
    viz = drawing()
    folder = Path(folder)
    groups = by_data(records)
    kept = json.dumps(_rounded(records), separators=(",", ":"))
    written = [
        write_atomic(folder / "records.json", kept + "\n"),
        write_atomic(folder / "table.md", markdown_tables(records) + "\n"),
    ]
    for label, group in groups.items():
        trained = [record for record in group if record["run"] != "untrained"]
        metadata = {
            "runs": [record["run"] for record in group],
            "data_fingerprint": [group[0]["data_fingerprint"]],
            "settings": portable(group[0]["settings"]),
            "environment": (trained or group)[-1].get("environment"),
        }
        suffix = ""
        if len(groups) > 1:
            suffix = "-" + re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
        for name, figure in figures_of(group).items():
            path = folder / f"{name}{suffix}.png"
            written.append(viz.save_figure(figure, path, metadata=metadata))
    return written


def _rounded(value: Any, name: str = "") -> Any:
    """Floats to six digits, so that committed records stay small; folders of the machine
    to their last name.
    """
    if isinstance(value, dict):
        return {key: _rounded(item, key) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    if name in FOLDERS and value:
        return Path(value).name
    return float(f"{value:.6g}") if isinstance(value, float) else value
