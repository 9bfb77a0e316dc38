"""What a teacher hands out: learner's copies without solutions, and slides that open
without a network.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import write_atomic
from dkdmpl_kit.studies.notebooks import _need, run_notebooks, select_notebooks
from dkdmpl_kit.studies.pages import COURSE_PAGES, export_html

STUB = {"code": "# Exercise: your code here.", "markdown": "*Exercise: your answer here.*"}
UNSEEN = {
    "solution",
    "exercise",
    "check",
    "parameters",
    "injected-parameters",
}  # tags of cells that slides leave out
IMAGE = "image/png"
# One <section> a slide; without JavaScript, and on paper, all of them follow one
# another.
DECK = """{% block any_cell scoped %}{% if cell.metadata.begins %}</section><section>{% endif %}{{ super() }}{% endblock %}
{% block body_header %}<body class="jp-Notebook" data-jp-theme-light="true"><style>
section:empty { display: none; } section { padding: 2vh 2vw; font-size: 1.25rem; break-after: page; }
.deck section { display: none; } .deck section.now { display: block; } main { max-width: 84rem; margin: 0 auto; }
section .jp-RenderedHTMLCommon, section pre { font-size: 1.25rem !important; line-height: 1.45; }
section .jp-InputPrompt, section .jp-OutputPrompt, section .jp-Collapser { display: none !important; }
section img { max-height: 78vh; max-width: 100%; width: auto; } nav { position: fixed; right: 1rem; bottom: .6rem; }
section .jp-InputArea pre { font-size: 1rem !important; }
nav button { font-size: 1.1rem; padding: .1rem .7rem; } body:not(.deck) nav { display: none; }
@media print { .deck section { display: block !important; } nav { display: none; } }</style><main><section>{% endblock %}
{% block body_footer %}</section></main><nav><button>&lsaquo;</button> <span></span> <button>&rsaquo;</button></nav><script>
const slides = [...document.querySelectorAll('section')].filter(s => s.children.length), last = slides.length;
const number = () => Math.min(last, Math.max(1, parseInt(location.hash.slice(1)) || 1));
const go = n => { location.hash = Math.min(last, Math.max(1, n)); };
const show = () => { slides.forEach((s, i) => s.classList.toggle('now', i + 1 === number())); scrollTo(0, 0);
  document.querySelector('nav span').textContent = number() + ' / ' + last; };
const [back, next] = document.querySelectorAll('nav button');
back.onclick = () => go(number() - 1); next.onclick = () => go(number() + 1); window.onhashchange = show;
document.onkeydown = e => { const step = { ArrowRight: 1, PageDown: 1, ' ': 1, ArrowLeft: -1, PageUp: -1 }[e.key];
  const to = { Home: 1, End: last }[e.key] || (step && number() + step); if (to) { e.preventDefault(); go(to); } };
document.body.classList.add('deck'); show();</script></body>{% endblock %}
"""


def learner_copy(notebook: Any) -> Any:
    """A copy of a notebook (NotebookNode, or a path) whose cells tagged `solution`
    became exercises that still run.

    What is left of a solution is its comments `# answer_1: ...`, which say what is
    asked for, and `answer_1 = None` for each answer that it gave.
    """
    nbformat = _need("nbformat")
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
    nbformat = _need("nbformat")
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
    nbformat = _need("nbformat")
    copy = nbformat.from_dict(json.loads(json.dumps(notebook)))
    cells = []
    for cell in copy.cells:
        tags = set(cell.metadata.get("tags", []))
        kind = cell.metadata.get("slideshow", {}).get("slide_type")
        shows_code = "code" in tags
        outputs = cell.get("outputs", [])
        silent = cell.cell_type == "code" and not (outputs or shows_code)
        if tags & UNSEEN or silent or kind in ("skip", "notes"):
            continue
        parts = [cell]
        if cell.cell_type == "markdown" and "```" not in cell.source:
            texts = [
                text
                for text in re.split(
                    r"(?m)^(?=#{1,3} "
                    r")",
                    cell.source,
                )
                if text.strip()
            ]
            parts = [
                nbformat.from_dict(
                    {
                        **cell,
                        "id": f"{cell.get('id', len(cells))}-{k}",
                        "source": text,
                        "metadata": {**cell.metadata},
                    }
                )
                for k, text in enumerate(texts)
            ]
        for part in parts:
            heads = (
                part.source.startswith("#")
                if part.cell_type == "markdown"
                else any(IMAGE in output.get("data", {}) for output in outputs) or shows_code
            )
            part.metadata["begins"] = kind in ("slide", "subslide") if kind else heads
            part.metadata["transient"] = {
                "remove_source": part.cell_type == "code" and not shows_code
            }
        cells += parts
    copy.cells = cells
    return copy


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
    nbformat = _need("nbformat")
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
        page = export_html(notebook, source, blocks=DECK)
        written.append(write_atomic(folder / f"{source.stem}.slides.html", page))
    return written
