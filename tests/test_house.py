"""The house rules that a machine can hold: who imports whom, and one list of dependencies."""
from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KIT = ROOT / "dkdmpl_kit"
BASE = {"data", "models", "neighbors", "clustering", "memory", "losses", "evaluation", "noise", "seeding", "errors", "_kernels",
        "normalisation", "ibn"}
ALLOWED = {  # a room may use those named here, and itself
    **{room: BASE for room in BASE},
    "experiment": BASE,
    "checkpoint": BASE | {"experiment"},
    "theory": {"errors", "losses"},
    "objectives": {"errors", "losses", "memory"},
    "machine": {"errors", "models"},
    "control": set(),
    "recipe": {"errors", "experiment"},
    "cost": {"errors", "experiment", "models", "data"},
    "export": {"errors", "experiment", "models", "training"},
    "activation": {"errors", "models"},
    "distributed": {"errors"},
    "extraction": BASE | {"distributed", "experiment", "machine"},
    "monitor": BASE | {"distributed", "experiment", "extraction"},
    "tensorboard": {"errors", "checkpoint"},
    "training": BASE | {"experiment", "checkpoint", "control", "distributed", "extraction", "machine", "monitor", "objectives",
                        "views"},
    "views": BASE | {"distributed", "experiment", "checkpoint", "objectives"},
    "robustness": BASE | {"experiment", "results", "training", "theory", "viz"},
    "course": {"errors"},
    "viz": {"errors"},
    "film": BASE | {"checkpoint", "experiment", "theory", "viz"},
    "widgets": {"viz", "errors", "noise", "clustering", "neighbors", "losses", "theory", "evaluation", "memory", "control",
                "film", "checkpoint"},
    "results": {"errors", "experiment", "viz"},
    "grid": {"cells", "errors", "experiment", "training"},
    "cells": {"errors", "experiment", "notebooks", "tensorboard"},
    "stages": BASE | {"experiment", "training", "viz"},
    "pages": {"errors", "experiment"},
    "tables": {"pages"},
    "published": {"data"},
    "publishing": {"experiment", "results", "viz"},
    "report_runs": {"experiment", "published", "publishing", "results", "tables", "viz"},
    "report": {"errors", "experiment", "report_runs", "results", "tables"},
    "comparison": {"errors", "experiment", "report_runs", "results", "tables"},
    "notebooks": {"errors", "experiment", "pages", "course"},
    "handouts": {"errors", "experiment", "notebooks", "pages"},
}


def imports(path: Path) -> set[str]:
    """The rooms of the kit that a file imports, at load or inside functions."""
    found = set()
    rooms = {p.stem for p in KIT.iterdir() if not p.name.startswith("__")}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level == 0 and not module.startswith("dkdmpl_kit"):
                continue
            inside = node.level == 1 and path.parent != KIT  # a sibling in a subpackage
            if inside:
                continue
            parts = module.removeprefix("dkdmpl_kit").strip(".").split(".")
            found |= {parts[0]} if parts[0] else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("dkdmpl_kit.")}
    return found & rooms


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_dependencies_go_one_way(room):
    files = sorted((KIT / room).rglob("*.py")) if (KIT / room).is_dir() else [KIT / f"{room}.py"]
    used = set().union(*(imports(f) for f in files)) - {room}
    assert used <= ALLOWED[room], f"{room} must not import {sorted(used - ALLOWED[room])}"


def test_only_widgets_imports_ipywidgets():
    users = {p.name for p in KIT.rglob("*.py") if re.search(r"^\s*(import|from) ipywidgets", p.read_text(), re.M)}
    assert users and users <= {p.name for p in (KIT / "widgets").glob("*.py")}


def names(requirements: list[str]) -> dict[str, str]:
    """{name: lowest version} of requirement lines."""
    return dict(re.match(r"([A-Za-z0-9_.-]+)>=([0-9.]+)", line).groups() for line in requirements)


def test_conda_and_pip_ask_for_the_same_packages():
    import yaml

    text = (ROOT / "pyproject.toml").read_text()
    pip = names([m for block in re.findall(r"^(?:dependencies|notebooks|runs|browser|test) = \[(.*?)^\]", text, re.M | re.S)
                 for m in re.findall(r'"([^"]+)"', block)])
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    extra = next(item["pip"] for item in listed if isinstance(item, dict))
    conda = names([d for d in listed if isinstance(d, str) and ">=" in d and not d.startswith("python>=")])
    conda |= names([d for d in extra if d != "-e ."])
    conda["torch"] = conda.pop("pytorch")
    pip.pop("faiss-gpu")
    assert conda == pip


def test_every_conda_dependency_has_its_reason():
    lines = [line for line in (ROOT / "environment.yml").read_text().splitlines() if ">=" in line and "python>=" not in line]
    assert lines and all("#" in line for line in lines)


def test_public_functions_are_documented():
    missing = []
    for path in KIT.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                missing.append(f"{path.name}:{node.name}")
    assert not missing
