"""Every notebook, headless in smoke size: in order, alone, on rendered people, on real
photographs, without identities.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import REAL_DATA

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.studies.notebooks import default_folder, run_notebook

NAMES = sorted(path.stem for path in default_folder().glob("[0-9][0-9]*_*.ipynb"))
VEHICLES = {
    "data": "folder",
    "pattern": r"(?P<pid>[a-z]+_\d+)_cam(?P<camid>\d+)",
    "settings": "min_samples=2 k1=8 k2=3",
}
CASES = ("synthetic", "unknown", "pku-reid-market", "vehicles-2cam")
LONG = os.environ.get("DKDMPL_LONG") == "1"  # `make test-all`


def names_of(case: str) -> list[str]:
    """The notebooks that run on a case: each on one of the two sets of photographs, on both
    in the long run.
    """
    if LONG or case in ("synthetic", "unknown"):
        return NAMES
    return NAMES[::2] if case == "pku-reid-market" else NAMES[1::2]


def parameters_of(case: str, folder: Path, rendered: Path, train: list[Path]) -> dict:
    """The notebook parameters of a case; `unknown` is a plain folder without identities
    and cameras.
    """
    common = {"preset": "smoke", "interactive": False, "out_dir": str(folder)}
    if case == "synthetic":
        return {**common, "data_root": str(rendered)}
    if case == "unknown":
        crops = folder / "crops"
        crops.mkdir(parents=True)
        for i, path in enumerate(train):
            shutil.copy(path, crops / f"{i:04d}.png")
        return {
            **common,
            "data": "folder",
            "data_root": str(crops),
            "settings": "sampler=random",
        }
    special = VEHICLES if case == "vehicles-2cam" else {"data": "market1501"}
    return {**common, **special, "data_root": str(part_of(case, folder))}


def part_of(case: str, folder: Path) -> Path:
    """A data set of links to the photographs of every third identity, in their layout."""
    root, part = REAL_DATA / case, folder / "photographs"
    found = sorted(path for path in root.rglob("*") if path.suffix in (".png", ".jpg"))
    identity = [path.name.split("_c")[0] for path in found]
    kept = set(sorted(set(identity))[::3])
    for path, name in zip(found, identity):
        if name in kept:
            link = part / path.relative_to(root)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    return part


@pytest.fixture(scope="module")
def executed(tiny_config, tiny_dataset, tmp_path_factory):
    """{(case, notebook): its folder, or the error}; two cases at a time, each in one
    out_dir.

    The rendered case goes in order, so that a notebook finds what the earlier ones
    left; the others in reverse, so that each has to make what it needs.
    """
    results: dict[tuple[str, str], Path | KitError] = {}
    train = [image.path for image in tiny_dataset.train]

    def run_case(case: str) -> None:
        folder = tmp_path_factory.mktemp(case)
        parameters = parameters_of(case, folder, Path(tiny_config.data_root), train)
        names = names_of(case)
        for name in names if case == "synthetic" else reversed(names):
            try:
                run_notebook(
                    default_folder() / f"{name}.ipynb",
                    folder / "notebooks",
                    parameters,
                    timeout_s=300,
                )
                results[case, name] = folder
            except KitError as error:
                results[case, name] = error

    cases = [
        case
        for case in CASES
        if case in ("synthetic", "unknown") or (REAL_DATA / case).is_dir()
    ]
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # two notebooks at a time
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(run_case, cases))
    finally:
        if threads is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = threads
    return results


def test_the_twelve_notebooks_are_there():
    assert NAMES == [
        "00_start_here",
        "01_data",
        "02_clustering",
        "03_gkd",
        "04_skd",
        "05_training",
        "05b_results",
        "06_evaluation",
        "07_label_noise",
        "08_theory",
        "09_neighbours",
        "10_own_crops",
    ]


@pytest.mark.parametrize("case, name", [(c, n) for c in CASES for n in names_of(c)])
def test_a_notebook_runs_and_leaves_its_figures_and_numbers(executed, case, name):
    if (case, name) not in executed:
        pytest.skip(f"the real photographs {case} do not lie beside this checkout")
    folder = executed[case, name]
    assert isinstance(folder, Path), folder
    metrics = json.loads((folder / "metrics" / name / "metrics.json").read_text())
    assert metrics["notebook"] == name and metrics["metrics"]
    for figure in metrics["figures"]:
        assert (folder / figure).stat().st_size > 1000 and (folder / figure).with_suffix(
            ".json"
        ).exists()
    notebook = json.loads((folder / "notebooks" / f"{name}.ipynb").read_text())
    outputs = [o for cell in notebook["cells"] for o in cell.get("outputs", [])]
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert any("image/png" in o.get("data", {}) for o in outputs)
    assert not [
        o for o in outputs if "application/vnd.jupyter.widget-view+json" in o.get("data", {})
    ]


def rules_of(name: str) -> dict:
    """{claim: a function of what was said that tells whether it is true}: of a notebook."""
    module = name.split("_", 1)[1]
    known = (Path(__file__).parent / "claims" / f"{module}.py").exists()
    return importlib.import_module(f"claims.{module}").RULES if known else {}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_notebook_says_about_its_run_agrees_with_the_numbers_beside_it(executed, name):
    rules, said = rules_of(name), set()
    for (case, notebook), folder in executed.items():
        if notebook != name or not isinstance(folder, Path):
            continue
        claims = json.loads((folder / "metrics" / name / "metrics.json").read_text())[
            "claims"
        ]
        assert set(claims) <= set(rules), f"{case}: a claim without a rule"
        for claim, numbers in claims.items():
            assert rules[claim](numbers), f"{case}: {claim}: {numbers}"
        said |= set(claims)
    assert said == set(rules), "each rule was tried"


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_a_lesson(name):
    cells = json.loads((default_folder() / f"{name}.ipynb").read_text())["cells"]
    tags = [tag for cell in cells for tag in cell["metadata"].get("tags", [])]
    prose = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    assert tags.count("parameters") == 1 and tags.count("solution") == 3
    assert "learn" in prose.lower() and "predict" in prose.lower()
    assert all(not c.get("outputs") for c in cells)
