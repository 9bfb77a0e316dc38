"""METHOD.md's table of addresses: every row leads to a function that stands there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TABLE = (ROOT / "METHOD.md").read_text().split("## Where each symbol and equation")[1]
ROWS = [line for line in TABLE.splitlines() if line.startswith("| ")][1:]
ADDRESS = re.compile(r"\[([^\]]+)\]\(([^)]+)\)((?:,? ?`\w+`)+)")


def defined(path: Path) -> set[str]:
    """The functions, methods and classes of a file."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {
        node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_every_row_leads_to_its_function(row):
    addresses = ADDRESS.findall(row)
    assert addresses, "a row names a file and a function"
    for shown, link, names in addresses:
        assert link == f"dkdmpl_kit/{shown}"
        for name in re.findall(r"`(\w+)`", names):
            assert name in defined(ROOT / link), f"{link} has no {name}"


def test_every_symbol_of_the_page_has_a_row():
    symbols = (
        "v_i y_i C M z_i p(i) e_i q_i a_i r r3 R_i P_i Q_j V_i m_ij P1 P2 P3 P4 P5".split()
    )
    listed = {part.strip() for row in ROWS for part in row.split("|")[1].split(",")}
    assert not [symbol for symbol in symbols if symbol not in listed]
    for loss in ("L_CC", "L_GKD", "L_SKD", "L"):
        assert loss in listed
