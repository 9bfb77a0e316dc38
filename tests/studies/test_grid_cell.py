"""What a cell of a grid leaves beside the run: its log, TensorBoard's scalars, and a
lock that ends with its process.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import preset, write_json
from dkdmpl_kit.studies import grid_cell as cells

RECORD = {
    "epoch": 0,
    "loss": 2.5,
    "n_clusters": 7,
    "outlier_fraction": 0.25,
    "ari": None,
    "mAP": 0.125,
    "seconds": {"train": 1.0},
}


def test_every_epoch_is_a_line_and_a_start_says_where_it_goes_on(
    tmp_path, capsys, monkeypatch
):
    config = preset("smoke", out_dir=str(tmp_path), run_name="r")
    monkeypatch.setattr(
        "dkdmpl_kit.training.tensorboard.tensorboard_writer",
        lambda folder: lambda record: None,
    )
    cells.epoch_log(config)(RECORD)
    write_json(config.run_dir / "checkpoint.json", {"epoch": 1})
    cells.epoch_log(config)
    lines = [
        line.split(" ", 1)[1]
        for line in (config.run_dir / "train.log").read_text().splitlines()
    ]
    assert lines[1] == "epoch   0  loss 2.5  clusters 7  outliers 0.25  mAP 0.125"
    assert lines[0].startswith("r: from epoch 0 to 2, process ")
    assert lines[2].startswith("r: from epoch 1 to 2, process ")
    assert capsys.readouterr().out.splitlines() == lines


def test_the_log_feeds_tensorboard_and_does_without_it(tmp_path, monkeypatch):
    config = preset("smoke", out_dir=str(tmp_path), run_name="r")
    written = []
    monkeypatch.setattr(
        "dkdmpl_kit.training.tensorboard.tensorboard_writer",
        lambda folder: lambda record: written.append((folder.name, record["epoch"])),
    )
    cells.epoch_log(config)(RECORD)
    assert written == [("r", 0)]

    def missing(folder):
        raise KitError("TensorBoard is not installed")

    monkeypatch.setattr("dkdmpl_kit.training.tensorboard.tensorboard_writer", missing)
    cells.epoch_log(config)(RECORD)
    assert (config.run_dir / "train.log").read_text().count("epoch   0  loss") == 2
    assert len(written) == 1


def test_a_lock_is_held_once_waited_for_and_given_back(tmp_path):
    path = tmp_path / "deep" / "lock"
    order = []
    stop = threading.Event()
    stop.set()

    def wait_for_it(name: str, stop: threading.Event | None) -> None:
        with cells.claim(path, stop=stop) as mine:
            order.append((name, mine))

    with cells.claim(path) as mine:
        assert mine
        with cells.claim(path, wait=False) as again:
            assert not again
        stopped = threading.Thread(target=wait_for_it, args=("stopped", stop))
        stopped.start()
        stopped.join()
        patient = threading.Thread(target=wait_for_it, args=("patient", None))
        patient.start()
        time.sleep(0.3)
        order.append(("first", True))
    patient.join()
    assert order == [("stopped", False), ("first", True), ("patient", True)]


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom dkdmpl_kit.studies.grid_cell "
        "import claim\n"
        "with claim(Path(sys.argv[1])):\n    print('held', flush=True)\n    "
        "sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    with cells.claim(tmp_path / "lock", wait=False) as mine:
        assert not mine
    process.kill()
    process.wait()
    with cells.claim(tmp_path / "lock", wait=False) as mine:
        assert mine
