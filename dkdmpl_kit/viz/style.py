"""One look for all pictures: the palette and its meanings, a figure that displays
itself, and saving with a record.
"""

from __future__ import annotations

import functools
import io
import json
import textwrap
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import METHOD_LABELS, write_atomic

# Okabe and Ito's colours: told apart by people with any of the common colour-vision
# deficiencies.
PALETTE: dict[str, str] = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "yellow": "#F0E442",
    "black": "#000000",
    "grey": "#666666",
    "light": "#BBBBBB",
    "right": "#009E73",
    "wrong": "#D55E00",
    "junk": "#999999",
    "outlier": "#BBBBBB",
    "merged": "#D55E00",
    "split": "#E69F00",
    "query": "#000000",
}
_IN_TURN = ("blue", "orange", "green", "vermillion", "purple", "sky", "black")
CYCLE = tuple(PALETTE[name] for name in _IN_TURN)
_FREE = ("purple", "sky", "black", "yellow")  # for names outside the kit
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
_RIVALS = ("label_smoothing", "mmt", "rlcc", "hdcpd", "ice", "spcl")
METHOD_COLOURS: dict[str, str] = {
    "untrained": "#999999",
    "cluster_contrast": "#0072B2",
    "gkd": "#E69F00",
    "skd": "#009E73",
    "dkdmpl": "#D55E00",
    "supervised": "#666666",
    "cluster_contrast_mean": "#0072B2",
    "cluster_contrast_hardest": "#0072B2",
    **dict.fromkeys(_RIVALS, "#56B4E9"),
}
VIEW_COLOURS: dict[str, str] = {
    "hard": "#000000",
    "e": "#E69F00",
    "q": "#0072B2",
    "a": "#009E73",
    "r3": "#CC79A7",
}
VIEW_LABELS: dict[str, str] = {
    "hard": "hard label",
    "e": "e: epoch view (teacher)",
    "q": "q: query view (student)",
    "a": "a: anchor view",
    "r3": "r3: target mixed from all",
}
UNKNOWN = "True identities are not known for these pictures"
DPI = 110
# matplotlib's settings are the process's: one thread at a time may hold the kit's
_DRAWING = threading.RLock()
_INK = "#222222"
STYLE: dict[str, Any] = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": "#888888",
    "xtick.color": "#888888",
    "ytick.color": "#888888",
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.titlelocation": "left",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#E6E6E6",
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "hatch.linewidth": 0.6,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "svg.hashsalt": "dkdmpl",
}


class KitFigure(Figure):
    """A `Figure` that Jupyter shows by itself, once: pyplot never hears of it, so
    nothing is drawn a second time.

    IPython finds `_repr_png_` where nobody imported pyplot; where somebody did, its
    formatter for `Figure` takes over.
    """

    def draw(self, renderer: Any) -> None:
        """Draw in the kit's style: ticks are made late, and would otherwise take the
        notebook's (dark) theme.
        """
        with _DRAWING, matplotlib.rc_context(STYLE):
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        return figure_png(self)


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Run a drawing function in the kit's style, whatever theme the caller has set."""

    @functools.wraps(draw)
    def inside(*args: Any, **kwargs: Any) -> Figure:
        with _DRAWING, matplotlib.style.context(STYLE, after_reset=True):
            return draw(*args, **kwargs)

    return inside


def new_figure(width: float, height: float, *, title: str = "", note: str = "") -> KitFigure:
    """An empty figure, sizes in inches, with its message as title and a grey remark
    below.
    """
    figure = KitFigure(figsize=(width, height), layout="constrained", facecolor="white")
    if title:
        letters = max(int(width * 10.5), 20)
        figure.suptitle(textwrap.fill(title, letters), x=0.01, ha="left")
    if note:
        add_note(figure, note)
    return figure


def add_note(figure: Figure, note: str) -> None:
    """A grey remark under the picture; several are joined."""
    before = figure.get_supxlabel().replace("\n", " ")
    letters = max(int(figure.get_figwidth() * 13.5), 20)
    text = textwrap.fill(f"{before} {note}".strip(), letters)
    figure.supxlabel(text, x=0.01, ha="left", fontsize=9, color="#555555")


def say(ax: Axes, sentence: str) -> None:
    """Put a sentence where a picture would have been."""
    ax.set_axis_off()
    ax.text(
        0.5,
        0.5,
        textwrap.fill(sentence, 36),
        ha="center",
        va="center",
        transform=ax.transAxes,
        color="#555555",
    )


def sentence_figure(sentence: str) -> Figure:
    """A small figure that says why there is no picture."""
    figure = styled(new_figure)(6.0, 1.2)
    say(figure.subplots(), sentence)
    return figure


def method_look(name: str, unknown: Sequence[str] = ()) -> tuple[str, str, str]:
    """(colour, marker, label) of a method; names outside the kit take the free colours
    in the order of `unknown`.
    """
    if name in METHOD_COLOURS:
        place = list(METHOD_COLOURS).index(name)
        return METHOD_COLOURS[name], MARKERS[place % len(MARKERS)], METHOD_LABELS[name]
    outside = [other for other in unknown if other not in METHOD_COLOURS]
    place = outside.index(name) if name in outside else 0
    colour = PALETTE[_FREE[place % len(_FREE)]]
    return colour, MARKERS[(place + 6) % len(MARKERS)], name.replace("_", " ")


def count(n: int, one: str, many: str = "") -> str:
    """ "1 cluster", "2 clusters": a number with its noun, whose plural is `many`."""
    if n == 1:
        return f"{n:,} {one}"
    return f"{n:,} {many or one + 's'}"


def same_length(**arrays: Any) -> int:
    """The common length of the named arrays (None is skipped); KitError when they differ."""
    lengths = {name: len(values) for name, values in arrays.items() if values is not None}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise KitError(f"viz: lengths differ ({found}); give one value a picture.")
    return next(iter(lengths.values()), 0)


def legend_entries(ax: Axes) -> dict[str, Any]:
    """{label: artist} of the axes' legend."""
    artists, labels = ax.get_legend_handles_labels()
    return dict(zip(labels, artists))


def known(pids: Any) -> np.ndarray | None:
    """True identities as an array, or None where there are none at all (None, or -1
    throughout).
    """
    if pids is None:
        return None
    pids = np.asarray(pids)
    return pids if pids.size and (pids >= 0).any() else None


def figure_png(figure: Figure) -> bytes:
    """The figure as PNG bytes, on white, at the kit's resolution; the same bytes for
    the same figure.
    """
    buffer = io.BytesIO()
    figure.savefig(
        buffer,
        format="png",
        dpi=DPI,
        facecolor="white",
        bbox_inches="tight",
        pad_inches=0.08,
        metadata={"Software": None},
    )
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(type(value).__name__)


def save_figure(figure: Figure, path: str | Path, *, metadata: Mapping[str, Any]) -> Path:
    """Write `figure` to `path` (.png) and `metadata` to the .json beside it; neither is
    ever seen half written.

    `metadata` is what made the picture: parameters, seed, versions, the data's
    fingerprint. Returns the PNG's path. KitError: another suffix, metadata that is not
    JSON, a folder that cannot be written to.
    """
    path = Path(path)
    if path.suffix != ".png":
        raise KitError(
            f"save_figure: {path.name} must end in .png; the record goes to the .json "
            "of the same name."
        )
    try:
        record = json.dumps(dict(metadata), indent=1, sort_keys=True, default=_plain) + "\n"
    except (TypeError, ValueError) as error:
        raise KitError(
            f"save_figure: the metadata of {path.name} cannot be written as JSON ({error})."
        ) from error
    write_atomic(path.with_suffix(".json"), record)
    write_atomic(path, figure_png(figure))
    return path
