"""Results of many runs: collect their files, and compare methods with the seeds paired."""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import METHODS, PICTURES, PLACE, Config, read_json
from dkdmpl_kit.viz.style import METHOD_LABELS

MEASURES = ("mAP", "rank1", "mINP", "ari", "n_clusters", "outlier_fraction")
LABELS = METHOD_LABELS | {"untrained": "untrained features"}
ORDER = (
    "untrained",
    METHODS[0],
    "cluster_contrast_mean",
    "cluster_contrast_hardest",
    *METHODS[1:],
)
DEFAULTS = {field.name: field.default for field in dataclasses.fields(Config)}
DISTILLATION = {
    "gkd_weight",
    "gkd_teacher",
    "teacher_temperature",
    "distillation_temperature",
    "skd_weight",
    "skd_anchor",
    "skd_divergence",
    "warmup_epochs",
}  # without a meaning for methods that do not distil
NOT_RUNS = {
    "data",
    "epochs",
    "cache",
    "notebooks",
    "artefacts",
    "figures",
    "metrics",
    "submitit",
    "tensorboard",
}


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation (None for one value) and the values themselves,
    in the order of the seeds.
    """

    mean: float
    deviation: float | None
    values: tuple[float, ...]

    @property
    def interval(self) -> float | None:
        """Half the width of the mean's 95 % interval (Student's t); None for one value."""
        from scipy.stats import t

        n = len(self.values)
        return (
            None
            if self.deviation is None
            else float(t.ppf(0.975, n - 1) * self.deviation / math.sqrt(n))
        )


class Row(NamedTuple):
    """A row of a table: the method, and the settings in which it differs from most runs
    on the same pictures.
    """

    method: str
    variant: tuple[tuple[str, object], ...] = ()

    @property
    def label(self) -> str:
        return ", ".join(
            [LABELS[self.method], *(f"{name}={value}" for name, value in self.variant)]
        )


def spread(values: Iterable[float]) -> Spread:
    """Mean and sample standard deviation (n - 1) of at least one value."""
    values = tuple(float(v) for v in values)
    if not values:
        raise KitError("There are no values to average: no run has been measured yet.")
    mean = sum(values) / len(values)
    if len(values) == 1:
        return Spread(mean, None, values)
    return Spread(
        mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)), values
    )


def read_run(run_dir: Path) -> dict:
    """One run's files as one record: settings, history, final measures (None while it
    is not finished), environment.
    """
    meta = read_json(run_dir / "config.json")
    checkpoint = (
        read_json(run_dir / "checkpoint.json")
        if (run_dir / "checkpoint.json").exists()
        else {"history": []}
    )
    final = (
        read_json(run_dir / "result.json")["final"]
        if (run_dir / "result.json").exists()
        else None
    )
    record = {
        "run": run_dir.name,
        "settings": meta["settings"],
        "fingerprint": meta["fingerprint"],
        "data_fingerprint": meta["data_fingerprint"],
        "history": checkpoint["history"],
        "final": final,
        "environment": read_json(run_dir / "environment.json"),
    }
    pictures = read_json(run_dir / "data.json") if (run_dir / "data.json").exists() else {}
    return record | {
        key: pictures[name]
        for name, key in (("statistics", "statistics"), ("name", "data_name"))
        if name in pictures
    }


def collect_runs(folder: str | Path) -> list[dict]:
    """Every run at or below `folder`, however deep, sorted by path; untrained encoders
    (untrained*.json) first.

    `where` is a run's folder below `folder`. The short warm-up runs that lessons start
    from (`warm-*`) are no results and are left out. The untrained encoder counts once
    for the same pictures and measures.
    """
    top = Path(folder)
    runs = []
    untrained = {}
    for here, folders, files in os.walk(top):
        path = Path(here)
        if "config.json" in files:
            folders.clear()
            if not path.name.startswith("warm-"):
                runs.append(read_run(path) | {"where": path.relative_to(top).as_posix()})
            continue
        folders[:] = sorted(set(folders) - NOT_RUNS)
        for name in sorted(
            f for f in files if f.startswith("untrained") and f.endswith(".json")
        ):
            record = read_json(path / name)
            untrained.setdefault((record["data_fingerprint"], repr(record["final"])), record)
    return [*untrained.values(), *sorted(runs, key=lambda record: record["where"])]


def method_of(record: dict) -> str:
    """The row that a record belongs to: its method, `untrained`, or cluster contrast
    with another update of the memory.
    """
    settings = record["settings"]
    if record.get("run") == "untrained":
        return "untrained"
    other = (
        settings["method"] == "cluster_contrast" and settings["memory_update"] != "instance"
    )
    return f"cluster_contrast_{settings['memory_update']}" if other else settings["method"]


def by_method(records: Sequence[dict]) -> dict[str, dict[int, dict]]:
    """{method: {seed: record}} of the finished runs, methods in the kit's order;
    settings are not looked at (`by_row`).
    """
    table: dict[str, dict[int, dict]] = {}
    for method in ORDER:
        found = {
            r["settings"]["seed"]: r for r in records if r["final"] and method_of(r) == method
        }
        if found:
            table[method] = dict(sorted(found.items()))
    return table


def data_label(record: dict) -> str:
    """What a reader calls the pictures of a record: the rendered ones by kind and
    difficulty, others by their folder.
    """
    settings = DEFAULTS | record["settings"]
    if settings["data"] != "synthetic":
        return f"{settings['data']} ({Path(settings['data_root']).name})"
    kind = {"person": "people", "vehicle": "vehicles"}[settings["kind"]]
    return f"rendered {kind}, {settings['difficulty']}"


def by_data(records: Sequence[dict]) -> dict[str, list[dict]]:
    """{label: records} for each set of pictures (their fingerprint), in order; equal
    labels get the fingerprint as well.
    """
    groups: dict[str, list[dict]] = {}
    for record in records:
        groups.setdefault(record["data_fingerprint"], []).append(record)
    labels = {key: data_label(group[-1]) for key, group in groups.items()}
    several = {label for label, n in Counter(labels.values()).items() if n > 1}
    return {
        f"{labels[key]}, {key[:6]}" if labels[key] in several else labels[key]: g
        for key, g in groups.items()
    }


def _relevant(record: dict) -> dict[str, object]:
    """The settings that tell a record from another of its method, its seed and its
    pictures.
    """
    method = method_of(record)
    if method == "untrained":
        return {}
    drop = {"method", "seed", *PICTURES, *PLACE} | (
        set() if method in ("gkd", "skd", "dkdmpl") else DISTILLATION
    )
    drop |= {"memory_update"} if method.startswith("cluster_contrast_") else set()
    return {
        name: value
        for name, value in (DEFAULTS | record["settings"]).items()
        if name not in drop
    }


def rows_of(records: Sequence[dict]) -> list[Row]:
    """The row of each record, all of the same pictures: usual is what most have, or the
    default where that is a tie.
    """
    relevant = [_relevant(record) for record in records]
    usual = {}
    for name in sorted(set().union(*relevant)):
        counts = Counter(found[name] for found in relevant if name in found)
        usual[name] = max(
            counts,
            key=lambda value, name=name, counts=counts: (
                counts[value],
                value == DEFAULTS.get(name),
            ),
        )
    return [
        Row(
            method_of(record),
            tuple(sorted((n, v) for n, v in found.items() if v != usual[n])),
        )
        for record, found in zip(records, relevant)
    ]


def by_row(records: Sequence[dict]) -> dict[Row, dict[int, dict]]:
    """{row: {seed: record}} of the finished runs on one set of pictures: methods in the
    kit's order, then variants.
    """
    table: dict[Row, dict[int, dict]] = {}
    for row, record in _finished_rows(records):
        table.setdefault(row, {})[record["settings"]["seed"]] = record
    return {row: dict(sorted(runs.items())) for row, runs in table.items()}


def repeated(records: Sequence[dict]) -> str | None:
    """The sentence that says which row and seed was run twice with different results:
    no sample of seeds; else None.
    """
    seen: dict[tuple, dict] = {}
    for row, record in _finished_rows(records):
        other = seen.setdefault((row, record["settings"]["seed"]), record)
        if row.method != "untrained" and any(
            other["final"].get(m) != record["final"].get(m) for m in MEASURES
        ):
            return (
                f"{row.label} with seed {record['settings']['seed']} was run twice "
                "with different results "
                f"({other.get('where', other['run'])}, "
                f"{record.get('where', record['run'])}): keep one of them, "
                "as a mean over seeds needs one run of each."
            )
    return None


def _finished_rows(records: Sequence[dict]) -> list[tuple[Row, dict]]:
    finished = [record for record in records if record["final"]]
    return sorted(
        zip(rows_of(finished), finished),
        key=lambda pair: (
            ORDER.index(pair[0].method),
            len(pair[0].variant),
            repr(pair[0].variant),
        ),
    )


def summary(records: Sequence[dict]) -> dict[str, dict[str, Spread]]:
    """{method: {measure: Spread over seeds}} of the final measures; measures that a run
    lacks are left out.
    """
    return {method: spreads(runs.values()) for method, runs in by_method(records).items()}


def spreads(records: Iterable[dict]) -> dict[str, Spread]:
    """{measure: Spread} over the final measures of records; measures that none has are
    left out.
    """
    records = list(records)
    return {
        m: spread(values)
        for m in MEASURES
        if (values := [r["final"][m] for r in records if r["final"].get(m) is not None])
    }


def paired_differences(
    records: Sequence[dict], baseline: str = "cluster_contrast", measure: str = "mAP"
) -> dict[str, dict[int, float]]:
    """{method: {seed: its measure minus the baseline's at the same seed}}, over the
    seeds that both have.
    """
    table = by_method(records)
    base = table.get(baseline, {})
    return {
        method: differences(runs, base, measure)
        for method, runs in table.items()
        if method not in ("untrained", "supervised", baseline)
    }


def differences(
    runs: dict[int, dict], base: dict[int, dict], measure: str
) -> dict[int, float]:
    """{seed: measure minus the base's} over the seeds at which both were measured."""
    return {
        seed: run["final"][measure] - base[seed]["final"][measure]
        for seed, run in runs.items()
        if seed in base
        and run["final"].get(measure) is not None
        and base[seed]["final"].get(measure) is not None
    }


def baseline_of(row: Row, table: dict[Row, dict[int, dict]]) -> Row | None:
    """What a row is compared with: cluster contrast with the same other settings, else
    as most runs have them.
    """
    if (
        row.method in ("untrained", "supervised")
        or row.method == "cluster_contrast"
        and not row.variant
    ):
        return None
    same = Row(
        "cluster_contrast", tuple(pair for pair in row.variant if pair[0] not in DISTILLATION)
    )
    return next(
        (
            found
            for found in (same, Row("cluster_contrast"))
            if found in table and found != row
        ),
        None,
    )


def markdown_table(records: Sequence[dict]) -> str:
    """The table of a README: one row a method; mAP, Rank-1, mINP and outliers in
    percent, mean ± deviation over seeds.

    Seconds are the median over epochs of what training took, clustering and evaluation
    not counted.
    """

    def cell(found: Spread | None, scale: float, digits: int) -> str:
        if found is None:
            return "–"
        text = f"{scale * found.mean:.{digits}f}"
        return (
            text
            if found.deviation is None
            else f"{text} ± {scale * found.deviation:.{digits}f}"
        )

    columns = (
        ("mAP %", "mAP", 100, 1),
        ("Rank-1 %", "rank1", 100, 1),
        ("mINP %", "mINP", 100, 1),
        ("ARI", "ari", 1, 2),
        ("clusters", "n_clusters", 1, 0),
        ("outliers %", "outlier_fraction", 100, 1),
    )
    lines = [
        "| method | seeds | " + " | ".join(c[0] for c in columns) + " | s an epoch |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for row, runs in by_row(records).items():
        measured = spreads(runs.values())
        cells = [cell(measured.get(key), scale, digits) for _, key, scale, digits in columns]
        times = [
            sum(e["seconds"].get(k, 0.0) for k in ("load", "train"))
            for r in runs.values()
            for e in r["history"]
        ]
        seconds = (
            f"{statistics.median(times):.1f}" if times else "–"
        )  # a run that was suspended must not tell
        lines.append(
            f"| {row.label} | {len(runs)} | " + " | ".join(cells) + f" | {seconds} |"
        )
    return "\n".join(lines)


def markdown_tables(records: Sequence[dict]) -> str:
    """`markdown_table` for each set of pictures, under its name where there are
    several.
    """
    groups = by_data(records)
    if len(groups) == 1:
        return markdown_table(records)
    return "\n\n".join(
        f"**{label}**\n\n{markdown_table(group)}" for label, group in groups.items()
    )
