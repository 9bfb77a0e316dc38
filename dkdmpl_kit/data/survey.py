"""What a folder of crops looks like, before any encoder has seen it: sizes, cameras,
pictures that show little, and pictures that are nearly the same.

None of it needs identities. `adapt` chooses its settings from it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from dkdmpl_kit.data.decoding import decode, upright_size
from dkdmpl_kit.data.files import file_and_box
from dkdmpl_kit.data.pictures import in_threads
from dkdmpl_kit.data.records import TrainingImages

SEEN = (128, 72)  # height and width at which sharpness and darkness are judged
HASHED = (8, 9)  # grey values of a difference hash: 8 x 8 comparisons
TINY = 32  # pixels of the longer side
DARK = 25  # mean grey value, of 255
SMOOTH = 20.0  # variance of the Laplacian of grey values at the size `SEEN`
SAME_HASH = 6  # of 64 bits that two frames of one burst may differ in


@dataclass(frozen=True)
class Survey:
    """What was seen of N pictures; masks are (N,) bool, in the order of the pictures.

    height, width: medians of the files' sizes in pixels; smallest: the shortest longer
    side. cameras: how many are known; unknown_cameras: pictures without one.
    tiny: longer side below 32 pixels. dark: mean grey value below 25 of 255. blurred:
    variance of the Laplacian below 20 (grey values, picture of 128 x 72). repeated:
    another picture has the same difference hash. burst: the number (N,) of the burst, -1
    outside of all: neighbours in the order of names, of one camera, whose hashes differ
    in at most 6 of 64 bits.
    """

    height: float
    width: float
    smallest: int
    cameras: int
    unknown_cameras: int
    tiny: np.ndarray
    dark: np.ndarray
    blurred: np.ndarray
    repeated: np.ndarray
    burst: np.ndarray

    def __len__(self) -> int:
        return len(self.tiny)

    @property
    def aspect(self) -> float:
        """Median height divided by median width."""
        return self.height / self.width

    @property
    def burst_length(self) -> float:
        """Pictures of a burst in the mean, over all pictures: 1 without bursts."""
        if not len(self) or (self.burst < 0).all():
            return 1.0
        alone = int((self.burst < 0).sum())
        return len(self) / (alone + int(self.burst.max()) + 1)

    def record(self) -> dict:
        """Counts and medians, for a file."""
        kept = {
            name: int(value.sum())
            for name, value in asdict(self).items()
            if isinstance(value, np.ndarray) and value.dtype == bool
        }
        return {
            "pictures": len(self),
            "height": self.height,
            "width": self.width,
            "smallest": self.smallest,
            "cameras": self.cameras,
            "unknown_cameras": self.unknown_cameras,
            **kept,
            "in_bursts": int((self.burst >= 0).sum()),
            "burst_length": round(self.burst_length, 2),
        }

    def lines(self) -> list[str]:
        """The record in sentences for a terminal."""
        found = self.record()
        n = len(self)
        cameras = (
            "no camera is known"
            if not self.cameras
            else f"{self.cameras} camera{'s' * (self.cameras > 1)}"
            + (f", unknown for {self.unknown_cameras:,}" if self.unknown_cameras else "")
        )
        lines = [
            f"{n:,} pictures, {self.height:g} x {self.width:g} pixels in the median "
            f"(height x width); {cameras}"
        ]
        for name, what in (
            ("tiny", f"smaller than {TINY} pixels"),
            ("dark", "nearly black"),
            ("blurred", "blurred or empty"),
            ("repeated", "the same as another one, or nearly"),
            ("in_bursts", "in bursts (one after the other, nearly the same)"),
        ):
            if found[name]:
                lines.append(f"  {found[name]:,} ({found[name] / n:.1%}) {what}")
        return lines


def survey(images: TrainingImages, *, progress: bool = False) -> Survey:
    """Look at every picture once, in threads. KitError for one that cannot be read."""
    n = len(images)
    sizes = np.empty((n, 2), np.int64)
    light, sharp = np.empty((2, n))
    hashes = np.empty((n, HASHED[0]), np.uint8)

    def work(index: int) -> None:
        grey = _grey(decode(images.paths[index], *SEEN))
        sizes[index] = _size(images.paths[index])
        light[index], sharp[index] = grey.mean(), sharpness(grey)
        hashes[index] = difference_hash(grey)

    in_threads(work, n, progress, "look")
    known = images.camids >= 0
    longer = sizes.max(axis=1)
    return Survey(
        height=float(np.median(sizes[:, 0])),
        width=float(np.median(sizes[:, 1])),
        smallest=int(longer.min()),
        cameras=len(np.unique(images.camids[known])),
        unknown_cameras=int((~known).sum()),
        tiny=longer < TINY,
        dark=light < DARK,
        blurred=sharp < SMOOTH,
        repeated=_repeated(hashes),
        burst=_bursts(images, hashes),
    )


def _size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture that `decode` has read, or of its part."""
    file, box = file_and_box(path)
    width, height = upright_size(file) if box is None else box[2:]
    return height, width


def _grey(pixels: np.ndarray) -> np.ndarray:
    """(3, H, W) uint8 -> (H, W) luma of ITU-R BT.601, 0 to 255."""
    return np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), pixels, axes=1)


def sharpness(grey: np.ndarray) -> float:
    """Variance of the Laplacian of grey values (H, W) (Pech-Pacheco et al. 2000): small
    where nothing is sharp.
    """
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * grey[1:-1, 1:-1]).var())


def difference_hash(grey: np.ndarray) -> np.ndarray:
    """(8,) uint8: 64 bits, whether each of 8 x 9 block means is brighter than its right
    neighbour. grey: (H, W), H a multiple of 8 and W of 9.
    """
    rows, columns = HASHED
    height, width = grey.shape
    blocks = grey.reshape(rows, height // rows, columns, width // columns)
    means = blocks.mean(axis=(1, 3))
    return np.packbits(means[:, :-1] > means[:, 1:])


def _repeated(hashes: np.ndarray) -> np.ndarray:
    """(N,) bool: another picture has the same hash."""
    _, place, counts = np.unique(hashes, axis=0, return_inverse=True, return_counts=True)
    return counts[place.ravel()] > 1


def _bursts(images: TrainingImages, hashes: np.ndarray) -> np.ndarray:
    """(N,) the number of each picture's burst, -1 for a picture that is in none."""
    order = np.array(sorted(range(len(images)), key=lambda i: str(images.paths[i])))
    bits = np.unpackbits(hashes[order], axis=1)
    near = (bits[1:] != bits[:-1]).sum(axis=1) <= SAME_HASH
    cameras = images.camids[order]
    near &= cameras[1:] == cameras[:-1]
    group = np.concatenate([[0], np.cumsum(~near)])
    large = np.bincount(group)[group] > 1
    burst = np.full(len(images), -1, np.int64)
    burst[order[large]] = np.unique(group[large], return_inverse=True)[1]
    return burst
