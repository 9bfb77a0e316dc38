"""The store of pictures: each is decoded once, into memory or a mapped file."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from dkdmpl_kit.data.decoding import decode, unreadable
from dkdmpl_kit.data.files import expanded, printable, why_no_file
from dkdmpl_kit.data.records import SPLITS, ReIDDataset
from dkdmpl_kit.errors import KitError

DECODING = 2  # grows when `decode` reads some pictures in another way: old caches end
CHUNK = 512  # pictures handed to the threads at a time


class ImageStore:
    """The pictures at `paths`, each decoded once, as uint8 RGB of `height` x `width`.

    Pictures of another size are resized bilinearly. `.pixels` is a torch.uint8 tensor
    (N, 3, H, W) in memory, or, above `memory_limit_mb`, a read-only np.memmap of the
    same shape in `cache_dir`, which a later run with the same files (paths, sizes,
    times) maps without decoding. Raises `KitError` for a picture that cannot be read,
    and above the limit without a `cache_dir`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        height: int,
        width: int,
        *,
        progress: bool = True,
        memory_limit_mb: float = 4096,
        cache_dir: str | Path | None = None,
    ):
        self.paths = tuple(Path(path) for path in paths)
        if not self.paths or height < 1 or width < 1:
            raise KitError(
                f"nothing to load: {len(self.paths)} pictures of {height} x {width} pixels."
            )
        shape = (len(self.paths), 3, height, width)
        megabytes = math.prod(shape) / 2**20
        if megabytes <= memory_limit_mb:
            self.pixels = torch.empty(shape, dtype=torch.uint8)
            _decode_into(self.pixels.numpy(), self.paths, progress)
        elif cache_dir is None:
            raise KitError(
                f"{len(self.paths)} pictures take {megabytes:.0f} MB, more than "
                f"memory_limit_mb={memory_limit_mb}: raise it, or give a cache_dir for a "
                "memory map."
            )
        else:
            folder = expanded(cache_dir)
            self.pixels = _memory_map(self.paths, shape, folder, progress)

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices) -> torch.Tensor:
        """(B,) indices -> (B, 3, H, W) torch.uint8, a copy."""
        if isinstance(self.pixels, torch.Tensor):
            return self.pixels[torch.as_tensor(indices, dtype=torch.int64)]
        return torch.from_numpy(np.asarray(self.pixels[np.asarray(indices, dtype=np.int64)]))


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


def _decode_into(out: np.ndarray, paths: Sequence[Path], progress: bool) -> None:
    def work(index: int) -> None:
        out[index] = decode(paths[index], *out.shape[2:])

    in_threads(work, len(paths), progress, "decode")


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
        stat = os.stat(path)
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
    with tempfile.TemporaryDirectory(prefix="pixels-", dir=folder) as scratch:
        part = os.path.join(scratch, "part.npy")
        pixels = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
        _decode_into(pixels, paths, progress)
        pixels.flush()
        os.replace(part, target)


def drop_corrupt(
    dataset: ReIDDataset, *, progress: bool = True
) -> tuple[ReIDDataset, tuple[Path, ...]]:
    """The data set without the pictures that cannot be read, and their paths (sorted).

    Every picture is decoded once. KitError where a split has no picture left.
    """
    paths = dataset.paths()
    broken = np.zeros(len(paths), dtype=bool)

    def work(index: int) -> None:
        try:
            decode(paths[index], 1, 1)
        except KitError:
            broken[index] = True  # returned by name below

    in_threads(work, len(paths), progress, "check")
    skipped = tuple(paths[index] for index in np.flatnonzero(broken))
    kept = dataset.without(skipped)
    for split in SPLITS:
        if getattr(dataset, split) and not getattr(kept, split):
            raise KitError(
                f"no picture of the {split} split of {dataset.name} at "
                f"{printable(dataset.root)} can be read."
            )
    return kept, skipped
