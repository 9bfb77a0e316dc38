"""What a run of the real size needs: memory, disk and a rough time, told before it starts.

Counted from the settings and the numbers of pictures; speeds are those of a few pictures
on this machine.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dkdmpl_kit.data import ImageStore, ReIDDataset
from dkdmpl_kit.data.pictures import MEMORY_MB
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import Config, pick_device
from dkdmpl_kit.models import build_encoder
from dkdmpl_kit.neighbors import BLOCK_ENTRIES
from dkdmpl_kit.studies.recipe import picture_flops, run_cost

MB = 2**20
BASE_MB = 700  # Python, torch and the compiled loops
EXTRACTED_AT_ONCE = 256  # pictures in a batch of `extract_features`
LIVING = 5  # of the largest outputs live at once without a graph: 4.3 in ResNet-50
# entries of the sparse distance matrix, and copies of the features beside it: together
# the 1.2 GB measured for 32,621 features of length 2,048
ENTRIES_A_PICTURE = 1000
COPIES = 3
TIMED = {"cpu": 4}  # pictures that speeds are measured with; other devices: 64


@dataclass(frozen=True)
class Need:
    """One row: MB of the machine's memory, of the device's, of the disk, and seconds."""

    what: str
    memory: float = 0.0
    device: float = 0.0
    disk: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class _Sizes:
    """Of the encoder, all for one picture: bytes kept for the backward pass, bytes of the
    largest output; and the length of a feature, parameters.
    """

    kept: int
    largest: int
    dim: int
    parameters: int


def needs(config: Config, dataset: ReIDDataset, *, training: bool = True) -> list[Need]:
    """Rows of what `config` needs on `dataset`, the last one "at most together".

    training: a whole run; else one evaluation of an encoder.
    """
    train, query, gallery = (
        len(split) for split in (dataset.train, dataset.query, dataset.gallery)
    )
    sizes = _sizes(config)
    on_cpu = torch.device(pick_device(config.device)).type == "cpu"
    decoded, forward, step = _pictures_a_second(config, dataset)
    test = query + gallery

    def computing(what: str, bytes_: float, **more: float) -> Need:
        return Need(what, **{"memory" if on_cpu else "device": bytes_ / MB}, **more)

    extracting = computing(
        "extracting features",
        EXTRACTED_AT_ONCE * LIVING * sizes.largest + 4 * sizes.parameters,
    )
    ranking = Need(
        f"features of {test:,} test pictures, and their ranking",
        memory=(4 * test * sizes.dim + 4 * BLOCK_ENTRIES * 2) / MB,
        seconds=test / decoded + test / forward,
    )
    base = Need("Python and its packages", memory=BASE_MB)
    if not training:
        return _with_total([base, extracting, ranking], [[extracting], [ranking]])
    cost = run_cost(config, (train, query, gallery))
    measured = (cost["extracted"] - (config.epochs + 1) * train) // max(1, test)
    pixels = 3 * config.height * config.width * train / MB
    kept = pixels <= MEMORY_MB
    pictures = Need(
        f"{train:,} training pictures, decoded {'in memory' if kept else 'into a file'}",
        memory=pixels if kept else 0.0,
        disk=0.0 if kept else pixels,
        seconds=train / decoded,
    )
    # weights, gradients and Adam's two moments; the EMA encoder of some methods
    copies = 5 if config.method == "mmt" or config.skd_anchor == "ema" else 4
    encoder = computing("encoder, gradients, optimiser", 4 * copies * sizes.parameters)
    batch = config.batch_clusters * config.batch_images
    stepping = computing(
        f"{config.epochs * config.iterations:,} steps of {batch} pictures",
        sizes.kept * math.ceil(batch / config.accumulation),
        seconds=cost["trained"] / step,
    )
    per_row = 4 * sizes.dim * COPIES + 12 * config.k1 + 16 * ENTRIES_A_PICTURE
    flops = picture_flops(
        config.backbone,
        config.height,
        config.width,
        pooling=config.pooling,
        last_stride=config.last_stride,
    )[0]
    neighbours = 2 * sizes.dim * train**2 / (flops * forward)
    clustering = Need(
        f"features, neighbours and clusters, {config.epochs + 1} times",
        memory=train * per_row / MB,
        seconds=(config.epochs + 1) * (train / forward + neighbours),
    )
    ranking = Need(
        f"{ranking.what}, {measured} times",
        memory=ranking.memory,
        seconds=measured * ranking.seconds,
    )
    left = 2 * 4 * (copies - 1) * sizes.parameters / MB  # the new one beside the old
    if config.keep_features:
        left += 2 * config.epochs * train * sizes.dim / MB
    files = Need("checkpoints and epochs' files", disk=left)
    rows = [base, pictures, encoder, stepping, extracting, clustering, ranking, files]
    return _with_total(rows, [[stepping, clustering], [extracting, clustering], [ranking]])


def _with_total(rows: list[Need], phases: Sequence[Sequence[Need]]) -> list[Need]:
    """`rows` and their sum, in which of the `phases`, which follow one another, the
    hungriest counts alone.
    """
    inside = {row.what for phase in phases for row in phase}
    always = [row for row in rows if row.what not in inside]

    def most(name: str) -> float:
        together = [sum(getattr(row, name) for row in phase) for phase in phases]
        return sum(getattr(row, name) for row in always) + max(together)

    total = Need(
        "at most together",
        most("memory"),
        most("device"),
        sum(row.disk for row in rows),
        sum(row.seconds for row in rows),
    )
    return [*rows, total]


def needs_table(config: Config, dataset: ReIDDataset, *, training: bool = True) -> str:
    """`needs` as a text table, with what this machine has, and a line where it has less."""
    rows = needs(config, dataset, training=training)
    total = rows[-1]
    here = Need(
        "this machine has free",
        free_memory_mb() or 0.0,
        _free_device_mb(config),
        _free_disk_mb(Path(config.out_dir)),
    )
    columns = ["memory", "device", "disk"] if total.device else ["memory", "disk"]
    width = max(len(row.what) for row in [*rows, here])
    head = f"{'the real size needs, roughly':<{width}}"
    lines = [head + "".join(f"{name:>13}" for name in [*columns, "time"])]
    for row in [*rows, here]:
        cells = [_mb(getattr(row, name)) for name in columns]
        cells.append(_time(row.seconds))
        lines.append(f"{row.what:<{width}}" + "".join(f"{cell:>13}" for cell in cells))
    for name in columns:
        has = getattr(here, name)
        if has and getattr(total, name) > has:
            lines.append(f"TOO LITTLE {name.upper()} here: {_ADVICE[name]}.")
    return "\n".join(lines)


_ADVICE = {
    "memory": "raise accumulation, or lower batch_clusters, batch_images, height and width",
    "device": "raise accumulation, set precision=bf16, or lower batch_clusters, "
    "batch_images, height and width",
    "disk": "free some, choose another out_dir, or set keep_features=false",
}


def _mb(value: float) -> str:
    return f"{math.ceil(value):,} MB" if value else "-"


def _time(seconds: float) -> str:
    if not seconds:
        return "-"
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


# ---- counted


def _sizes(config: Config) -> _Sizes:
    """Sizes of the encoder's outputs; on the meta device: nothing is computed."""
    kept: dict[int, int] = {}
    largest = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        # weights lie in memory once, however many pictures there are
        if not isinstance(tensor, torch.nn.Parameter) and tensor.ndim == 4:
            size = tensor.numel() * tensor.element_size()
            kept[tensor.untyped_storage()._cdata] = size
            largest = max(largest, size)
        return tensor

    with torch.device("meta"):
        encoder = _random_encoder(config)
    pictures = torch.empty(2, 3, config.height, config.width, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = encoder.train()(pictures)
        total = sum(kept.values())
    return _Sizes(
        total // 2,
        largest // 2,
        features.shape[1],
        sum(weights.numel() for weights in encoder.parameters()),
    )


def _random_encoder(config: Config) -> torch.nn.Module:
    return build_encoder(
        config.backbone,
        weights="random",
        pooling=config.pooling,
        last_stride=config.last_stride,
        freeze_stages=config.freeze_stages,
        size=(config.height, config.width),
    )


# ---- measured


def _pictures_a_second(config: Config, dataset: ReIDDataset) -> tuple[float, float, float]:
    """(decoded, through the encoder, through a step of training) a second, here."""
    paths = [image.path for image in dataset.images()]
    device = torch.device(pick_device(config.device))
    count = TIMED.get(device.type, 64)
    chosen = np.linspace(0, len(paths) - 1, min(len(paths), 8 * count)).astype(int)
    store = ImageStore(
        [paths[index] for index in chosen], config.height, config.width, keep=False
    )
    decoded = len(store) / _seconds(lambda: store.batch(range(len(store))), device)
    state = torch.get_rng_state()
    try:
        encoder = _random_encoder(config).to(device)
        pictures = torch.rand(count, 3, config.height, config.width, device=device)

        def forward() -> None:
            with torch.inference_mode():
                encoder.eval()(pictures)

        def step() -> None:
            encoder.train()(pictures).sum().backward()

        return decoded, count / _seconds(forward, device), count / _seconds(step, device)
    finally:
        torch.set_rng_state(state)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of the second call: the first one warms up."""
    work()
    _wait(device)
    begin = time.perf_counter()
    work()
    _wait(device)
    return max(time.perf_counter() - begin, 1e-6)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# ---- what this machine has


def free_memory_mb() -> float | None:
    """MB that a new process may take: of the machine, or of its container where that
    allows less. None where the platform does not tell.
    """
    found = [_available_mb(), _container_mb()]
    return min((value for value in found if value is not None), default=None)


def _available_mb() -> float | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) / 1024
    except (OSError, KeyError, ValueError):
        return None


def _container_mb() -> float | None:
    """By the control group, of either version; None without a limit."""
    pairs = (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    )
    for limit, used in (map(_number_in, pair) for pair in pairs):
        if limit is not None and used is not None:
            return max(0, limit - used) / MB
    return None


def _number_in(path: str) -> int | None:
    """The number that a file of the system holds; None where it is not there, or "max"."""
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _free_device_mb(config: Config) -> float:
    device = torch.device(pick_device(config.device))
    return torch.cuda.mem_get_info(device)[0] / MB if device.type == "cuda" else 0.0


def _free_disk_mb(folder: Path) -> float:
    """Free space where `folder` lies or will lie."""
    folder = Path(os.path.abspath(folder))
    there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if there is None:
        raise KitError(f"{folder} lies nowhere: choose another out_dir.")
    return shutil.disk_usage(there).free / MB
