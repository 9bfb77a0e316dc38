"""The course: checks of exercises, learner's copies, slides, and that glossary, symbols
and links are true to the code.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import json
import pkgutil
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.exercises import STRICT, exercises, value

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbconvert")

from reference.pages import loads  # noqa: E402

from dkdmpl_kit.cli import main  # noqa: E402
from dkdmpl_kit.lessons.handouts import (  # noqa: E402
    SLIDES,
    learner_copy,
    slide_cells,
    write_learner_copies,
    write_slides,
)
from dkdmpl_kit.studies.pages import export_course, export_html  # noqa: E402

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
COURSE = sorted((FOLDER / "course").glob("*.md"))
NOTEBOOKS = sorted(FOLDER.glob("[0-9][0-9]*_*.ipynb"))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


# --- verdicts ---


def verdict(capsys, test, answer) -> tuple[bool, str]:
    right = exercises({1: test})(1, answer)
    return right, capsys.readouterr().out.strip()


def test_a_right_number_array_or_tensor_passes_and_a_wrong_one_says_which_way(capsys):
    assert verdict(capsys, value(0.25), 0.25) == (True, "Exercise 1: right.")
    grad = torch.tensor([[1.0, -2.0]], requires_grad=True)
    assert verdict(capsys, value(grad), [[1.0, -2.0]])[0]
    assert verdict(capsys, value([[1.0, -2.0]]), grad)[0]
    assert verdict(capsys, value(0.25), 0.3) == (
        False,
        "Exercise 1: not yet. Your answer: 0.3 is too large.",
    )
    assert "too small" in verdict(capsys, value(0.25), 0.2)[1]
    assert (
        "1 of its 3 numbers differ, the first at index 1"
        in verdict(capsys, value([1.0, 2.0, 3.0]), [1.0, 2.5, 3.0])[1]
    )


def test_the_tolerance_is_relative_and_whole_numbers_must_be_equal(capsys):
    assert verdict(capsys, value(1e-6), 1.0009e-6)[0]
    assert not verdict(capsys, value(1e-6), 1.01e-6)[0]
    assert "whole numbers are asked for" in verdict(capsys, value([3, 9]), [0.1, 0.3])[1]
    assert "it is one number; a list of 2 numbers" in verdict(capsys, value([3, 9]), 3)[1]
    assert verdict(capsys, value([1000, 7]), [1000, 7])[0]
    assert not verdict(capsys, value([100000, 7]), [100001, 7])[0]
    assert verdict(capsys, value([0.5, np.nan]), [0.5, np.nan])[0]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ([-0.1, 0.2, 0.4], "the sign"),
        ([0.8, -1.6, -3.2], "mean over the batch is missing"),
        ([0.0125, -0.025, -0.05], "the mean was taken twice"),
        ([10.0, -20.0, -40.0], "per cent"),
        ([-0.4, -0.2, 0.1], "opposite order"),
        ([0.1, -0.2, np.nan], "NaN"),
        ([0.1, -0.2], "its shape is (2,)"),
        ("a word", "it is a str; a list of 3 numbers is asked for"),
        ([1.0, 4.0, 16.0], "forgot the root"),
    ],
)
def test_a_common_mistake_gets_its_own_hint(capsys, answer, hint):
    test = value(
        np.array([0.1, -0.2, -0.4]),
        batch=8,
        mistakes={"you forgot the root.": [1.0, 4.0, 16.0]},
    )
    right, said = verdict(capsys, test, answer)
    assert not right
    assert hint in said


def test_a_transposed_array_and_a_forgotten_mean_of_a_single_number_are_named(capsys):
    assert (
        "(3, 2) is transposed"
        in verdict(capsys, value(np.arange(6.0).reshape(2, 3)), np.zeros((3, 2)))[1]
    )
    assert "mean over them is missing" in verdict(capsys, value(2.0), [1.0, 2.0, 3.0])[1]
    assert "one number is asked for" in verdict(capsys, value(2.0), [5.0, 6.0])[1]


def test_an_open_answer_one_that_breaks_the_test_and_one_that_data_cannot_answer_raise_nothing(
    capsys,
):
    assert verdict(capsys, value(1.0), None) == (
        False,
        "Exercise 1 is still open: set answer_1, and run this cell again.",
    )
    right, said = verdict(capsys, lambda answer: answer.upper(), 3)
    assert not right
    assert "could not be used (AttributeError" in said
    assert "cannot be checked on these pictures" in verdict(capsys, None, 3)[1]
    with pytest.raises(KitError, match="no exercise 4 here; there are: 1, 2"):
        exercises({1: None, 2: None})(4, 0)


def test_where_a_notebook_brings_its_solutions_a_wrong_or_open_one_raises_and_an_unanswerable_one_does_not(
    monkeypatch,
):
    monkeypatch.setenv(STRICT, "1")
    check = exercises({1: value(1.0), 2: None})
    assert check(1, 1.0)
    assert not check(2, None)
    for answer in (2.0, None):
        with pytest.raises(KitError, match="own solution does not pass: Exercise 1"):
            check(1, answer)


# --- notebooks ---


def cells_of(path: Path) -> list:
    return nbformat.read(path, as_version=4).cells


def tagged(cells: list, tag: str) -> list:
    return [cell for cell in cells if tag in cell.metadata.get("tags", [])]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_solution_gives_its_answer_says_what_it_is_and_is_followed_by_its_check(path):
    cells = cells_of(path)
    for number, cell in enumerate(tagged(cells, "solution"), 1):
        assert f"\n# answer_{number}: " in "\n" + cell.source
        assert re.search(rf"^answer_{number}\b[^=\n]*=", cell.source, re.M), (
            "set at the top level, whatever the data"
        )
        assert (
            cells[cells.index(cell) + 1].source.strip() == f"check({number}, answer_{number})"
        )
    assert len(tagged(cells, "solution")) == 3
    makers = [cell for cell in tagged(cells, "check") if "check = " in cell.source]
    assert makers
    assert all(cell.metadata.get("jupyter", {}).get("source_hidden") for cell in makers)


def names(source: str, context: type) -> set[str]:
    tree = ast.parse(source)
    found = {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, context)
    }
    if context is ast.Store:
        for n in ast.walk(tree):
            if isinstance(n, (ast.FunctionDef, ast.ClassDef)):
                found.add(n.name)
            elif isinstance(n, (ast.Import, ast.ImportFrom)):
                found |= {(a.asname or a.name).split(".")[0] for a in n.names}
            elif isinstance(n, ast.arg):
                found.add(n.arg)
            elif isinstance(n, ast.ExceptHandler):
                found.add(n.name)
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_learners_copy_tells_no_solution_and_no_cell_needs_what_only_a_solution_made(path):
    original, copy = cells_of(path), learner_copy(path).cells
    known = set(dir(builtins))
    for cell in copy:
        if cell.cell_type == "code":
            known |= names(cell.source, ast.Store)
            assert names(cell.source, ast.Load) <= known, cell.source
    stubs = tagged(copy, "exercise")
    assert [stub.source.splitlines()[-1] for stub in stubs] == [
        f"answer_{n} = None  # your code" for n in (1, 2, 3)
    ]
    for stub, solution in zip(stubs, tagged(original, "solution"), strict=True):
        code = [
            line for line in solution.source.splitlines() if line and not line.startswith("#")
        ]
        assert not set(code) & set(stub.source.splitlines())
        assert stub.source.startswith("# answer_")


def test_the_learners_folder_has_working_links_and_no_guide_and_keeps_what_somebody_worked_in(
    tmp_path,
):
    written = write_learner_copies("all", FOLDER, tmp_path / "learner")
    assert [path.name for path in written] == [path.name for path in NOTEBOOKS]
    assert sorted(p.name for p in (tmp_path / "learner" / "course").iterdir()) == [
        "glossary.md",
        "symbols.md",
    ]
    assert all(unresolved(path) == [] for path in written)
    assert write_learner_copies("all", FOLDER, tmp_path / "learner") == written, (
        "an untouched copy may be written again"
    )
    written[1].write_text(written[1].read_text().replace("your code", "mine"))
    worked = written[1].read_text()
    with pytest.raises(KitError, match="somebody may have worked in it"):
        write_learner_copies("all", FOLDER, tmp_path / "learner")
    assert written[1].read_text() == worked
    with pytest.raises(KitError, match="somebody may have worked in it"):
        (tmp_path / "full").mkdir()
        full = shutil.copy(NOTEBOOKS[0], tmp_path / "full")
        write_learner_copies("all", Path(full).parent, Path(full).parent)


def test_the_command_writes_learners_copies(tmp_path, capsys):
    assert main(["notebooks", "learner", "00", "03_gkd", "--out", str(tmp_path / "x")]) == 0
    assert "2 notebooks without solutions" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "x").glob("*.ipynb")) == [
        "00_start_here.ipynb",
        "03_gkd.ipynb",
    ]


def test_checks_are_right_in_a_notebook_run_headless_and_a_false_solution_fails_the_run(
    tmp_path,
):
    pytest.importorskip("papermill")
    from dkdmpl_kit.studies.notebooks import NotebookFailed, build_notebooks, run_notebook

    source = (
        "# %%\nfrom dkdmpl_kit.lessons.exercises import exercises, value\ncheck = "
        "exercises({1: value(2.0)})\n\n"
        '# %% tags=["solution"]\n# answer_1: one\n# number\nanswer_1 = 1.0 + 1.0\n\n'
        '# %% tags=["check"]\ncheck(1, answer_1)\n'
    )
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (folder / "01_right.py").write_text(source)
    (folder / "02_false.py").write_text(source.replace("1.0 + 1.0", "1.0 - 1.0"))
    build_notebooks(folder)
    run_notebook(folder / "01_right.ipynb", tmp_path / "out")
    with pytest.raises(
        NotebookFailed, match="own solution does not pass: Exercise 1: not yet"
    ):
        run_notebook(folder / "02_false.ipynb", tmp_path / "out")
    write_learner_copies("all", folder, tmp_path / "learner")
    run_notebook(tmp_path / "learner" / "02_false.ipynb", tmp_path / "out")
    ran = cells_of(tmp_path / "out" / "02_false.ipynb")
    assert ran[1].source == "# answer_1: one\n# number\nanswer_1 = None  # your code"
    assert "Exercise 1 is still open" in ran[2].outputs[0].text


# --- slides ---


def executed():
    """A notebook as a run leaves it: two sections in one cell, a picture, shown and
    hidden code, a solution.
    """
    new, picture = nbformat.v4, {"image/png": "iVBORw0KGgo="}
    code = [
        ("hidden = 1", [], []),
        ("plot()", [], [new.new_output("display_data", data=picture)]),
        ("def lesson(): pass", ["code"], []),
        ("print('told')", [], [new.new_output("stream", text="told")]),
        ("secret = 42", ["solution"], [new.new_output("stream", text="42")]),
    ]
    cells = [
        new.new_markdown_cell(
            "# Title\n\n$x^2$\n\n## One\ntext\n\n## Two\n[word](course/glossary.md#outlier)"
        )
    ]
    cells += [
        new.new_code_cell(source, outputs=outputs, metadata={"tags": tags})
        for source, tags, outputs in code
    ]
    return new.new_notebook(
        cells=[
            *cells,
            new.new_markdown_cell("skipped", metadata={"slideshow": {"slide_type": "skip"}}),
        ]
    )


def test_headings_pictures_and_shown_code_begin_a_slide_and_what_shows_nothing_or_tells_a_solution_is_left_out():
    notebook = executed()
    before = json.dumps(notebook)
    cells = slide_cells(notebook).cells
    assert json.dumps(notebook) == before, "the executed notebook is left as it is"
    assert [
        (c.source.split("\n")[0], c.metadata.begins, c.metadata.transient.remove_source)
        for c in cells
    ] == [
        ("# Title", True, False),
        ("## One", True, False),
        ("## Two", True, False),
        ("plot()", True, True),
        ("def lesson(): pass", True, False),
        ("print('told')", False, True),
    ]
    assert len({c.id for c in cells}) == len(cells)


def test_slides_open_without_a_network_and_hold_formulas_pictures_and_a_section_a_slide(
    tmp_path,
):
    (tmp_path / "out" / "notebooks").mkdir(parents=True)
    (tmp_path / "01_talk.ipynb").write_text("{}")
    nbformat.write(executed(), tmp_path / "out" / "notebooks" / "01_talk.ipynb")
    [page] = write_slides("all", tmp_path, tmp_path / "out")
    html = page.read_text()
    assert page.name == "01_talk.slides.html"
    assert loads(html) == []
    assert "src=" not in re.sub('src="data:', "", html)
    body = html[html.index("<body") :]
    assert body.count("<section>") == 6 == body.count("</section>")
    assert "default-src" in html
    assert "<math" in html
    assert "lesson" in body
    assert "secret" not in body
    assert "hidden" not in body.split("</style>", 1)[1].split("<nav>")[0]
    assert 'href="course/glossary.html#outlier"' in html


def test_the_slides_template_asks_for_nothing_from_elsewhere():
    assert not re.search(r"://|@import|\bsrc=|\bimport\b *[('\"]|fetch|link", SLIDES)


# --- glossary, symbols, links ---


def headings(text: str) -> set[str]:
    """The anchors of a page. JupyterLab joins a heading's words with hyphens; others
    put it in lower case before.
    """
    return {
        line.lstrip("# ").replace(" ", "-")
        for line in text.splitlines()
        if re.match("#+ ", line)
    }


def unresolved(path: Path) -> list[str]:
    """Relative links of a page or notebook that lead nowhere."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join(
            cell.source for cell in cells_of(path) if cell.cell_type == "markdown"
        )
    bad = []
    for link in LINK.findall(text):
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        if not re.match(r"[a-z]+:", link) and (
            not target.is_file() or (anchor and anchor not in headings(target.read_text()))
        ):
            bad.append(link)
    return bad


@pytest.mark.parametrize("path", [*NOTEBOOKS, *COURSE], ids=lambda path: path.name)
def test_every_relative_link_and_anchor_leads_somewhere(path):
    assert unresolved(path) == []


def test_the_finder_of_dead_links_finds_a_missing_file_and_a_missing_anchor(tmp_path):
    (tmp_path / "there.md").write_text("## a word\n[ok](#a-word) [far](https://x.y/z)")
    (tmp_path / "page.md").write_text(
        "[1](there.md) [2](there.md#a-word) [3](gone.md) [4](there.md#gone)"
    )
    assert unresolved(tmp_path / "page.md") == ["gone.md", "there.md#gone"]
    assert unresolved(tmp_path / "there.md") == []


def test_glossary_terms_are_sorted_in_lower_case_and_linked_from_notebooks():
    terms = [
        line[3:]
        for line in (FOLDER / "course" / "glossary.md").read_text().splitlines()
        if line.startswith("## ")
    ]
    assert terms == sorted(set(terms))
    assert len(terms) > 40
    assert all(re.fullmatch(r"[a-z-]+( [a-z-]+)*", term) for term in terms), (
        "one anchor in JupyterLab and elsewhere"
    )
    for path in NOTEBOOKS[:8]:
        links = LINK.findall(
            "\n".join(c.source for c in cells_of(path) if c.cell_type == "markdown")
        )
        words = [link for link in links if link.startswith("course/glossary.md#")]
        assert len(words) > 4 and len(words) == len(set(words)), (
            f"{path.name}: a word is linked once, where it comes first"
        )


def resolved(name: str):
    """The object `dkdmpl_kit.<name>`, or None."""
    try:
        return pkgutil.resolve_name(f"dkdmpl_kit.{name}")
    except (ImportError, AttributeError):
        return None


def exists(name: str) -> bool:
    """Whether `dkdmpl_kit.<name>` is there: an object, or an attribute that a class has
    as a field or sets in its methods.
    """
    if resolved(name) is not None:
        return True
    owner, _, attribute = name.rpartition(".")
    place = resolved(owner) if owner else None
    if not inspect.isclass(place):
        return False
    if attribute in getattr(place, "__dataclass_fields__", {}):
        return True
    sets = rf"self\.(\w+, self\.)?{attribute}\b[^=\n]*="
    return re.search(sets, inspect.getsource(place)) is not None


def test_every_code_name_of_symbols_and_glossary_exists():
    rows = [
        line
        for line in (FOLDER / "course" / "symbols.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    named = [
        re.fullmatch(r"\| .* \| `([\w.]+)` \|", row)
        for row in rows
        if not row.startswith("| symbol")
    ]
    assert len(named) > 35 and all(named), "each symbol has its place in the code"
    in_glossary = re.findall(
        r"`([a-z]+\.\w[\w.]*)`", (FOLDER / "course" / "glossary.md").read_text()
    )
    assert len(in_glossary) > 15
    assert [name for name in [*(m[1] for m in named), *in_glossary] if not exists(name)] == []
    assert not exists("losses.no_such_loss")
    assert not exists("memory.ClusterMemory.nothing")
    assert not exists("nowhere.x")


def test_the_guide_plans_what_there_is_and_its_three_hours_add_up():
    text = (FOLDER / "course" / "teachers_guide.md").read_text()
    for path in NOTEBOOKS:
        number, words = path.stem.replace("_", " ").split(" ", 1)
        assert re.search(
            rf"^## {number} {words}: \d+ "
            r"minutes$",
            text,
            re.M | re.I,
        ), path.stem
    paths = text.split("## A path of ")[1:]
    for part, minutes in zip(paths, (180, 45), strict=True):
        spans = [
            (int(a), int(b))
            for a, b in re.findall(r"^\| (\d+)-(\d+) \|", part.split("\n## ")[0], re.M)
        ]
        assert spans[0][0] == 0
        assert spans[-1][1] == minutes
        assert all(a[1] == b[0] for a, b in zip(spans, spans[1:]))


def test_pages_of_the_course_are_written_beside_the_pages_of_notebooks(tmp_path):
    export_course(FOLDER, tmp_path)
    glossary = (tmp_path / "course" / "glossary.html").read_text()
    assert 'id="pseudo-label"' in glossary
    assert loads(glossary) == []
    assert 'href="symbols.html"' in glossary
    cell = nbformat.v4.new_markdown_cell("[a](course/glossary.md#outlier) [b](other.md)")
    page = export_html(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "x.ipynb")
    assert 'href="course/glossary.html#outlier"' in page
    assert 'href="other.md"' in page
    export_course(tmp_path, tmp_path / "none")
    assert not (tmp_path / "none").exists()
