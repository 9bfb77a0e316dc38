"""What is in a data set's folder against the official counts, and what is broken."""

from __future__ import annotations

import hashlib
import io
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from dkdmpl_kit.data.decoding import decode_parts, holds_several
from dkdmpl_kit.data.files import SEVERAL, Remark, printable, some, why_no_file
from dkdmpl_kit.data.layouts import LAYOUTS
from dkdmpl_kit.data.pictures import by_file, in_threads, readable
from dkdmpl_kit.data.records import SPLITS, ReIDDataset
from dkdmpl_kit.errors import KitError

RENDERED = ("rendered.json", "dataset.json")  # left by the modules of rendering/
COLUMNS = ("images", "identities", "cameras")
SHOWN = 10  # names that a line lists


@dataclass(frozen=True)
class OfficialCounts:
    """What a data set's authors published; images: of train, query and gallery."""

    train_ids: int
    images: tuple[int, int, int]
    cameras: int


_MSMT17 = OfficialCounts(1_041, (32_621, 11_659, 82_161), 15)
OFFICIAL_COUNTS = {
    "market1501": OfficialCounts(751, (12_936, 3_368, 15_913), 6),
    "dukemtmcreid": OfficialCounts(702, (16_522, 2_228, 17_661), 8),
    "msmt17": _MSMT17,
    "msmt17_v2": _MSMT17,
    "msmt17_reorganised": _MSMT17,
    "veri776": OfficialCounts(576, (37_778, 1_678, 11_579), 20),
}


@dataclass(frozen=True)
class DataCheck:
    """What `check_dataset` found: `problems` must be mended, `notes` one should know.

    fingerprint: `ReIDDataset.fingerprint()`, which goes into every result and covers
    paths, sizes, identities and cameras, of what can be read. content: 16 hex digits of
    SHA-256 over all bytes as well, which tell whether two copies are the same.
    """

    dataset: ReIDDataset
    table: str
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    fingerprint: str
    content: str

    def text(self) -> str:
        """The report, for a terminal."""
        lines = [self.table, self.dataset.account_text()]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"BROKEN: {problem}" for problem in self.problems]
        names = f"fingerprint {self.fingerprint} (goes into every result), "
        return "\n".join([*lines, f"{names}content {self.content}"])


def check_dataset(dataset: ReIDDataset, *, progress: bool = True) -> DataCheck:
    """Read every file once; compare the data set with itself and the official counts.

    Broken are: pictures that cannot be read (each is named, with what lies there where it
    is not a file), identities and (by SHA-256 of the file) pictures that train shares
    with query or gallery, tracks of several identities, and camera numbers above the
    official ones. Counts that differ
    are noted, with the likely cause. `.dataset` of the result has a remark for each file
    of several pictures.
    """
    reading = _read_all(dataset, progress)
    dataset = _with_several(dataset, reading.several)
    notes = _counts(dataset)
    problems = []
    if reading.broken:
        names = [_with_why(dataset, path) for path in reading.broken]
        problems.append(f"{_number(names, 'unreadable picture')}: {_names(names)}")
    else:
        notes.append("every picture can be read")
    more_notes, more_problems = _identities(dataset)
    same_notes, same_problems = _duplicates(dataset, reading.hashes)
    content = hashlib.sha256(repr(sorted(reading.hashes.items())).encode()).hexdigest()[:16]
    return DataCheck(
        dataset,
        _table(dataset),
        (*notes, *more_notes, *same_notes),
        (*problems, *more_problems, *same_problems),
        dataset.without(reading.broken).fingerprint(),
        content,
    )


def _with_several(dataset: ReIDDataset, names: set[str]) -> ReIDDataset:
    """`dataset` with a remark for each of the files that hold several pictures."""
    known = {remark.name for remark in dataset.remarks}
    new = [Remark(name, SEVERAL, read=True) for name in sorted(names - known)]
    remarks = sorted([*dataset.remarks, *new], key=lambda remark: remark.name)
    return replace(dataset, remarks=tuple(remarks))


def _with_why(dataset: ReIDDataset, path: Path) -> str:
    """A broken picture's name, with what lies there where it is not a file."""
    why = why_no_file(path)
    return dataset.relative(path) + (f" ({why})" if why else "")


def _number(things, name: str) -> str:
    plural = "" if len(things) == 1 else "s"
    return f"{len(things):,} {name}{plural}"


def _names(names) -> str:
    return some([str(name) for name in names], SHOWN)


def _pids(dataset: ReIDDataset) -> dict[str, int | None]:
    """{path below root: identity} of every picture."""
    return {dataset.relative(image.path): image.pid for image in dataset.images()}


@dataclass
class _Reading:
    """hashes: {path below root: SHA-256 of the file, and of the box where the picture is a
    part of it} of what can be decoded. broken: the other pictures, sorted. several: names
    of files that hold more than one picture.
    """

    hashes: dict[str, str]
    broken: list[Path]
    several: set[str]


def _read_all(dataset: ReIDDataset, progress: bool) -> _Reading:
    paths = dataset.paths()
    groups = by_file(paths)
    reading = _Reading({}, [], set())

    def work(number: int) -> None:
        file, indices, boxes = groups[number]
        # what is not a file is never opened: a pipe would wait for ever
        if why_no_file(file):
            reading.broken.extend(paths[index] for index in indices)
            return
        try:
            content = file.read_bytes()
        except OSError:
            reading.broken.extend(paths[index] for index in indices)
            return
        fit = dict(zip(indices, boxes))
        try:
            decode_parts(io.BytesIO(content), boxes, 1, 1)
        except KitError:  # the file, or some of its boxes
            fit = {index: box for index, box in fit.items() if readable(paths[index])}
            reading.broken.extend(paths[index] for index in indices if index not in fit)
        for index, box in fit.items():
            digest = hashlib.sha256(content)
            digest.update(b"" if box is None else repr(box).encode())
            reading.hashes[dataset.relative(paths[index])] = digest.hexdigest()
        if fit and holds_several(io.BytesIO(content)):
            reading.several.add(dataset.relative(file))

    in_threads(work, len(groups), progress, "check")
    reading.broken.sort()
    return reading


# ---- counts


def _table(dataset: ReIDDataset) -> str:
    """Found and official counts of each split, and of all together."""
    counts = _found_counts(dataset)
    official = _official_cells(dataset.name)
    head = f"{'split':<8}"
    for column in COLUMNS:
        head += f"{column:>12}"
        if official:
            head += f"{'published':>11}"
    lines = [f"{dataset.name} ({printable(dataset.root.absolute().name)})", head]
    for split, found in counts.items():
        line = f"{split:<8}"
        for column in COLUMNS:
            line += f"{_count(found[column]):>12}"
            if official:
                line += f"{_count(official.get((split, column))):>11}"
        lines.append(line)
    return "\n".join(lines)


def _found_counts(dataset: ReIDDataset) -> dict[str, dict[str, int | None]]:
    """`dataset.statistics()`, and under "all" that of all splits together."""
    images = dataset.images()
    together = {
        "images": len(dataset.paths()),
        "identities": len({image.pid for image in images} - {None}) or None,
        "cameras": len({image.camid for image in images} - {None}) or None,
    }
    return dataset.statistics() | {"all": together}


def _official_cells(name: str) -> dict[tuple[str, str], int]:
    """{(split, column): official count} of a data set; empty where there are none."""
    known = OFFICIAL_COUNTS.get(name)
    if known is None:
        return {}
    cells = {(split, "images"): count for split, count in zip(SPLITS, known.images)}
    cells["train", "identities"] = known.train_ids
    cells["all", "cameras"] = known.cameras
    cells["all", "images"] = sum(known.images)
    return cells


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _counts(dataset: ReIDDataset) -> list[str]:
    """Notes on counts that are not the official ones."""
    notes = []
    known = OFFICIAL_COUNTS.get(dataset.name)
    if known is None:
        return notes
    statistics = dataset.statistics()
    differ = {}
    for split, official in zip(SPLITS, known.images):
        found = statistics[split]["images"]
        if found != official:
            differ[split] = (found, official)
    train_ids = statistics["train"]["identities"]
    if not differ and train_ids == known.train_ids:
        return [*notes, "the counts are the published ones"]
    if any((dataset.root / name).is_file() for name in RENDERED):
        return [
            *notes,
            "the counts are not the published ones: these pictures were rendered, in "
            "that layout",
        ]
    if not differ:
        notes.append(
            f"train has {train_ids:,} identities, {known.train_ids:,} are published: "
            "pictures were renamed"
        )
    for split, (found, official) in differ.items():
        cause = _cause(dataset, split, found > official)
        notes.append(f"{split} has {found:,} pictures, {official:,} are published: {cause}")
    return notes


def _cause(dataset: ReIDDataset, split: str, more: bool) -> str:
    if more:
        return "pictures were added, or some are there twice (see duplicates)"
    layout = LAYOUTS.get(dataset.name)
    background = None if layout is None else layout.distractor
    if split == "gallery" and background is not None:
        if all(image.pid != background for image in dataset.gallery):
            return (
                f"the background pictures (identity {background}) are missing, or a partial "
                "copy"
            )
    if split == "train" and dataset.name.startswith("msmt17"):
        return "train without val (both are to be trained on), or a partial copy"
    return "a partial copy, or another data set in this layout"


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
            f"{_names(dataset.identity(pid) for pid in sorted(train & test))}"
        )
    problems += _mixed_tracks(dataset)
    problems += _unknown_cameras(dataset)
    return notes, problems


def _mixed_tracks(dataset: ReIDDataset) -> list[str]:
    """The problem of tracks whose pictures have several identities, where there are any."""
    seen = defaultdict(set)
    for image in dataset.images():
        if image.track is not None and image.pid is not None:
            seen[image.track].add(image.pid)
    mixed = [pids for pids in seen.values() if len(pids) > 1]
    if not mixed:
        return []
    called = (" and ".join(map(dataset.identity, sorted(pids))) for pids in mixed)
    number = _number(mixed, "track")
    return [f"{number} with pictures of several identities: {_names(called)}"]


def _unknown_cameras(dataset: ReIDDataset) -> list[str]:
    """The problem of camera numbers above the official one, where there are any."""
    known = OFFICIAL_COUNTS.get(dataset.name)
    if known is None:
        return []
    beyond = Counter(
        image.camid + 1 for image in dataset.images() if image.camid >= known.cameras
    )
    if not beyond:
        return []
    said = _names(
        f"{camera} ({count:,} pictures)" for camera, count in sorted(beyond.items())
    )
    return [f"camera numbers above {known.cameras}: {said}"]


def _duplicates(dataset: ReIDDataset, hashes: dict[str, str]) -> tuple[list[str], list[str]]:
    """Notes and problems on files with the same bytes.

    Within train, or within query and gallery, they are noted; in both they are broken.
    """
    train = {dataset.relative(image.path) for image in dataset.train}
    pids = _pids(dataset)
    groups = defaultdict(list)
    for name, digest in sorted(hashes.items()):
        groups[digest].append(name)
    found = defaultdict(list)
    for names in groups.values():
        if len(names) == 1:
            continue
        said = " = ".join(names)
        identities = {pids[name] for name in names}
        if len(identities) > 1:
            called = {dataset.identity(pid) for pid in identities}
            said += f" (identities {_names(sorted(called))})"
        if train.isdisjoint(names):
            where = "query and gallery"
        elif train.issuperset(names):
            where = "train"
        else:
            where = "both"
        found[where].append(said)
    notes = []
    for where in ("train", "query and gallery"):
        if found[where]:
            notes.append(
                f"{_number(found[where], 'picture')} more than once in {where}, byte for "
                f"byte: {_names(found[where])}"
            )
    problems = []
    if found["both"]:
        problems.append(
            f"{_number(found['both'], 'picture')} both in train and in query or gallery, "
            f"byte for byte: {_names(found['both'])}"
        )
    if not notes and not problems:
        notes.append("no two pictures are the same, byte for byte")
    return notes, problems
