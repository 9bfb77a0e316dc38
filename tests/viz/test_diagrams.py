"""The diagram of the loop: what must be readable in it."""

from __future__ import annotations

import numpy as np
import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.viz import VIEW_COLOURS, figure_png, loop_diagram


def _texts(figure) -> str:
    return " ".join(text.get_text() for text in figure.axes[0].texts)


def test_the_loop_names_its_four_steps_in_order_and_the_way_back():
    words = _texts(loop_diagram())
    places = [
        words.index(step)
        for step in ("1  extract", "2  cluster", "3  remember", "4  train", "next epoch")
    ]
    assert places == sorted(places)


def test_the_views_of_a_label_have_the_colours_of_all_other_pictures():
    edges = {
        tuple(np.round(patch.get_edgecolor()[:3], 2))
        for patch in loop_diagram().axes[0].patches
    }
    for view in ("hard", "e", "q", "a"):
        colour = VIEW_COLOURS[view].lstrip("#")
        assert (
            tuple(np.round([int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)], 2)) in edges
        )


def test_at_most_four_thumbnails_are_drawn_and_the_figure_renders():
    figure = loop_diagram(np.zeros((6, 3, 16, 8), np.uint8))
    assert len(figure.axes[0].images) == 4
    assert figure_png(figure).startswith(b"\x89PNG")


def test_pictures_of_another_type_are_a_clear_error():
    with pytest.raises(KitError, match="uint8"):
        loop_diagram(np.zeros((2, 3, 16, 8), np.float32))


def test_the_loop_carries_the_loss_and_the_label_of_one_real_picture():
    picture = np.zeros((3, 16, 8), np.uint8)
    views = {"e": [0.1, 0.6, 0.3], "q": [0.7, 0.2, 0.1]}
    figure = loop_diagram(picture=picture, hard=0, views=views, notes={1: "its own"})
    assert "L_{GKD}" in _texts(figure)
    assert "L_{GKD}" in _texts(loop_diagram())
    bars = figure.axes[2]
    heights = [round(patch.get_height(), 2) for patch in bars.patches]
    assert heights == [0.1, 0.6, 0.3, 0.7, 0.2, 0.1, 1.0]
    assert [label.get_text() for label in bars.get_xticklabels()] == ["0", "1\nits own", "2"]
    with pytest.raises(KitError, match="does not fit"):
        loop_diagram(picture=picture, hard=5, views=views)
