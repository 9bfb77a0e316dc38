"""Two processes compute what one computes; a lost one ends the run with a sentence, and
one process goes on from there.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import open_dataset, preset
from dkdmpl_kit.training import loop as training
from dkdmpl_kit.training import processes
from dkdmpl_kit.training.control import RunControl

# timm's smallest ResNet, not pre-trained: the bundled encoder magnifies rounding a
# thousandfold on pictures this small
SMALL = {
    "backbone": "test_resnet",
    "weights": "random",
    "height": 32,
    "width": 16,
    "padding": 2,
    "evaluate_every": 2,
}
CASES = {
    "dkdmpl": {},  # batch norm over both processes
    "parts": {"skd_anchor": "augmentation", "samples_per_bn": 4, "accumulation": 2},
    "ice": {"method": "ice", "samples_per_bn": 8},
    "spcl": {"method": "spcl"},
}
WORKER = "import sys; sys.path.insert(0, sys.argv[1]); import test_processes as t; "
PARALLEL = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
]


def config_of(case, root, out, **changes):
    return preset(
        "smoke",
        data_root=str(root),
        out_dir=str(Path(out) / case),
        **(SMALL | CASES[case] | changes),
    )


@contextlib.contextmanager
def watched(seen):
    """What a fit computes on its way: the first batch's pictures, its summed gradients,
    the last memory.
    """
    real = {name: getattr(training, name) for name in ("augmented", "new_memory")}
    add = processes.add_gradients

    def keep(name, first):
        def call(*args, **options):
            made = real[name](*args, **options)
            seen.setdefault(name, made) if first else seen.update({"memory": made})
            return made

        return call

    def adding(parameters):
        parameters = list(parameters)
        add(parameters)
        seen.setdefault("gradient", torch.cat([p.grad.flatten() for p in parameters]).clone())

    training.augmented = keep("augmented", True)
    training.new_memory = keep("new_memory", False)
    processes.add_gradients = adding
    try:
        yield
    finally:
        processes.add_gradients = add
        for name, value in real.items():
            setattr(training, name, value)


def train_case(case, root, out, **changes):
    """One fit -> {"history", "pictures", "gradient", "memory", "weights"} of this
    process.
    """
    config, seen = config_of(case, root, out, **changes), {}
    processes.start("cpu")
    with watched(seen):
        result = training.fit(
            config, processes.main_first(open_dataset, config), progress=False
        )
    return {
        "history": list(result.history),
        "pictures": seen["augmented"],
        "gradient": seen["gradient"],
        "memory": seen["memory"].features,
        "weights": result.encoder.state_dict(),
    }


def worker(root, out):
    """What each of two processes does: every case, the outcome in a file of its own."""
    torch.set_num_threads(1)
    for case in CASES:
        torch.save(train_case(case, root, out), Path(out) / f"{case}-{processes.rank()}.pt")


def doomed_worker(root, out):
    """The command line, where process 1 is killed inside the second epoch."""
    from dkdmpl_kit.cli import main

    real, calls, config = training.augmented, [], config_of("dkdmpl", root, out)

    def dying(*args):
        calls.append(1)
        if processes.rank() == 1 and len(calls) == config.iterations + 2:
            os.kill(os.getpid(), 9)
        return real(*args)

    training.augmented = dying
    settings = [
        f"--{k.replace('_', '-')}={v}"
        for k, v in (SMALL | {"data_root": root, "out_dir": config.out_dir}).items()
    ]
    sys.exit(main(["train", "--preset", "smoke", *settings]))


def launch(task, root, out):
    """Run `task(root, out)` of this module in two processes."""
    script = Path(out) / f"{task}.py"
    script.write_text(f"{WORKER}t.{task}(*sys.argv[2:])")
    return subprocess.run(
        [*PARALLEL, str(script), str(Path(__file__).parent), str(root), str(out)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def root(tiny_config, tiny_dataset):
    return tiny_config.data_root


@pytest.fixture(scope="module")
def two(root, tmp_path_factory):
    """{case: (process 0's outcome, process 1's)}, and the folder of their runs under
    "folder".
    """
    out = tmp_path_factory.mktemp("two")
    done = launch("worker", root, out)
    assert done.returncode == 0, done.stderr
    return {
        case: [torch.load(out / f"{case}-{r}.pt", weights_only=False) for r in (0, 1)]
        for case in CASES
    } | {"folder": out}


@pytest.fixture(scope="module")
def one(root, tmp_path_factory):
    """case -> one process' outcome, unsplit (accumulation=1); the folder of its runs is
    `one.folder`.
    """
    made, folder = {}, tmp_path_factory.mktemp("one")

    def outcome(case):
        if case not in made:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)  # as the two have: another number rounds otherwise
            try:
                made[case] = train_case(case, root, folder, accumulation=1)
            finally:
                torch.set_num_threads(threads)
        return made[case]

    outcome.folder = folder
    return outcome


def labels_of(out, case, epoch):
    with np.load(
        next((Path(out) / case / "runs").glob(f"*/epochs/epoch_{epoch:03d}.npz"))
    ) as kept:
        return kept["labels"]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_losses_gradients_and_pseudo_labels_of_one(case, two, one):
    alone, (first, second) = one(case), two[case]
    assert torch.equal(torch.cat([first["pictures"], second["pictures"]]), alone["pictures"])
    assert torch.linalg.vector_norm(
        first["gradient"] - alone["gradient"]
    ) < 1e-4 * torch.linalg.vector_norm(alone["gradient"])
    for mine, theirs, rounding in zip(
        first["history"], alone["history"], (1e-5, 1e-4), strict=True
    ):
        # Adam enlarges the last digits of the first
        for name in (
            "loss",
            "loss_cc",
            "loss_gkd",
            "loss_skd",
        ):
            assert mine[name] == pytest.approx(theirs[name], rel=rounding)
    # the second clustering is of features that the first epoch trained
    for epoch in (0, 1):
        assert (
            labels_of(two["folder"], case, epoch) == labels_of(one.folder, case, epoch)
        ).all()
    assert first["history"][-1]["mAP"] == pytest.approx(alone["history"][-1]["mAP"], abs=0.02)


@pytest.mark.parametrize("case", CASES)
def test_both_processes_end_with_the_same_memory_weights_and_record(case, two):
    first, second = two[case]
    assert torch.equal(first["memory"], second["memory"]) and torch.equal(
        first["gradient"], second["gradient"]
    )
    assert all(
        torch.equal(first["weights"][k], second["weights"][k]) for k in first["weights"]
    )
    assert first["history"] == second["history"] and first["history"][0]["processes"] == 2


def test_a_result_says_how_many_processes_made_it_and_the_checkpoint_holds_nothing_of_them(
    two, one
):
    from safetensors import safe_open

    one("dkdmpl")
    runs = [
        next((folder / "dkdmpl" / "runs").iterdir()) for folder in (two["folder"], one.folder)
    ]
    assert [json.loads((run / "result.json").read_text())["processes"] for run in runs] == [
        [2],
        [1],
    ]
    began = [json.loads((run / "environment.json").read_text())["processes"] for run in runs]
    assert began == [{"count": 2, "backend": "gloo"}, {"count": 1, "backend": None}]
    keys = []
    for run in runs:
        with safe_open(next(run.glob("checkpoint-*.safetensors")), "pt") as file:
            keys.append(sorted(file.keys()))
    assert keys[0] == keys[1]


def test_a_killed_process_ends_the_run_with_a_sentence_and_one_process_resumes_it(
    root, one, tmp_path
):
    done = launch("doomed_worker", root, tmp_path)
    assert done.returncode != 0
    assert re.search(
        "Process 0 of 2 (lost another process|was told to stop) in epoch 1.*--resume goes on",
        done.stderr,
    )
    assert "exitcode  : -9" in done.stderr  # the launcher's own account
    config = config_of("dkdmpl", root, tmp_path)
    assert json.loads((config.run_dir / "checkpoint.json").read_text())["epoch"] == 1
    resumed = training.fit(config, open_dataset(config), resume=True, progress=False)
    assert [r["processes"] for r in resumed.history] == [2, 1]
    whole = one("dkdmpl")["history"]
    for mine, other in zip(resumed.history, whole, strict=True):
        assert mine.keys() == other.keys() and mine["mAP"] == pytest.approx(other["mAP"])
        for name in ("loss", "loss_gkd", "loss_skd", "n_clusters", "outlier_fraction", "ari"):
            assert mine[name] == pytest.approx(other[name], rel=1e-5)
    assert json.loads((config.run_dir / "result.json").read_text())["processes"] == [1, 2]


def test_a_single_process_needs_no_launcher_and_nothing_changes(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert processes.start("cpu") == "cpu" and (
        processes.rank(),
        processes.world_size(),
    ) == (0, 1)
    z = torch.rand(3, 2, requires_grad=True)
    assert processes.gather(z, 3, slice(0, 3)) is z and processes.once(max, 2, 3) == 3
    assert processes.share(7) == slice(0, 7) and processes.backend() is None


def test_rows_are_cut_into_whole_units_and_none_is_lost():
    assert processes.cut(10, 3) == [slice(0, 3), slice(3, 6), slice(6, 10)]
    assert processes.cut(12, 2, unit=4) == [slice(0, 4), slice(4, 12)]
    assert processes.cut(4, 3, unit=4) == [slice(0, 0), slice(0, 0), slice(0, 4)]
    for count, pieces, unit in ((17, 4, 1), (16, 3, 4), (7, 2, 3)):
        rows = [i for part in processes.cut(count, pieces, unit) for i in range(count)[part]]
        assert rows == list(range(count))


def test_too_many_processes_for_a_batch_or_a_machine_are_one_sentence(monkeypatch):
    monkeypatch.setattr(processes, "world_size", lambda: 5)
    with pytest.raises(
        KitError, match="5 processes cannot share a batch of 16 pictures in groups of 4"
    ):
        processes.share(16, 4)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(KitError, match="at most one process a GPU"):
        processes.start("cuda")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(KitError, match="torchrun"):
        processes.start("cpu")


def test_a_handle_that_pauses_is_refused_with_several_processes(
    tiny_config, tiny_dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr(processes, "world_size", lambda: 2)
    with pytest.raises(KitError, match="RunControl"):
        training.fit(
            tiny_config.replace(out_dir=str(tmp_path)),
            tiny_dataset,
            progress=False,
            control=RunControl(),
        )
    assert not (tmp_path / "runs").exists()
