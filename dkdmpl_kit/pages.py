"""An executed notebook as one HTML page that opens without a network.

Pictures are embedded, live controls become the picture beside them or a note, and a content security policy in the page
forbids every request. Formulas become MathML, which browsers draw by themselves; one that latex2mathml cannot read is
shown as its LaTeX source.
"""
from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path
from typing import Any

POLICY = ('<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; media-src data:; '
          'font-src data:; style-src \'unsafe-inline\'; script-src \'unsafe-inline\'">')
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
    """MathML of a LaTeX formula without its dollars; one that cannot be converted comes back as escaped source."""
    from latex2mathml.converter import convert

    source = re.sub(r"(begin|end)\{(aligned|split|align|gather\*?|equation\*?)\}", r"\1{align*}", latex.strip())
    try:
        found = convert(source, display="block" if display else "inline")
    except Exception:  # its errors share no base class; a formula shown as source must not cost the page
        found = "<mi>\\"
    if re.search(r"<mi>[\\&]", found.replace("&#", "")):   # how it hands back a command or a cell that it does not know
        return f'<code class="tex">{escape(latex.strip())}</code>'
    # browsers leave mathvariant to the characters: a double-struck 1 is a character of its own
    return re.sub(r'<mn mathvariant="double-struck">(\d)</mn>', lambda m: f"<mn>&#{0x1D7D8 + int(m[1])};</mn>", found)


def export_html(notebook: Any, source: Path) -> str:
    """HTML of an executed notebook (NotebookNode); pictures that markdown names are read from the source's folder."""
    from nbconvert.exporters.html import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def block_math(self, body: str) -> str:
            return mathml(body, display=True)

        def inline_math(self, body: str) -> str:
            return mathml(body)

        def latex_environment(self, name: str, body: str) -> str:
            return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", display=True)

    class Exporter(HTMLExporter):
        def markdown2html(self, text: str) -> str:
            renderer = Renderer(escape=False, embed_images=True, path=str(source.parent), exclude_anchor_links=True)
            return MarkdownWithMath(renderer=renderer).render(text)

    exporter = Exporter(raw_template=TEMPLATE)
    exporter.register_preprocessor("nbconvert.preprocessors.CoalesceStreamsPreprocessor", enabled=True)  # progress bars
    exporter.register_filter("latex_html", lambda text: mathml(text.strip().strip("$"), display=True))
    resources = {"metadata": {"name": source.stem, "path": str(source.parent)}}
    return exporter.from_notebook_node(_without_widgets(notebook), resources)[0]


def _without_widgets(notebook: Any) -> Any:
    """A copy in which live controls, which need a kernel, are the picture beside them or a note."""
    from nbformat import from_dict

    copy = from_dict(json.loads(json.dumps(notebook)))
    copy.metadata.pop("widgets", None)
    for output in (output for cell in copy.cells for output in cell.get("outputs", [])):
        if output.get("data", {}).pop(WIDGET, None) and not any(kind.startswith("image/") for kind in output.data):
            output.data = from_dict({"text/plain": "(live controls: open the notebook in JupyterLab)"})
    return copy
