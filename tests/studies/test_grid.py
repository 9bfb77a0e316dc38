"""Grid files, and grids that are killed, interrupted, shared or unlucky: every cell
runs once, and the page is the same.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest

from dkdmpl_kit.cli import main
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import Config, preset, read_json, write_json
from dkdmpl_kit.studies import grid_cell as cells
from dkdmpl_kit.studies.grid import read_grid, run_grid
from dkdmpl_kit.studies.notebooks import NotebookFailed
from dkdmpl_kit.studies.results import collect_runs, markdown_table

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = "".join(
    f"{name} = {value!r}\n" for name, value in cells.parameters_of(preset("smoke")).items()
)
RESULT = """
import os
from pathlib import Path
from dkdmpl_kit import experiment
config = experiment.preset(preset, data_root=data_root, method=method, seed=seed, out_dir=out_dir, run_name=run_name
                           ).replace(**dict(item.split("=", 1) for item in settings))
with (config.run_dir / "started").open("a") as log:
    log.write("x")
{before}
experiment.write_json(config.run_dir / "config.json", {{"fingerprint": config.fingerprint()}})
experiment.write_json(config.run_dir / "result.json", {{"threads": os.environ["OMP_NUM_THREADS"]}})
"""


def text_of(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def stand_in(tmp_path: Path, before: str = "") -> Path:
    """A notebook with one_run's parameters that leaves a result without training;
    `before` runs before it does.
    """
    v4 = nbformat.v4
    notebook = v4.new_notebook(
        cells=[
            v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
            v4.new_code_cell(RESULT.format(before=before)),
        ]
    )
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
    }
    nbformat.write(notebook, tmp_path / "stand_in.ipynb")
    return tmp_path / "stand_in.ipynb"


@pytest.fixture
def tiny(tmp_path, tiny_config, tiny_dataset):
    """configs(*methods): cells on the rendered pictures, whose untrained encoder counts
    as measured already.
    """

    def configs(*methods: str) -> list[Config]:
        write_json(tmp_path / "out" / "untrained.json", {})
        return [
            tiny_config.replace(
                method=m, out_dir=str(tmp_path / "out"), run_name=f"{m}-seed0"
            )
            for m in methods
        ]

    return configs


# --- grid files ---


def test_cells_beside_the_axes_are_repeated_for_the_axes_they_do_not_name(tmp_path):
    path = tmp_path / "grid.yml"
    path.write_text(
        "preset: smoke\naxes: {seed: [0, 1], method: [gkd, skd]}\n"
        "also:\n  - {method: cluster_contrast, memory_update: mean}\n"
    )
    configs = read_grid(path, tmp_path)
    assert [c.name for c in configs] == [
        "gkd-seed0",
        "skd-seed0",
        "gkd-seed1",
        "skd-seed1",
        *(f"memory_update=mean-cluster_contrast-seed{seed}" for seed in (0, 1)),
    ]
    assert [c.memory_update for c in configs] == ["instance"] * 4 + ["mean"] * 2
    path.write_text("axes: {seed: [0]}\nalso: [{method: magic}]\n")
    with pytest.raises(KitError, match="cluster_contrast"):
        read_grid(path, tmp_path)


def test_an_axis_of_data_sets_brings_presets_folders_and_settings_and_names_the_runs(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("SOME_PERSONS", "/data/persons")
    monkeypatch.delenv("SOME_VEHICLES", raising=False)
    path = text_of(
        tmp_path / "grid.yml",
        """
settings: {epochs: 3}
axes:
  data:
    - {name: people, preset: paper-msmt17, data_root: "${SOME_PERSONS}"}
    - {name: cars, preset: smoke, data: folder, data_root: "${SOME_VEHICLES}", settings: {eps: 0.4, seed: 7}}
  centre_cameras: [true]
  seed: [1]
""",
    )
    people, cars = read_grid(path, tmp_path, {"eps": "0.5"})
    assert (people.name, people.preset, people.data, people.iterations) == (
        "people-centre_cameras=True-dkdmpl-seed1",
        "paper-msmt17",
        "msmt17",
        400,
    )
    assert (people.data_root, people.epochs, people.eps) == ("/data/persons", 3, 0.5)
    assert (cars.name, cars.data, cars.data_root) == (
        "cars-centre_cameras=True-dkdmpl-seed1",
        "folder",
        "${SOME_VEHICLES}",
    )
    assert (cars.eps, cars.seed, cars.centre_cameras, cars.batch_clusters) == (
        0.5,
        1,
        True,
        4,
    )
    assert Path(people.out_dir).is_absolute()


@pytest.mark.parametrize(
    "text, words",
    [
        ("axes: {seed: [0, 0]}", "dkdmpl-seed0 twice"),
        ("axes: {seed: 0}", "axes"),
        ("axes: {data: [{data: folder}]}", "needs a name"),
        ("axes: {data: [{name: a, nonsense: 1}]}", "nonsense"),
    ],
)
def test_a_grid_that_makes_no_sense_is_one_sentence(tmp_path, text, words):
    with pytest.raises(KitError, match=words):
        read_grid(text_of(tmp_path / "grid.yml", text), tmp_path)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "grids").glob("*.yml")), ids=lambda path: path.stem
)
def test_every_ready_grid_reads_and_says_what_it_is_for(tmp_path, path):
    configs = read_grid(path, tmp_path)
    about = " ".join(path.read_text().split())
    assert len(configs) >= 8
    assert "about:" in about
    assert path.stem in ("reproduce", "rivals", "paper") or re.search(
        r"Time budget: \d+ minutes", about
    )
    assert len({config.seed for config in configs}) >= 2 or path.stem == "paper"


def test_the_parameters_of_a_cell_give_back_its_settings():
    config = preset(
        "demo",
        method="gkd",
        seed=3,
        eps=0.45,
        centre_cameras=True,
        weights="a folder/with = signs.pth",
        out_dir="somewhere",
        run_name="r",
        learning_rate=1e-4,
    )
    given = cells.parameters_of(config)
    again = preset(
        given["preset"],
        **{name: given[name] for name in cells.OWN_PARAMETERS if name != "preset"},
    ).replace(**dict(item.split("=", 1) for item in given["settings"]))
    assert again == config
    assert sorted(item.split("=")[0] for item in given["settings"]) == [
        "centre_cameras",
        "eps",
        "learning_rate",
        "weights",
    ]


# --- the order of things, with a stand-in for papermill ---


@pytest.fixture
def papermill(monkeypatch):
    """A stand-in for `run_notebook`: what a run's method asks for in `fates`, one word
    an attempt; the rest succeed.
    """
    fates = {}
    calls = []
    lock = threading.Lock()

    def run(source, folder, parameters, **_):
        with lock:
            calls.append(parameters["run_name"])
            fate = fates.get(parameters["method"], [])
            word = fate.pop(0) if fate else "well"
        time.sleep(0.05)
        if word != "well":
            raise NotebookFailed("one_run", 1, "fit", word, folder)
        config = preset(
            parameters["preset"],
            **{n: parameters[n] for n in cells.OWN_PARAMETERS if n != "preset"},
        ).replace(**dict(item.split("=", 1) for item in parameters["settings"]))
        write_json(folder / "config.json", {"fingerprint": config.fingerprint()})
        write_json(folder / "result.json", {})

    monkeypatch.setattr(cells, "run_notebook", run)
    return fates, calls


def test_a_cell_that_dies_is_tried_again_bad_input_is_not_and_the_others_finish(
    tiny, papermill
):
    fates, calls = papermill
    fates.update(
        gkd=["its Python died"],
        skd=["KitError: eps is wrong", "never"],
        ice=["its Python died"] * 3,
    )
    configs = tiny("gkd", "skd", "ice", "dkdmpl")
    failed = run_grid(configs, jobs=2, retries=1, progress=False)
    assert failed == {"skd-seed0": "KitError: eps is wrong", "ice-seed0": "its Python died"}
    assert {name: calls.count(name) for name in calls} == {
        "gkd-seed0": 2,
        "skd-seed0": 1,
        "ice-seed0": 2,
        "dkdmpl-seed0": 1,
    }
    attempts = read_json(configs[0].run_dir / "cell.json")["attempts"]
    assert [attempt["error"] for attempt in attempts] == ["its Python died", None]
    assert run_grid(configs, progress=False) == {}
    assert calls.count("ice-seed0") == 4
    assert calls.count("dkdmpl-seed0") == 1
    assert calls.count("gkd-seed0") == 2


def test_two_grids_on_one_folder_share_the_cells_and_both_end_with_all_of_them_done(
    tiny, papermill
):
    _, calls = papermill
    configs = tiny("gkd", "skd", "ice", "dkdmpl", "spcl", "mmt")
    failed = []
    both = [
        threading.Thread(
            target=lambda: failed.append(run_grid(configs, jobs=2, progress=False))
        )
        for _ in range(2)
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert failed == [{}, {}]
    assert sorted(calls) == sorted(config.name for config in configs)


def test_other_settings_under_an_old_name_are_not_taken_for_done(tiny, papermill):
    _, calls = papermill
    config = tiny("gkd")[0]
    run_grid([config], progress=False)
    assert cells.is_done(config)
    assert not cells.is_done(config.replace(eps=0.3))
    (config.run_dir / "cell.json").unlink()
    assert cells.is_done(config), "a run without a notebook is done, too"


def test_data_that_are_not_there_are_named_and_the_others_run(
    tiny, papermill, tiny_dataset, monkeypatch
):
    measured = []
    monkeypatch.setattr(
        "dkdmpl_kit.studies.grid.measure_untrained",
        lambda config, path, **_: measured.append(path.name),
    )
    good = tiny("gkd")[0]
    missing = good.replace(
        run_name="paper-seed0", data="market1501", data_root="${NO_SUCH_FOLDER}"
    )
    failed = run_grid([missing, good], progress=False)
    assert list(failed) == ["paper-seed0"]
    assert "export NO_SUCH_FOLDER" in failed["paper-seed0"]
    assert papermill[1] == ["gkd-seed0"]
    assert measured == [f"untrained-{tiny_dataset.fingerprint()[:8]}.json"]
    with pytest.raises(KitError, match="export NO_SUCH_FOLDER"):
        run_grid([missing], progress=False)


def test_without_papermill_a_grid_says_what_to_install_before_it_renders(
    tmp_path, tiny_config, monkeypatch
):
    monkeypatch.setitem(sys.modules, "papermill", None)
    config = tiny_config.replace(out_dir=str(tmp_path / "out"), run_name="one")
    with pytest.raises(KitError, match=r"papermill: pip install 'dkdmpl-kit\[notebooks\]'"):
        run_grid([config], progress=False)
    assert not (tmp_path / "out").exists()


def test_an_executor_that_does_not_exist_and_options_that_submitit_refuses_are_sentences(
    tiny,
):
    with pytest.raises(KitError, match="local-submitit"):
        run_grid(tiny("gkd"), executor="cloud", progress=False)
    with pytest.raises(KitError, match="nonsense"):
        run_grid(
            tiny("gkd"), executor="local-submitit", options={"nonsense": 1}, progress=False
        )


def test_the_command_names_what_failed_ends_with_1_and_a_dry_run_has_a_folder_of_its_own(
    tiny, papermill, tmp_path, monkeypatch, capsys
):
    fates, calls = papermill
    fates.update(skd=["KitError: no luck"])
    # report first: it would keep the stand-in if it were imported under it
    for module in ("report", "results"):
        monkeypatch.setattr(
            f"dkdmpl_kit.studies.{module}.collect_runs", lambda folder, left_out: []
        )
    write_json(tmp_path / "out-smoke" / "untrained.json", {})
    grid = text_of(
        tmp_path / "grid.yml",
        f"preset: smoke\nsettings: {{data_root: '{tiny('gkd')[0].data_root}'}}\n"
        "axes: {seed: [0], method: [skd, gkd]}\n",
    )
    command = [
        "grid",
        str(grid),
        "--out",
        str(tmp_path / "out"),
        "--smoke",
        "--setting",
        "eps=0.55",
    ]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "dkdmpl: failed: smoke-skd-seed0: KitError: no luck" in error
    assert "smoke-gkd" not in error.split("failed:")[1]
    assert sorted(calls) == ["smoke-gkd-seed0", "smoke-skd-seed0"]
    done = read_json(tmp_path / "out-smoke" / "runs" / "smoke-gkd-seed0" / "cell.json")[
        "parameters"
    ]
    assert "epochs=1" in done["settings"]
    assert "eps=0.55" in done["settings"]
    assert not (tmp_path / "out" / "runs").exists()
    assert main(command) == 0
    assert main([*command, "--setting", "eps"]) == 2
    assert "NAME=VALUE" in capsys.readouterr().err


# --- with processes ---


def test_a_cell_whose_python_dies_is_retried_in_a_new_process_with_its_threads(
    tiny, tmp_path
):
    dies_once = "if len((config.run_dir / 'started').read_text()) == 1:\n    os._exit(3)"
    config = tiny("gkd")[0]
    assert (
        run_grid([config], threads=1, notebook=stand_in(tmp_path, dies_once), progress=False)
        == {}
    )
    assert (config.run_dir / "started").read_text() == "xx"
    assert read_json(config.run_dir / "result.json") == {"threads": "1"}
    first, second = read_json(config.run_dir / "cell.json")["attempts"]
    assert "Python died" in first["error"]
    assert second["error"] is None
    assert (config.run_dir / "stand_in.ipynb").exists()
    assert (config.run_dir / "cell.log").stat().st_size


def test_submitits_local_executor_runs_the_cells_as_jobs(tiny, tmp_path):
    configs = tiny("gkd", "skd")
    failed = run_grid(
        configs,
        jobs=2,
        executor="local-submitit",
        options={"timeout_min": 5},
        retries=0,
        notebook=stand_in(tmp_path, "if method == 'skd':\n    raise ValueError('no luck')"),
        progress=False,
    )
    assert failed == {"skd-seed0": "ValueError: no luck"}
    assert cells.is_done(configs[0])
    assert len(list((tmp_path / "out" / "submitit").glob("*_submitted.pkl"))) == 2


def test_an_interrupted_grid_ends_its_cells_and_leaves_them_to_be_resumed(tiny, tmp_path):
    config = tiny("gkd")[0]
    notebook = stand_in(tmp_path, "import time\ntime.sleep(600)")
    code = (
        "import signal\nfrom pathlib import Path\nfrom dkdmpl_kit.experiment import "
        "Config, read_json\n"
        "from dkdmpl_kit.studies.grid import run_grid\n"
        # a shell's background jobs start without it
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"run_grid([Config().replace(**read_json({str(tmp_path / 'c.json')!r}))], "
        "progress=False, "
        f"notebook=Path({str(notebook)!r}))"
    )
    write_json(
        tmp_path / "c.json", {f: getattr(config, f) for f in config.__dataclass_fields__}
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: (config.run_dir / "started").exists())
    os.killpg(process.pid, signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=120)[1]
    assert process.returncode != 0
    assert not cells.is_done(config)
    assert read_json(config.run_dir / "cell.json")["state"] in ("stopped", "failed")
    assert len(read_json(config.run_dir / "cell.json")["attempts"]) == 1
    with cells.claim(config.run_dir / "cell.lock", wait=False) as free:
        assert free


def wait_for(found, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def shown(out: Path) -> tuple:
    """What the page shows but seconds and memory: the table, and what the curves are
    drawn from.
    """
    records = collect_runs(out)
    table = [line.rsplit("|", 2)[0] for line in markdown_table(records).splitlines()]
    curves = [
        [
            {k: v for k, v in epoch.items() if k not in ("seconds", "peak_memory_mb")}
            for epoch in record["history"]
        ]
        for record in records
    ]
    return "\n".join(table), [record["final"] for record in records], curves


def test_a_grid_killed_halfway_and_started_again_ends_with_the_same_page_and_no_epoch_done_twice(
    tmp_path, tiny_config, tiny_dataset
):
    settings = {
        "data_root": tiny_config.data_root,
        "epochs": 5,
        "iterations": 2,
        "evaluate_every": 5,
    }
    grid = text_of(
        tmp_path / "grid.yml",
        f"preset: smoke\nsettings: {json.dumps(settings)}\n"
        "axes: {seed: [0], method: [cluster_contrast, dkdmpl]}\n",
    )
    out = tmp_path / "out"
    command = [sys.executable, "-m", "dkdmpl_kit.cli", "grid", str(grid), "--out", str(out)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    second = out / "runs" / "dkdmpl-seed0" / "train.log"
    wait_for(lambda: second.exists() and " epoch   0 " in second.read_text(), 900)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = read_json(out / "runs" / "cluster_contrast-seed0" / "cell.json")
    assert before["state"] == "done"
    assert not (out / "runs" / "dkdmpl-seed0" / "one_run.ipynb").exists()
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "DKD-MPL" in again.stdout
    assert "2 of 2 runs are done" in (out / "report.html").read_text(encoding="utf-8")
    assert read_json(out / "runs" / "cluster_contrast-seed0" / "cell.json") == before
    starts = [int(n) for n in re.findall(r"from epoch (\d+) to 5", second.read_text())]
    assert len(starts) == 2
    assert starts[0] == 0
    assert 1 <= starts[1] <= 5
    epochs = [int(n) for n in re.findall(r" epoch +(\d+)  loss", second.read_text())]
    assert len(epochs) == len(set(epochs)) and epochs[-1] >= starts[1] - 1, (
        "an epoch was trained twice"
    )
    whole = (
        "import sys\nfrom dkdmpl_kit.experiment import open_dataset\nfrom "
        "dkdmpl_kit.studies.grid import read_grid\n"
        "from dkdmpl_kit.training import fit\n"
        "for config in read_grid(*sys.argv[1:]):\n    fit(config, "
        "open_dataset(config), progress=False)"
    )
    # the same cells, never interrupted
    subprocess.run(
        [sys.executable, "-c", whole, str(grid), str(tmp_path / "whole")],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    (tmp_path / "whole" / "untrained.json").write_text((out / "untrained.json").read_text())
    assert shown(out) == shown(tmp_path / "whole")
