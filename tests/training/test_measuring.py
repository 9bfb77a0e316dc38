"""An epoch is kept before the test split is measured: what fails then loses no epoch."""

from __future__ import annotations

import json

import pytest
import torch

from dkdmpl_kit.errors import KitError, shortage_named
from dkdmpl_kit.experiment import read_json
from dkdmpl_kit.training import fit, loop
from dkdmpl_kit.training.truth import Monitor

TIMES = ("seconds", "peak_memory_mb")


def results(folder) -> tuple[list[dict], dict]:
    """(history, result), without the times that no two runs share."""
    history = read_json(folder / "checkpoint.json")["history"]
    rows = [{k: v for k, v in row.items() if k not in TIMES} for row in history]
    return rows, read_json(folder / "result.json")


def test_what_fails_while_measuring_loses_no_epoch_and_changes_no_result(
    tiny_config, tiny_dataset, tmp_path, monkeypatch
):
    config = tiny_config.replace(out_dir=str(tmp_path / "whole"), epochs=2)
    whole = fit(config, tiny_dataset, progress=False)
    broken = config.replace(out_dir=str(tmp_path / "broken"))

    def too_large(self, encoder):
        raise MemoryError("Unable to allocate 7.52 GiB")

    for epoch in (1, 2):
        with (
            monkeypatch.context() as patch,
            pytest.raises(KitError, match="too little memory"),
        ):
            patch.setattr(Monitor, "ranking", too_large)
            fit(broken, tiny_dataset, resume=True, progress=False)
        kept = read_json(broken.run_dir / "checkpoint.json")
        assert kept["epoch"] == 1 and kept["history"][-1]["mAP"] is None, epoch
    told = []
    resumed = fit(broken, tiny_dataset, resume=True, progress=False, on_epoch=told.append)
    assert results(resumed.run_dir) == results(whole.run_dir)
    assert all(row["mAP"] is not None for row in resumed.history)
    lines = (broken.run_dir / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["mAP"] for line in lines] == [
        row["mAP"] for row in whole.history
    ]


def test_the_time_of_measuring_is_in_the_record(tiny_config, tiny_dataset, tmp_path):
    config = tiny_config.replace(out_dir=str(tmp_path), epochs=2, evaluate_every=2)
    history = fit(config, tiny_dataset, progress=False).history
    assert history[0]["mAP"] is None and history[0]["seconds"]["evaluate"] == 0
    assert history[1]["mAP"] is not None and history[1]["seconds"]["evaluate"] > 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"
        ),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
)
def test_too_little_memory_in_a_step_names_the_settings_to_turn(
    tiny_config, tiny_dataset, tmp_path, monkeypatch, error
):
    def fails(*_):
        raise error

    monkeypatch.setattr(loop, "step", fails)
    with pytest.raises(KitError) as told:
        fit(tiny_config.replace(out_dir=str(tmp_path)), tiny_dataset, progress=False)
    sentence = str(told.value)
    assert "too little memory" in sentence and "\n" not in sentence
    for setting in ("accumulation", "batch_clusters", "height", "precision=bf16"):
        assert setting in sentence


def test_what_torch_really_says_is_understood_and_other_errors_pass():
    with pytest.raises(KitError, match="too little memory"), shortage_named():
        torch.empty(2**55)
    with pytest.raises(RuntimeError, match="shapes"), shortage_named():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(KitError, match="^as it is$"), shortage_named():
        raise KitError("as it is")


def test_pictures_beyond_the_memory_change_no_result(
    tiny_config, tiny_dataset, tmp_path, monkeypatch
):
    """Training maps a file, measuring decodes batch by batch."""
    from dkdmpl_kit.data import pictures

    held = fit(
        tiny_config.replace(out_dir=str(tmp_path / "held")), tiny_dataset, progress=False
    )
    monkeypatch.setattr(pictures, "MEMORY_MB", -1e9)  # other tests' stores may still live
    mapped = fit(
        tiny_config.replace(out_dir=str(tmp_path / "mapped")), tiny_dataset, progress=False
    )
    assert results(mapped.run_dir) == results(held.run_dir)
