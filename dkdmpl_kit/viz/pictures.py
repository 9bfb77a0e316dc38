"""Pictures of pictures: contact sheets, galleries of clusters, ranked lists.

`pictures` are uint8, (n, 3, H, W) or (n, H, W, 3), as arrays, tensors or memory maps:
only those shown are read. All thumbnails of a sheet share one axes: a grid of a hundred
axes takes seconds to lay out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.viz.style import (
    CYCLE,
    PALETTE,
    UNKNOWN,
    known,
    new_figure,
    same_length,
    say,
    styled,
)

GAP = 0.14  # between thumbnails, as a share of their width
_MARKS = {"right": "✓", "wrong": "✗", "junk": "–"}


def as_pictures(pictures: Any, indices: Any = None) -> np.ndarray:
    """The pictures (all, or those at `indices`) as uint8 (n, H, W, 3)."""
    shape = tuple(pictures.shape) if hasattr(pictures, "shape") else np.shape(pictures)
    if len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise KitError(
            f"viz: pictures of shape {shape} cannot be shown; give uint8 (n, 3, H, W) "
            "or (n, H, W, 3)."
        )
    chosen = np.asarray(
        pictures if indices is None else pictures[np.asarray(indices, dtype=np.int64)]
    )
    if chosen.dtype != np.uint8:
        raise KitError(
            f"viz: pictures of type {chosen.dtype} cannot be shown; give uint8, 0 to 255."
        )
    return chosen if shape[3] == 3 else chosen.transpose(0, 2, 3, 1)


def one_picture(picture: Any) -> np.ndarray:
    """One picture, uint8 (3, H, W) or (H, W, 3), as (H, W, 3)."""
    return as_pictures(np.asarray(picture)[None])[0]


def corner_of(row: int, column: int, height: int, width: int) -> tuple[int, int]:
    """Top-left pixel of a cell."""
    gap = max(int(round(GAP * width)), 2)
    return gap + row * (height + gap), gap + column * (width + gap)


def mosaic(
    ax: Axes,
    cells: Sequence[Sequence[np.ndarray | None]],
    size: tuple[int, int],
    *,
    columns: int = 0,
) -> None:
    """Draw rows of pictures, each (H, W, 3) uint8 or None for an empty place, as one
    image in pixel coordinates, at least `columns` wide.
    """
    rows = len(cells)
    columns = max([columns, *(len(row) for row in cells)])
    height, width = size
    canvas = np.full((*corner_of(rows, columns, height, width), 3), 255, np.uint8)
    for r, row in enumerate(cells):
        for c, picture in enumerate(row):
            if picture is not None:
                y, x = corner_of(r, c, height, width)
                canvas[y : y + height, x : x + width] = picture
    ax.imshow(canvas, interpolation="antialiased")
    ax.set_axis_off()


def frame(
    ax: Axes, row: int, column: int, size: tuple[int, int], colour: Any, mark: str = ""
) -> None:
    """Frame one cell, with an optional mark in its corner, so that the colour does not
    speak alone.
    """
    y, x = corner_of(row, column, *size)
    ax.add_patch(
        Rectangle(
            (x - 1, y - 1),
            size[1] + 1,
            size[0] + 1,
            fill=False,
            edgecolor=colour,
            linewidth=2.6,
        )
    )
    if mark:
        dark = np.dot(to_rgb(colour), (0.3, 0.59, 0.11)) < 0.62
        ax.text(
            x + size[1] * 0.06,
            y + size[1] * 0.06,
            mark,
            va="top",
            ha="left",
            fontsize=9,
            fontweight="bold",
            color="white" if dark else "black",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.2},
        )


def name_column(ax: Axes, column: int, size: tuple[int, int], text: str) -> None:
    """Write `text` above a column of the mosaic."""
    y, x = corner_of(0, column, *size)
    ax.text(x + size[1] / 2, y - 0.12 * size[1], text, ha="center", va="bottom", fontsize=9)


def name_row(ax: Axes, row: int, size: tuple[int, int], text: str) -> None:
    """Write `text` at the left of a row of the mosaic."""
    y, x = corner_of(row, 0, *size)
    ax.text(x - 0.15 * size[1], y + size[0] / 2, text, ha="right", va="center", fontsize=9)


def sheet_figure(
    rows: int,
    columns: int,
    size: tuple[int, int],
    *,
    title: str,
    note: str = "",
    side: float = 0.8,
) -> Figure:
    """A figure fit for a mosaic: at most 9.5 in wide, thumbnails at most 0.7 in, room
    of `side` in for row labels.
    """
    cell = min(0.7, (9.5 - side) / (columns * (1 + GAP) + GAP))
    width = max(cell * (columns * (1 + GAP) + GAP) + side, 6.0)
    height = cell * (rows * (size[0] / size[1] + GAP) + GAP)
    return new_figure(
        width, height + 0.45 + 0.3 * bool(title) + 0.35 * bool(note), title=title, note=note
    )


@styled
def contact_sheet(
    pictures: Any,
    *,
    rows: Any = None,
    columns: Any = None,
    row_name: str = "identity",
    column_name: str = "camera",
    frames: Sequence[Any] | None = None,
    per_cell: int = 1,
    max_rows: int = 8,
    max_columns: int = 12,
    title: str | None = None,
) -> Figure:
    """A grid of thumbnails: one row a value of `rows` (n,), usually pids; one column a
    value of `columns` (n,), camids.

    `rows=None`: identities unknown, pictures in their order. `columns=None`: as they
    come. `frames`: a colour (or None) a picture. Up to `per_cell` pictures stand side
    by side in a cell. Cameras count from 1, as in the file names.
    """
    same_length(pictures=pictures, rows=rows, columns=columns, frames=frames)
    row_of = np.arange(len(pictures)) // max_columns if rows is None else np.asarray(rows)
    column_of = None if rows is None or columns is None else np.asarray(columns)
    values = np.unique(row_of)[:max_rows]
    heads = []
    room = max_columns
    if column_of is not None:
        heads = np.unique(column_of)[: max(max_columns // per_cell, 1)].tolist()
        room = per_cell
    places = _places(row_of, values, column_of, heads, room)
    note = "" if rows is not None else f"{UNKNOWN}: they stand in file order."
    if title is None:
        title = "" if rows is None else f"Each row is one {row_name}"
        if heads:
            title += f", each column one {column_name}"
    width = len(heads) * per_cell or max((c + 1 for _, c, _ in places), default=1)
    shown = as_pictures(pictures, [i for *_, i in places])
    size = shown.shape[1:3]
    figure = sheet_figure(max(len(values), 1), width, size, title=title, note=note, side=0.6)
    ax = figure.subplots()
    if not places:
        say(ax, "No pictures to show.")
        return figure
    cells: list[list[np.ndarray | None]] = [[None] * width for _ in values]
    for (r, c, _), picture in zip(places, shown):
        cells[r][c] = picture
    mosaic(ax, cells, size)
    _label_sheet(
        ax, values if rows is not None else [], heads, per_cell, (row_name, column_name), size
    )
    for r, c, i in places:
        if frames is not None and frames[i] is not None:
            frame(ax, r, c, size, frames[i])
    return figure


def _places(
    row_of: Any, values: Any, column_of: Any, heads: Sequence, room: int
) -> list[tuple[int, int, int]]:
    """(row, column, index) of each picture shown; at most `room` in a cell, or in a row
    where there are no columns.
    """
    places = []
    for r, value in enumerate(values):
        members = np.flatnonzero(row_of == value)
        groups = (
            [members]
            if column_of is None
            else [members[column_of[members] == head] for head in heads]
        )
        for c, group in enumerate(groups):
            places += [(r, c * room + j, int(i)) for j, i in enumerate(group[:room])]
    return places


def _label_sheet(
    ax: Axes,
    values: Sequence,
    heads: Sequence,
    per_cell: int,
    names: tuple[str, str],
    size: tuple[int, int],
) -> None:
    """Row names at the left, column names on top; cameras count from 1 and cluster -1
    is called by its name.
    """
    for r, value in enumerate(values):
        outliers = names[0] == "cluster" and value == -1
        name_row(ax, r, size, "outliers" if outliers else f"{names[0]}\n{value}")
    for c, head in enumerate(heads):
        y, x = corner_of(0, c * per_cell, *size)
        right = corner_of(0, (c + 1) * per_cell - 1, *size)[1] + size[1]
        text = f"{head + 1}" if names[1] == "camera" and int(head) >= 0 else f"{head}"
        ax.text(
            (x + right) / 2,
            y - 0.12 * size[1],
            f"{names[1]} {text}",
            ha="center",
            va="bottom",
            fontsize=9,
        )


@styled
def ranking_grid(
    query_pictures: Any,
    gallery_pictures: Any,
    matches: Any,
    junk: Any = None,
    *,
    titles: Sequence[str] | None = None,
    title: str | None = None,
) -> Figure:
    """Each query and its ranked gallery pictures, right ones ticked in green, wrong
    ones crossed in vermillion.

    query_pictures (Q, ...), gallery_pictures (Q, top, ...) best first, matches (Q, top)
    bool, junk (Q, top) bool or None: same identity and same camera as the query, which
    the protocol leaves out. `matches=None`: identities unknown. `titles`: a label a
    row.
    """
    queries = as_pictures(query_pictures)
    ranked = [as_pictures(row) for row in gallery_pictures]
    same_length(
        queries=queries, gallery_pictures=ranked, matches=matches, junk=junk, titles=titles
    )
    top = max((len(row) for row in ranked), default=0)
    size = queries.shape[1:3]
    kinds = _judgements(matches, junk, len(queries), top)
    note = f"{UNKNOWN}: nothing is marked right or wrong."
    if kinds is not None:
        note = "✓ same identity, ✗ another one"
        note += ", – same identity and camera: not counted." if "junk" in kinds else "."
    if title is None:
        title = f"The {top} nearest gallery pictures of each query"
        first = [] if kinds is None or not top else kinds[kinds[:, 0] != "junk", 0].tolist()
        if first:
            title += f": {first.count('right')} of {len(first)} first places are right"
    figure = sheet_figure(
        max(len(queries), 1),
        top + 1,
        size,
        title=title,
        note=note,
        side=0.9 if titles else 0.3,
    )
    ax = figure.subplots()
    if not len(queries):
        say(ax, "No queries to show.")
        return figure
    mosaic(ax, [[query, *row] for query, row in zip(queries, ranked)], size)
    for column in range(top + 1):
        name_column(ax, column, size, f"{column}" if column else "query")
    for r in range(len(queries)):
        frame(ax, r, 0, size, PALETTE["query"])
        if titles:
            name_row(ax, r, size, titles[r])
        for c, kind in enumerate([] if kinds is None else kinds[r, : len(ranked[r])]):
            frame(ax, r, c + 1, size, PALETTE[kind], _MARKS[kind])
    return figure


def _judgements(matches: Any, junk: Any, queries: int, top: int) -> np.ndarray | None:
    """(Q, top) array of "right", "wrong", "junk"; None where identities are unknown."""
    if matches is None:
        return None
    for name, values in (("matches", matches), ("junk", junk)):
        if values is not None and np.shape(values) != (queries, top):
            raise KitError(
                f"ranking_grid: {name} has shape {np.shape(values)}, expected "
                f"({queries}, {top})."
            )
    kinds = np.where(np.asarray(matches, bool), "right", "wrong")
    return kinds if junk is None else np.where(np.asarray(junk, bool), "junk", kinds)


def identity_marks(
    groups: Sequence[Any], pids: Any, *, as_they_come: bool = False
) -> list[tuple[list[str], list[str]]]:
    """(colours, letters) for each group of indices: one letter an identity throughout.

    pids (N,), negative where unknown ("?"), or None: grey frames without a letter. A is
    the most frequent identity of the first group, or its first one where `as_they_come`.
    """
    if pids is None:
        return [([PALETTE["outlier"]] * len(group), [""] * len(group)) for group in groups]
    pids = np.asarray(pids)
    place = {}
    for group in groups:
        names, first, counts = np.unique(pids[group], return_index=True, return_counts=True)
        order = np.argsort(first) if as_they_come else np.lexsort((names, -counts))
        for name in names[order].tolist():
            if name >= 0:
                place.setdefault(name, len(place))
    look = {
        pid: (CYCLE[at % len(CYCLE)], chr(ord("A") + at % 26)) for pid, at in place.items()
    }
    marks = []
    for group in groups:
        looks = [look.get(pid, (PALETTE["outlier"], "?")) for pid in pids[group].tolist()]
        marks.append(([colour for colour, _ in looks], [letter for _, letter in looks]))
    return marks


@styled
def cluster_gallery(
    pictures: Any, rows: Sequence[Any], pids: Any = None, *, title: str | None = None
) -> Figure:
    """Thumbnails of chosen clusters and of the outliers, one a row.

    rows: those of `noise.gallery_rows`, each with .cluster (-1 the outliers), .text and
    .images (indices), those of its most frequent identity first. pids (N,) true
    identities, negative where unknown, or None: frames in one colour and letter an
    identity within the row, A the most frequent.
    """
    pids = known(pids)
    same_length(pictures=pictures, pids=pids)
    if all(row.cluster < 0 for row in rows):
        found = "No clusters: every picture is an outlier"
        note = "Raise eps or lower min_samples to get clusters."
    elif pids is None:
        found = "What the clustering put together"
        note = f"{UNKNOWN}."
    else:
        found = "What the clustering put together: frames show the true identity"
        note = (
            "Frame colour and letter: true identity within the row, A the most frequent, "
            "? unknown; outliers grey."
        )
    size = as_pictures(pictures, []).shape[1:3]
    columns = max((len(row.images) for row in rows), default=1)
    title = found if title is None else title
    figure = sheet_figure(max(len(rows), 1), columns, size, title=title, note=note, side=1.3)
    ax = figure.subplots()
    if not rows:
        say(ax, "No pictures to show.")
        return figure
    mosaic(ax, [as_pictures(pictures, row.images) for row in rows], size)
    for r, row in enumerate(rows):
        name_row(ax, r, size, row.text)
        shown_pids = None if row.cluster < 0 else pids
        [(colours, letters)] = identity_marks([row.images], shown_pids, as_they_come=True)
        for c in range(len(row.images)):
            frame(ax, r, c, size, colours[c], letters[c])
    return figure
