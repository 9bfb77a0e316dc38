"""Several processes as one: what is split between them, what is said to all, and what
happens when one is lost.

Every function is a no-op, or nearly, in a single process. The batch, the memory and the
loss are whole in each process; only pictures and encoder passes are split, so that a
run does not depend on how many processes computed it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dkdmpl_kit.errors import KitError

TIMEOUT = timedelta(
    minutes=30
    # for a silent process; a dead one is noticed at once. Longer than any clustering
    # takes
)
_LOST = ("gloo", "nccl", "connection", "peer", "timed out", "socket", "broken pipe")
T = TypeVar("T")


def start(device: str) -> str:
    """Join the processes that `torchrun` started and return this one's device; a
    process alone keeps `device`.

    gloo carries the messages on CPUs, nccl on GPUs, where "cuda" becomes the GPU of the
    local rank. May be called again. KitError where a GPU is missing or one is named for
    all, and where the launcher's variables are incomplete.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return device
    if device.startswith("cuda"):
        local = int(os.environ.get("LOCAL_RANK", "0"))
        found = torch.cuda.device_count()
        if device not in ("cuda", f"cuda:{local}") or local >= found:
            raise KitError(
                f"device={device!r} does not fit process {local} of this machine with "
                f"{found} GPUs: use device=cuda "
                "and at most one process a GPU (--nproc-per-node), or device=cpu."
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    if not dist.is_initialized():
        try:
            dist.init_process_group(
                "nccl" if device.startswith("cuda") else "gloo", timeout=TIMEOUT
            )
        except (ValueError, RuntimeError) as error:
            raise KitError(
                f"WORLD_SIZE={os.environ['WORLD_SIZE']} asks for several processes, "
                f"and they cannot meet ({error}): "
                "start them with torchrun --nproc-per-node N -m dkdmpl_kit.cli train "
                "..."
            ) from error
        atexit.register(_leave)
    return device


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _together() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """This process' number, from 0; 0 writes the files and talks."""
    return dist.get_rank() if _together() else 0


def world_size() -> int:
    """How many processes there are; 1 without a launcher."""
    return dist.get_world_size() if _together() else 1


def backend() -> str | None:
    """ "gloo" or "nccl", None for a single process."""
    return dist.get_backend() if _together() else None


def once(work: Callable[..., T], *args: object, **options: object) -> T:
    """Process 0 works; every process returns what it returned, or raises the `KitError`
    that it raised. A barrier, too.
    """
    if not _together():
        return work(*args, **options)
    said: list = [None, None]
    if rank() == 0:
        try:
            said[0] = work(*args, **options)
        except KitError as error:
            said[1] = str(error)
    dist.broadcast_object_list(said, src=0)
    if said[1] is not None:
        raise KitError(said[1])
    return said[0]


def main_first(work: Callable[..., T], *args: object, **options: object) -> T:
    """Each process works, process 0 before the others: for what it leaves on disk that
    they then find.
    """
    kept: list[T] = []
    once(lambda: kept.append(work(*args, **options)))
    return kept[0] if kept else work(*args, **options)


def cut(count: int, pieces: int, unit: int = 1) -> list[slice]:
    """0 ... count-1 in `pieces` contiguous slices of whole units, as equal as can be
    (some empty where units are few).
    """
    units = -(-count // unit)
    edges = [min(count, units * i // pieces * unit) for i in range(pieces + 1)]
    return [slice(a, b) for a, b in zip(edges, edges[1:])]


def share(count: int, unit: int = 1) -> slice:
    """Which of `count` rows are this process': whole units of `unit` rows. KitError
    where a process would have none.
    """
    if count < world_size() * unit:
        raise KitError(
            f"{world_size()} processes cannot share a batch of {count} pictures in "
            f"groups of {unit}: start fewer, "
            "raise batch_clusters, or lower samples_per_bn."
        )
    return cut(count, world_size(), unit)[rank()]


def gather(own: Tensor, count: int, part: slice) -> Tensor:
    """This process' rows (n, d), which are `part` of `count` -> the rows (count, d) of
    all.

    Differentiable: each process computes the whole loss, and its backward pass goes on
    with its own rows alone. So the parameters' gradients of the processes add up to
    that of one process (`add_gradients`): nothing is counted twice.
    """
    return _Gather.apply(own, count, part) if _together() else own


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, own: Tensor, count: int, part: slice) -> Tensor:
        ctx.part = part
        whole = own.new_zeros(count, *own.shape[1:])
        whole[part] = own
        # a sum with zeros is exact, and shares may differ in size
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gradient[ctx.part], None, None


@torch.no_grad()
def add_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its sum over the processes, in one message."""
    if not _together():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients])):
        gradient.copy_(total.view_as(gradient))


@contextlib.contextmanager
def partners(where: Callable[[], str]) -> Iterator[None]:
    """Within, losing another process ends this one with one `KitError`, which says
    `where()` the run was. Which process was lost, and how, is in torchrun's own report.
    """
    if not _together() or threading.current_thread() is not threading.main_thread():
        yield
        return
    me = f"Process {rank()} of {world_size()}"
    kept = (
        "torchrun's report names the one that failed first; whole epochs are kept, and the "
        "same command with --resume goes on from there, with any number of processes."
    )

    def stop(*_: object) -> None:
        raise KitError(f"{me} was told to stop in {where()}: {kept}")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
        signal.signal(signal.SIGTERM, before)
    except RuntimeError as error:
        # torchrun's comes now: the sentence first
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if not any(word in str(error).lower() for word in _LOST):
            raise
        raise KitError(f"{me} lost another process in {where()}: {kept}") from error
