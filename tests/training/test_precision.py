"""The machine under a run: what "auto" chooses and writes down, the clock of stages,
peak memory.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.training import precision as machine
from dkdmpl_kit.training.precision import StageClock, choose_precision, peak_memory_mb

SHAPE = (6, 3, 32, 32)
SPEEDS = {
    ("training", "fp32", "contiguous"): 4.0,
    ("training", "fp32", "channels_last"): 3.0,
    ("training", "bf16", "contiguous"): 2.0,
    ("training", "bf16", "channels_last"): 2.5,
    ("extraction", "fp32", "contiguous"): 1.0,
    ("extraction", "bf16", "contiguous"): 1.5,
    ("extraction", "fp32", "channels_last"): 9.0,
    ("extraction", "bf16", "channels_last"): 1.0,
}


@pytest.fixture
def timed(monkeypatch):
    """Steps take the seconds of a table; the list holds what was timed, in order.
    Nothing is remembered between tests.
    """
    calls, table = [], dict(SPEEDS)

    def seconds(encoder, pictures, stage, precision, memory_format):
        calls.append((stage, precision, memory_format))
        return table[calls[-1]]

    monkeypatch.setattr(machine, "_seconds", seconds)
    monkeypatch.setattr(machine, "_choices", {})
    calls_and_table = type("Timed", (), {"calls": calls, "table": table})
    return calls_and_table


def choose(**options):
    return choose_precision(SHAPE, backbone="resnet18", **options)


def chosen(record: dict) -> tuple[str, str, str]:
    return record["precision"], record["memory_format"], record["extraction_precision"]


def test_auto_takes_the_fastest_training_step_and_in_its_format_the_fastest_extraction(timed):
    record = choose()
    assert chosen(record) == ("bf16", "contiguous", "fp32")
    assert {(t["stage"], t["precision"], t["memory_format"]) for t in record["tried"]} == {
        key for key in SPEEDS if key[0] == "training" or key[2] == "contiguous"
    }
    speeds = {
        (t["stage"], t["precision"], t["memory_format"]): t["images_per_second"]
        for t in record["tried"]
    }
    assert speeds["training", "bf16", "contiguous"] == 3.0 and record["probe_batch"] == [
        6,
        3,
        32,
        32,
    ]


def test_a_forced_setting_leaves_only_the_others_open(timed):
    assert chosen(choose(memory_format="channels_last")) == ("bf16", "channels_last", "bf16")
    assert chosen(choose(precision="fp32")) == ("fp32", "channels_last", "bf16")
    assert chosen(
        choose(precision="fp32", memory_format="contiguous", extraction_precision="bf16")
    ) == ("fp32", "contiguous", "bf16")
    assert all(
        call[1] == "fp32" or call[0] == "extraction" or call[2] == "channels_last"
        for call in timed.calls
    )


def test_nothing_is_measured_or_built_where_nothing_is_open(timed, monkeypatch):
    monkeypatch.setattr(machine, "build_encoder", lambda **_: pytest.fail("built"))
    record = choose(precision="fp32", memory_format="contiguous", extraction_precision="fp32")
    assert (
        timed.calls == []
        and record["tried"] == []
        and record["probe_batch"] is None
        and record["device"] == "cpu"
    )


def test_bf16_is_taken_only_where_it_is_clearly_faster(timed):
    forced = {"memory_format": "contiguous", "extraction_precision": "fp32"}
    timed.table["training", "bf16", "contiguous"] = 4.0 / 1.05
    assert choose(**forced)["precision"] == "fp32"
    machine._choices.clear()
    timed.table["training", "bf16", "contiguous"] = 4.0 / 1.15
    assert choose(**forced)["precision"] == "bf16"


def test_a_candidate_that_is_far_behind_is_not_timed_again(timed):
    timed.table["training", "fp32", "contiguous"] = (
        4.2  # more than twice the best: its warm-up only
    )
    timed.table["training", "fp32", "channels_last"] = (
        3.5  # 1.75 times: once after its warm-up
    )
    choose(extraction_precision="fp32")
    counts = {key: timed.calls.count(key) for key in SPEEDS if key[0] == "training"}
    assert counts == {
        ("training", "fp32", "contiguous"): 1,
        ("training", "fp32", "channels_last"): 2,
        ("training", "bf16", "contiguous"): 4,
        ("training", "bf16", "channels_last"): 4,
    }


def test_within_a_process_a_question_is_measured_once_and_the_answer_cannot_be_spoilt(timed):
    first = choose()
    n = len(timed.calls)
    first["precision"] = "spoilt"
    assert choose()["precision"] == "bf16" and len(timed.calls) == n
    choose(precision="fp32")
    assert len(timed.calls) > n


@pytest.mark.parametrize(
    ("shape", "pictures"),
    [
        ((256, 3, 256, 128), 8),
        ((64, 3, 96, 48), 56),
        ((4, 3, 32, 16), 4),
        ((16, 3, 2048, 1024), 2),
    ],
)
def test_the_probe_takes_a_part_of_the_batch_that_a_cpu_handles_soon(timed, shape, pictures):
    assert choose_precision(shape, backbone="resnet18")["probe_batch"] == [
        pictures,
        *shape[1:],
    ]


@pytest.mark.parametrize(
    ("option", "valid"),
    [
        ("precision", "auto, fp32, bf16"),
        ("memory_format", "auto, contiguous"),
        ("extraction_precision", "auto, fp32, bf16"),
    ],
)
def test_unknown_options_name_the_valid_ones(option, valid):
    with pytest.raises(KitError, match=f"{option}.*{valid}"):
        choose(**{option: "fp8"})


def test_a_real_probe_steps_the_encoder_in_every_way_and_leaves_the_random_state(monkeypatch):
    monkeypatch.setattr(machine, "_choices", {})
    seen, real = [], machine._seconds

    def watched(encoder, pictures, stage, precision, memory_format):
        seconds = real(encoder, pictures, stage, precision, memory_format)
        weight = encoder.backbone.layer1[0].conv1.weight
        seen.append(
            (
                stage,
                precision,
                weight.is_contiguous(memory_format=machine.FORMATS[memory_format]),
                encoder.training,
                weight.grad is not None,
            )
        )
        return seconds

    monkeypatch.setattr(machine, "_seconds", watched)
    before = torch.get_rng_state()
    record = choose_precision((4, 3, 32, 32), backbone="resnet18")
    assert torch.equal(torch.get_rng_state(), before)
    assert len(record["tried"]) == 6 and all(
        t["images_per_second"] > 0 for t in record["tried"]
    )
    assert {s[:2] for s in seen} == {
        (a, b) for a in ("training", "extraction") for b in ("fp32", "bf16")
    }
    assert all(as_asked for _, _, as_asked, _, _ in seen)
    assert all(
        (stage == "training") == training == graded for stage, _, _, training, graded in seen
    )


def test_stages_add_up_and_an_inner_stage_is_taken_off_the_outer_one(monkeypatch):
    now = iter([0.0, 1.0, 3.0, 4.0, 4.5, 10.0, 20.0, 20.25])
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(now))
    clock = StageClock()
    with clock("train"):
        for _ in range(2):
            with clock("load"):
                pass
    with clock("extract"):
        pass
    assert clock.seconds == {"load": 2.5, "train": 7.5, "extract": 0.25}


def test_peak_memory_counts_what_a_process_ever_held():
    before = peak_memory_mb()
    held = torch.ones(2**25)  # 128 MB
    assert peak_memory_mb() >= max(before, held.nbytes / 2**20)


@pytest.mark.skipif(sys.platform != "linux", reason="measured where /proc tells")
def test_freed_memory_goes_back_to_the_system():
    """Pieces too small to be handed back one by one, as an allocator keeps them."""
    program = """
import ctypes
from dkdmpl_kit.training.precision import return_freed_memory

def resident():
    status = open("/proc/self/status").read()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024

libc = ctypes.CDLL(None)
if not hasattr(libc, "malloc_trim"):
    print("another C library")
    raise SystemExit
libc.malloc.restype = ctypes.c_void_p
pieces = [ctypes.c_void_p(libc.malloc(60_000)) for _ in range(4000)]
for piece in pieces:
    ctypes.memset(piece, 1, 60_000)
for piece in pieces[:-1]:  # the last one holds the heap's end
    libc.free(piece)
before = resident()
return_freed_memory()
print(before - resident())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    if "another" in done.stdout:
        pytest.skip("the C library has no malloc_trim")
    assert int(done.stdout) > 150
