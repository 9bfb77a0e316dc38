"""The site's parts: what it checks, the command reference, its pages and their links. The
site itself is built by `make site`, not here.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from dkdmpl_kit.cli import build_parser

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "docs" / "site"


@pytest.fixture
def site(monkeypatch):
    """The folder of the site's code as one to import from; afterwards it is forgotten."""
    monkeypatch.syspath_prepend(str(SITE))
    yield
    for name in [path.stem for path in SITE.glob("*.py")]:
        sys.modules.pop(name, None)


@pytest.fixture
def pages(site, tmp_path):
    """The pages, over a demo without notebooks."""
    pytest.importorskip("griffe", reason="needs the extra `site`")
    from pages import Pages

    return Pages(tmp_path)


GOOD = (
    '<h1 id="top">x</h1><a href="other.html#here">1</a><a href="#top">2</a>'
    '<img src="data:image/png;base64,AA"><a href="https://doi.org/10.1109/x">3</a>'
    '<link rel="canonical" href="https://example.org/"><a href="mailto:a@example.org">4</a>'
)


def looked_at(folder: Path, html: str, css: str = "") -> list[str]:
    from check import look

    (folder / "index.html").write_text(html)
    (folder / "other.html").write_text('<p id="here">y</p>')
    (folder / "folder").mkdir(exist_ok=True)
    (folder / "style.css").write_text(css)
    return look(folder).faults


def test_a_site_without_faults(site, tmp_path):
    assert looked_at(tmp_path, GOOD, "p { background: url(data:image/png;base64,AA) }") == []


@pytest.mark.parametrize(
    "html",
    [
        '<a href="none.html">x</a>',
        '<a href="other.html#nowhere">x</a>',
        '<a href="#nowhere">x</a>',
        '<a href="folder/">x</a>',
        '<a href="../outside.html">x</a>',
        '<a href="/other.html">x</a>',
        '<img src="none.png">',
        '<script src="https://cdn.example.org/x.js"></script>',
        '<link rel="stylesheet" href="//cdn.example.org/x.css">',
        '<link rel="preconnect" href="https://fonts.example.org">',
        '<p style="background: url(https://example.org/x.png)">x</p>',
        '<style>@import "https://example.org/x.css";</style>',
        '<svg><use xlink:href="https://example.org/x.svg#a"></use></svg>',
        '<img srcset="https://example.org/x.png 2x">',
    ],
)
def test_each_fault_is_found(site, tmp_path, html):
    (tmp_path.parent / "outside.html").write_text("z")
    assert len(looked_at(tmp_path, GOOD + html)) == 1


def test_a_font_that_a_style_fetches_is_a_fault(site, tmp_path):
    assert looked_at(tmp_path, GOOD, "@font-face { src: url('https://example.org/f.woff2') }")


def parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return [parser, *(p for a in inner for sub in a.choices.values() for p in parsers(sub))]


def test_the_command_reference_names_every_command_flag_and_choice(site):
    from commands import command_pages

    parser = build_parser()
    made = command_pages(parser)
    (commands,) = (a for a in parser._actions if a.dest == "command")
    assert set(made) == {"index.md", *(f"{name}.md" for name in commands.choices)}
    for name, sub in commands.choices.items():
        assert f"[`{name}`]({name}.md)" in made["index.md"]
        for inner in parsers(sub):
            for action in inner._actions:
                for flag in action.option_strings:
                    assert f"`{flag}" in made[f"{name}.md"]
                if action.choices and not isinstance(action, argparse._SubParsersAction):
                    for choice in action.choices:
                        assert str(choice) in made[f"{name}.md"]


def test_a_meaning_with_marks_of_markdown_is_shown_as_it_is(site):
    from commands import command_pages

    parser = argparse.ArgumentParser("p")
    sub = parser.add_subparsers(dest="command").add_parser("go", description="do *it*")
    sub.add_argument(
        "--out", default="a|b", help="a <file> or a|b, 5 %% (default: %(default)s)"
    )
    page = command_pages(parser)["go.md"]
    assert "Do \\*it\\*." in page
    assert "| `--out OUT` | a \\<file\\> or a\\|b, 5 % (default: a\\|b) |" in page


def test_the_table_of_contents_has_every_page_of_the_repository(pages):
    pages.__dict__["all"] = {}  # no demo here
    said = str(pages.nav())
    for path in [
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "notebooks" / "course").glob("*.md"),
    ]:
        assert f"'{path.relative_to(ROOT).as_posix()}'" in said
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"'notebooks/{path.stem}.md'" in said
    assert "'dkdmpl_kit/losses/dkdmpl.md'" in said and "'dkdmpl_kit/losses/index.md'" in said


@pytest.mark.parametrize(
    ("page", "link", "there"),
    [
        ("README.md", "docs/adapt.md", "docs/adapt.md"),
        ("README.md", "notebooks/00_start_here.ipynb", "notebooks/00_start_here.md"),
        ("README.md", "dkdmpl_kit/training/loop.py", "dkdmpl_kit/training/loop.md"),
        ("README.md", "grids/reproduce.yml", "grids/reproduce.yml.md"),
        ("README.md", "LICENSE", "LICENSE.md"),
        ("docs/results.md", "../README.md#responsible-use", "../README.md#responsible-use"),
        ("docs/lab.md", "../dkdmpl_kit/losses/__init__.py", "../dkdmpl_kit/losses/index.md"),
        ("docs/lab.md", "../figures/lab/player.png", "../figures/lab/player.png"),
        (
            "docs/lab.md",
            "../notebooks/cell/one_run.ipynb",
            "../notebooks/cell/one_run.ipynb.md",
        ),
        ("docs/lab.md", "nowhere.md", "nowhere.md"),
    ],
)
def test_a_link_leads_to_the_page_of_what_it_names(pages, page, link, there):
    assert pages.linked(f"see [x]({link}).", page) == f"see [x]({there})."


def test_names_lead_to_their_docstrings_wherever_they_are_defined(pages):
    shown = pages.linked("`losses.gkd_loss`, `data.pk_batches`, `no.name`", "README.md")
    assert "[`losses.gkd_loss`][dkdmpl_kit.losses.dkdmpl.gkd_loss]" in shown
    assert "[`data.pk_batches`][dkdmpl_kit.data.sampler.pk_batches]" in shown
    assert shown.endswith(", `no.name`")
    row = "| [losses/dkdmpl.py](dkdmpl_kit/losses/dkdmpl.py) `skd_loss` |"
    assert "[`skd_loss`][dkdmpl_kit.losses.dkdmpl.skd_loss]" in pages.linked(row, "METHOD.md")


def test_without_a_demo_the_site_says_what_to_run(pages, tmp_path, monkeypatch, capsys):
    from build import main

    monkeypatch.setattr(sys, "argv", ["build.py", "--demo", str(tmp_path)])
    assert main() == 1
    assert "run `make demo` first" in capsys.readouterr().err


def test_formulas_become_mathml_and_outputs_come_to_their_places(pages):
    from build import finished

    html = finished(
        r'<span class="arithmatex">\(a \lt b\)</span><div data-output="n_1"></div>'
        r'<div class="arithmatex">\[x^2\]</div>',
        {"n_1": "<table></table>"},
    )
    assert html.count("<math") == 2 and "<table></table>" in html and "\\(" not in html


def test_an_executed_notebook_as_a_page(site, tmp_path):
    v4 = pytest.importorskip("nbformat.v4")
    from executed import executed_page

    png = v4.new_output("display_data", {"image/png": "AAAA"})
    html = v4.new_output("display_data", {"text/html": "<table>\n\n<b>1</b></table>"})
    bar = v4.new_output("display_data", {"text/plain": "  5%|5 | 1/20"})
    said = v4.new_output("stream", name="stdout", text="\x1b[1mhello\x1b[0m\n")
    right = v4.new_output("execute_result", {"text/plain": "True"})
    cells = [
        v4.new_markdown_cell("# Title"),
        v4.new_code_cell("draw()", outputs=[bar, png, html, said]),
        v4.new_code_cell("answer_1 = 7", metadata={"tags": ["solution"]}),
        v4.new_code_cell("check(1, answer_1)", metadata={"tags": ["check"]}, outputs=[right]),
    ]
    path = tmp_path / "00_x.ipynb"
    path.write_text(__import__("json").dumps(v4.new_notebook(cells=cells)))
    kept: dict[str, str] = {}
    page = executed_page(path, kept)
    assert page.markdown.strip().startswith("# Title") and "hello" in page.markdown
    assert list(page.files) == ["00_x_files/00_x_1_0.png"] and "(00_x_files/" in page.markdown
    assert len(kept) == 1 and "<table>" not in page.markdown and "5%|" not in page.markdown
    folded = page.markdown.split("<details")[1].partition("</details>")[0]
    assert "A solution" in folded and "answer_1 = 7" in folded
    assert (
        "check(1" in page.markdown.partition("</details>")[2] and "True" not in page.markdown
    )
