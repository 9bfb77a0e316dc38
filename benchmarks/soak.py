"""A run that is killed again and again ends as one that never was: `python -m
benchmarks.soak [--kills 50]`.

One training is left alone. Others of the same settings are ended at random moments, by
SIGKILL, SIGTERM, SIGINT or a disk that is full (no file may grow beyond a random size), and
resumed until `--kills` of them have fallen; every one must end with the same weights,
records and files. Another training goes on for 200 epochs, and its peak memory must stay
where it was after 50. Writes figures/soak.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from tqdm.auto import tqdm

from dkdmpl_kit.experiment import environment, write_json

ROOT = Path(__file__).resolve().parents[1]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
FULL_DISK = "full disk"
ENDS = (*(which.name for which in SIGNALS), FULL_DISK)
LARGEST = 45 * 2**20  # bytes: a little more than the largest file of a run
EPOCHS, SETTLED = 200, 50  # of the long training, and after how many memory counts
GROWTH = 0.05  # of the peak memory since then, that is borne
TIMES = ("seconds", "peak_memory_mb")  # of a record: they differ between any two runs
PATIENCE = 300  # seconds for one process


def command(out: Path, data: Path, epochs: int = 4, iterations: int = 6) -> list[str]:
    """One training; killed or not, the same."""
    settings = ("--epochs", str(epochs), "--iterations", str(iterations), "--seed", "0")
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


def full_disk(size: int) -> Callable[[], None]:
    """What makes every write beyond `size` bytes of a file fail in a new process, as on a
    disk without room.
    """
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def peaks_of_memory(out: Path, data: Path) -> list[float]:
    """Peak resident memory in MB after each epoch of the long training."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command(out, data, EPOCHS, 2), check=True, env=env)
    (run,) = (out / "runs").iterdir()
    lines = (run / "history.jsonl").read_text().splitlines()
    return [json.loads(text)["peak_memory_mb"] for text in lines]


def killed_run(out: Path, data: Path, seconds: float, draws: random.Random) -> list[str]:
    """Start, end at a random moment, resume, ... until it is finished; what ended it.

    seconds: what an undisturbed run takes, of which a kill falls at a random part; each
    time the run may live a little longer, so that it comes to an end.
    """
    fallen = []
    while True:
        which = draws.choice(ENDS)
        # a run that is refused room again and again would never end
        small = which == FULL_DISK and fallen.count(FULL_DISK) < 3
        size = draws.randrange(LARGEST) if small else None
        process = subprocess.Popen(
            command(out, data),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            preexec_fn=full_disk(size) if small else None,
        )
        try:
            wait = draws.uniform(0.2, 1.0) * seconds * (1 + 0.1 * len(fallen))
            process.wait(timeout=wait)
        except subprocess.TimeoutExpired:
            name = draws.choice(ENDS[:-1]) if which == FULL_DISK else which
            process.send_signal(signal.Signals[name])
            process.wait(timeout=PATIENCE)
            fallen.append(name)
            continue
        if small and process.returncode == 2:  # refused in one sentence
            fallen.append(FULL_DISK)
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
        memory = peaks_of_memory(place / "long", data)
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
    growth = memory[-1] / memory[SETTLED - 1] - 1
    result = {
        "kills": {name: kills.count(name) for name in ENDS},
        "runs": len(runs),
        "ends that differ": sum(bool(run["differs in"]) for run in runs),
        "peak memory grew": {
            f"after epoch {SETTLED}": memory[SETTLED - 1],
            f"after epoch {EPOCHS}": memory[-1],
            "share": round(growth, 4),
        },
        "seconds of an undisturbed run": round(seconds, 1),
        "each": runs,
        "environment": environment(),
    }
    write_json(args.out, result)
    print(json.dumps({name: result[name] for name in list(result)[:5]}))
    return int(result["ends that differ"] > 0 or growth > GROWTH)


if __name__ == "__main__":
    sys.exit(main())
