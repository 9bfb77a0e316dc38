"""The machine under a run: which precision and memory format it is fast at, seconds by
stage, peak memory.

bf16 is three times as fast as fp32 on one CPU and several times slower on the next, and
the same CPU may be fast for one backbone's training and slow for another's. So "auto"
means: measure the encoder itself, and write down what was found.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import time
from collections.abc import Iterator, Sequence

import torch

from dkdmpl_kit.errors import check_option
from dkdmpl_kit.models import PRECISIONS, Encoder, autocast, build_encoder

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
# of a batch: 8 pictures of 256 x 128; other devices show their speed with more:
PROBE_PIXELS = {"cpu": 2**18}
PROBE_PIXELS_ELSEWHERE = 2**21
ROUNDS = 3
BUDGET_SECONDS = 4.0
HOPELESS = (2.0, 1.5, 1.5)
WORTH_IT = 1.1
_choices: dict[tuple, dict] = {}


def choose_precision(
    shape: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    precision: str = "auto",
    memory_format: str = "auto",
    extraction_precision: str = "auto",
    **encoder: object,
) -> dict:
    """What to train and to extract features with: {precision, memory_format,
    extraction_precision, device, tried}.

    shape: a training batch (B, 3, H, W). A setting other than "auto" is taken as it is.
    What is left open is measured for a few seconds on a part of the batch (8 pictures
    of 256 x 128 on a CPU, 64 elsewhere): a training step (forward and backward) in each
    precision and memory format, then extraction in each precision, in the format that
    training chose, as the weights lie in one format for the whole run. bf16 must be 1.1
    times as fast as fp32 to be taken. `tried` lists what was timed, with images a
    second. `encoder`: arguments of `build_encoder` but its weights, which are random:
    they do not matter here. The random state is left as it was. Within a process a
    question is measured once. KitError on unknown options.
    """
    for name, value, valid in (
        ("precision", precision, PRECISIONS),
        ("memory_format", memory_format, FORMATS),
        ("extraction_precision", extraction_precision, PRECISIONS),
    ):
        check_option(name, value, ("auto", *valid))
    device = torch.device(device)
    key = (
        tuple(shape),
        str(device),
        precision,
        memory_format,
        extraction_precision,
        repr(sorted(encoder.items())),
    )
    if key not in _choices:
        training = [
            (p, f)
            for p in _candidates(precision, PRECISIONS)
            for f in _candidates(memory_format, FORMATS)
        ]
        extraction = _candidates(extraction_precision, PRECISIONS)
        tried = []
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            net = (
                build_encoder(**encoder, weights="random", size=tuple(shape[2:])).to(device)
                if len(training) + len(extraction) > 2
                else None
            )
            fit = PROBE_PIXELS.get(device.type, PROBE_PIXELS_ELSEWHERE) // (
                shape[2] * shape[3]
            )
            # the BNNeck needs two
            pictures = torch.rand(min(shape[0], max(2, fit)), *shape[1:])
            best = _fastest(net, pictures.to(device), "training", training, tried)
            best_extraction = _fastest(
                net,
                pictures.to(device),
                "extraction",
                [(p, best[1]) for p in extraction],
                tried,
            )
        _choices[key] = {
            "precision": best[0],
            "memory_format": best[1],
            "extraction_precision": best_extraction[0],
            "device": str(device),
            "probe_batch": list(pictures.shape) if tried else None,
            "tried": tried,
        }
    return dict(_choices[key])


def _candidates(setting: str, valid: Sequence[str]) -> list[str]:
    return list(valid) if setting == "auto" else [setting]


def _fastest(
    encoder: Encoder | None,
    pictures: torch.Tensor,
    stage: str,
    candidates: list[tuple[str, str]],
    tried: list[dict],
) -> tuple[str, str]:
    """The (precision, memory format) with the least seconds a step; a single candidate
    is not measured.

    The candidates take turns, so that a busy moment of the machine hits all. One that
    is twice as slow as the best in its first step, which is a warm-up, or 1.5 times as
    slow in the next, is not timed again: its figure is a lower bound.
    """
    if len(candidates) == 1:
        return candidates[0]
    # the first step of each is a warm-up: memory is claimed, kernels are made for the
    # shape
    start = time.perf_counter()
    best = {
        candidate: _seconds(encoder, pictures, stage, *candidate) for candidate in candidates
    }
    for turn in range(ROUNDS):
        for candidate in candidates:
            hopeful = best[candidate] < HOPELESS[turn] * min(best.values())
            if hopeful and (turn == 0 or time.perf_counter() - start < BUDGET_SECONDS):
                best[candidate] = min(
                    best[candidate], _seconds(encoder, pictures, stage, *candidate)
                )
    tried += [
        {
            "stage": stage,
            "precision": p,
            "memory_format": f,
            "images_per_second": round(len(pictures) / s, 2),
        }
        for (p, f), s in best.items()
    ]
    return min(candidates, key=lambda c: best[c] * (WORTH_IT if c[0] == "bf16" else 1.0))


def _seconds(
    encoder: Encoder, pictures: torch.Tensor, stage: str, precision: str, memory_format: str
) -> float:
    """Seconds of one step: forward and backward in train mode, or forward in eval mode
    without a graph.
    """
    training = stage == "training"
    encoder.to(memory_format=FORMATS[memory_format]).train(training).zero_grad(
        set_to_none=True
    )
    _wait(pictures.device)
    start = time.perf_counter()
    with torch.inference_mode(not training), autocast(precision, pictures.device):
        features = encoder(pictures)
    if training:
        features.sum().backward()
    _wait(pictures.device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class StageClock:
    """Seconds by stage of one epoch: `with clock("train"): ...`. A stage inside another
    is taken off the outer one.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._inner: list[float] = []

    @property
    def seconds(self) -> dict[str, float]:
        """{stage: seconds}, rounded to milliseconds; they add up to the time that the
        stages took together.
        """
        return {stage: round(value, 3) for stage, value in self._seconds.items()}

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        self._inner.append(0.0)
        start = time.perf_counter()
        yield
        elapsed = time.perf_counter() - start
        self._seconds[stage] = self._seconds.get(stage, 0.0) + elapsed - self._inner.pop()
        if self._inner:
            self._inner[-1] += elapsed


def return_freed_memory() -> None:
    """Hand freed memory back to the system, where the C library can (glibc).

    A training step frees its activations in pieces that the allocator keeps: 2 GB of
    them lay idle beside the ranking that follows, on a machine that had 6 in all.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def peak_memory_mb() -> float | None:
    """Peak resident memory of this process in MB; None where the platform does not
    tell.
    """
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
