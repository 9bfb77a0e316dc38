"""Rows on the readers: empty files under the names of both layouts of MSMT17."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.measure import measured, row
from dkdmpl_kit.data import read_dataset

# identities, pictures
SPLITS = {
    "train": (1_041, 30_248),
    "val": (1_041, 2_373),
    "query": (3_060, 11_659),
    "gallery": (3_060, 82_161),
}
FOLDERS = {
    "train": "bounding_box_train",
    "val": "bounding_box_train",
    "query": "query",
    "gallery": "bounding_box_test",
}


def official(root: Path, share: float) -> int:
    """Make empty files named as MSMT17 V1's, and its lists, `share` of each.

    Returns the number of files.
    """
    made = 0
    for part, (ids, pictures) in SPLITS.items():
        folder = root / ("train" if part in ("train", "val") else "test")
        lines = []
        ids = max(1, int(ids * share))
        pictures = int(pictures * share)
        for pid in range(ids):
            (folder / f"{pid:04d}").mkdir(parents=True, exist_ok=True)
        for i in range(pictures):
            pid = i % ids
            camera = 1 + i % 15
            shot = f"{pid:04d}_{i // ids:03d}_{camera:02d}_0303morning_{i % 9999:04d}"
            name = f"{pid:04d}/{shot}_{part[0]}.jpg"
            (folder / name).touch()
            lines.append(f"{name} {pid}\n")
        (root / f"list_{part}.txt").write_text("".join(lines))
        made += pictures
    return made


def reorganised(root: Path, share: float) -> int:
    """The same numbers of empty files in the three folders of the re-organised copy."""
    made = 0
    for part, (ids, pictures) in SPLITS.items():
        ids = max(1, int(ids * share))
        folder = root / FOLDERS[part]
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(int(pictures * share)):
            name = f"{i % ids:04d}_c{1 + i % 15}_{i:06d}{part[0]}.jpg"
            (folder / name).touch()
            made += 1
    return made


def rows(size: str):
    """Yield the rows; the file system has just written these names, so it has them cached."""
    for label, build in (("official layout", official), ("re-organised copy", reorganised)):
        with tempfile.TemporaryDirectory() as root:
            made = build(Path(root), 0.02 if size == "small" else 1.0)
            kit, dataset = measured(lambda root=root: read_dataset("msmt17", root))
            read = len(dataset.train) + len(dataset.query) + len(dataset.gallery)
            yield row(
                f"reading {made:,} names, {label}",
                kit,
                agreement=f"{read:,} read; train {len(dataset.train):,}",
            )
