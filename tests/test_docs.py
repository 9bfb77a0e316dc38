"""README and the pages that it links: short, and every link, target and command exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dkdmpl_kit.cli import build_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "METHOD.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "notebooks" / "course").glob("*.md")),
]
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


def named(path: Path):
    return path.relative_to(ROOT).as_posix()


def test_the_readme_is_at_most_150_lines_and_links_every_page():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in text


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_and_picture_is_there(page):
    missing = [
        link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()
    ]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_make_target_and_subcommand_that_is_named_exists(page):
    text = page.read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`make ([a-z0-9-]+)", text)) <= targets
    assert set(re.findall(r"^make ([a-z0-9-]+)", text, re.M)) <= targets
    (commands,) = (a for a in build_parser()._actions if a.dest == "command")
    asked = re.findall(r"(?:^|`)(?:\.venv/bin/)?dkdmpl ([a-z-]+)", text, re.M)
    assert set(asked) <= set(commands.choices)
