"""The house rules that a machine can hold: who imports whom, and one list of
dependencies.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KIT = ROOT / "dkdmpl_kit"
# bottom to top: a package uses layers below its own, never one above and never a
# neighbour in its own
LAYERS = (
    {"errors"},
    {"data", "models", "neighbors", "memory"},
    {"clustering", "losses"},
    # re-ranking is made of clustering's k-reciprocal neighbourhoods
    {"evaluation"},
    {"noise", "experiment"},
    {"training"},
    {
        "viz"
        # arrays in, a figure out: of the layers below it knows experiment and errors
        # alone
    },
    {"studies"},
    {"lessons"},
    {"cli"},
)
VIZ_USES = {"errors", "experiment"}


def modules() -> dict[str, Path]:
    """{dotted name inside the kit: file}; a package's name stands for its __init__."""
    return {
        ".".join(p.relative_to(KIT).with_suffix("").parts).removesuffix(".__init__"): p
        for p in KIT.rglob("*.py")
        if p != KIT / "__init__.py"
    }


def imports(name: str, path: Path, known: set[str]) -> set[str]:
    """The modules of the kit that a file imports, at load or inside functions."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("dkdmpl_kit.")
                for alias in node.names
                if alias.name.startswith("dkdmpl_kit.")
            }
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                above = package[: len(package) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            elif node.module and node.module.split(".")[0] == "dkdmpl_kit":
                base = node.module.removeprefix("dkdmpl_kit").strip(".")
            else:
                continue
            inside = {f"{base}.{alias.name}".strip(".") for alias in node.names} & known
            found |= inside or ({base} & known)
    return found


def graph() -> dict[str, set[str]]:
    """{module: the modules that it imports}."""
    files = modules()
    return {name: imports(name, path, set(files)) - {name} for name, path in files.items()}


def room(module: str) -> str:
    return module.split(".")[0]


def test_every_room_has_a_layer():
    assert {room(name) for name in modules()} == set().union(*LAYERS)
    assert len({p.name for p in KIT.iterdir()} - {"__pycache__", "py.typed"}) <= 16


@pytest.mark.parametrize("package", sorted(set().union(*LAYERS)))
def test_imports_go_down_never_up_or_sideways(package):
    level = next(i for i, layer in enumerate(LAYERS) if package in layer)
    allowed = {package} | (VIZ_USES if package == "viz" else set().union(*LAYERS[:level]))
    strays = {
        f"{name} imports {used}"
        for name, uses in graph().items()
        if room(name) == package
        for used in uses
        if room(used) not in allowed
    }
    assert not strays


def test_no_two_modules_import_each_other():
    seen: dict[str, int] = {}  # 1 on the way, 2 done
    edges = graph()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert seen.get(name) != 1, f"a cycle of imports: {' -> '.join([*way, name])}"
        if name not in seen:
            seen[name] = 1
            for used in sorted(edges[name]):
                visit(used, (*way, name))
            seen[name] = 2

    for name in sorted(edges):
        visit(name, ())


def test_only_widgets_imports_ipywidgets():
    users = {
        p.name
        for p in KIT.rglob("*.py")
        if re.search(r"^\s*(import|from) ipywidgets", p.read_text(), re.M)
    }
    assert users and users <= {p.name for p in (KIT / "lessons" / "lab").glob("*.py")}


def names(requirements: list[str]) -> dict[str, str]:
    """{name: lowest version} of requirement lines."""
    return dict(
        re.match(r"([A-Za-z0-9_.-]+)>=([0-9.]+)", line).groups() for line in requirements
    )


def test_conda_and_pip_ask_for_the_same_packages():
    import yaml

    text = (ROOT / "pyproject.toml").read_text()
    pip = names(
        [
            m
            for block in re.findall(
                r"^(?:dependencies|notebooks|runs|browser|site|dist|test) = \[(.*?)^\]",
                text,
                re.M | re.S,
            )
            for m in re.findall(r'"([^"]+)"', block)
        ]
    )
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    extra = next(item["pip"] for item in listed if isinstance(item, dict))
    conda = names(
        [
            d
            for d in listed
            if isinstance(d, str) and ">=" in d and not d.startswith("python>=")
        ]
    )
    conda |= names([d for d in extra if d != "-e ."])
    conda["torch"] = conda.pop("pytorch")
    pip.pop("faiss-gpu")
    assert conda == pip


def test_every_conda_dependency_has_its_reason():
    lines = [
        line
        for line in (ROOT / "environment.yml").read_text().splitlines()
        if ">=" in line and "python>=" not in line
    ]
    assert lines and all("#" in line for line in lines)


def test_public_functions_are_documented():
    missing = []
    for path in KIT.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            public = isinstance(
                node, (ast.FunctionDef, ast.ClassDef)
            ) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                missing.append(f"{path.name}:{node.name}")
    assert not missing


def test_every_file_that_make_check_leaves_out_is_there():
    from conftest import SLOW

    assert all((ROOT / "tests" / name).is_file() for name in SLOW)
