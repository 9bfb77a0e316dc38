"""What a re-ID data set is, and the part of it that a trainer may see.

A data set is pictures with identity and camera, in three splits.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dkdmpl_kit.data.decoding import unreadable
from dkdmpl_kit.data.files import Remark, file_of, printable, some, why_no_file
from dkdmpl_kit.errors import KitError

SPLITS = ("train", "query", "gallery")
UNREADABLE = "a picture that cannot be read"


@dataclass(frozen=True, slots=True)
class ReIDImage:
    """One picture: its file, identity (`pid`) and camera (`camid`, from 0), or None.

    track: the tracklet of a video that it was cut from, from 0 or None. All pictures of
    one show one being, and two tracks may show the same: a track is not an identity.
    """

    path: Path
    pid: int | None
    camid: int | None
    track: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TrainingImages:
    """All that an unsupervised trainer may see: files, cameras and tracks, never
    identities.

    paths: N files; camids: (N,) int64, -1 where the camera is unknown. tracks: (N,) int64,
    -1 where a picture belongs to no track, or None where no picture does. A tracker knows
    that the pictures of a track show one being; it does not know whom.
    """

    paths: tuple[Path, ...]
    camids: np.ndarray
    tracks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class ReIDDataset:
    """A data set for re-ID: `train`, `query` and `gallery` are tuples of `ReIDImage`.

    remarks: the files of the folder that are left out, and why. pid_names and
    camid_names: what the files call an identity or a camera; `identity` and `camera` ask
    them.
    """

    name: str
    root: Path
    train: tuple[ReIDImage, ...]
    query: tuple[ReIDImage, ...]
    gallery: tuple[ReIDImage, ...]
    remarks: tuple[Remark, ...] = ()
    pid_names: Mapping[int, str] = field(default_factory=dict, compare=False, repr=False)
    camid_names: Mapping[int, str] = field(default_factory=dict, compare=False, repr=False)

    def images(self) -> tuple[ReIDImage, ...]:
        """The pictures of all splits, one after the other; some may be in two of them."""
        return self.train + self.query + self.gallery

    def paths(self) -> list[Path]:
        """The files of all splits, each once, sorted."""
        return sorted({image.path for image in self.images()})

    def relative(self, path: Path) -> str:
        """`path` below the data set's folder, with forward slashes."""
        return Path(os.path.relpath(path, self.root)).as_posix()

    def identity(self, pid: int | None) -> str:
        """What the files call an identity: "0065" for 65."""
        return "unknown" if pid is None else self.pid_names.get(pid, str(pid))

    def camera(self, camid: int | None) -> str:
        """What the files call a camera: "north gate", or "1" for Market-1501's first."""
        return "unknown" if camid is None else self.camid_names.get(camid, str(camid))

    def account(self) -> dict[str, tuple[str, ...]]:
        """{"read": names, why a file is left out: names ...} of all that lies in the folder.

        Names are below root; a folder that is left out as a whole is one name with a '/'
        at its end. Of some files not all is read (an animation's first picture): they
        are in "read", and under their reason too.
        """
        names = {"read": [self.relative(path) for path in self.paths()]}
        for remark in self.remarks:
            names.setdefault(remark.why, []).append(remark.name)
        return {why: tuple(found) for why, found in names.items()}

    def account_text(self) -> str:
        """`account()` in a few lines: how many files are read, and what is left out."""
        counts = defaultdict(list)
        for remark in self.remarks:
            counts[remark.read, remark.why].append(remark.name)
        paths = self.paths()
        files = {file_of(path) for path in paths}
        lines = [f"{len(files):,} files read"]
        if len(files) < len(paths):
            lines = [f"{len(paths):,} pictures in {len(files):,} files read"]
        for (read, why), found in sorted(counts.items()):
            state = "read in part" if read else "left out"
            lines.append(f"{state}: {len(found):,} {why} ({some(found)})")
        return "\n".join(lines)

    def without(self, broken: Iterable[Path]) -> ReIDDataset:
        """The same without these pictures: each becomes a remark that says why."""
        gone = set(broken)
        kept = {
            split: tuple(image for image in getattr(self, split) if image.path not in gone)
            for split in SPLITS
        }
        new = {self.relative(path): why_no_file(path) or UNREADABLE for path in gone}
        remarks = [remark for remark in self.remarks if remark.name not in new]
        remarks += [Remark(name, why) for name, why in new.items()]
        remarks.sort(key=lambda remark: remark.name)
        return replace(self, remarks=tuple(remarks), **kept)

    def statistics(self) -> dict[str, dict[str, int | None]]:
        """{split: {"images", "identities", "cameras"}}; None where nothing is known.

        Distractors share one pid, so they count as one identity.
        """
        counts = {}
        for split in SPLITS:
            images = getattr(self, split)
            pids = {image.pid for image in images} - {None}
            camids = {image.camid for image in images} - {None}
            counts[split] = {
                "images": len(images),
                "identities": len(pids) or None,
                "cameras": len(camids) or None,
            }
        return counts

    def summary(self) -> str:
        """`statistics()` as a small text table, "-" where unknown, and what is left out.

        It names the folder, not its place.
        """
        columns = ("images", "identities", "cameras")
        lines = [
            f"{self.name} ({printable(self.root.absolute().name)})",
            f"{'split':<8}" + "".join(f"{column:>12}" for column in columns),
        ]
        for split, counts in self.statistics().items():
            cells = (
                "-" if counts[column] is None else f"{counts[column]:,}" for column in columns
            )
            lines.append(f"{split:<8}" + "".join(f"{cell:>12}" for cell in cells))
        if self.remarks:
            lines.append(self.account_text())
        return "\n".join(lines)

    def fingerprint(self) -> str:
        """16 hex digits that name this data.

        They are of SHA-256 over the sorted (relative path, size, pid, camid) of all
        splits. The folder's own place does not count, so a copy elsewhere has the same
        fingerprint. The split does where no path tells it, in MSMT17 and in tables, and a
        track where there is one. Contents do not, for every run asks:
        `checking.check_dataset` reads them too. KitError where a picture is gone.
        """
        by_list = self.name.startswith(("msmt17", "table"))
        rows = sorted(
            (
                self.relative(image.path),
                _size(image.path),
                repr(image.pid),
                repr(image.camid),
                *([split] if by_list else []),
                *([] if image.track is None else [f"track {image.track}"]),
            )
            for split in SPLITS
            for image in getattr(self, split)
        )
        return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]

    def unlabelled(self) -> TrainingImages:
        """The training pictures without their identities: what `training.fit` works from.

        KitError without training pictures.
        """
        if not self.train:
            raise KitError(
                f"{self.name} at {self.root} has no training pictures; add a train folder."
            )
        paths, _, camids = arrays_of(self.train)
        tracks = np.array([-1 if x.track is None else x.track for x in self.train], np.int64)
        return TrainingImages(paths, camids, tracks if (tracks >= 0).any() else None)


def _size(path: Path) -> int:
    """Bytes of a picture's file; KitError where there is none."""
    try:
        return os.stat(file_of(path)).st_size
    except OSError as error:
        raise unreadable(path, why_no_file(path) or error.strerror) from error


def arrays_of(images: Iterable[ReIDImage]) -> tuple[tuple[Path, ...], np.ndarray, np.ndarray]:
    """-> paths, pids (N,) int64, camids (N,) int64; -1 stands for an unknown one."""
    images = tuple(images)
    paths = tuple(image.path for image in images)
    pids = [-1 if image.pid is None else image.pid for image in images]
    camids = [-1 if image.camid is None else image.camid for image in images]
    return paths, np.array(pids, dtype=np.int64), np.array(camids, dtype=np.int64)
