"""Every subcommand on an install without extras: it works, or one sentence says what to install."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata

import pytest

from dkdmpl_kit.cli import build_parser
from dkdmpl_kit.cli.extras import NAMED_OTHERWISE, extra_of, how_to_install

RUN = "{out}/runs/cluster_contrast-seed0"
SMALL = "--preset smoke --data-root {people} --quiet"
ARGUMENTS = {  # what each subcommand is tried with; one without a line fails the test
    "demo": "--preset smoke --out {out}/demo",
    "notebooks": "run 00_start_here --out {out}/notebooks -p preset smoke",
    "player": RUN + " --out {out}/player.gif",
    "train": SMALL + " --method cluster_contrast --epochs 1 --out-dir {out}",
    "adapt": "{people} --data market1501 --out {out}/adapted --backbone test_efficientnet "
    "--weights random --height 64 --width 32 --epochs 1 --iterations 1 --k1 8 --min-samples 2 "
    "--quiet",
    "cluster": SMALL + " --run " + RUN,
    "evaluate": SMALL + " --run " + RUN,
    "embed": "{people}/query --preset smoke --quiet --out {out}/features.npz",
    "rank": "--preset smoke --quiet --query {query} --gallery {people}/query --sheet {out}/sheet.png",
    "threshold": SMALL + " --fpr 0.1 --out {out}/threshold.json",
    "export": "--run " + RUN + " --out {out}/encoder",
    "recipe": "paper-market1501",
    "cost": "paper-market1501",
    "data": "check market1501 {people} --quiet",
    "grid": "{grid} --out {out}/grid --smoke",
    "robustness": "--out {out}/robustness --seeds 0",
    "report": "{out}",
}
WORKER = """
import contextlib, importlib.machinery, io, json, sys
blocked, commands = json.loads(sys.argv[1]), json.loads(sys.argv[2])


class WithoutExtras(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in blocked else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = WithoutExtras
from dkdmpl_kit.cli import main

found = {}
for command, arguments in commands.items():
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main([command, *arguments])
        except SystemExit as stop:
            code = stop.code
        except BaseException as error:
            code = f"{type(error).__name__}: {error}"
    found[command] = code, said.getvalue()
print(json.dumps(found))
"""


def subcommands() -> list[str]:
    (commands,) = (a for a in build_parser()._actions if a.dest == "command")
    return sorted(commands.choices)


def modules_of_extras() -> list[str]:
    """Top-level modules of the distributions that only extras name."""
    requirements = metadata.requires("dkdmpl-kit")
    extras = {r.split(">")[0].split(";")[0].strip() for r in requirements if "extra ==" in r}
    owners = metadata.packages_distributions()
    return sorted(
        {m for m, names in owners.items() if extras & set(names) and not m.startswith("_")}
        | set(NAMED_OTHERWISE)
    )


def test_every_subcommand_is_tried():
    assert subcommands() == sorted(ARGUMENTS)


@pytest.mark.slow
def test_without_extras_a_subcommand_works_or_says_what_to_install(
    tiny_config, tiny_dataset, tmp_path
):
    blocked = modules_of_extras()
    assert {"matplotlib", "papermill", "umap", "ipywidgets", "onnx", "faiss"} <= set(blocked)
    grid = tmp_path / "grid.yml"
    grid.write_text("preset: smoke\naxes:\n  seed: [0]\n")
    places = {
        "out": tmp_path / "out",
        "people": tiny_config.data_root,
        "query": tiny_dataset.query[0].path,
        "grid": grid,
    }
    order = ["train", *(name for name in ARGUMENTS if name != "train")]
    commands = {name: ARGUMENTS[name].format(**places).split() for name in order}
    done = subprocess.run(
        [sys.executable, "-c", WORKER, json.dumps(blocked), json.dumps(commands)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name, (code, said) in found.items():
        told = [line for line in said.splitlines() if line.startswith("dkdmpl: ")]
        if code == 0:
            continue
        assert code == 2, f"{name}: {code} {said}"
        assert len(told) == 1 and "pip install 'dkdmpl-kit[" in told[0], f"{name}: {said}"
        assert "Traceback" not in said
    works = {name for name, (code, _) in found.items() if code == 0}
    assert works == {
        "adapt",
        "train",
        "cluster",
        "evaluate",
        "embed",
        "threshold",
        "recipe",
        "cost",
        "data",
        "report",
    }


def test_a_module_is_of_the_extra_that_installs_it():
    assert extra_of("matplotlib") == extra_of("umap") == "notebooks"
    assert extra_of("onnx") == "runs" and extra_of("json") is None
    assert "dkdmpl-kit[notebooks]" in how_to_install("jscatter")
    assert how_to_install("torch") is None
