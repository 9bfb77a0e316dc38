"""Folders of tiny pictures and other files, for the tests of what reads folders."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def write(root: Path, *names: str) -> Path:
    """Make `names` below `root`: pictures by their endings, other files with some text."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.lower().endswith((".jpg", ".png", ".jpeg")):
            Image.new("RGB", (2, 4)).save(root / name)
        else:
            (root / name).write_text("no picture")
    return root
