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
from pathlib import Path
from typing import Any

from dkdmpl_kit.experiment import write_atomic

POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src '
    "data:; media-src data:; "
    "font-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
)
COURSE_PAGES = (
    "glossary",
    "symbols",
)  # of notebooks/course, for learners; the teacher's guide is not among them
WIDGET = "application/vnd.jupyter.widget-view+json"
TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}POLICY{% endblock %}{% block jupyter_widgets %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}{% block html_head_js_mermaidjs %}{% endblock %}
{% block data_latex %}<div>{{ output.data['text/latex'] | latex_html }}</div>{% endblock %}
{% block extra_css %}<style>
main { max-width: 68rem; margin: 0 auto; } .jp-InputArea-editor { overflow-x: auto !important; }
math[display="block"] { margin: 1em 0; } math [mathvariant^="bold"] { font-weight: bold; } code.tex { color: #666; }
mtd[columnalign="right"] { text-align: right; padding-right: .2em; } mtd[columnalign="left"] { text-align: left; }
.jp-OutputArea-output[data-mime-type$="stderr"] { background: #f6f6f6 !important; }</style>{% endblock %}
""".replace("POLICY", POLICY)


def mathml(latex: str, *, display: bool = False) -> str:
    """MathML of a LaTeX formula without its dollars; one that cannot be converted comes
    back as escaped source.
    """
    from latex2mathml.converter import convert

    source = re.sub(
        r"(begin|end)\{(aligned|split|align|gather\*?|equation\*?)\}",
        r"\1{align*}",
        latex.strip(),
    )
    try:
        found = convert(source, display="block" if display else "inline")
    except (
        Exception
        # its errors share no base class; a formula shown as source must not cost the
        # page
    ):
        found = "<mi>\\"
    if re.search(
        r"<mi>[\\&]", found.replace("&#", "")
    ):  # how it hands back a command or a cell that it does not know
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
            anchor = escape(
                re.sub(r"<[^>]*>", "", text).replace(" ", "-")
            )  # as JupyterLab makes them
            return (
                super()
                .heading(text, level, **attributes)
                .replace(f"<h{level}", f'<h{level} id="{anchor}"', 1)
            )

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

    exporter = Exporter(raw_template=TEMPLATE + blocks)
    exporter.register_preprocessor(
        "nbconvert.preprocessors.CoalesceStreamsPreprocessor", enabled=True
    )  # progress bars
    exporter.register_filter(
        "latex_html", lambda text: mathml(text.strip().strip("$"), display=True)
    )
    resources = {"metadata": {"name": source.stem, "path": str(source.parent)}}
    html = exporter.from_notebook_node(_without_widgets(notebook), resources)[0]
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


def _without_widgets(notebook: Any) -> Any:
    """A copy in which live controls, which need a kernel, are the picture beside them
    or a note.
    """
    from nbformat import from_dict

    copy = from_dict(json.loads(json.dumps(notebook)))
    copy.metadata.pop("widgets", None)
    for output in (output for cell in copy.cells for output in cell.get("outputs", [])):
        if output.get("data", {}).pop(WIDGET, None) and not any(
            kind.startswith("image/") for kind in output.data
        ):
            output.data = from_dict(
                {"text/plain": "(live controls: open the notebook in JupyterLab)"}
            )
    return copy
