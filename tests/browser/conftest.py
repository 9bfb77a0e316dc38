"""One server and one browser for all; `notebook` is the module's NOTEBOOK, opened, its
cells run.

`make test-browser` sets DKDMPL_BROWSER=1; without it these tests are skipped, as they
take minutes. Further settings: DKDMPL_BROWSER_PRESET (smoke), DKDMPL_BROWSER_OUT (a
folder whose finished runs are used; else a temporary one) and DKDMPL_BROWSER_SHOTS (a
folder for pictures of the widgets; else none are taken).
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest
from browser.lab import Desk, chromium, serve

PRESET = os.environ.get("DKDMPL_BROWSER_PRESET", "smoke")
OUT = os.environ.get("DKDMPL_BROWSER_OUT", "")


@pytest.fixture(scope="session")
def desk(tmp_path_factory):
    """The browser over its own server; at the end, no request may have gone to another
    machine.
    """
    if os.environ.get("DKDMPL_BROWSER") != "1":
        pytest.skip(
            "the tests in a real browser take minutes: run them with `make test-browser`"
        )
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: pip install 'dkdmpl-kit[browser]'"
    )
    if chromium() is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    folder, token = tmp_path_factory.mktemp("lab"), secrets.token_hex(16)
    root = folder / "notebooks"
    root.mkdir()
    parameters = {
        "preset": PRESET,
        "out_dir": str(Path(OUT).resolve() if OUT else folder / "out"),
        "interactive": True,
    }
    with (
        serve(folder / "server", root, token) as address,
        sync_api.sync_playwright() as playwright,
    ):
        desk = Desk(playwright, address, token, root, parameters)
        try:
            yield desk
        finally:
            desk.close()


@pytest.fixture(scope="session")
def seconds() -> float:
    """How long one notebook may take."""
    return 900 if PRESET == "smoke" else 3600


@pytest.fixture(scope="module")
def notebook(request, desk, seconds):
    """The notebook named NOTEBOOK in the test's module, with all its cells run without
    an error.
    """
    with desk.open(request.module.NOTEBOOK) as notebook:
        notebook.run_all(seconds)
        yield notebook


@pytest.fixture(autouse=True)
def nothing_leaves_the_machine(desk):
    """After each test: no request was made to another machine, not even one that was
    refused.
    """
    yield
    assert not desk.outside, f"a request left the machine: {desk.outside[0]}"
