"""What a teacher hands out: learner's copies without solutions, and slides that open
without a network.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import write_atomic
from dkdmpl_kit.studies.notebooks import notebook_tool, run_notebooks, select_notebooks
from dkdmpl_kit.studies.pages import COURSE_PAGES, export_html

STUB = {"code": "# Exercise: your code here.", "markdown": "*Exercise: your answer here.*"}
# tags of cells that slides leave out
UNSEEN = {"solution", "exercise", "check", "parameters", "injected-parameters"}
IMAGE = "image/png"
# blocks of nbconvert's template that make slides of a page
SLIDES = (Path(__file__).parent / "templates" / "slides.html.j2").read_text(encoding="utf-8")


def learner_copy(notebook: Any) -> Any:
    """A copy of a notebook (NotebookNode, or a path) whose cells tagged `solution`
    became exercises that still run.

    What is left of a solution is its comments `# answer_1: ...`, which say what is
    asked for, and `answer_1 = None` for each answer that it gave.
    """
    nbformat = notebook_tool("nbformat")
    given = (
        nbformat.read(notebook, as_version=4)
        if isinstance(notebook, (str, Path))
        else notebook
    )
    copy = nbformat.from_dict(json.loads(json.dumps(given)))
    for cell in copy.cells:
        if "solution" in cell.metadata.get("tags", []):
            cell.source = _stub(cell)
            cell.metadata["tags"] = [
                "exercise" if tag == "solution" else tag for tag in cell.metadata["tags"]
            ]
            if cell.cell_type == "code":
                cell.outputs = []
                cell.execution_count = None
    return copy


def _stub(cell: Any) -> str:
    answers = dict.fromkeys(re.findall(r"^\s*(answer_\d+)\b[^=\n]*=(?!=)", cell.source, re.M))
    if cell.cell_type != "code" or not answers:
        return STUB.get(cell.cell_type, "")
    asked = re.findall(r"^# answer_\d+:.*(?:\n#.*)*", cell.source, re.M)
    return "\n".join([*asked, *(f"{name} = None  # your code" for name in answers)])


def write_learner_copies(
    names: str | Sequence[str], notebooks_dir: str | Path, out_dir: str | Path
) -> list[Path]:
    """Write the learner's copies of notebooks, and the pages of the course that they
    link to, into `out_dir`.

    A file that is there already and differs is somebody's work: KitError, and nothing
    is written.
    """
    nbformat = notebook_tool("nbformat")
    notebooks_dir = Path(notebooks_dir)
    out_dir = Path(out_dir)
    texts = {
        out_dir / source.name: nbformat.writes(learner_copy(source)) + "\n"
        for source in select_notebooks(names, notebooks_dir)
    }
    for path, text in texts.items():
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise KitError(
                f"{path} is there already and is not this learner's copy: somebody may "
                "have worked in it; "
                "choose another --out, or move it away."
            )
    for path, text in texts.items():
        write_atomic(path, text)
    for page in (notebooks_dir / "course" / f"{name}.md" for name in COURSE_PAGES):
        if page.is_file():
            (out_dir / "course").mkdir(exist_ok=True)
            shutil.copyfile(page, out_dir / "course" / page.name)
    return list(texts)


def slide_cells(notebook: Any) -> Any:
    """A copy of an executed notebook, cut into slides: a cell with `metadata.begins`
    begins one.

    A heading (# to ###), a picture and shown code begin a slide. Code is hidden but for
    cells tagged `code`; solutions, checks and cells that show nothing are left out. A
    cell's slide type, set in JupyterLab, wins ("skip": left out).
    """
    nbformat = notebook_tool("nbformat")
    copy = nbformat.from_dict(json.loads(json.dumps(notebook)))
    cells = []
    for cell in copy.cells:
        tags = set(cell.metadata.get("tags", []))
        slide_type = cell.metadata.get("slideshow", {}).get("slide_type")
        is_code = cell.cell_type == "code"
        shows_code = "code" in tags
        outputs = cell.get("outputs", [])
        silent = is_code and not (outputs or shows_code)
        if tags & UNSEEN or silent or slide_type in ("skip", "notes"):
            continue
        shows_picture = any(IMAGE in output.get("data", {}) for output in outputs)
        for part in _parts(cell, nbformat.from_dict):
            begins = shows_picture or shows_code if is_code else part.source.startswith("#")
            if slide_type:
                begins = slide_type in ("slide", "subslide")
            part.metadata["begins"] = begins
            part.metadata["transient"] = {"remove_source": is_code and not shows_code}
            cells.append(part)
    copy.cells = cells
    return copy


def _parts(cell: Any, new_cell: Callable[[dict], Any]) -> list[Any]:
    """A text cell cut before each heading (# to ###); any other cell as it is."""
    if cell.cell_type != "markdown" or "```" in cell.source:
        return [cell]
    texts = re.split(r"(?m)^(?=#{1,3} )", cell.source)
    parts = []
    for text in texts:
        if text.strip():
            name = f"{cell.get('id', 'text')}-{len(parts)}"
            metadata = dict(cell.metadata)
            parts.append(new_cell({**cell, "id": name, "source": text, "metadata": metadata}))
    return parts


def write_slides(
    names: str | Sequence[str],
    notebooks_dir: str | Path,
    out_dir: str | Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = 1800,
) -> list[Path]:
    """Write `out_dir`/notebooks/NAME.slides.html of each notebook's executed copy
    there; what was not run yet is run now.
    """
    nbformat = notebook_tool("nbformat")
    folder = Path(out_dir) / "notebooks"
    sources = select_notebooks(names, notebooks_dir)
    if missing := [source.stem for source in sources if not (folder / source.name).exists()]:
        run_notebooks(
            missing,
            notebooks_dir=notebooks_dir,
            out_dir=out_dir,
            parameters=parameters,
            timeout_s=timeout_s,
        )
    written = []
    for source in sources:
        notebook = slide_cells(nbformat.read(folder / source.name, as_version=4))
        page = export_html(notebook, source, blocks=SLIDES)
        written.append(write_atomic(folder / f"{source.stem}.slides.html", page))
    return written
