"""TensorBoard logs: every number of every epoch, once, whatever happened in between."""

from __future__ import annotations

import json
import sys

import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.training.tensorboard import tensorboard_writer

RECORDS = [
    {"epoch": e, "loss": 2.0 - e, "mAP": None if e == 0 else 0.5, "seconds": {"train": 1.5}}
    for e in range(4)
]


def keep(run_dir, count):
    """What the loop leaves before it calls on_epoch; the last of those records."""
    (run_dir / "history.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in RECORDS[:count])
    )
    return RECORDS[count - 1]


def logged(run_dir):
    """{name: [(step, value), ...]} as TensorBoard reads them, from all files of the
    folder.
    """
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found = {}
    for path in sorted((run_dir / "tensorboard").iterdir()):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(
                    (event.step, value.tensor.float_val[0])
                )
    return found


def test_a_run_that_was_cut_and_resumed_has_every_epoch_once(tmp_path):
    first = tensorboard_writer(tmp_path)
    first(keep(tmp_path, 1))
    first(keep(tmp_path, 2))
    keep(tmp_path, 3)  # killed after its checkpoint, before its log
    tensorboard_writer(tmp_path)(keep(tmp_path, 4))
    found = logged(tmp_path)
    assert found["loss"] == [(0, 2.0), (1, 1.0), (2, 0.0), (3, -1.0)]
    # what was not measured is no number
    assert [step for step, _ in found["mAP"]] == [
        1,
        2,
        3,
    ]
    assert found["seconds/train"][0] == (0, 1.5) and "epoch" not in found


def test_a_missing_package_is_named_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(KitError, match="pip install tensorboard"):
        tensorboard_writer(tmp_path)


def test_the_command_line_logs_a_run_and_names_its_best_epoch(
    tiny_config, tiny_dataset, tmp_path, capsys
):
    from dkdmpl_kit.cli import main

    small = [
        "--backbone=test_resnet",
        "--weights=random",
        "--height=32",
        "--width=16",
        "--padding=2",
    ]
    assert (
        main(
            [
                "train",
                "--preset=smoke",
                "--quiet",
                "--tensorboard",
                f"--data-root={tiny_config.data_root}",
                f"--out-dir={tmp_path}",
                *small,
            ]
        )
        == 0
    )
    found = logged(tmp_path / "runs" / "dkdmpl-seed0")
    assert [step for step, _ in found["loss_skd"]] == [0, 1] and found["processes"] == [
        (0, 1.0),
        (1, 1.0),
    ]
    best = max(found["mAP"], key=lambda point: point[1])
    assert (
        f"best measured epoch: {best[0]}, mAP {best[1]:.4g} (chosen on the test split)"
        in capsys.readouterr().out
    )
