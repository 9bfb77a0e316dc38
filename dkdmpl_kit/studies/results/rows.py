"""Records as rows of a table: by method, by the pictures, and by settings that vary."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dkdmpl_kit.experiment import METHOD_LABELS, METHODS, PICTURES, PLACE, Config
from dkdmpl_kit.experiment.config import GKD_METHODS, SKD_METHODS
from dkdmpl_kit.studies.results.measures import MEASURES

ORDER = (
    "untrained",
    METHODS[0],
    "cluster_contrast_mean",
    "cluster_contrast_hardest",
    *METHODS[1:],
)
DEFAULTS = {field.name: field.default for field in dataclasses.fields(Config)}
DISTILLATION = {  # settings without a meaning for methods that do not distil
    "gkd_weight",
    "gkd_teacher",
    "teacher_temperature",
    "teacher_cameras",
    "teacher_clusters",
    "outliers",
    "distillation_temperature",
    "skd_weight",
    "skd_anchor",
    "skd_divergence",
    "warmup_epochs",
}
DISTILLING = {*GKD_METHODS, *SKD_METHODS}
WITHOUT_BASELINE = ("untrained", "supervised")  # never compared with cluster contrast


class Row(NamedTuple):
    """A row of a table: the method, and the settings in which it differs from most runs
    on the same pictures.
    """

    method: str
    variant: tuple[tuple[str, object], ...] = ()

    @property
    def label(self) -> str:
        """The method's name and, with commas, every setting of the variant."""
        settings = [f"{name}={value}" for name, value in self.variant]
        return ", ".join([METHOD_LABELS[self.method], *settings])


def method_of(record: dict) -> str:
    """The method of a record: its own, `untrained`, or cluster contrast with another
    update of the memory.
    """
    if record.get("run") == "untrained":
        return "untrained"
    method = record["settings"]["method"]
    if method != "cluster_contrast":
        return method
    update = record["settings"]["memory_update"]
    return method if update == "instance" else f"{method}_{update}"


def by_method(records: Sequence[dict]) -> dict[str, dict[int, dict]]:
    """{method: {seed: record}} of the finished runs, methods in the kit's order;
    settings are not looked at (`by_row`).
    """
    table: dict[str, dict[int, dict]] = {}
    for method in ORDER:
        found = {
            record["settings"]["seed"]: record
            for record in records
            if record["final"] and method_of(record) == method
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
        place = settings["data_root"] or settings["table"]
        return f"{settings['data']} ({Path(place).name})"
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
    uses = Counter(labels.values())
    named = {}
    for fingerprint, group in groups.items():
        label = labels[fingerprint]
        named[label if uses[label] == 1 else f"{label}, {fingerprint[:6]}"] = group
    return named


def rows_of(records: Sequence[dict]) -> list[Row]:
    """The row of each record, all on the same pictures.

    A setting's usual value is the one that most records have, or the default where that
    is a tie; what differs from it makes a variant.
    """
    relevant = [_relevant(record) for record in records]
    usual = {}
    for name in sorted(set().union(*relevant)):
        uses = Counter(settings[name] for settings in relevant if name in settings)
        most = max(uses.values())
        tied = [value for value, n in uses.items() if n == most]
        default = DEFAULTS.get(name)
        usual[name] = default if default in tied else tied[0]
    rows = []
    for record, settings in zip(records, relevant):
        variant = [(name, v) for name, v in sorted(settings.items()) if v != usual[name]]
        rows.append(Row(method_of(record), tuple(variant)))
    return rows


def _relevant(record: dict) -> dict[str, object]:
    """The settings that tell a record from another of its method, seed and pictures."""
    method = method_of(record)
    if method == "untrained":
        return {}
    dropped = {"method", "seed", *PICTURES, *PLACE}
    if method not in DISTILLING:
        dropped |= DISTILLATION
    if method.startswith("cluster_contrast_"):
        dropped.add("memory_update")
    settings = DEFAULTS | record["settings"]
    return {name: value for name, value in settings.items() if name not in dropped}


def _finished_rows(records: Sequence[dict]) -> list[tuple[Row, dict]]:
    """(row, record) of the finished runs: methods in the kit's order, then variants."""
    finished = [record for record in records if record["final"]]

    def place(pair: tuple[Row, dict]) -> tuple:
        row, _ = pair
        return ORDER.index(row.method), len(row.variant), repr(row.variant)

    return sorted(zip(rows_of(finished), finished), key=place)


def by_row(records: Sequence[dict]) -> dict[Row, dict[int, dict]]:
    """{row: {seed: record}} of the finished runs on one set of pictures: methods in the
    kit's order, then variants.
    """
    table: dict[Row, dict[int, dict]] = {}
    for row, record in _finished_rows(records):
        table.setdefault(row, {})[record["settings"]["seed"]] = record
    return {row: dict(sorted(runs.items())) for row, runs in table.items()}


def contradiction(records: Sequence[dict]) -> str | None:
    """The sentence that says which row and seed was run twice with different results;
    None where there is none. Such runs are not a sample of seeds.
    """
    seen: dict[tuple, dict] = {}
    for row, record in _finished_rows(records):
        seed = record["settings"]["seed"]
        other = seen.setdefault((row, seed), record)
        if row.method == "untrained":
            continue
        if any(other["final"].get(m) != record["final"].get(m) for m in MEASURES):
            places = [found.get("where", found["run"]) for found in (other, record)]
            return (
                f"{row.label} with seed {seed} was run twice with different results "
                f"({', '.join(places)}): keep one of them, as a mean over seeds needs one "
                "run of each."
            )
    return None


def baseline_of(row: Row, table: dict[Row, dict[int, dict]]) -> Row | None:
    """The row that a row is compared with: cluster contrast with the same other
    settings, else as most runs have them; None where there is none.
    """
    plain = Row("cluster_contrast")
    if row.method in WITHOUT_BASELINE or row == plain:
        return None
    shared = tuple(pair for pair in row.variant if pair[0] not in DISTILLATION)
    for baseline in (Row("cluster_contrast", shared), plain):
        if baseline in table and baseline != row:
            return baseline
    return None
