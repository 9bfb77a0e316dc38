"""An executed notebook as Markdown for the site: cells, and what they printed and drew."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dkdmpl_kit.studies.pages import without_widgets

PROGRESS = re.compile(r"\d+%\|")  # how a progress bar looks as text
TEMPLATE = (Path(__file__).parent / "notebook.md.j2").read_text(encoding="utf-8")


@dataclass(frozen=True)
class ExecutedPage:
    """Markdown, and the pictures that it shows: {name beside the page: bytes}."""

    markdown: str
    files: dict[str, bytes]


def executed_page(path: Path, outputs: dict[str, str]) -> ExecutedPage:
    """The page of an executed notebook. What it printed as HTML goes into `outputs`, and
    the Markdown holds its place.
    """
    import nbformat
    from nbconvert import MarkdownExporter

    notebook = nbformat.read(path, as_version=4)
    _forget_noise(notebook)
    notebook = without_widgets(notebook)
    for number, output in enumerate(_outputs(notebook)):
        html = output.get("data", {}).get("text/html")
        if html is not None:
            key = f"{path.stem}_{number}"
            outputs[key] = f'<div class="output output-html">{html}</div>'
            output["data"]["text/html"] = f'<div data-output="{key}"></div>'
    exporter = MarkdownExporter(raw_template=TEMPLATE)
    exporter.register_preprocessor(
        "nbconvert.preprocessors.CoalesceStreamsPreprocessor", enabled=True
    )
    resources = {"output_files_dir": f"{path.stem}_files", "unique_key": path.stem}
    markdown, found = exporter.from_notebook_node(notebook, resources)
    return ExecutedPage(markdown, dict(found["outputs"]))


def _outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def _forget_noise(notebook: Any) -> None:
    """Leave out progress bars, which are over, and the True that a check of an exercise
    returns below its sentence.
    """
    for cell in notebook.cells:
        if cell.get("outputs"):
            cell.outputs = [o for o in cell.outputs if not _is_noise(o, cell)]


def _is_noise(output: Any, cell: Any) -> bool:
    text = output.get("data", {}).get("text/plain", "")
    is_check = "check" in cell.metadata.get("tags", ())
    return bool(PROGRESS.search(text)) or (is_check and text in ("True", "False"))
