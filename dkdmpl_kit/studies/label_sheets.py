"""Contact sheets of a clustering: its largest clusters, its suspect pictures, its outliers.

A few pages that say what to correct: a table of ten thousand rows does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dkdmpl_kit import viz
from dkdmpl_kit.noise import LabelTable, most_suspect
from dkdmpl_kit.viz.style import CYCLE, PALETTE

ROWS = 8  # of a page
COLUMNS = 10  # thumbnails of a row
PAGES = 2  # of a kind, at most
KINDS = ("largest", "suspect", "outliers")
EACH = 4  # pictures of either cluster beside a suspect one


@dataclass(frozen=True)
class Sheet:
    """A page: its file's name without ending, a title, a note, and rows for
    `viz.picture_rows`, whose "indices" say which pictures they show.
    """

    name: str
    title: str
    note: str
    rows: tuple[dict, ...]


def sheets(table: LabelTable) -> list[Sheet]:
    """The pages of a table of labels, at most `PAGES` of a kind; none of a kind that the
    clustering does not have.
    """
    central = _by_similarity(table)
    suspects = most_suspect(table, len(table))
    kinds = {
        "largest": (_largest(table, central), "The largest clusters", LARGEST_NOTE),
        "suspect": (
            _suspects(table, central, suspects),
            f"Suspect pictures ({len(suspects):,} in all): ? belongs to A, and looks more like B",
            SUSPECT_NOTE,
        ),
        "outliers": (_outliers(table), "Outliers, the ones nearest to a cluster first", ""),
    }
    return [
        Sheet(f"{kind}-{page + 1}", title, note, tuple(rows[page * ROWS : (page + 1) * ROWS]))
        for kind, (rows, title, note) in kinds.items()
        for page in range(min(PAGES, -(-len(rows) // ROWS)))
    ]


LARGEST_NOTE = (
    "Each row is one cluster, from its most typical picture to its least typical one."
)
SUSPECT_NOTE = (
    "A: the most typical pictures of its own cluster. B: those of the nearest other one."
)


def save_sheets(
    folder: str | Path,
    pages: Sequence[Sheet],
    pictures: Callable[[Sequence[int]], np.ndarray],
    record: Mapping[str, object],
) -> list[Path]:
    """Write each page as folder/<name>.png with `record` beside it, and remove those of an
    earlier call that are not among them; their paths.

    pictures: indices (n,) -> uint8 (n, 3, H, W).
    """
    folder = Path(folder)
    written = []
    for page in pages:
        read = pictures([i for row in page.rows for i in row["indices"]])
        ends = np.cumsum([len(row["indices"]) for row in page.rows])
        rows = [
            row | {"pictures": list(read[end - len(row["indices"]) : end])}
            for row, end in zip(page.rows, ends)
        ]
        figure = viz.picture_rows(rows, title=page.title, note=page.note, columns=COLUMNS)
        path = folder / f"{page.name}.png"
        written.append(viz.save_figure(figure, path, metadata={**record, "page": page.name}))
    for kind in KINDS:
        for number in range(1, PAGES + 1):
            old = folder / f"{kind}-{number}.png"
            if old not in written:
                old.unlink(missing_ok=True)
                old.with_suffix(".json").unlink(missing_ok=True)
    return written


def _by_similarity(table: LabelTable) -> dict[int, np.ndarray]:
    """{cluster: its pictures, the most similar to its mean first}."""
    order = np.lexsort((-np.nan_to_num(table.similarity), table.cluster))
    order = order[table.cluster[order] >= 0]
    names, starts = np.unique(table.cluster[order], return_index=True)
    return dict(zip(names.tolist(), np.split(order, starts[1:])))


def _largest(table: LabelTable, central: Mapping[int, np.ndarray]) -> list[dict]:
    first = sorted(central, key=lambda k: (-len(central[k]), k))[: ROWS * PAGES]
    rows = []
    for k in first:
        members = central[k]
        places = np.linspace(0, len(members) - 1, min(COLUMNS, len(members)))
        mean = float(table.similarity[members].mean())
        rows.append(
            {
                "name": f"cluster {k}\n{len(members):,} pictures\nsimilarity {mean:.2f}",
                "indices": members[np.unique(places.astype(int))],
            }
        )
    return rows


def _suspects(
    table: LabelTable, central: Mapping[int, np.ndarray], suspects: np.ndarray
) -> list[dict]:
    """One row a suspect picture; of one pair of clusters only the worst is shown."""
    shown: dict[tuple[int, int], int] = {}
    for i in suspects.tolist():
        shown.setdefault((int(table.cluster[i]), int(table.nearest_cluster[i])), i)
    rows = []
    for (own, other), i in list(shown.items())[: ROWS * PAGES]:
        groups = [[i]]
        groups += [[j for j in central[k].tolist() if j != i][:EACH] for k in (own, other)]
        colours = (PALETTE["query"], CYCLE[0], CYCLE[1])
        rows.append(
            {
                "name": f"A: {own} ({table.similarity[i]:.2f})\n"
                f"B: {other} ({table.nearest_similarity[i]:.2f})",
                "indices": np.concatenate([np.array(group, np.int64) for group in groups]),
                "colours": [c for c, group in zip(colours, groups) for _ in group],
                "marks": [mark for mark, group in zip("?AB", groups) for _ in group],
            }
        )
    return rows


def _outliers(table: LabelTable) -> list[dict]:
    found = np.flatnonzero(table.cluster < 0)
    near = np.nan_to_num(table.nearest_similarity[found], nan=-1.0)
    found = found[np.argsort(-near, kind="stable")][: ROWS * PAGES * COLUMNS]
    rows = []
    for start in range(0, len(found), COLUMNS):
        group = found[start : start + COLUMNS]
        ends = table.nearest_similarity[group[[0, -1]]]
        rows.append({"name": f"similarity\n{ends[0]:.2f} to {ends[1]:.2f}", "indices": group})
    return rows
