"""Runs as records: the files of each run folder become one dictionary."""

from __future__ import annotations

import os
from pathlib import Path

from dkdmpl_kit.experiment import read_json
from dkdmpl_kit.studies.files import read_if_there

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


def read_run(run_dir: Path) -> dict:
    """The files of one run as one record.

    {"run": its folder's name, "settings", "fingerprint", "data_fingerprint", "history":
    a record an epoch, "final": measures or None while the run is not finished,
    "environment"}, and "statistics" and "data_name" where the run says which pictures it
    used. KitError names a file that is missing or broken.
    """
    started = read_json(run_dir / "config.json")
    pictures = read_if_there(run_dir / "data.json", {})
    record = {
        "run": run_dir.name,
        "settings": started["settings"],
        "fingerprint": started["fingerprint"],
        "data_fingerprint": started["data_fingerprint"],
        "history": read_if_there(run_dir / "checkpoint.json", {"history": []})["history"],
        "final": read_if_there(run_dir / "result.json", {"final": None})["final"],
        "environment": read_json(run_dir / "environment.json"),
    }
    if "statistics" in pictures:
        record["statistics"] = pictures["statistics"]
    if "name" in pictures:
        record["data_name"] = pictures["name"]
    return record


def collect_runs(folder: str | Path) -> list[dict]:
    """Every run at or below `folder`, however deep, sorted by path; records of untrained
    encoders (untrained*.json) come first.

    Each record gets `where`, the run's folder below `folder`. The short warm-up runs that
    lessons start from (`warm-*`) are not results and are left out. An untrained encoder
    counts once for the same pictures and measures.
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
        for file in sorted(path.glob("untrained*.json")):
            record = read_json(file)
            untrained.setdefault((record["data_fingerprint"], repr(record["final"])), record)
    return [*untrained.values(), *sorted(runs, key=lambda record: record["where"])]
