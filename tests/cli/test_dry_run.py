"""A dry run says what the real size needs, in one table."""

from __future__ import annotations

import pytest

from dkdmpl_kit.cli import main

HEAD = "the real size needs, roughly"


@pytest.fixture
def flags(tiny_config, tiny_dataset, tmp_path) -> list[str]:
    root = str(tiny_dataset.root)
    return ["--preset", "smoke", "--data-root", root, "--out-dir", str(tmp_path)]


def table(said: str) -> list[str]:
    """The lines of the one table."""
    lines = said.splitlines()
    assert sum(HEAD in line for line in lines) == 1, said
    begin = next(i for i, line in enumerate(lines) if HEAD in line)
    end = next(i for i, line in enumerate(lines) if line.startswith("this machine has free"))
    return lines[begin : end + 1]


def test_train_tells_of_the_run_that_was_asked_for_and_not_of_the_dry_one(flags, capsys):
    sizes = ["--epochs", "7", "--iterations", "11"]
    assert main(["train", "--smoke", *flags, "--height", "128", *sizes]) == 0
    found = table(capsys.readouterr().out)
    assert any(line.startswith("77 steps of 16 pictures") for line in found)
    assert any("training pictures, decoded in memory" in line for line in found)


def test_train_without_smoke_shows_no_table(flags, capsys):
    assert main(["train", *flags, "--epochs", "1"]) == 0
    assert HEAD not in capsys.readouterr().out


def test_evaluate_tells_of_one_evaluation(flags, capsys):
    assert main(["evaluate", "--smoke", *flags, "--quiet"]) == 0
    found = table(capsys.readouterr().out)
    assert any("test pictures, and their ranking" in line for line in found)
    assert not any("steps of" in line for line in found)


def test_a_grid_tells_of_a_cell(flags, capsys, tmp_path):
    grid = tmp_path / "grid.yml"
    grid.write_text("preset: smoke\naxes:\n  seed: [0, 1]\n")
    assert main(["grid", str(grid), "--out", str(tmp_path / "out"), "--smoke"]) == 0
    said = capsys.readouterr().out
    assert "one of 2 cells" in said and table(said)
