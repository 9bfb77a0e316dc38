from __future__ import annotations

import base64
import json

import pytest
from reference.pages import loads

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbconvert")

from dkdmpl_kit.studies.pages import POLICY, export_html, mathml  # noqa: E402

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)


def output(data: dict) -> dict:
    return nbformat.v4.new_output("display_data", data=data)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("pages")
    (folder / "pic.png").write_bytes(PNG)
    text = "Loss $q < r$, $\\foo{x}$\n\n$$\\frac{1}{2}$$\n\n\\begin{align}\na &= b\n\\end{align}\n\n![local](pic.png)"
    widget = {
        "application/vnd.jupyter.widget-view+json": {"model_id": "1"},
        "text/plain": "FloatSlider(value=0.0)",
    }
    code = nbformat.v4.new_code_cell(
        "show()",
        outputs=[
            output({"text/latex": "$\\sqrt{2}$", "text/plain": "sqrt"}),
            output(widget),
            output({**widget, "image/png": "iVBORw0KGgo="}),
            nbformat.v4.new_output("stream", name="stderr", text=" 0%\r50%\r100% done"),
        ],
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text), code])
    notebook.metadata["widgets"] = {
        "application/vnd.jupyter.widget-state+json": {"state": {}}
    }
    before = json.dumps(notebook)
    html = export_html(notebook, folder / "01_page.ipynb")
    assert json.dumps(notebook) == before, "exporting must not change the notebook"
    return html


def test_a_page_requests_nothing_and_forbids_what_its_outputs_might_request(page):
    assert loads(page) == []
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page
    assert "<script" not in page


def test_the_finder_of_requests_sees_scripts_sheets_pictures_and_css_urls():
    html = (
        '<script src="https://a/x.js"></script><link href="//b/x.css"><img '
        'src="pic.png"><a href="https://ok"></a>'
        '<style>@import "x.css"; a { background: url(https://c/x.png) } b { '
        "background: url(data:,) }</style>"
    )
    assert len(loads(html)) == 5


def test_formulas_of_markdown_and_of_outputs_become_mathml(page):
    assert page.count("<math") == 4
    assert "<mfrac>" in page
    assert "<mtable" in page
    assert "<msqrt>" in page
    assert '<code class="tex">\\foo{x}</code>' in page


def test_a_picture_that_markdown_names_is_embedded(page):
    assert f"data:image/png;base64,{base64.b64encode(PNG).decode()}" in page


def test_a_live_control_becomes_a_note_or_the_picture_beside_it(page):
    assert page.count("(live controls: open the notebook in JupyterLab)") == 1
    assert "FloatSlider(value" not in page
    assert "data:image/png;base64,iVBORw0KGgo=" in page


def test_a_progress_bar_shows_its_last_state_only(page):
    assert "<pre>100% done</pre>" in page


def test_formulas_that_cannot_be_read_come_back_as_escaped_source():
    for latex in (
        r"\frac{",
        r"\nosuch{x}",
        r"\begin{nosuch} a & b \end{nosuch}",
        "a < \\nosuch",
    ):
        assert mathml(latex).startswith('<code class="tex">'), latex
    assert "a &lt; " in mathml("a < \\nosuch")


def test_the_notation_of_the_method_is_read():
    for latex in (
        r"q_i = \mathrm{softmax}(M z_i/\tau)",
        r"\mathbb{1}_{y_i}",
        r"T^2\,\mathrm{KL}\!\left(e_i^{(T)}\,\middle\|\,q_i\right)",
        r"\begin{aligned} a &= b \\ &= c \end{aligned}",
        r"\lVert v \rVert_2 \le \operatorname{Var}(q)",
        r"\hat y \cdot \mathbf{z}",
        r"\arg\min_{j\neq i,\; y_j=y_i} z_i^\top z_j",
    ):
        assert mathml(latex, display=True).startswith("<math"), latex
    assert "&#120793;" in mathml(r"\mathbb{1}")  # U+1D7D9, the double-struck one


def test_the_policy_allows_no_host():
    assert "://" not in POLICY
    assert "*" not in POLICY
    assert "default-src 'none'" in POLICY
