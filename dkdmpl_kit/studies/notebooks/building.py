"""Each `NN_name.ipynb` from its `NN_name.py`, the same bytes at every build."""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import write_atomic
from dkdmpl_kit.studies.notebooks.sources import CELL, KERNELSPEC, NAMES, notebook_tool


def build_notebooks(folder: str | Path, *, check: bool = False) -> list[str]:
    """Make every `NN_name.ipynb` of `folder` from its `NN_name.py`; return the names of
    those that were not in step.

    With `check` nothing is written, and an `.ipynb` whose source is gone counts too
    (delete it by hand).
    """
    folder = Path(folder)
    stale = []
    for source in _files(folder, ".py"):
        text = _generated(source)
        target = source.with_suffix(".ipynb")
        if not target.exists() or target.read_bytes() != text.encode():
            stale.append(target.name)
            if not check:
                write_atomic(target, text)
    if check:
        built = _files(folder, ".ipynb")
        stale += [path.name for path in built if not path.with_suffix(".py").exists()]
    return stale


def _files(folder: Path, suffix: str) -> list[Path]:
    return [*sorted(folder.glob(NAMES + suffix)), *folder.glob(CELL + suffix)]


def _generated(source: Path) -> str:
    nbformat = notebook_tool("nbformat")
    notebook = notebook_tool("jupytext").read(source, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
    )
    notebook.nbformat = 4
    notebook.nbformat_minor = 5
    uses: Counter[str] = Counter()
    for cell in notebook.cells:
        kept = {k: v for k, v in cell.metadata.items() if not k.startswith("lines_to_")}
        cell.metadata = nbformat.from_dict(kept)
        if "parameters" in cell.metadata.get("tags", []):
            _check_literals(source, cell)
        # an id from the content: the same at every build, and a cell that is added
        # leaves the ids of the others alone
        content = f"{cell.cell_type}\n{cell.source}".encode()
        digest = hashlib.sha256(content).hexdigest()[:8]
        uses[digest] += 1
        cell.id = digest if uses[digest] == 1 else f"{digest}-{uses[digest]}"
    nbformat.validate(notebook)
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def _check_literals(source: Path, cell: Any) -> None:
    """papermill puts its overrides *after* the parameters cell: anything derived there
    would keep the old value.
    """
    for statement in ast.parse(cell.source).body:
        try:
            ast.literal_eval(getattr(statement, "value", None) or statement)
        except ValueError as error:
            raise KitError(
                f"{source.name}: the parameters cell holds literals only, but its line "
                f"{statement.lineno} is not one; derive it in the next cell."
            ) from error
