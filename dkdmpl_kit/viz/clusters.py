"""What the cluster explorer shows: one colouring for the live map and its static twin,
and rows of pictures.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dkdmpl_kit.errors import KitError, check_option
from dkdmpl_kit.viz.maps import ERROR_LABELS, ERROR_LOOK
from dkdmpl_kit.viz.pictures import frame, mosaic, name_row, one_picture, sheet_figure
from dkdmpl_kit.viz.style import (
    CYCLE,
    MARKERS,
    PALETTE,
    UNKNOWN,
    count,
    new_figure,
    same_length,
    say,
    styled,
)

COLOURINGS = {
    "label": "pseudo label",
    "identity": "true identity",
    "camera": "camera",
    "error": "kind of error",
    "outlier": "outlier",
    "change": "epoch of the last change",
}
_NOUNS = {
    "label": ("cluster", "clusters"),
    "identity": ("identity", "identities"),
    "camera": ("camera", "cameras"),
}
_LEVELS = 8  # steps of the colour scale of epochs
_ERRORS = ("right", "merged", "split")
# one list for every colouring, so that a map is recoloured by new places in it alone
MAP_COLOURS: tuple[str, ...] = (
    PALETTE["outlier"],
    *CYCLE,
    *(PALETTE[ERROR_LOOK[name][0]] for name in _ERRORS),
    *(to_hex(colormaps["cividis"](step / (_LEVELS - 1))) for step in range(_LEVELS)),
)
MAP_SENTENCE = "The map is a picture; the clusters live in feature space."
MARKS = {"right": "✓", "merged": "M", "split": "S", "outlier": "–", "unknown": "?"}
Legend = list[tuple[str, str]]


def thinned(total: int, limit: int) -> np.ndarray:
    """Indices (at most `limit`,) of the pictures that a map of `total` shows: all, or a
    fair sample, always the same.
    """
    if total <= limit:
        return np.arange(total)
    return np.sort(np.random.default_rng(0).choice(total, limit, replace=False))


def map_colours(kind: str, values: Any) -> tuple[np.ndarray, Legend]:
    """(N,) places in `MAP_COLOURS` and the legend [(colour, text), ...] of a map
    coloured by `kind`.

    values (N,): "label" pseudo labels, whose colour follows their number; "identity"
    and "camera" ids; -1 is an outlier or unknown. "error" kinds of error (str).
    "outlier" pseudo labels. "change" the epoch of the last change, 0 for never. More
    groups than colours: the colours repeat, and the legend says so.
    """
    check_option("kind", kind, COLOURINGS)
    values = np.asarray(values)
    if kind == "error":
        return _error_colours(values)
    if kind == "outlier":
        return (values >= 0).astype(int), [
            (CYCLE[0], f"clustered ({(values >= 0).sum():,})"),
            (MAP_COLOURS[0], f"outlier ({(values < 0).sum():,})"),
        ]
    return _epochs(values) if kind == "change" else _groups(kind, values)


def _error_colours(values: np.ndarray) -> tuple[np.ndarray, Legend]:
    codes = np.zeros(len(values), int)
    for place, name in enumerate(_ERRORS):
        codes[values == name] = 1 + len(CYCLE) + place
    legend = []
    for name, text in ERROR_LABELS.items():
        share = (values == name).mean() if len(values) else 0
        if share:
            legend.append((PALETTE[ERROR_LOOK[name][0]], f"{text} ({share:.0%})"))
    return codes, legend


def _groups(kind: str, values: np.ndarray) -> tuple[np.ndarray, Legend]:
    inside = values >= 0
    names, places = np.unique(values[inside], return_inverse=True)
    codes = np.zeros(len(values), int)
    codes[inside] = 1 + (values[inside] if kind == "label" else places) % len(CYCLE)
    legend = []
    if kind == "camera" and len(names) <= len(CYCLE):
        legend += [(CYCLE[p], f"camera {name + 1}") for p, name in enumerate(names.tolist())]
    elif len(names):
        one, many = _NOUNS[kind]
        look = ", a colour each"
        if len(names) > len(CYCLE):
            look = f" in {len(CYCLE)} colours, which repeat"
        legend.append((CYCLE[0], count(len(names), one, many) + look))
    if not inside.all():
        grey = "outlier" if kind == "label" else "unknown"
        legend.append((MAP_COLOURS[0], f"{grey} ({(~inside).sum():,})"))
    return codes, legend


def _epochs(values: np.ndarray) -> tuple[np.ndarray, Legend]:
    last = max(int(values.max(initial=0)), 1)
    level = np.maximum(values, 1) - 1
    if last > _LEVELS:
        level = level * _LEVELS // last
    first = len(MAP_COLOURS) - _LEVELS
    legend = [(MAP_COLOURS[0], f"never changed ({(values == 0).sum():,})")]
    for step in np.unique(level[values > 0]).tolist():
        epochs = values[(values > 0) & (level == step)]
        span = f"{epochs.min()}"
        if epochs.max() > epochs.min():
            span += f" to {epochs.max()}"
        legend.append((MAP_COLOURS[first + step], f"epoch {span} ({len(epochs):,})"))
    return np.where(values > 0, first + level, 0), legend


@styled
def explorer_maps(
    xy: Any, labels: Any, kinds: Any = None, *, summary: str = "", limit: int = 50_000
) -> Figure:
    """The cluster explorer on paper: the map xy (N, 2) by pseudo label (left) and by
    kind of error (right).

    labels (N,) with -1 for outliers; kinds (N,) of `noise.error_kinds`, None where
    identities are unknown; `summary`: the numbers of this clustering in a line. More
    than `limit` points are thinned, and the remark says so.
    """
    xy = np.asarray(xy, float).reshape(-1, 2)
    labels = np.asarray(labels)
    same_length(xy=xy, labels=labels, kinds=kinds)
    shown = thinned(len(xy), limit)
    note = f"{MAP_SENTENCE} Axes have no unit."
    if summary:
        note = f"{summary}. {note}"
    if len(np.unique(labels)) > len(CYCLE):
        note += " Colours repeat with another shape."
    if len(shown) < len(xy):
        note += f" Shown: {limit:,} of {len(xy):,} pictures."
    figure = new_figure(
        10,
        5.6,
        title="The clustering on a map: by pseudo label, and by kind of error",
        note=note,
    )
    left, right = figure.subplots(1, 2)
    if not len(xy):
        say(left, "No pictures to show.")
        say(right, "No pictures to show.")
        return figure
    _points(left, xy, "label", labels, shown)
    if kinds is None:
        say(right, f"{UNKNOWN}: no label can be called right or wrong.")
    else:
        _points(right, xy, "error", np.asarray(kinds), shown)
    return figure


def _points(
    ax: Axes, xy: np.ndarray, kind: str, values: np.ndarray, shown: np.ndarray
) -> None:
    """The points `shown` of a map xy (N, 2) in the colours of `map_colours`, grey ones
    small and below.
    """
    codes, legend = map_colours(kind, values)
    shape_of = {}  # by colour
    if kind == "error":
        looks = [ERROR_LOOK[name] for name in _ERRORS]
        shape_of = {PALETTE[colour]: marker for colour, marker in looks}
    shapes = np.array([shape_of.get(colour, "o") for colour in MAP_COLOURS])[codes]
    if kind == "label":  # a colour that repeats comes with another shape
        shapes = np.array(MARKERS)[np.maximum(values, 0) // len(CYCLE) % len(MARKERS)]
    ax.set(xticks=[], yticks=[], title=COLOURINGS[kind])
    ax.grid(False)
    ax.spines[:].set(visible=True, color="#DDDDDD")
    ax.set_aspect("equal", adjustable="datalim")
    size = float(np.clip(9000 / len(shown), 4, 30))
    colours = np.array(MAP_COLOURS)
    codes = codes[shown]
    shapes = shapes[shown]
    xy = xy[shown]
    ax.scatter(
        *xy[codes == 0].T, s=size * 0.5, c=PALETTE["outlier"], marker="o", linewidths=0
    )
    for shape in (shape for shape in MARKERS if (shapes[codes > 0] == shape).any()):
        here = (codes > 0) & (shapes == shape)
        ax.scatter(*xy[here].T, s=size, c=colours[codes[here]], marker=shape, linewidths=0)
    handles = [
        Line2D(
            [], [], linestyle="", color=colour, marker=shape_of.get(colour, "o"), label=text
        )
        for colour, text in legend
    ]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, -0.01), handletextpad=0.2)


def picture_png(picture: Any) -> bytes:
    """One picture, uint8 (3, H, W) or (H, W, 3), as PNG bytes: what a hovered point
    shows, in milliseconds.
    """
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(one_picture(picture)))
    image.save(buffer, "png", compress_level=1)
    return buffer.getvalue()


@styled
def picture_rows(
    rows: Sequence[Mapping[str, Any]], *, title: str, note: str = "", columns: int = 12
) -> Figure:
    """Rows of thumbnails. Each row is a dict: "name" its text, "pictures" a list of
    uint8 (3, H, W) or None for one that cannot be read, "colours" a frame's colour
    each, and "marks" a letter each (both optional); `columns` are shown at most.
    """
    sizes = [np.shape(p) for row in rows for p in row["pictures"] if p is not None]
    if not sizes:
        figure = new_figure(8, 2, title=title, note=note)
        say(figure.subplots(), "There are no pictures to show.")
        return figure
    size = sizes[0][1:] if sizes[0][0] == 3 else sizes[0][:2]
    missing = np.full((*size, 3), 225, np.uint8)
    columns = min(columns, max(len(row["pictures"]) for row in rows))
    cells = [
        [missing if p is None else one_picture(p) for p in row["pictures"][:columns]]
        for row in rows
    ]
    figure = sheet_figure(len(rows), columns, size, title=title, note=note, side=1.3)
    ax = figure.subplots()
    mosaic(ax, cells, size)
    for r, row in enumerate(rows):
        name_row(ax, r, size, row["name"])
        colours = row.get("colours")
        marks = row.get("marks")
        same_length(pictures=row["pictures"], colours=colours, marks=marks)
        for c, picture in enumerate(row["pictures"][:columns]):
            colour = PALETTE["outlier"] if colours is None else colours[c]
            mark = "" if marks is None else marks[c]
            frame(ax, r, c, size, colour, "gone" if picture is None else mark)
    return figure


def label_rows(
    chosen: Any, labels: Any, kinds: Any = None, *, max_rows: int = 6, columns: int = 12
) -> tuple[list[dict], str]:
    """Rows for `picture_rows` of a selection, its pictures still to be filled in, and
    the remark on what is left out.

    chosen (n,) indices; labels (N,), -1 for outliers; kinds (N,) of error or None. A
    row is a cluster, or the outliers, those with most pictures chosen first: "indices"
    (the chosen ones shown), "name", "colours" and "marks".
    """
    chosen = np.asarray(chosen, np.int64)
    labels = np.asarray(labels)
    if len(chosen) and not (0 <= chosen.min() and chosen.max() < len(labels)):
        raise KitError(f"label_rows: an index lies outside the {len(labels)} pictures.")
    names, counts = np.unique(labels[chosen], return_counts=True)
    order = np.lexsort((names, -counts))
    rows = []
    for name, number in zip(names[order][:max_rows].tolist(), counts[order]):
        members = chosen[labels[chosen] == name][:columns]
        group = "outliers" if name < 0 else f"cluster {name}"
        row = {
            "name": f"{group}\n{int(number):,} selected",
            "indices": members,
            "colours": [MAP_COLOURS[c] for c in map_colours("label", labels[members])[0]],
        }
        if kinds is not None:
            row["colours"] = [PALETTE[ERROR_LOOK[kind][0]] for kind in kinds[members]]
            row["marks"] = [MARKS[kind] for kind in kinds[members]]
        rows.append(row)
    note = f"{UNKNOWN}."
    if kinds is not None:
        note = "✓ right, M merged, S split, – outlier, ? identity unknown."
    shown = sum(len(row["indices"]) for row in rows)
    if shown < len(chosen):
        note = (
            f"Shown are {shown} of {len(chosen):,} pictures, from {len(rows)} of "
            f"{len(names)} groups. {note}"
        )
    return rows, note
