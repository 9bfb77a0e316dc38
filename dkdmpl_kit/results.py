"""Results of many runs: collect their files, and compare methods with the seeds paired."""
from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import KitError
from .experiment import METHODS, read_json, write_atomic
from .viz.style import METHOD_LABELS

MEASURES = ("mAP", "rank1", "mINP", "ari", "n_clusters", "outlier_fraction")
LABELS = METHOD_LABELS | {"untrained": "untrained features"}
ORDER = ("untrained", METHODS[0], "cluster_contrast_mean", "cluster_contrast_hardest", *METHODS[1:])


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation (None for one value) and the values themselves, in the order of the seeds."""

    mean: float
    deviation: float | None
    values: tuple[float, ...]


def spread(values: Iterable[float]) -> Spread:
    """Mean and sample standard deviation (n - 1) of at least one value."""
    values = tuple(float(v) for v in values)
    if not values:
        raise KitError("There are no values to average: no run has been measured yet.")
    mean = sum(values) / len(values)
    if len(values) == 1:
        return Spread(mean, None, values)
    return Spread(mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)), values)


def read_run(run_dir: Path) -> dict:
    """One run's files as one record: settings, history, final measures (None while it is not finished), environment."""
    meta = read_json(run_dir / "config.json")
    checkpoint = read_json(run_dir / "checkpoint.json") if (run_dir / "checkpoint.json").exists() else {"history": []}
    final = read_json(run_dir / "result.json")["final"] if (run_dir / "result.json").exists() else None
    return {"run": run_dir.name, "settings": meta["settings"], "fingerprint": meta["fingerprint"],
            "data_fingerprint": meta["data_fingerprint"], "history": checkpoint["history"], "final": final,
            "environment": read_json(run_dir / "environment.json")}


def collect_runs(out_dir: str | Path) -> list[dict]:
    """Every run below out_dir/runs, sorted by name; with untrained.json, the row of the untrained encoder, first.

    The short warm-up runs that lessons start from (`warm-*`) are no results and are left out.
    """
    out_dir = Path(out_dir)
    markers = sorted(out_dir.glob("runs/*/config.json"))
    runs = [read_run(marker.parent) for marker in markers if not marker.parent.name.startswith("warm-")]
    if (out_dir / "untrained.json").exists():
        runs.insert(0, read_json(out_dir / "untrained.json"))
    return runs


def by_method(records: list[dict]) -> dict[str, dict[int, dict]]:
    """{method: {seed: record}} of the finished runs, methods in the kit's order."""
    table: dict[str, dict[int, dict]] = {}
    for method in ORDER:
        found = {r["settings"]["seed"]: r for r in records if r["final"] and method_of(r) == method}
        if found:
            table[method] = dict(sorted(found.items()))
    return table


def method_of(record: dict) -> str:
    """The row that a record belongs to: its method, `untrained`, or cluster contrast with another update of the memory."""
    settings = record["settings"]
    if record.get("run") == "untrained":
        return "untrained"
    other = settings["method"] == "cluster_contrast" and settings["memory_update"] != "instance"
    return f"cluster_contrast_{settings['memory_update']}" if other else settings["method"]


def summary(records: list[dict]) -> dict[str, dict[str, Spread]]:
    """{method: {measure: Spread over seeds}} of the final measures; measures that a run lacks are left out."""
    return {method: {m: spread(values) for m in MEASURES
                     if (values := [r["final"][m] for r in runs.values() if r["final"].get(m) is not None])}
            for method, runs in by_method(records).items()}


def paired_differences(records: list[dict], baseline: str = "cluster_contrast",
                       measure: str = "mAP") -> dict[str, dict[int, float]]:
    """{method: {seed: its measure minus the baseline's at the same seed}}, over the seeds that both have."""
    table = by_method(records)
    base = table.get(baseline, {})
    return {method: {seed: run["final"][measure] - base[seed]["final"][measure] for seed, run in runs.items()
                     if seed in base and run["final"].get(measure) is not None}
            for method, runs in table.items() if method not in ("untrained", "supervised", baseline)}


def markdown_table(records: list[dict]) -> str:
    """The table of a README: one row a method; mAP, Rank-1, mINP and outliers in percent, mean ± deviation over seeds.

    Seconds are the median over epochs of what training took, clustering and evaluation not counted.
    """
    def cell(found: Spread | None, scale: float, digits: int) -> str:
        if found is None:
            return "–"
        text = f"{scale * found.mean:.{digits}f}"
        return text if found.deviation is None else f"{text} ± {scale * found.deviation:.{digits}f}"

    columns = (("mAP %", "mAP", 100, 1), ("Rank-1 %", "rank1", 100, 1), ("mINP %", "mINP", 100, 1), ("ARI", "ari", 1, 2),
               ("clusters", "n_clusters", 1, 0), ("outliers %", "outlier_fraction", 100, 1))
    lines = ["| method | seeds | " + " | ".join(c[0] for c in columns) + " | s an epoch |", "|---" * (len(columns) + 3) + "|"]
    table = by_method(records)
    for method, measures in summary(records).items():
        cells = [cell(measures.get(key), scale, digits) for _, key, scale, digits in columns]
        times = [sum(e["seconds"].get(k, 0.0) for k in ("load", "train")) for r in table[method].values() for e in r["history"]]
        seconds = f"{statistics.median(times):.1f}" if times else "–"  # a run that was suspended must not tell
        lines.append(f"| {LABELS[method]} | {len(table[method])} | " + " | ".join(cells) + f" | {seconds} |")
    return "\n".join(lines)


def publish(records: list[dict], folder: str | Path) -> list[Path]:
    """Write what a README or a paper quotes: records.json, table.md, and figures with what made them beside each."""
    import json

    from . import viz

    folder = Path(folder)
    written = [write_atomic(folder / "records.json", json.dumps(_rounded(records), separators=(",", ":")) + "\n"),
               write_atomic(folder / "table.md", markdown_table(records) + "\n")]
    table, differences = by_method(records), paired_differences(records)
    finals = {method: [r["final"]["mAP"] for r in runs.values()] for method, runs in table.items()}
    histories = {method: [r["history"] for r in runs.values()] for method, runs in table.items() if method != "untrained"}
    figures = {"result_bars": viz.result_bars(finals, title="mAP of the last epoch, one dot a seed"),
               "training_curves": viz.training_curves(histories)}
    if any(differences.values()):
        points = {method: [100 * d for d in by_seed.values()] for method, by_seed in differences.items()}
        figures["paired_differences"] = viz.paired_differences(points)
    metadata = {"runs": [r["run"] for r in records], "data_fingerprint": sorted({r["data_fingerprint"] for r in records}),
                "settings": records[0]["settings"], "environment": records[-1].get("environment")}
    return written + [viz.save_figure(figure, folder / f"{name}.png", metadata=metadata) for name, figure in figures.items()]


def _rounded(value: object) -> object:
    """Floats to six digits, so that committed records stay small."""
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
