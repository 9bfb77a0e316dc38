"""An executed notebook as one HTML page that opens without a network.

Pictures are embedded, live controls become the picture beside them or a note, and a
content security policy in the page forbids every request. Formulas become MathML, which
browsers draw by themselves; one that latex2mathml cannot read is shown as its LaTeX
source.
"""

from __future__ import annotations

import json
import re
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from dkdmpl_kit.experiment import write_atomic

POLICY = (  # no request at all: pictures and fonts are embedded
    '<meta http-equiv="Content-Security-Policy" content="'
    "default-src 'none'; img-src data:; media-src data:; font-src data:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
)
# of notebooks/course, for learners; the teacher's guide is not among them
COURSE_PAGES = ("glossary", "symbols")
ENVIRONMENTS = r"(begin|end)\{(aligned|split|align|gather\*?|equation\*?)\}"  # all as align*
UNKNOWN = "<mi>\\"  # how latex2mathml hands back a command that it does not know
WIDGET = "application/vnd.jupyter.widget-view+json"


def mathml(latex: str, *, display: bool = False) -> str:
    """MathML of a LaTeX formula without its dollars; one that cannot be converted comes
    back as escaped source.
    """
    from latex2mathml.converter import convert

    source = re.sub(ENVIRONMENTS, r"\1{align*}", latex.strip())
    source = re.sub(r"\\arg(?![a-z])", r"\\operatorname{arg}", source)  # it knows no \arg
    try:
        found = convert(source, display="block" if display else "inline")
    except Exception:  # its errors share no base class; one formula must not cost the page
        found = UNKNOWN
    plain = found.replace("&#", "")
    if UNKNOWN in plain or "<mi>&" in plain:  # the latter: a cell of an unknown table
        return f'<code class="tex">{escape(latex.strip())}</code>'
    # browsers leave mathvariant to the characters: a double-struck 1 is a character of
    # its own
    return re.sub(
        r'<mn mathvariant="double-struck">(\d)</mn>',
        lambda m: f"<mn>&#{0x1D7D8 + int(m[1])};</mn>",
        found,
    )


def export_html(notebook: Any, source: Path, *, blocks: str = "") -> str:
    """HTML of an executed notebook (NotebookNode); pictures that markdown names are
    read from the source's folder.

    blocks: more blocks of the Jinja template, such as those that make slides of it.
    Links to pages of the course lead to what `export_course` writes.
    """
    from nbconvert.exporters.html import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def heading(self, text: str, level: int, **attributes: Any) -> str:
            # anchors as JupyterLab makes them
            anchor = escape(re.sub(r"<[^>]*>", "", text).replace(" ", "-"))
            html = super().heading(text, level, **attributes)
            return html.replace(f"<h{level}", f'<h{level} id="{anchor}"', 1)

        def block_math(self, body: str) -> str:
            return mathml(body, display=True)

        def inline_math(self, body: str) -> str:
            return mathml(body)

        def latex_environment(self, name: str, body: str) -> str:
            return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", display=True)

    class Exporter(HTMLExporter):
        def markdown2html(self, text: str) -> str:
            renderer = Renderer(
                escape=False,
                embed_images=True,
                path=str(source.parent),
                exclude_anchor_links=True,
            )
            return MarkdownWithMath(renderer=renderer).render(text)

    template = (files(__package__) / "templates" / "notebook.html.j2").read_text("utf-8")
    exporter = Exporter(raw_template=template.replace("POLICY", POLICY) + blocks)
    progress_bars = "nbconvert.preprocessors.CoalesceStreamsPreprocessor"
    exporter.register_preprocessor(progress_bars, enabled=True)
    exporter.register_filter(
        "latex_html", lambda text: mathml(text.strip().strip("$"), display=True)
    )
    resources = {"metadata": {"name": source.stem, "path": str(source.parent)}}
    html = exporter.from_notebook_node(without_widgets(notebook), resources)[0]
    return re.sub(r'href="((?:course/)?(?:glossary|symbols))\.md', r'href="\1.html', html)


def export_course(notebooks_dir: Path, out_dir: Path) -> None:
    """Write the pages of notebooks_dir/course that notebooks link to as HTML into
    out_dir/course; nothing if there is none.
    """
    from nbformat.v4 import new_markdown_cell, new_notebook

    for name in COURSE_PAGES:
        source = notebooks_dir / "course" / f"{name}.md"
        if source.is_file():
            page = new_notebook(cells=[new_markdown_cell(source.read_text(encoding="utf-8"))])
            write_atomic(out_dir / "course" / f"{name}.html", export_html(page, source))


def without_widgets(notebook: Any) -> Any:
    """A copy in which live controls, which need a kernel, are the picture beside them
    or a note.
    """
    from nbformat import from_dict

    copy = from_dict(json.loads(json.dumps(notebook)))
    copy.metadata.pop("widgets", None)
    outputs = [output for cell in copy.cells for output in cell.get("outputs", [])]
    for output in outputs:
        controls = output.get("data", {}).pop(WIDGET, None)
        if controls and not any(kind.startswith("image/") for kind in output.data):
            note = "(live controls: open the notebook in JupyterLab)"
            output.data = from_dict({"text/plain": note})
    return copy
