"""Notebook 02 in the lab: the eps slider, and the explorer's map under a real mouse."""

from __future__ import annotations

import re

import pytest

NOTEBOOK = "02_clustering"
# not closed: that would be a click
AROUND = [
    (0.05, 0.05),
    (0.95, 0.05),
    (0.95, 0.95),
    (0.05, 0.95),
    (0.05, 0.2),
]
CONTRAST = """box => {  // of the status line's letters to what lies behind them, as WCAG defines it
    const linear = c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const light = colour => { const [r, g, b] = colour.match(/[0-9.]+/g).map(c => linear(c / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    let behind = box; while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
    const two = [getComputedStyle(box).color, getComputedStyle(behind).backgroundColor].map(light).sort((a, b) => a - b);
    return (two[1] + 0.05) / (two[0] + 0.05); }"""


@pytest.fixture
def explorer(notebook):
    return notebook.bench("dkdmpl-explorer")


def place_of(explorer, picture: int) -> tuple[float, float]:
    """Where on the page a picture's point lies, before any pan or zoom."""
    canvas = explorer.box.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    frame, (x, y) = (
        canvas.bounding_box(),
        explorer.ask(f"one.map.points[{picture}][:2].tolist()"),
    )
    return (
        frame["x"] + frame["width"] / 2 + x * frame["height"] / 2,
        frame["y"] + frame["height"] / 2 * (1 - y),
    )


def test_moving_eps_changes_the_picture_and_the_sentence(notebook):
    assert notebook.bench("dkdmpl-figure").move_all() == {"eps": True}


def test_every_control_of_the_explorer_changes_what_it_shows(explorer):
    assert explorer.move_all() == dict.fromkeys(
        ["eps", "min_samples", "k1", "k2", "colour by", "cluster"], True
    )


def test_another_colouring_repaints_the_map(explorer):
    canvas = explorer.box.locator("canvas").first
    before = canvas.screenshot()
    explorer.box.locator("select").select_option(label="camera")
    explorer.settled()
    assert explorer.ask("one.colour.value") == "camera"
    assert canvas.screenshot() != before
    explorer.box.locator("select").select_option(index=0)


def test_pointing_at_a_point_shows_its_picture_and_a_click_its_cluster(notebook, explorer):
    member = explorer.ask("int(__import__('numpy').flatnonzero(one.labels >= 0)[0])")
    notebook.page.mouse.move(*place_of(explorer, member))
    side = explorer.box.locator(".dkdmpl-explorer-side")
    named = notebook.until(
        lambda: re.search(r"picture (\d+)", side.inner_text()),
        60,
        "the picture under the mouse",
    )
    seen = int(named[1])
    assert (
        explorer.ask(
            f"float(abs(one.map.points[{seen}][:2] - one.map.points[{member}][:2]).max())"
        )
        < 0.02
    )
    assert side.locator("img").get_attribute("src")
    notebook.page.mouse.click(*place_of(explorer, member))
    notebook.until(
        lambda: explorer.ask(
            f"one.view is not None and one.view.cluster == int(one.labels[{seen}])"
        ),
        10,
        "the cluster that was clicked",
    )
    explorer.settled()
    explorer.shot("explorer")


def test_a_lasso_on_the_map_is_read_back_in_python_and_opens_a_gallery(notebook, explorer):
    gallery = explorer.box.locator(".dkdmpl-explorer-gallery")
    before = gallery.get_attribute("src")
    explorer.box.locator("button[title='Activate lasso selection']").click()
    explorer.drag(AROUND, explorer.box.locator("canvas").first)
    notebook.until(
        lambda: explorer.ask("len(one.selected)") > 0.9 * explorer.ask("len(one.xy)"),
        60,
        "the lasso's points",
    )
    notebook.until(
        lambda: gallery.get_attribute("src") != before, 60, "the gallery of the selection"
    )
    assert "selected pictures" in explorer.ask(
        "one.gallery.figure._suptitle.get_text() if one.gallery.figure._suptitle else "
        "' '.join(t.get_text() for t in one.gallery.figure.texts)"
    )


def test_the_dark_theme_leaves_every_sentence_readable(notebook, explorer):
    theme = "async name => { await window.jupyterapp.commands.execute('apputils:change-theme', {theme: name}); }"
    notebook.page.evaluate(theme, "JupyterLab Dark")
    try:
        notebook.until(
            lambda: (
                notebook.page.evaluate("() => document.body.dataset.jpThemeLight") == "false"
            ),
            60,
            "the theme",
        )
        words = explorer.box.locator(".widget-html-content, .widget-label").all()
        contrasts = [one.evaluate(CONTRAST) for one in words if one.inner_text().strip()]
        assert len(contrasts) > 5
        assert min(contrasts) > 4.5
        explorer.shot("dark")
    finally:
        notebook.page.evaluate(theme, "JupyterLab Light")
