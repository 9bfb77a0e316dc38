"""The notebooks that there are: where they lie, which are asked for, their parameters."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from dkdmpl_kit.errors import KitError

KERNELSPEC = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
NAMES = "[0-9][0-9]*_*"  # of the course's notebooks, without the suffix
SHIPPED = "share/dkdmpl-kit/notebooks"  # where a wheel puts them (pyproject.toml)
CELL = "cell/one_run"  # beside the course: what one cell of a grid runs


def notebook_tool(module: str) -> ModuleType:
    """Import a package of the extra `notebooks`. KitError says how to install it.

    rfc3987_syntax is hidden from jsonschema meanwhile: no notebook needs it, and it
    takes longer to import than all the rest.
    """
    slow = "rfc3987_syntax"
    hide = slow not in sys.modules
    if hide:
        sys.modules[slow] = None
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise KitError(
            f"Notebooks need the package {error.name}: pip install 'dkdmpl-kit[notebooks]'."
        ) from error
    finally:
        if hide:
            del sys.modules[slow]


def default_folder() -> Path:
    """notebooks/ of the checkout that holds this package, or those that were installed
    with it. KitError where there are neither.
    """
    checkout = Path(__file__).resolve().parents[3] / "notebooks"
    if (checkout / f"{CELL}.ipynb").is_file():
        return checkout
    try:
        files = metadata.files("dkdmpl-kit") or ()
    except metadata.PackageNotFoundError:
        files = ()
    for file in files:
        if file.as_posix().endswith(f"{SHIPPED}/{CELL}.ipynb"):
            return Path(file.locate()).resolve().parents[1]
    raise KitError(
        "The notebooks are neither beside the package nor installed with it: install the "
        "wheel again, or name their folder."
    )


def digest(source: Path) -> str:
    """SHA-256 of a notebook's file."""
    return hashlib.sha256(source.read_bytes()).hexdigest()


def select_notebooks(names: str | Sequence[str], notebooks_dir: str | Path) -> list[Path]:
    """Paths of the notebooks asked for, in order of number: "all", or names such as
    "02_clustering" or just "02" ("05b_results" or "05b"). KitError names a notebook that
    does not exist.
    """
    found = {path.stem: path for path in sorted(Path(notebooks_dir).glob(NAMES + ".ipynb"))}
    if not found:
        raise KitError(
            f"There are no notebooks NN_name.ipynb in {notebooks_dir}; name the folder "
            "that holds them."
        )
    if names == "all":
        return list(found.values())
    wanted = {names} if isinstance(names, str) else set(names)
    for name in sorted(wanted):
        if not any(name in (stem, stem.split("_")[0]) for stem in found):
            raise KitError(f"There is no notebook {name!r}; choose from: {', '.join(found)}.")
    return [path for stem, path in found.items() if {stem, stem.split("_")[0]} & wanted]


def papermill_path(path: str | Path) -> str:
    """A path as papermill wants it: it runs str.format over the paths it is given."""
    return str(path).replace("{", "{{").replace("}", "}}")


def notebook_parameters(source: str | Path) -> dict[str, str]:
    """{name: default as written} of the cell tagged `parameters`; {} where there is
    none. KitError for a file that does not exist.
    """
    if not Path(source).is_file():
        raise KitError(f"There is no notebook {source}.")
    found = notebook_tool("papermill").inspect_notebook(papermill_path(source))
    return {name: parameter["default"] for name, parameter in found.items()}


def check_parameters(source: str | Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as plain literals; KitError names those that the notebook does not
    have, and those it has.
    """
    valid = notebook_parameters(source)
    unknown = ", ".join(sorted(set(parameters) - set(valid)))
    if unknown:
        raise KitError(
            f"Notebook {Path(source).stem} has no parameter {unknown}; it has: "
            f"{', '.join(valid)}."
        )
    return {name: _literal(name, value) for name, value in parameters.items()}


def _literal(name: str, value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.resolve())
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_literal(name, item) for item in value]
    raise KitError(
        f"Notebook parameter {name} is a {type(value).__name__}; give a number, text, "
        "bool or list."
    )
