"""What a wheel, Binder and the pinned versions need; `make dist` builds and checks."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def plain(requirement: str) -> str:
    """The name of a requirement as indices compare it."""
    return re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9_.-]+", requirement).group()).lower()


def test_type_checkers_learn_that_the_kit_has_types():
    assert (ROOT / "dkdmpl_kit" / "py.typed").is_file()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["dkdmpl_kit"]
    assert "Typing :: Typed" in PROJECT["project"]["classifiers"]


def test_every_requirement_has_its_pinned_version():
    pinned = {plain(line) for line in (ROOT / "constraints.txt").read_text().splitlines()[1:]}
    asked = [
        *PROJECT["project"]["dependencies"],
        *(r for extra in PROJECT["project"]["optional-dependencies"].values() for r in extra),
    ]
    # faiss-cpu is for machines that these versions were not tried on
    assert {plain(r) for r in asked} - pinned == {"faiss-cpu"}


def test_pinned_versions_are_in_order_and_once():
    lines = (ROOT / "constraints.txt").read_text().splitlines()[1:]
    assert lines == sorted(set(lines), key=str.lower)


def test_binder_installs_the_notebooks_with_the_pinned_versions():
    lines = (ROOT / ".binder" / "requirements.txt").read_text().splitlines()
    assert ".[notebooks]" in lines
    (pins,) = (line.split()[1] for line in lines if line.startswith("-c "))
    assert (ROOT / ".binder" / pins).resolve() == ROOT / "constraints.txt"
    assert (ROOT / ".binder" / "runtime.txt").read_text().startswith("python-3.11")
