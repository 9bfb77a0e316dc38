"""Pictures as batches: each is decoded once, augmented in batches on tensors, and drawn
by a P x K sampler.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dkdmpl_kit.data.records import SPLITS, ReIDDataset
from dkdmpl_kit.errors import KitError, check_option

IMAGENET_MEAN = (124, 116, 104)  # fills erased boxes, as uint8 RGB
UNREADABLE = "picture {} cannot be read ({}); repair or remove it, or leave such pictures out with --skip-corrupt."
CHUNK = 512  # pictures handed to the threads at a time


class ImageStore:
    """The pictures at `paths`, each decoded once, as uint8 RGB of `height` x `width`
    (bilinear resize).

    `.pixels` is a torch.uint8 tensor (N, 3, H, W) in memory, or, above
    `memory_limit_mb`, a read-only np.memmap of the same shape in `cache_dir`, which a
    later run with the same files (paths, sizes, times) maps without decoding. Raises
    `KitError` for a picture that cannot be read, and above the limit without a
    `cache_dir`.
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
                "memory_limit_mb="
                f"{memory_limit_mb}: raise it, or give a cache_dir for a memory map."
            )
        else:
            self.pixels = _memory_map(
                self.paths, shape, Path(cache_dir).expanduser(), progress
            )

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices) -> torch.Tensor:
        """(B,) indices -> (B, 3, H, W) torch.uint8, a copy."""
        if isinstance(self.pixels, torch.Tensor):
            return self.pixels[torch.as_tensor(indices, dtype=torch.int64)]
        return torch.from_numpy(np.asarray(self.pixels[np.asarray(indices, dtype=np.int64)]))


def _decode(path: Path, height: int, width: int) -> np.ndarray:
    """One picture as uint8 (3, H, W); `KitError` names the one that cannot be read."""
    try:
        with Image.open(path) as image:
            resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    # each decoder of Pillow has its own errors for broken bytes
    except Exception as error:
        raise KitError(UNREADABLE.format(path, type(error).__name__)) from error
    return np.asarray(resized).transpose(2, 0, 1)


def _in_threads(work: Callable[[int], None], count: int, progress: bool, label: str) -> None:
    """Call `work` on 0 ... count-1 in threads; of several errors the first index's is
    raised.
    """
    from tqdm import tqdm

    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        tqdm(
            total=count, desc=label, unit="picture", disable=not progress, leave=False
        ) as bar,
    ):
        for start in range(0, count, CHUNK):
            bar.update(len(list(pool.map(work, range(start, min(start + CHUNK, count))))))


def _decode_into(out: np.ndarray, paths: Sequence[Path], progress: bool) -> None:
    def work(index: int) -> None:
        out[index] = _decode(paths[index], *out.shape[2:])

    _in_threads(work, len(paths), progress, "decode")


def _memory_map(
    paths: Sequence[Path], shape: tuple[int, ...], cache_dir: Path, progress: bool
) -> np.memmap:
    """The pixels as a file in `cache_dir`, written beside its place and then moved
    there, so it is whole or absent.
    """
    key = hashlib.sha256(repr(shape).encode())
    for path in paths:
        try:
            stat = os.stat(path)
        except OSError as error:
            raise KitError(UNREADABLE.format(path, type(error).__name__)) from error
        key.update(f"{os.path.abspath(path)}\n{stat.st_size}\n{stat.st_mtime_ns}\n".encode())
    target = cache_dir / f"pixels-{key.hexdigest()[:16]}.npy"
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            needed = math.prod(shape)
            free = shutil.disk_usage(cache_dir).free
            # writing to a full disk through a map would kill the process
            if needed > free:
                raise KitError(
                    f"cache_dir {cache_dir} has {free >> 20} MB free, the pictures "
                    f"need {needed >> 20}."
                )
            with tempfile.TemporaryDirectory(prefix="pixels-", dir=cache_dir) as part:
                pixels = np.lib.format.open_memmap(
                    os.path.join(part, "part.npy"), "w+", np.uint8, shape
                )
                _decode_into(pixels, paths, progress)
                pixels.flush()
                os.replace(os.path.join(part, "part.npy"), target)
        return np.load(target, mmap_mode="r")
    except OSError as error:
        raise KitError(
            f"cache_dir {cache_dir} cannot be used ({error}); give a folder to write to."
        ) from error


def drop_corrupt(
    dataset: ReIDDataset, *, progress: bool = True
) -> tuple[ReIDDataset, tuple[Path, ...]]:
    """Try to decode every picture -> the data set without those that cannot be read,
    and their paths (sorted).
    """
    paths = sorted({image.path for split in SPLITS for image in getattr(dataset, split)})
    broken = np.zeros(len(paths), dtype=bool)

    def work(index: int) -> None:
        try:
            _decode(paths[index], 1, 1)
        except KitError:
            broken[index] = True  # returned by name below

    _in_threads(work, len(paths), progress, "check")
    skipped = dict.fromkeys(paths[index] for index in np.flatnonzero(broken))
    kept = {
        split: tuple(image for image in getattr(dataset, split) if image.path not in skipped)
        for split in SPLITS
    }
    for split in SPLITS:
        if getattr(dataset, split) and not kept[split]:
            raise KitError(
                f"no picture of the {split} split of {dataset.name} at {dataset.root} "
                "can be read."
            )
    return replace(dataset, **kept), tuple(skipped)


def to_float(batch: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) uint8 -> float32 in [0, 1]."""
    return batch.to(torch.float32).div_(255)


def augment(
    batch: torch.Tensor,
    generator: torch.Generator,
    *,
    flip: float = 0.5,
    padding: int = 10,
    erasing: float = 0.5,
    among: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Flip, pad and crop, erase: (B, 3, H, W) uint8 -> float32 in [0, 1]; method: "The
    recipe around it".

    flip: probability of a mirror image. padding: black pixels a side, before a random
    crop to the old size. erasing: probability of a box (0.02-0.4 of the area,
    height/width 0.3-3.33) filled with ImageNet's mean colour. A picture's 26 numbers
    (flip 1, crop 2, erasing 3 + 10 x 2) come from `generator`, whatever the settings.
    among: (first, total) of a batch that is a stretch of a larger one: it is drawn as
    it would be there.
    """
    from torchvision.transforms.v2 import functional as transforms

    if batch.dtype != torch.uint8 or batch.ndim != 4 or batch.shape[1] != 3:
        raise KitError(
            f"augment takes a (B, 3, H, W) uint8 batch, not {tuple(batch.shape)} "
            f"{batch.dtype}."
        )
    count, _, height, width = batch.shape
    first, total = among or (0, count)
    draws = torch.rand(
        (total, 26), generator=generator, device=generator.device, dtype=torch.float64
    ).cpu()
    draws = draws[first : first + count]
    mirrored = (draws[:, 0] < flip).to(batch.device)[:, None, None, None]
    out = torch.where(mirrored, transforms.horizontal_flip(batch), batch)
    if padding > 0:
        padded = transforms.pad(out, [padding])
        corners = (draws[:, 1:3] * (2 * padding + 1)).long().tolist()
        for index, (top, left) in enumerate(corners):
            out[index] = transforms.crop(padded[index], top, left, height, width)
    fill = torch.tensor(IMAGENET_MEAN, dtype=torch.uint8, device=batch.device)[:, None, None]
    for index, (top, left, high, wide) in _erasing_boxes(
        draws[:, 3:], erasing, height, width
    ):
        transforms.erase(out[index], top, left, high, wide, v=fill, inplace=True)
    return to_float(out)


def _erasing_boxes(
    draws: torch.Tensor, probability: float, height: int, width: int
) -> Iterator[tuple]:
    """-> (picture, (top, left, height, width)): of 10 boxes drawn the first that fits,
    none where none does.
    """
    attempts = draws[:, 3:].reshape(len(draws), 10, 2)
    area = height * width * (0.02 + attempts[..., 0] * (0.4 - 0.02))
    aspect = 0.3 * (3.33 / 0.3) ** attempts[..., 1]  # uniform in its logarithm
    heights, widths = (
        side.sqrt().round().clamp(min=1) for side in (area * aspect, area / aspect)
    )
    fits = (heights <= height) & (widths <= width)
    first = fits.long().argmax(dim=1, keepdim=True)
    heights = heights.gather(1, first)[:, 0]
    widths = widths.gather(1, first)[:, 0]
    tops = draws[:, 1] * (height - heights + 1)
    lefts = draws[:, 2] * (width - widths + 1)
    chosen = torch.nonzero((draws[:, 0] < probability) & fits.any(dim=1))[:, 0]
    boxes = torch.stack([tops, lefts, heights, widths], dim=1).long()
    return zip(chosen.tolist(), boxes[chosen].tolist())


def pk_batches(
    labels,
    camids,
    *,
    clusters_per_batch: int,
    images_per_cluster: int,
    iterations: int,
    sampler: str = "camera",
    generator: torch.Generator,
) -> Iterator[np.ndarray]:
    """Batches of P clusters x K images: `iterations` int64 arrays of indices, one
    cluster's images side by side.

    labels: (N,) clusters, -1 for outliers, which are never drawn. camids: (N,), read by
    sampler="camera" alone: for a random anchor image it takes the others from the
    cluster's other cameras, where it has any (as Cluster Contrast, Dai et al. 2021,
    does); "random" takes any. An image comes twice only when all that may be taken are
    in. All clusters pass in random order before one returns; P shrinks to their number.
    One number is drawn from `generator`, at the call. Raises `KitError` below two
    clusters, and for "camera" with an unknown (-1) camera.
    """
    check_option("sampler", sampler, ("camera", "random"))
    if min(clusters_per_batch, images_per_cluster, iterations) < 1:
        raise KitError(
            "clusters_per_batch, images_per_cluster and iterations must be at least 1."
        )
    labels = np.asarray(labels)
    camids = np.asarray(camids)
    if labels.ndim != 1 or labels.shape != camids.shape:
        raise KitError(
            f"labels and camids must be two (N,) arrays, not {labels.shape} and "
            f"{camids.shape}."
        )
    clusters = [np.flatnonzero(labels == label) for label in np.unique(labels[labels >= 0])]
    if len(clusters) < 2:
        raise KitError(
            f"the clustering found {len(clusters)} clusters among {len(labels)} images "
            f"({int((labels < 0).sum())} outliers) and training needs two: if most are "
            "outliers raise eps "
            "or lower min_samples, if all fell into one cluster lower eps or k1."
        )
    if sampler == "camera" and (camids[labels >= 0] < 0).any():
        raise KitError(
            'sampler="camera" needs every camera, and some are unknown: use sampler="random".'
        )
    rng = np.random.default_rng(
        int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    )
    return _draw_batches(
        clusters,
        camids if sampler == "camera" else None,
        min(clusters_per_batch, len(clusters)),
        images_per_cluster,
        iterations,
        rng,
    )


def _draw_batches(
    clusters: list[np.ndarray],
    camids: np.ndarray | None,
    p: int,
    k: int,
    iterations: int,
    rng: np.random.Generator,
) -> Iterator[np.ndarray]:
    waiting: list[int] = []
    for _ in range(iterations):
        batch = waiting[:p]
        waiting = waiting[p:]
        # the next round of all clusters; those of this batch stay in line
        if len(batch) < p:
            order = rng.permutation(len(clusters)).tolist()
            fresh = [cluster for cluster in order if cluster not in batch][: p - len(batch)]
            waiting = [cluster for cluster in order if cluster not in fresh]
            batch = batch + fresh
        yield np.concatenate(
            [_draw_images(clusters[cluster], camids, k, rng) for cluster in batch]
        )


def _draw_images(
    members: np.ndarray, camids: np.ndarray | None, k: int, rng: np.random.Generator
) -> np.ndarray:
    """K of a cluster's images, the anchor first; those that may be taken come once each
    before any comes again.
    """
    pool = rng.permutation(members)
    anchor = pool[:1]
    others = pool[1:]
    if camids is not None and len(others):
        elsewhere = others[camids[others] != camids[anchor]]
        pool = others = elsewhere if len(elsewhere) else others
    more = rng.choice(pool, max(0, k - 1 - len(others)))
    return np.concatenate([anchor, others[: k - 1], more]).astype(np.int64)
