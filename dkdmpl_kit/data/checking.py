"""What is in a data set's folder against what was published, and what is broken: every
picture is read once.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from dkdmpl_kit.data.layouts import LAYOUTS, ignored_pictures
from dkdmpl_kit.data.loading import _decode, _in_threads
from dkdmpl_kit.data.records import SPLITS, ReIDDataset
from dkdmpl_kit.errors import KitError

RENDERED = ("rendered.json", "dataset.json")  # left by official.py and synthetic.py
SHOWN = 10  # names that a line lists


@dataclass(frozen=True)
class Published:
    """Statistics of the data set's authors: training identities, pictures of train,
    query and gallery, cameras.
    """

    train_ids: int
    images: tuple[int, int, int]
    cameras: int


_MSMT17 = Published(1_041, (32_621, 11_659, 82_161), 15)
PUBLISHED = {
    "market1501": Published(751, (12_936, 3_368, 15_913), 6),
    "dukemtmcreid": Published(702, (16_522, 2_228, 17_661), 8),
    "msmt17": _MSMT17,
    "msmt17_v2": _MSMT17,
    "msmt17_reorganised": _MSMT17,
    "veri776": Published(576, (37_778, 1_678, 11_579), 20),
}


@dataclass(frozen=True)
class DataCheck:
    """What `check_dataset` found; `problems` are what must be mended, `notes` what one
    should know.

    fingerprint: `ReIDDataset.fingerprint()`, which goes into every result and covers
    paths, sizes, identities and cameras. content: 16 hex digits of SHA-256 over all
    bytes as well, which tell whether two copies are the same.
    """

    dataset: ReIDDataset
    table: str
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    fingerprint: str
    content: str

    def text(self) -> str:
        """The report, for a terminal."""
        return "\n".join(
            [
                self.table,
                *(f"note: {note}" for note in self.notes),
                *(f"BROKEN: {problem}" for problem in self.problems),
                f"fingerprint {self.fingerprint} (goes into every result), content "
                f"{self.content}",
            ]
        )


def check_dataset(dataset: ReIDDataset, *, progress: bool = True) -> DataCheck:
    """Read every picture of `dataset` once, and compare it with itself and with the
    published statistics.

    Broken are: pictures that cannot be read, identities and (by SHA-256 of the file)
    pictures that train shares with query or gallery, camera numbers above the published
    ones. Counts that differ are noted, with the likely cause.
    """
    hashes, unreadable = _read_all(dataset, progress)
    notes = _counts(dataset)
    problems = []
    if unreadable:
        problems.append(f"{_number(unreadable, 'unreadable picture')}: {_names(unreadable)}")
    else:
        notes.append("every picture can be read")
    more_notes, more_problems = _identities(dataset)
    same_notes, same_problems = _duplicates(dataset, hashes)
    content = hashlib.sha256(repr(sorted(hashes.items())).encode()).hexdigest()[:16]
    return DataCheck(
        dataset,
        _table(dataset),
        (*notes, *more_notes, *same_notes),
        (*problems, *more_problems, *same_problems),
        dataset.fingerprint(),
        content,
    )


def _number(things, name: str) -> str:
    return f"{len(things):,} {name}{'' if len(things) == 1 else 's'}"


def _names(names, shown: int = SHOWN) -> str:
    names = list(map(str, names))
    return ", ".join(names[:shown]) + (
        f" and {len(names) - shown:,} more" if len(names) > shown else ""
    )


def _relative(dataset: ReIDDataset, path: Path) -> str:
    return os.path.relpath(path, dataset.root).replace(os.sep, "/")


def _pids(dataset: ReIDDataset) -> dict[str, int | None]:
    """{path below root: identity} of every picture."""
    return {
        _relative(dataset, image.path): image.pid
        for split in SPLITS
        for image in getattr(dataset, split)
    }


def _read_all(dataset: ReIDDataset, progress: bool) -> tuple[dict[str, str], list[str]]:
    """{path below root: SHA-256 of the file} of what can be decoded, and the rest,
    sorted.
    """
    paths = sorted({image.path for split in SPLITS for image in getattr(dataset, split)})
    names = [_relative(dataset, path) for path in paths]
    hashes = {}
    broken = set()

    def work(index: int) -> None:
        try:
            content = paths[index].read_bytes()
            _decode(io.BytesIO(content), 1, 1)
            hashes[names[index]] = hashlib.sha256(content).hexdigest()
        except (OSError, KitError):
            broken.add(names[index])

    _in_threads(work, len(paths), progress, "check")
    return hashes, sorted(broken)


# ---- counts


def _table(dataset: ReIDDataset) -> str:
    """Found and published counts of each split, and of all together."""
    known = PUBLISHED.get(dataset.name)
    columns = ("images", "identities", "cameras")
    images = [image for split in SPLITS for image in getattr(dataset, split)]
    counts = dataset.statistics()
    counts["all"] = {
        "images": len({image.path for image in images}),
        "identities": len({image.pid for image in images} - {None}) or None,
        "cameras": len({image.camid for image in images} - {None}) or None,
    }
    published = (
        {(split, "images"): number for split, number in zip(SPLITS, known.images)}
        if known
        else {}
    )
    if known:
        published |= {
            ("train", "identities"): known.train_ids,
            ("all", "cameras"): known.cameras,
            ("all", "images"): sum(known.images),
        }
    head = f"{'split':<8}" + "".join(
        f"{column:>12}{'published':>11}" if known else f"{column:>12}" for column in columns
    )
    lines = [f"{dataset.name} ({dataset.root.name})", head]
    for split, found in counts.items():
        cells = [
            f"{_count(found[column]):>12}"
            + (f"{_count(published.get((split, column))):>11}" if known else "")
            for column in columns
        ]
        lines.append(f"{split:<8}" + "".join(cells))
    return "\n".join(lines)


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _counts(dataset: ReIDDataset) -> list[str]:
    """How the counts differ from the published ones and why that may be, and which
    pictures belong to no split.
    """
    notes = _ignored(dataset)
    known = PUBLISHED.get(dataset.name)
    if known is None:
        return notes
    statistics = dataset.statistics()
    differ = {
        split: (statistics[split]["images"], number)
        for split, number in zip(SPLITS, known.images)
        if statistics[split]["images"] != number
    }
    if not differ and statistics["train"]["identities"] == known.train_ids:
        return [*notes, "the counts are the published ones"]
    if any((dataset.root / name).is_file() for name in RENDERED):
        return [
            *notes,
            "the counts are not the published ones: these pictures were rendered, in "
            "that layout",
        ]
    if not differ:
        notes.append(
            f"train has {statistics['train']['identities']:,} identities, "
            f"{known.train_ids:,} are published: "
            "pictures were renamed"
        )
    for split, (found, published) in differ.items():
        notes.append(
            f"{split} has {found:,} pictures, {published:,} are published: "
            f"{_cause(dataset, split, found > published)}"
        )
    return notes


def _cause(dataset: ReIDDataset, split: str, more: bool) -> str:
    if more:
        return "pictures were added, or some are there twice (see duplicates)"
    layout = LAYOUTS.get(dataset.name)
    if (
        split == "gallery"
        and layout
        and layout.distractor is not None
        and all(image.pid != layout.distractor for image in dataset.gallery)
    ):
        return f"the background pictures (identity {layout.distractor}) are missing, or a partial copy"
    if split == "train" and dataset.name.startswith("msmt17"):
        return "train without val (both are to be trained on), or a partial copy"
    return "a partial copy, or another data set in this layout"


def _ignored(dataset: ReIDDataset) -> list[str]:
    ignored = defaultdict(list)
    for name in ignored_pictures(dataset):
        ignored[name.split("/")[0]].append(name)
    layout = LAYOUTS.get(dataset.name)
    if layout is None:  # MSMT17 with lists
        why = "named in no list, so no part of the data set"
    elif layout.junk is not None:
        why = f"junk (identity {layout.junk}), background outside the gallery, or in a folder within"
    else:
        why = "in a folder within"
    read = Counter(name.split("/")[0] for name in _pids(dataset))
    return [
        f"{folder} holds {read[folder] + len(names):,} pictures, {read[folder]:,} are "
        f"read; the rest is {why}: "
        f"{_names(names, 3)}"
        for folder, names in ignored.items()
    ]


# ---- identities, cameras, duplicates


def _identities(dataset: ReIDDataset) -> tuple[list[str], list[str]]:
    notes = []
    problems = []
    train = {image.pid for image in dataset.train} - {None}
    test = {image.pid for image in dataset.query + dataset.gallery} - {None}
    if dataset.name.startswith("msmt17"):
        notes.append(
            "train and test number their identities apart, so shared ones would show "
            "as duplicates alone"
        )
    elif train & test:
        both = "identity" if len(train & test) == 1 else "identities"
        problems.append(
            f"{len(train & test):,} {both} both in train and in query or gallery: "
            f"{_names(sorted(train & test))}"
        )
    known = PUBLISHED.get(dataset.name)
    beyond = Counter(
        image.camid + 1
        for split in SPLITS
        for image in getattr(dataset, split)
        if known and image.camid >= known.cameras
    )
    if beyond:
        problems.append(
            f"camera numbers above {known.cameras}: "
            f"{_names(f'{camera} ({n:,} pictures)' for camera, n in sorted(beyond.items()))}"
        )
    return notes, problems


def _duplicates(dataset: ReIDDataset, hashes: dict[str, str]) -> tuple[list[str], list[str]]:
    """Files with the same bytes: within train, within query and gallery, and (broken)
    in both.
    """
    train = {_relative(dataset, image.path) for image in dataset.train}
    pids = _pids(dataset)
    groups = defaultdict(list)
    found = defaultdict(list)
    for name, digest in sorted(hashes.items()):
        groups[digest].append(name)
    for names in groups.values():
        inside = {name in train for name in names}
        identities = {pids[name] for name in names}
        if len(names) > 1:
            said = " = ".join(names) + (
                f" (identities {_names(sorted(identities, key=str))})"
                if len(identities) > 1
                else ""
            )
            found[
                "both"
                if len(inside) > 1
                else "train"
                if True in inside
                else "query and gallery"
            ].append(said)
    notes = [
        f"{_number(found[where], 'picture')} more than once in {where}, byte for byte: "
        f"{_names(found[where])}"
        for where in ("train", "query and gallery")
        if found[where]
    ]
    if found["both"]:
        return notes, [
            f"{_number(found['both'], 'picture')} both in train and in query or "
            "gallery, byte for byte: "
            f"{_names(found['both'])}"
        ]
    return notes or ["no two pictures are the same, byte for byte"], []
