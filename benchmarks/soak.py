"""A run that is killed again and again ends as one that never was: `python -m
benchmarks.soak [--kills 50]`.

One training is left alone. Others of the same settings are killed at random moments, by
SIGKILL, SIGTERM or SIGINT, and resumed until `--kills` kills have fallen; every one of them
must end with the same weights, records and files. Writes figures/soak.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from tqdm.auto import tqdm

from dkdmpl_kit.experiment import environment, write_json

ROOT = Path(__file__).resolve().parents[1]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TIMES = ("seconds", "peak_memory_mb")  # of a record: they differ between any two runs
PATIENCE = 300  # seconds for one process


def command(out: Path, data: Path) -> list[str]:
    """One training; killed or not, the same."""
    settings = ("--epochs", "4", "--iterations", "6", "--seed", "0")
    places = ("--out-dir", str(out), "--data-root", str(data))
    train = (sys.executable, "-m", "dkdmpl_kit.cli", "train", "--preset", "smoke")
    return [*train, *settings, *places, "--quiet", "--resume"]


def ends(out: Path) -> dict:
    """What a finished run left: weights, records without times, names of files."""
    (run,) = (out / "runs").iterdir()
    lines = (run / "history.jsonl").read_text().splitlines()
    records = [
        {name: value for name, value in json.loads(text).items() if name not in TIMES}
        for text in lines
    ]
    checkpoint = json.loads((run / "checkpoint.json").read_text())
    return {
        "records": records,
        "epoch": checkpoint.get("epoch"),
        "weights": {path.name: load_file(path) for path in run.glob("*.safetensors")},
        "files": sorted(
            path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()
        ),
        "final": json.loads((run / "result.json").read_text())["final"],
    }


def same(one: object, other: object) -> bool:
    """Equal, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(same(one[name], other[name]) for name in one)
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def killed_run(out: Path, data: Path, seconds: float, draws: random.Random) -> list[str]:
    """Start, kill at a random moment, resume, ... until it ends; the signals that fell.

    seconds: what an undisturbed run takes, of which a kill falls at a random part; each
    time the run may live a little longer, so that it comes to an end.
    """
    fallen = []
    while True:
        process = subprocess.Popen(
            command(out, data),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        try:
            wait = draws.uniform(0.2, 1.0) * seconds * (1 + 0.1 * len(fallen))
            process.wait(timeout=wait)
        except subprocess.TimeoutExpired:
            which = draws.choice(SIGNALS)
            process.send_signal(which)
            process.wait(timeout=PATIENCE)
            fallen.append(which.name)
            continue
        if process.returncode != 0:
            raise SystemExit(f"a resumed run ended with {process.returncode} after {fallen}")
        return fallen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of moments and signals")
    parser.add_argument("--out", type=Path, default=ROOT / "figures" / "soak.json")
    args = parser.parse_args()
    draws = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        data = place / "people"
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        # the first renders the pictures too, so the second is the one that is timed
        subprocess.run(command(place / "first", data), check=True, env=env)
        began = time.monotonic()
        subprocess.run(command(place / "alone", data), check=True, env=env)
        seconds = time.monotonic() - began
        alone = ends(place / "alone")
        runs = []
        with tqdm(total=args.kills, desc="kills", unit="kill") as bar:
            while sum(len(run["signals"]) for run in runs) < args.kills:
                out = place / f"killed-{len(runs)}"
                signals = killed_run(out, data, seconds, draws)
                found = ends(out)
                differ = sorted(name for name in alone if not same(alone[name], found[name]))
                runs.append({"signals": signals, "differs in": differ})
                bar.update(len(signals))
    kills = [name for run in runs for name in run["signals"]]
    result = {
        "kills": {which.name: kills.count(which.name) for which in SIGNALS},
        "runs": len(runs),
        "ends that differ": sum(bool(run["differs in"]) for run in runs),
        "seconds of an undisturbed run": round(seconds, 1),
        "each": runs,
        "environment": environment(),
    }
    write_json(args.out, result)
    print(json.dumps({name: result[name] for name in list(result)[:4]}))
    return int(result["ends that differ"] > 0)


if __name__ == "__main__":
    sys.exit(main())
