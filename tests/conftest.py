"""Fixtures shared by the tests: one tiny rendered data set a session, and where real
photographs may lie.
"""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = ROOT.parent / "shared" / "data"
# files that train, run notebooks or start processes: `make check` leaves them out
# the longest first, so that two workers end at about the same time
SLOW = (
    "notebooks/test_notebooks.py",
    "training/test_loop.py",
    "training/test_measuring.py",
    "studies/test_grid.py",
    "cli/test_commands.py",
    "training/test_adaptation.py",
    "cli/test_adapt.py",
    "cli/test_dry_run.py",
    "training/test_export.py",
    "training/test_processes.py",
    "data/test_memory_over_epochs.py",
    "habits/test_run_folders.py",
    "habits/test_settings.py",
    "lessons/lab/test_monitor.py",
    "neighbors/test_layout.py",
    "studies/test_notebooks.py",
    "studies/test_report.py",
    "test_benchmarks.py",
)


def pytest_collection_modifyitems(items):
    rank = {name: place for place, name in enumerate(SLOW)}
    places = {
        item: rank.get(item.path.relative_to(ROOT / "tests").as_posix(), len(SLOW))
        for item in items
    }
    for item, place in places.items():
        if place < len(SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=places.get)


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory):
    """The smoke preset with its own rendered pictures, shared by every test that
    trains.
    """
    from dkdmpl_kit.experiment import preset

    root = tmp_path_factory.mktemp("rendered") / "people"
    return preset("smoke", data_root=str(root))


@pytest.fixture(scope="session")
def tiny_dataset(tiny_config):
    from dkdmpl_kit.experiment import open_dataset

    return open_dataset(tiny_config)


def real_data(name: str) -> Path:
    """A folder of real photographs beside the checkout, or a skip that says why."""
    path = REAL_DATA / name
    if not path.is_dir():
        pytest.skip(f"the real photographs {name} do not lie beside this checkout")
    return path
