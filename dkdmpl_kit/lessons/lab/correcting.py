"""Corrections by lasso: what a selection says, kept in the file that clustering and
training read (docs/labels.md). Plain functions; `ClusterExplorer` puts buttons on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dkdmpl_kit.clustering import Constraints
from dkdmpl_kit.data.files import printable
from dkdmpl_kit.errors import KitError, check_option
from dkdmpl_kit.noise.clusters import count_of
from dkdmpl_kit.training.corrections import (
    Correction,
    constraints_said,
    load_corrections,
    write_corrections,
)

SAYINGS = {"one": "these are one", "split": "split these off", "different": "not the same"}


def said_of(
    saying: str, selected: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> list[Correction]:
    """What one of `SAYINGS` says of selected pictures, by their names alone, so that no
    later clustering changes it.

    selected: (n,) indices; labels: (N,), -1 for outliers; names: N paths. "one": they are
    one. "split": those in clusters are one, and not the same as the others of their
    clusters. "different": the pictures of each cluster are not the same as those of the
    next, and an outlier is by itself; of a single cluster, no two of them are the same.
    KitError: a selection that says nothing.
    """
    check_option("saying", saying, SAYINGS)
    selected = np.unique(np.asarray(selected, np.int64))
    labels = np.asarray(labels)

    def rows(pictures: np.ndarray, side: str = "") -> tuple[tuple[str, str, str], ...]:
        return tuple((names[i], "", side) for i in pictures.tolist())

    if saying == "split":
        leaving = selected[labels[selected] >= 0]
        staying = np.setdiff1d(np.flatnonzero(np.isin(labels, labels[leaving])), leaving)
        if not len(leaving) or not len(staying):
            raise KitError(
                "There is nothing to split off: select pictures of a cluster, and not all of "
                "them."
            )
        apart = Correction("different", (*rows(leaving, "leave"), *rows(staying, "stay")))
        return [Correction("merge", rows(leaving)), apart] if len(leaving) > 1 else [apart]
    if len(selected) < 2:
        raise KitError(f'"{SAYINGS[saying]}" is said of two pictures or more: lasso them.')
    if saying == "one":
        return [Correction("merge", rows(selected))]
    own = labels[selected]
    if len(set(own.tolist())) == 1:
        return [Correction("different", rows(selected))]
    sides = [f"cluster {label}" if label >= 0 else "" for label in own.tolist()]
    return [
        Correction("different", tuple((names[i], "", s) for i, s in zip(selected, sides)))
    ]


class CorrectionFile:
    """A file of corrections of the pictures called `names` that grows by `say` and shrinks
    by `undo`; one that is there already is gone on with.

    path: a .csv. corrections: what it says; constraints: the same for a clustering, None
    where nothing is said. KitError: a file that speaks of clusters, whose numbers mean
    nothing here, or that does not fit.
    """

    def __init__(self, path: str | Path, names: Sequence[str]) -> None:
        self.path = Path(path)
        self.names = list(names)
        if self.path.suffix != ".csv":
            raise KitError(f"corrections {printable(path)} must end in .csv.")
        self.corrections: list[Correction] = []
        self.constraints: Constraints | None = None
        self._steps: list[int] = []
        if self.path.exists():
            self.corrections = load_corrections(self.path)
            self.constraints = constraints_said(self.corrections, self.names)
            self._steps = [1] * len(self.corrections)

    def say(self, saying: str, selected: np.ndarray, labels: np.ndarray) -> None:
        """Add what `said_of` makes of a selection, and write the file.

        KitError: a selection that says nothing, or a contradiction; the file then stays
        as it was.
        """
        new = said_of(saying, selected, labels, self.names)
        self._write([*self.corrections, *new])
        self._steps.append(len(new))

    def undo(self) -> None:
        """Take the last thing said back; KitError where nothing is said."""
        if not self._steps:
            raise KitError("There is no correction to take back.")
        self._write(self.corrections[: -self._steps[-1]])
        self._steps.pop()

    def __str__(self) -> str:
        return f"{count_of(len(self.corrections), 'correction')} in {printable(self.path)}"

    def _write(self, corrections: list[Correction]) -> None:
        found = constraints_said(corrections, self.names)
        write_corrections(self.path, corrections)
        self.corrections = corrections
        self.constraints = found if corrections else None
