"""Runs as records: the files of each run folder become one dictionary."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import OPTIONS, Config, check_record, read_record
from dkdmpl_kit.experiment.folders import STARTED
from dkdmpl_kit.studies.files import read_if_there
from dkdmpl_kit.studies.results.measures import MEASURES

NOT_RUNS = {  # folders beside or inside runs that hold none
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


NUMBER = (int, float, type(None))  # what a measure may be
RECORD = {  # the fields of a run, or of an untrained encoder, as one record
    "run": str,
    "settings": dict,
    "history": list,
    "data_fingerprint": str,
    "final": (dict, type(None)),
}


def read_run(run_dir: Path) -> dict:
    """The files of one run as one record.

    {"run": its folder's name, "settings", "fingerprint", "data_fingerprint", "history":
    a record an epoch, "final": measures or None while the run is not finished,
    "environment"}, and "statistics" and "data_name" where the run says which pictures it
    used. KitError names a file that is missing or broken.
    """
    marker = run_dir / "config.json"
    begun = read_record(marker, STARTED)
    pictures = read_if_there(run_dir / "data.json", {}, {})
    epochs = read_if_there(run_dir / "checkpoint.json", {"history": []}, {"history": list})
    result = read_if_there(run_dir / "result.json", {"final": None}, {"final": dict})
    record = {
        "run": run_dir.name,
        "settings": begun["settings"],
        "fingerprint": begun["fingerprint"],
        "data_fingerprint": begun["data_fingerprint"],
        "history": epochs["history"],
        "final": result["final"],
        "environment": read_record(run_dir / "environment.json", {}),
    }
    if "statistics" in pictures:
        check_record(pictures, {"statistics": dict}, run_dir / "data.json")
        record["statistics"] = pictures["statistics"]
    if "name" in pictures:
        record["data_name"] = str(pictures["name"])
    check_record(
        record["settings"], {"method": str, "seed": int}, f"{marker} (its 'settings')"
    )
    _check_settings(record["settings"], marker)
    _check_measures(record, run_dir / "checkpoint.json", run_dir / "result.json")
    return record


def _check_settings(settings: dict, path: Path) -> None:
    """KitError where settings that tables are made by are not what `Config` allows."""
    where = f"{path} (its 'settings')"
    present = {field.name: field for field in dataclasses.fields(Config)}
    for name, value in settings.items():
        if name in present and not isinstance(value, (str, int, float, bool)):
            check_record(settings, {name: type(present[name].default)}, where)
        if name in OPTIONS and value not in OPTIONS[name]:
            raise KitError(
                f"{path} was edited: {name}={value!r} is not one of "
                f"{', '.join(OPTIONS[name])}; restore it."
            )


def _check_measures(record: dict, history: Path, result: Path) -> None:
    """KitError where a measure of an epoch, or of the result, is not a number or null."""
    measures = dict.fromkeys((*MEASURES, "loss"), NUMBER)
    for epoch in record["history"]:
        kinds = measures | {"seconds": dict}
        check_record(epoch, {}, f"{history} (its 'history')")
        present = {name: kind for name, kind in kinds.items() if name in epoch}
        check_record(epoch, present, f"{history} (its 'history')")
        times = epoch.get("seconds", {})
        check_record(times, dict.fromkeys(times, NUMBER), f"{history} (its 'seconds')")
    final = record["final"] or {}
    check_record(final, dict.fromkeys(final, NUMBER), f"{result} (its 'final')")


def collect_runs(folder: str | Path, left_out: list[str] | None = None) -> list[dict]:
    """Every run at or below `folder`, however deep, sorted by path; records of untrained
    encoders (untrained*.json) come first.

    Each record gets `where`, the run's folder below `folder`. The short warm-up runs that
    lessons start from (`warm-*`) are not results and are left out. An untrained encoder
    counts once for the same pictures and measures.

    KitError for a damaged run; where there is a list `left_out`, the run is left out
    and the sentence goes there.
    """
    top = Path(folder)
    runs = []
    untrained = {}
    for here, folders, files in os.walk(top):
        path = Path(here)
        if "config.json" in files:
            folders.clear()
            if not path.name.startswith("warm-"):
                with _unless_damaged(left_out):
                    where = {"where": path.relative_to(top).as_posix()}
                    runs.append(read_run(path) | where)
            continue
        folders[:] = sorted(set(folders) - NOT_RUNS)
        for file in sorted(path.glob("untrained*.json")):
            with _unless_damaged(left_out):
                record = read_record(file, RECORD)
                _check_settings(record["settings"], file)
                _check_measures(record, file, file)
                key = (record["data_fingerprint"], repr(record["final"]))
                untrained.setdefault(key, record)
    return [*untrained.values(), *sorted(runs, key=lambda record: record["where"])]


@contextlib.contextmanager
def _unless_damaged(left_out: list[str] | None) -> Iterator[None]:
    """Write a `KitError` to the list, where there is one, and go on."""
    try:
        yield
    except KitError as error:
        if left_out is None:
            raise
        left_out.append(str(error))


def published(study: str) -> list[dict]:
    """The records of figures/<study>, which `make <study>` publishes in a checkout; none,
    and a printed line that says so, where it is not there.
    """
    from dkdmpl_kit.experiment import read_json

    path = Path(__file__).resolve().parents[3] / "figures" / study / "records.json"
    if not path.exists():
        print(
            f"figures/{study}/records.json is not in this checkout: `make {study}` makes it."
        )
        return []
    content = read_json(path)
    return content["records"] if isinstance(content, dict) else content
