"""A person's corrections of a clustering, in a table that a spreadsheet or the explorer
writes; clustering and training then keep to them.

docs/labels.md shows the table. A correction is one row or more with the same `correction`:
merge (these are one), split (these leave their cluster, as one), different (no two of
these are ever in one cluster). Rows name a picture by `path`, or a whole `cluster` of the
labels that the person looked at (labels.csv beside the corrections, or `labels`): a
cluster's number means nothing in the next clustering, so that it stands for its pictures.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dkdmpl_kit.clustering.constraints import Constraints
from dkdmpl_kit.data import TrainingImages
from dkdmpl_kit.data.files import expanded, printable
from dkdmpl_kit.data.rows import Rows, read_rows
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import Config, read_record, write_atomic, write_json
from dkdmpl_kit.training.label_files import (
    COLUMNS as LABEL_COLUMNS,
)
from dkdmpl_kit.training.label_files import (
    read_labels,
    require_columns,
    safe_path,
    tidy,
    whole_number,
)

ACTIONS = ("merge", "split", "different")
NEEDED = ("correction", "action", "path", "cluster")
WRITTEN = (*NEEDED, "side")
# rows may be copied out of labels.csv as they are
KNOWN = (*WRITTEN, "labels", "note", *(name for name in LABEL_COLUMNS if name not in NEEDED))
LABELS = "labels.csv"
COPY = "corrections.json"  # in a run's folder
MOST_SIDES = 100  # of one correction: each is kept apart from each


@dataclass(frozen=True)
class Correction:
    """One correction as it is written: its action and rows of (path, cluster, side), ""
    for what a row leaves out.
    """

    action: str
    rows: tuple[tuple[str, str, str], ...]


@dataclass
class _Row:
    place: str
    action: str
    path: str
    cluster: int | None
    side: str
    labels: Path


@dataclass
class _Pictures:
    """Where names stand: of the pictures of now, and of the clusters that rows name."""

    names: Sequence[str]
    root: str
    indices: dict[str, int] = field(default_factory=dict)
    tables: dict[Path, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.indices = {name: at for at, name in enumerate(self.names)}

    def name(self, row: _Row) -> str:
        """The picture that a row names, as the kit names it."""
        text = row.path
        below = (
            os.path.relpath(text, self.root) if os.path.isabs(text) and self.root else text
        )
        for name in (text, Path(below).as_posix(), text.replace("\\", "/")):
            if name in self.indices:
                return name
        raise KitError(
            f"{row.place} names {printable(text)}, which is not one of the {len(self.names):,} "
            f"training pictures; write it as labels.csv does, such as "
            f"{printable(self.names[0])}."
        )

    def cluster_of(self, row: _Row, name: str) -> int:
        """The cluster of a picture in the labels that a row means; KitError where the row
        says another one.
        """
        cluster = self._table(row).get(name)
        if cluster is None:
            raise KitError(
                f"{row.place} names {printable(name)}, which {printable(row.labels)} does not "
                "hold."
            )
        if row.cluster is not None and row.cluster != cluster:
            raise KitError(
                f"{row.place} says that {printable(name)} is in cluster {row.cluster}, and "
                f"{printable(row.labels)} says {cluster}: leave the cluster empty, or name "
                "the labels that you looked at in a column labels."
            )
        return cluster

    def members(self, row: _Row, cluster: int) -> list[int]:
        """The pictures of a cluster of the labels that are still among those of now."""
        table = self._table(row)
        if cluster < 0 or cluster not in table.values():
            raise KitError(
                f"{row.place} names cluster {cluster}, and {printable(row.labels)} has no such "
                "cluster."
            )
        names = [name for name, own in table.items() if own == cluster]
        found = [self.indices[name] for name in names if name in self.indices]
        if not found:
            raise KitError(
                f"{row.place} names cluster {cluster} of {printable(row.labels)}, none of whose "
                f"{len(names)} pictures is a training picture: are they labels of other data?"
            )
        return found

    def _table(self, row: _Row) -> dict[str, int]:
        if row.labels not in self.tables:
            if not row.labels.exists():
                raise KitError(
                    f"{row.place} speaks of clusters, and there is no {printable(row.labels)} "
                    "to look them up in: put the labels that you looked at there, or name "
                    "them in a column labels."
                )
            self.tables[row.labels] = read_labels(row.labels)
        return self.tables[row.labels]


def read_corrections(
    path: str | Path, names: Sequence[str], root: str | Path = ""
) -> Constraints:
    """The constraints that a file of corrections puts on the pictures called `names`.

    path: a table, or the corrections.json that a run keeps. names: N paths below `root`
    with forward slashes, or whole ones. KitError in one sentence: no such file, unknown
    columns, actions, pictures or clusters, and corrections that contradict each other.
    """
    path = expanded(path)
    if not os.path.lexists(path):
        raise KitError(f"There are no corrections {printable(path)}.")
    if path.suffix == ".json":
        return _read_copy(path, names)
    return _said(_rows_of(path), path.name, names, root)


def constraints_said(corrections: Sequence[Correction], names: Sequence[str]) -> Constraints:
    """What corrections of single pictures say, without a file: `read_corrections` of what
    `write_corrections` would write. KitError as there.
    """
    rows: dict[str, list[_Row]] = {}
    number = 1  # of a row, the header's being 1
    for at, correction in enumerate(corrections, 1):
        for path, _, side in correction.rows:
            number += 1
            row = _Row(
                f"row {number}", correction.action, tidy(path), None, side, Path(LABELS)
            )
            rows.setdefault(str(at), []).append(row)
    return _said(rows, "the corrections", names, "")


def _said(
    rows: Mapping[str, Sequence[_Row]], source: str, names: Sequence[str], root: str | Path
) -> Constraints:
    pictures = _Pictures(names, str(root))
    together: list[tuple[str, list[int]]] = []
    apart: list[tuple[str, tuple[list[int], list[int]]]] = []
    for key, own in rows.items():
        name = f"correction {key} ({_places(own)} of {printable(source)})"
        action = own[0].action
        if action == "merge":
            together.append((name, _merged(own, pictures, name)))
        elif action == "split":
            leaving, staying = _split(own, pictures, name)
            together.append((name, leaving))
            apart.append((name, (leaving, staying)))
        else:
            apart += [(name, pair) for pair in _pairs(own, pictures, name)]
    return _constraints(len(names), together, apart)


def load_corrections(path: str | Path) -> list[Correction]:
    """The corrections of a table as they were written; KitError for one that names
    clusters, which only their labels explain.
    """
    found = []
    for own in _rows_of(Path(path)).values():
        for row in own:
            if row.cluster is not None:
                raise KitError(
                    f"{row.place} names a cluster, which a person's table may do and this "
                    "place cannot go on with: give a new file."
                )
        rows = tuple((row.path, "", row.side) for row in own)
        found.append(Correction(own[0].action, rows))
    return found


def constraints_of(
    config: Config, root: str | Path, images: TrainingImages
) -> Constraints | None:
    """What is known of the training pictures beside their looks: `config.corrections`,
    and that the pictures of a track are one. None where nothing is.
    """
    given = None
    if config.corrections:
        given = read_corrections(config.corrections, names_below(images.paths, root), root)
    groups = track_groups(images.tracks)
    if not groups:
        return given
    together = list(groups)
    named = [f"the pictures of track {images.tracks[group[0]]}" for group in groups]
    apart: tuple = ()
    if given is not None:
        count = len(given.together)
        together += given.together
        named += given.named[:count]
        named += given.named[count:]
        apart = given.apart
    return Constraints(len(images), tuple(together), apart, tuple(named))


def track_groups(tracks: np.ndarray | None) -> list[np.ndarray]:
    """The indices of each track's pictures, of tracks (N,) with -1 for none; those of one
    picture say nothing and are left out.
    """
    if tracks is None:
        return []
    order = np.argsort(tracks, kind="stable")
    order = order[tracks[order] >= 0]
    groups = np.split(order, np.flatnonzero(np.diff(tracks[order])) + 1)
    return [group for group in groups if len(group) > 1]


def names_below(paths: Iterable[Path], root: str | Path) -> list[str]:
    """Paths as labels.csv names them: below `root`, with forward slashes."""
    return [Path(os.path.relpath(path, root)).as_posix() for path in paths]


def write_corrections(
    path: str | Path, corrections: Sequence[Correction], labels: str = ""
) -> Path:
    """Write corrections as a .csv that `read_corrections` reads, numbered from 1.

    labels: the file, named from the folder of `path`, whose clusters are meant where it
    is not labels.csv.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*WRITTEN, *(["labels"] if labels else [])])
    for number, correction in enumerate(corrections, 1):
        for name, cluster, side in correction.rows:
            cells = [number, correction.action, safe_path(name), cluster, side]
            writer.writerow([*cells, *([labels] if labels else [])])
    return write_atomic(path, text.getvalue())


def save_copy(
    path: Path, constraints: Constraints, names: Sequence[str], source: str
) -> Path:
    """A run's copy of its corrections, by the names of pictures: `read_corrections` reads
    it, wherever the table and the labels have gone.
    """

    def of(group: np.ndarray) -> list[str]:
        return [names[i] for i in group.tolist()]

    count = len(constraints.together)
    record = {
        "source": source,
        "together": [
            {"named": name, "paths": of(group)}
            for name, group in zip(constraints.named, constraints.together)
        ],
        "apart": [
            {"named": name, "sides": [of(side) for side in pair]}
            for name, pair in zip(constraints.named[count:], constraints.apart)
        ],
    }
    return write_json(path, record)


def own_corrections(config: Config, run_dir: str | Path) -> Config:
    """The settings of a run with its own copy of its corrections, where it has one."""
    copy = Path(run_dir).absolute() / COPY
    if not config.corrections or not copy.is_file():
        return config
    return config.replace(corrections=str(copy))


def corrections_of_run(
    config: Config, root: str | Path, images: TrainingImages, *, resume: bool
) -> tuple[Constraints | None, Constraints | None]:
    """(all constraints, those of the corrections alone) of a run that is opened; one that
    is resumed has its copy where the table has gone.
    """
    if resume and config.corrections and not os.path.lexists(expanded(config.corrections)):
        config = own_corrections(config, config.run_dir)
    everything = constraints_of(config, root, images)
    if not config.corrections:
        return everything, None
    alone = dataclasses.replace(images, tracks=None)
    return everything, constraints_of(config, root, alone)


def keep_copy(
    folder: Path, corrections: Constraints | None, config: Config, names: Sequence[str]
) -> None:
    """Leave a run's corrections in its folder, and none of an earlier try."""
    if corrections is None:
        (folder / COPY).unlink(missing_ok=True)
    else:
        save_copy(folder / COPY, corrections, names, config.corrections)


def _constraints(n: int, together: Sequence[tuple], apart: Sequence[tuple]) -> Constraints:
    named = [name for name, _ in (*together, *apart)]
    groups = tuple(np.array(group) for _, group in together)
    pairs = tuple((np.array(one), np.array(other)) for _, (one, other) in apart)
    return Constraints(n, groups, pairs, tuple(named))


def _read_copy(path: Path, names: Sequence[str]) -> Constraints:
    record = read_record(path, {"source": str, "together": list, "apart": list})
    indices = {name: at for at, name in enumerate(names)}
    try:
        together = [
            (str(one["named"]), [indices[name] for name in one["paths"]])
            for one in record["together"]
        ]
        apart = []
        for one in record["apart"]:
            first, second = ([indices[name] for name in side] for side in one["sides"])
            apart.append((str(one["named"]), (first, second)))
    except (KeyError, TypeError, ValueError) as error:
        raise KitError(
            f"{printable(path)} does not fit these training pictures, or was edited "
            f"({printable(error)}): give the table of corrections itself, or corrections='' "
            "for none."
        ) from error
    return _constraints(len(names), together, apart)


def _rows_of(path: Path) -> dict[str, list[_Row]]:
    """{correction: its rows} of a table, in the order of first appearance."""
    rows = read_rows(path)
    require_columns(rows, NEEDED, KNOWN)
    texts = {name: rows.texts(name) for name in rows.columns if name in KNOWN}
    found: dict[str, list[_Row]] = {}
    for at in range(len(rows)):
        cells = {name: texts[name][at] or "" for name in texts}
        row = _row_of(cells, rows, at)
        group = found.setdefault(cells["correction"], [])
        group.append(row)
        if row.action != group[0].action:
            raise KitError(
                f"{row.place} is a {row.action} in correction {cells['correction']}, which "
                f"began as a {group[0].action}: give it a number of its own."
            )
    return found


def _row_of(cells: Mapping[str, str], rows: Rows, at: int) -> _Row:
    place = rows.place(at)
    action = cells["action"].lower()
    if action not in ACTIONS:
        raise KitError(
            f"{place} has the action {printable(cells['action'])!r}: it must be "
            f"{', '.join(ACTIONS[:-1])} or {ACTIONS[-1]}."
        )
    if not cells["correction"]:
        raise KitError(
            f"{place} has no number in the column correction: rows of one correction have "
            "the same."
        )
    if not cells["path"] and not cells["cluster"]:
        raise KitError(f"{place} names neither a path nor a cluster.")
    cluster = cells["cluster"] and whole_number(cells["cluster"], f"{place}: cluster")
    side = cells.get("side", "")
    if side and action != "different":
        raise KitError(f"{place} has a side, which only the action different has.")
    labels = rows.source.parent / expanded(cells.get("labels") or LABELS)
    number = None if cluster == "" else cluster
    return _Row(place, action, tidy(cells["path"]), number, side, labels)


def _places(rows: Sequence[_Row]) -> str:
    """ "row 2", "rows 2 and 3", "rows 2 to 9" """
    numbers = [row.place.split()[1] for row in rows]
    if len(numbers) == 1:
        return f"row {numbers[0]}"
    return f"rows {numbers[0]} {'and' if len(numbers) == 2 else 'to'} {numbers[-1]}"


def _pictures_of(row: _Row, pictures: _Pictures) -> list[int]:
    """The picture or the cluster of a row."""
    if not row.path:
        return pictures.members(row, row.cluster)
    name = pictures.name(row)
    if row.cluster is not None:
        pictures.cluster_of(row, name)
    return [pictures.indices[name]]


def _merged(rows: Sequence[_Row], pictures: _Pictures, name: str) -> list[int]:
    found = sorted({i for row in rows for i in _pictures_of(row, pictures)})
    if len(found) < 2:
        raise KitError(f"{name} merges a single picture: name two, or a cluster.")
    return found


def _split(
    rows: Sequence[_Row], pictures: _Pictures, name: str
) -> tuple[list[int], list[int]]:
    """(the pictures that leave, those of their clusters that stay)."""
    leaving: set[int] = set()
    staying: set[int] = set()
    for row in rows:
        if not row.path:
            raise KitError(
                f"{row.place} splits a whole cluster: name the pictures that leave it."
            )
        picture = pictures.name(row)
        cluster = pictures.cluster_of(row, picture)
        if cluster < 0:
            raise KitError(
                f"{row.place} splits {printable(picture)} off, which is an outlier in "
                f"{printable(row.labels)}, in no cluster."
            )
        leaving.add(pictures.indices[picture])
        staying |= set(pictures.members(row, cluster))
    staying -= leaving
    if not staying:
        raise KitError(f"{name} splits all of a cluster off, so that nothing would change.")
    return sorted(leaving), sorted(staying)


def _pairs(
    rows: Sequence[_Row], pictures: _Pictures, name: str
) -> list[tuple[list[int], list[int]]]:
    """Each two sides of a `different`: rows of one `side`, or a row by itself."""
    sides: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        key = f"side {row.side}" if row.side else f"row {place}"
        sides.setdefault(key, []).extend(_pictures_of(row, pictures))
    if not 2 <= len(sides) <= MOST_SIDES:
        raise KitError(
            f"{name} has {len(sides)} side(s), and needs 2 to {MOST_SIDES} that are not the "
            "same: a row is one, unless rows have the same text in the column side."
        )
    return list(itertools.combinations(sides.values(), 2))
