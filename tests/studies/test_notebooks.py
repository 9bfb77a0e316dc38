from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import pytest

for package in ("jupytext", "nbconvert", "nbformat", "papermill"):
    pytest.importorskip(package)

import nbformat  # noqa: E402
from reference.pages import loads  # noqa: E402

from dkdmpl_kit.errors import KitError  # noqa: E402
from dkdmpl_kit.lessons.handouts import learner_copy  # noqa: E402
from dkdmpl_kit.studies import notebooks  # noqa: E402
from dkdmpl_kit.studies.notebooks import (  # noqa: E402
    NotebookFailed,
    build_notebooks,
    run_notebook,
    run_notebooks,
)

REAL = Path(__file__).resolve().parents[2] / "notebooks"
PARAMETERS = '# %% tags=["parameters"]\nseed = 0  # the seed\nsizes = (1, 5)\ntext = "x"\nout_dir = "."\n\n'
GOOD = (
    """# %% [markdown]
# # A title and $\\eta < 1$

"""
    + PARAMETERS
    + """# %%
import json, os, sys
import matplotlib.pyplot as plt
told = {"seed": seed, "sizes": sizes, "text": text, "out_dir": out_dir}
print(json.dumps({**told, "python": sys.executable, "cwd": os.getcwd()}))

# %%
plt.plot([0, 1])
plt.show()

# %% tags=["solution"]
answer = 42
print(answer)
"""
)
BAD = (
    PARAMETERS
    + """# %%
print("fine")

# %%
def fail():
    raise ValueError("first line\\nthe last line")
fail()
"""
)


def folder_with(tmp_path: Path, **sources: str) -> Path:
    folder = tmp_path / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in sources.items():
        (folder / f"{name[1:]}.py").write_text(source)  # names such as _01_good
    build_notebooks(folder)
    return folder


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- building ---


def test_the_generated_notebooks_of_the_repository_are_in_step_with_their_sources():
    if not list(REAL.glob("[0-9][0-9]_*")):
        pytest.skip("there are no notebooks yet")
    stale = build_notebooks(REAL, check=True)
    assert stale == [], (
        f"not in step with the .py sources: build them anew, or delete those without a "
        f"source: {stale}"
    )


def test_building_twice_gives_the_same_bytes_and_reports_nothing_the_second_time(tmp_path):
    folder = folder_with(tmp_path, _01_good=GOOD)
    first = (folder / "01_good.ipynb").read_bytes()
    assert build_notebooks(folder) == []
    assert build_notebooks(folder, check=True) == []
    (folder / "01_good.ipynb").unlink()
    assert build_notebooks(folder) == ["01_good.ipynb"]
    assert (folder / "01_good.ipynb").read_bytes() == first


def test_a_changed_source_and_a_notebook_without_source_are_reported_and_left_alone_by_check(
    tmp_path,
):
    folder = folder_with(tmp_path, _01_good=GOOD, _02_gone=GOOD)
    before = (folder / "01_good.ipynb").read_bytes()
    (folder / "01_good.py").write_text(GOOD + "\n# %%\nprint('more')\n")
    (folder / "02_gone.py").unlink()
    assert build_notebooks(folder, check=True) == ["01_good.ipynb", "02_gone.ipynb"]
    assert (folder / "01_good.ipynb").read_bytes() == before
    assert build_notebooks(folder) == ["01_good.ipynb"]


def test_a_built_notebook_has_language_tags_no_outputs_and_ids_that_survive_an_insertion(
    tmp_path,
):
    folder = folder_with(tmp_path, _01_good=GOOD + "\n# %%\nprint(1)\n\n# %%\nprint(1)\n")
    built = nbformat.read(folder / "01_good.ipynb", as_version=4)
    nbformat.validate(built)
    assert built.metadata.kernelspec == notebooks.KERNELSPEC
    assert notebooks.KERNELSPEC["language"] == "python"
    assert [cell.metadata.get("tags") for cell in built.cells[:2]] == [None, ["parameters"]]
    assert all(
        not cell.outputs and cell.execution_count is None
        for cell in built.cells
        if cell.cell_type == "code"
    )
    assert len({cell.id for cell in built.cells}) == len(built.cells)
    folder_with(tmp_path, _01_good="# %%\nprint('new first cell')\n\n" + GOOD)
    again = nbformat.read(folder / "01_good.ipynb", as_version=4)
    assert [cell.id for cell in again.cells[1:6]] == [cell.id for cell in built.cells[:5]]


def test_a_parameters_cell_that_derives_a_value_is_refused(tmp_path):
    with pytest.raises(KitError, match="literals only, but its line 2"):
        folder_with(
            tmp_path, _01_bad='# %% tags=["parameters"]\nseed = 1\ntwice = 2 * seed\n'
        )


def test_the_learners_copy_has_exercises_for_solutions_runs_and_leaves_the_original_alone(
    tmp_path,
):
    path = folder_with(tmp_path, _01_good=GOOD) / "01_good.ipynb"
    before = path.read_bytes()
    space = {}
    original = nbformat.read(path, as_version=4)
    copy = learner_copy(original)
    assert [
        cell.metadata.tags
        for cell in copy.cells
        if "exercise" in cell.metadata.get("tags", [])
    ] == [["exercise"]]
    assert "answer = 42" not in nbformat.writes(copy)
    assert "answer = 42" in nbformat.writes(original)
    assert nbformat.writes(learner_copy(path)) == nbformat.writes(copy)
    assert path.read_bytes() == before
    for cell in copy.cells:
        if cell.cell_type == "code" and "plt" not in cell.source:
            exec(cell.source, space)
    assert space["seed"] == 0
    assert "answer" not in space


# --- running ---


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """One notebook, run with overrides by a user whose MPLBACKEND shows nothing and who
    wants two jobs.
    """
    base = tmp_path_factory.mktemp("ran with {braces}")
    folder = folder_with(base, _01_good=GOOD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "Agg")
        runs = run_notebooks(
            notebooks_dir=folder,
            out_dir=base / "out",
            jobs=2,
            progress=False,
            timeout_s=300,
            parameters={"seed": 7, "sizes": (2, (3, 4)), "text": 'quo"te \\ é'},
        )
    executed = nbformat.read(base / "out" / "notebooks" / "01_good.ipynb", as_version=4)
    return base, runs, executed


def test_overrides_land_in_the_notebook_and_tuples_arrive_as_lists(ran):
    base, _, executed = ran
    told = json.loads(
        next(cell for cell in executed.cells if "json.dumps" in cell.source).outputs[0].text
    )
    assert (told["seed"], told["sizes"], told["text"]) == (7, [2, [3, 4]], 'quo"te \\ é')
    assert told["out_dir"] == str((base / "out").resolve()), (
        "out_dir is passed on to a notebook that has it"
    )


def test_the_kernel_is_this_python_in_the_notebooks_folder(ran):
    base, _, executed = ran
    told = json.loads(
        next(cell for cell in executed.cells if "json.dumps" in cell.source).outputs[0].text
    )
    assert told["python"] == sys.executable
    assert told["cwd"] == str((base / "notebooks").resolve())


def test_an_inherited_matplotlib_backend_does_not_lose_the_pictures(ran):
    cell = next(cell for cell in ran[2].cells if "plt.show" in cell.source)
    assert any("image/png" in output.get("data", {}) for output in cell.outputs)


def test_the_page_beside_the_executed_notebook_requests_nothing(ran):
    html = (ran[0] / "out" / "notebooks" / "01_good.html").read_text(encoding="utf-8")
    assert loads(html) == []
    assert "<math" in html
    assert "data:image/png;base64," in html


def test_a_run_records_seconds_and_parameters_and_leaves_only_its_results(ran):
    base, runs, _ = ran
    records = json.loads((base / "out" / "notebooks" / "notebooks.json").read_text())
    assert [(record["name"], record["error"]) for record in records] == [("01_good", None)]
    assert records[0]["parameters"]["seed"] == 7
    assert records[0]["seconds"] == runs[0].seconds > 0
    assert left(base / "out" / "notebooks") == [
        "01_good.html",
        "01_good.ipynb",
        "notebooks.json",
    ]


def test_resume_skips_what_is_done_and_runs_what_changed(ran, monkeypatch):
    base, runs, _ = ran
    calls = []

    def fake(source, out_dir, parameters, **_):
        calls.append(parameters["seed"])
        return notebooks.NotebookRun("01_good", 1.0, parameters, "changed")

    monkeypatch.setattr("dkdmpl_kit.studies.notebooks.batch.run_notebook", fake)
    where = {"notebooks_dir": base / "notebooks", "out_dir": base / "out", "progress": False}
    given = {key: value for key, value in runs[0].parameters.items() if key != "out_dir"}
    assert run_notebooks("01", resume=True, parameters=given, **where) == runs
    assert calls == []
    run_notebooks("01", resume=True, parameters={**given, "seed": 8}, **where)
    assert calls == [8]


def test_a_failing_cell_names_notebook_cell_and_error_and_ends_the_rest(tmp_path):
    folder = folder_with(tmp_path, _01_bad=BAD, _02_never=GOOD)
    out = tmp_path / "out"
    expected = r"01_bad, cell \[4\] `def fail\(\):`: ValueError: the last line"
    with pytest.raises(NotebookFailed, match=expected) as caught:
        run_notebooks(notebooks_dir=folder, out_dir=out, progress=False, timeout_s=300)
    # after the injected parameters
    assert (caught.value.notebook, caught.value.cell) == (
        "01_bad",
        4,
    )
    assert left(out / "notebooks") == ["01_bad.failed.ipynb", "notebooks.json"]
    failed = nbformat.read(out / "notebooks" / "01_bad.failed.ipynb", as_version=4)
    assert (
        next(cell for cell in failed.cells if "def fail" in cell.source).execution_count == 4
    )
    records = json.loads((out / "notebooks" / "notebooks.json").read_text())
    assert [(record["name"], record["error"]) for record in records] == [
        ("01_bad", "ValueError: the last line")
    ]


def test_a_cell_that_takes_too_long_is_named(tmp_path):
    folder = folder_with(
        tmp_path, _01_slow=PARAMETERS + "# %%\nimport time\ntime.sleep(600)\n"
    )
    with pytest.raises(
        NotebookFailed, match=r"cell \[2\] `import time`: the cell took more than 1 s"
    ):
        run_notebook(
            folder / "01_slow.ipynb", tmp_path / "out", timeout_s=300, cell_timeout_s=1
        )
    assert left(tmp_path / "out") == ["01_slow.failed.ipynb"]


def test_a_notebook_that_takes_too_long_is_ended_and_leaves_no_half_file(tmp_path):
    folder = folder_with(tmp_path, _01_slow="# %%\nimport time\ntime.sleep(600)\n")
    with pytest.raises(NotebookFailed, match="01_slow.*more than 0.3 s"):
        run_notebook(folder / "01_slow.ipynb", tmp_path / "out", timeout_s=0.3)
    assert left(tmp_path / "out") == ["01_slow.failed.ipynb"]


def test_a_kernel_that_dies_is_reported_as_such(tmp_path):
    folder = folder_with(tmp_path, _01_dies="# %%\nimport os\nos._exit(3)\n")
    with pytest.raises(
        NotebookFailed,
        match=r"cell \[1\] `import os`: its Python "
        r"died",
    ):
        run_notebook(folder / "01_dies.ipynb", tmp_path / "out", timeout_s=300)


def test_an_interruption_and_a_stop_leave_the_failed_copy_only_and_drop_older_results(
    tmp_path,
):
    folder = folder_with(tmp_path, _01_slow="# %%\nimport time\ntime.sleep(600)\n")
    out = tmp_path / "out"
    stop = threading.Event()
    out.mkdir()
    (out / "01_slow.ipynb").write_text("an older result")

    def interrupt(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_notebook(folder / "01_slow.ipynb", out, progress=interrupt, timeout_s=300)
    assert left(out) == ["01_slow.failed.ipynb"]
    stop.set()
    with pytest.raises(NotebookFailed, match="stopped"):
        run_notebook(folder / "01_slow.ipynb", out, stop=stop, timeout_s=300)
    assert left(out) == ["01_slow.failed.ipynb"]


# --- bad input: all of it is told before anything runs ---


def test_an_unknown_parameter_names_the_valid_ones_and_runs_nothing(tmp_path):
    folder = folder_with(
        tmp_path, _01_good=GOOD, _02_other='# %% tags=["parameters"]\nother = 1\n'
    )
    with pytest.raises(KitError, match="02_other has no parameter seed; it has: other"):
        run_notebooks(
            notebooks_dir=folder,
            out_dir=tmp_path / "out",
            parameters={"seed": 1},
            progress=False,
        )
    with pytest.raises(
        KitError, match="no parameter sed, sied; it has: seed, sizes, text, out_dir"
    ):
        run_notebook(folder / "01_good.ipynb", tmp_path / "out", {"sied": 1, "sed": 1})
    assert not (tmp_path / "out").exists()


def test_names_select_notebooks_in_order_and_unknown_names_list_the_valid_ones(tmp_path):
    folder = folder_with(tmp_path, _01_one=GOOD, _02_two=GOOD)
    selected = [path.stem for path in notebooks.select_notebooks(["02", "01_one"], folder)]
    assert (
        selected
        == ["01_one", "02_two"]
        == [path.stem for path in notebooks.select_notebooks("all", folder)]
    )
    assert [path.stem for path in notebooks.select_notebooks("02_two", folder)] == ["02_two"]
    with pytest.raises(KitError, match="no notebook '03'; choose from: 01_one, 02_two"):
        notebooks.select_notebooks(["01", "03"], folder)
    with pytest.raises(KitError, match="no notebooks NN_name.ipynb"):
        notebooks.select_notebooks("all", tmp_path)


def test_a_parameter_that_is_no_literal_and_an_out_dir_that_is_a_file_are_told_in_a_sentence(
    tmp_path,
):
    folder = folder_with(tmp_path, _01_good=GOOD)
    with pytest.raises(KitError, match="parameter seed is a object"):
        run_notebook(folder / "01_good.ipynb", tmp_path / "out", {"seed": object()})
    (tmp_path / "file").write_text("")
    with pytest.raises(KitError, match="(?i)cannot write.*choose another out_dir"):
        run_notebook(folder / "01_good.ipynb", tmp_path / "file")
    with pytest.raises(KitError, match="no notebook .*missing"):
        run_notebook(folder / "missing.ipynb", tmp_path / "out")


def test_a_path_is_passed_as_an_absolute_string(tmp_path, monkeypatch):
    folder = folder_with(tmp_path, _01_good=GOOD)
    monkeypatch.chdir(tmp_path)
    given = notebooks.check_parameters(folder / "01_good.ipynb", {"text": Path("a")})
    assert given == {"text": str(tmp_path.resolve() / "a")}


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "papermill", None)
    with pytest.raises(
        KitError,
        match=r"papermill: pip install "
        r"'dkdmpl-kit\[notebooks\]'",
    ):
        notebooks.notebook_parameters(Path(__file__))
