"""The store of pictures: in memory, in a mapped file, or decoded batch by batch."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shutil
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from dkdmpl_kit.data.decoding import decode, decode_parts, unreadable
from dkdmpl_kit.data.files import (
    Box,
    expanded,
    file_and_box,
    file_of,
    printable,
    why_no_file,
)
from dkdmpl_kit.data.records import SPLITS, ReIDDataset
from dkdmpl_kit.data.scratch import scratch_folder
from dkdmpl_kit.errors import KitError

DECODING = 3  # grows when `decode` reads some pictures in another way: old caches end
# of decoded pictures, which all stores of a process together hold in memory: beside
# them an encoder at work on a CPU takes 2 to 3 GB, and machines of 6 GB are common
MEMORY_MB = 2048
CHUNK = 512  # pictures handed to the threads at a time


class ImageStore:
    """The pictures at `paths` as uint8 RGB of `height` x `width` (`decoding.decode`).

    Where they lie depends on their number, never what they are:
    - in memory, decoded once, while all stores together hold at most `MEMORY_MB`;
    - above it, with a `cache_dir`: decoded once into a file that is mapped, and that a
      later run with the same files (paths, sizes, times) maps without decoding;
    - above it, without one, and with keep=False (for who reads each picture once):
      nowhere; each batch is decoded when it is asked for.
    `.pixels` is a torch.uint8 tensor (N, 3, H, W) in memory, or a read-only np.memmap of
    that shape. memory_limit_mb: another limit, of this store alone. Raises `KitError` for
    a picture that cannot be read, at once or with the first batch that holds it.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        height: int,
        width: int,
        *,
        progress: bool = True,
        memory_limit_mb: float | None = None,
        cache_dir: str | Path | None = None,
        keep: bool = True,
    ):
        self.paths = tuple(Path(path) for path in paths)
        if not self.paths or height < 1 or width < 1:
            raise KitError(
                f"nothing to load: {len(self.paths)} pictures of {height} x {width} pixels."
            )
        self.shape = (len(self.paths), 3, height, width)
        self._pixels = None
        limit = room_mb() if memory_limit_mb is None else memory_limit_mb
        if not keep:
            return
        if self.megabytes <= limit:
            pixels = torch.empty(self.shape, dtype=torch.uint8)
            _decode_into(pixels.numpy(), self.paths, progress)
            self._pixels = pixels
            _HOLDING.add(self)
        elif cache_dir is not None:
            folder = expanded(cache_dir)
            self._pixels = _memory_map(self.paths, self.shape, folder, progress)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def megabytes(self) -> float:
        """What all pictures take, decoded."""
        return math.prod(self.shape) / 2**20

    @property
    def pixels(self) -> torch.Tensor | np.memmap:
        """All pictures (N, 3, H, W); KitError where they lie nowhere."""
        if self._pixels is None:
            raise KitError(
                f"{len(self)} pictures of {self.shape[2]} x {self.shape[3]} pixels take "
                f"{self.megabytes:,.0f} MB and are decoded batch by batch: ask for "
                ".batch(indices), or open them with a cache_dir, which maps a file."
            )
        return self._pixels

    def batch(self, indices) -> torch.Tensor:
        """(B,) indices -> (B, 3, H, W) torch.uint8, a copy."""
        if isinstance(self._pixels, torch.Tensor):
            return self._pixels[torch.as_tensor(indices, dtype=torch.int64)]
        indices = np.asarray(indices, dtype=np.int64)
        if self._pixels is not None:
            return torch.from_numpy(np.asarray(self._pixels[indices]))
        pixels = torch.empty((len(indices), *self.shape[1:]), dtype=torch.uint8)
        chosen = [self.paths[index] for index in indices]
        _decode_into(pixels.numpy(), chosen, progress=False)
        return pixels


_HOLDING: weakref.WeakSet[ImageStore] = weakref.WeakSet()  # stores with pictures in memory


def room_mb() -> float:
    """MB of pictures that a new store may hold in memory, beside the stores there are."""
    return MEMORY_MB - sum(store.megabytes for store in _HOLDING)


def in_threads(work: Callable[[int], None], count: int, progress: bool, label: str) -> None:
    """Call `work` on 0 ... count-1 in threads, with a progress bar named `label`.

    Of several errors the first index's is raised.
    """
    from tqdm import tqdm

    bar = tqdm(total=count, desc=label, unit="picture", disable=not progress, leave=False)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, bar:
        for start in range(0, count, CHUNK):
            chunk = range(start, min(start + CHUNK, count))
            list(pool.map(work, chunk))
            bar.update(len(chunk))


def by_file(paths: Sequence[Path]) -> list[tuple[Path, list[int], list[Box | None]]]:
    """(file, indices into `paths`, their boxes) of each file, in the order of `paths`: a
    frame with many boxes need only be decoded once.
    """
    groups: dict[Path, tuple[list[int], list[Box | None]]] = {}
    for index, path in enumerate(paths):
        file, box = file_and_box(path)
        indices, boxes = groups.setdefault(file, ([], []))
        indices.append(index)
        boxes.append(box)
    return [(file, *group) for file, group in groups.items()]


def _decode_into(out: np.ndarray, paths: Sequence[Path], progress: bool) -> None:
    groups = by_file(paths)

    def work(number: int) -> None:
        file, indices, boxes = groups[number]
        for index, pixels in zip(indices, decode_parts(file, boxes, *out.shape[2:])):
            out[index] = pixels

    in_threads(work, len(groups), progress, "decode")


def _memory_map(
    paths: Sequence[Path], shape: tuple[int, ...], cache_dir: Path, progress: bool
) -> np.memmap:
    """The pixels as a file in `cache_dir`, made where it is not there yet."""
    target = cache_dir / f"pixels-{_cache_key(paths, shape)}.npy"
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            _write_map(target, paths, shape, progress)
        return np.load(target, mmap_mode="r")
    except OSError as error:
        raise KitError(
            f"cache_dir {cache_dir} cannot be used ({error}); give a folder to write to."
        ) from error


def _cache_key(paths: Sequence[Path], shape: tuple[int, ...]) -> str:
    """16 hex digits that name these files (paths, sizes, times) at this size of picture."""
    key = hashlib.sha256(repr((shape, DECODING)).encode())
    for path in paths:
        if why := why_no_file(path):
            raise unreadable(path, why)
        stat = os.stat(file_of(path))
        key.update(os.fsencode(os.path.abspath(path)))
        key.update(f"\n{stat.st_size}\n{stat.st_mtime_ns}\n".encode())
    return key.hexdigest()[:16]


def _write_map(
    target: Path, paths: Sequence[Path], shape: tuple[int, ...], progress: bool
) -> None:
    """Decode into a file beside `target` and move it there: it is whole or absent."""
    folder = target.parent
    needed = math.prod(shape)
    free = shutil.disk_usage(folder).free
    # writing to a full disk through a map would kill the process
    if needed > free:
        raise KitError(
            f"cache_dir {folder} has {free >> 20} MB free, the pictures need {needed >> 20}."
        )
    with scratch_folder(folder, "pixels-") as scratch:
        part = os.path.join(scratch, "part.npy")
        pixels = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
        _decode_into(pixels, paths, progress)
        pixels.flush()
        os.replace(part, target)


def readable(path: Path) -> bool:
    """Whether a picture can be decoded."""
    try:
        decode(path, 1, 1)
    except KitError:
        return False
    return True


def drop_corrupt(
    dataset: ReIDDataset, *, progress: bool = True
) -> tuple[ReIDDataset, tuple[Path, ...]]:
    """The data set without the pictures that cannot be read, and their paths (sorted).

    Every file is decoded once. KitError where a split has no picture left.
    """
    paths = dataset.paths()
    groups = by_file(paths)
    broken = np.zeros(len(paths), dtype=bool)

    def work(number: int) -> None:
        file, indices, boxes = groups[number]
        with contextlib.suppress(KitError):
            decode_parts(file, boxes, 1, 1)
            return
        for index in indices:  # the file, or some of its boxes: returned by name below
            broken[index] = not readable(paths[index])

    in_threads(work, len(groups), progress, "check")
    skipped = tuple(paths[index] for index in np.flatnonzero(broken))
    kept = dataset.without(skipped)
    for split in SPLITS:
        if getattr(dataset, split) and not getattr(kept, split):
            raise KitError(
                f"no picture of the {split} split of {dataset.name} at "
                f"{printable(dataset.root)} can be read."
            )
    return kept, skipped
