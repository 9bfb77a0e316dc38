"""The notebooks without a widget run in the lab as well."""

from __future__ import annotations

import pytest
from browser.lab import Desk


@pytest.mark.parametrize("name", ["00_start_here", "01_data", "08_theory", "09_neighbours"])
def test_all_cells_of_a_notebook_run_in_the_lab(desk: Desk, seconds, name):
    with desk.open(name) as notebook:
        notebook.run_all(seconds)
        assert notebook.page.locator(".jp-OutputArea-output img").count() > 0
