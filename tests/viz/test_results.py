"""What methods teach, side by side: the numbers that are drawn, what is marked, and
names that do not overlap.
"""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from dkdmpl_kit import viz
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import METHOD_LABELS

HARD, SOFT = np.eye(5)[1], np.array([0.4, 0.1, 0.3, 0.15, 0.05])


def texts(figure) -> str:
    figure.draw_without_rendering()
    return " ".join(
        " ".join(t.get_text() for t in figure.findobj(matplotlib.text.Text)).split()
    )


def ticks(ax) -> list[str]:
    return [tick.get_text() for tick in ax.get_xticklabels()]


def test_every_target_is_drawn_over_the_same_clusters_and_its_rest_summed():
    hard, soft = viz.label_targets({"one": HARD, "two": SOFT}, 1, top=3).axes
    assert ticks(hard) == ticks(soft) == ["1", "0", "2", "others"]
    assert [hard.get_title(loc="left"), soft.get_title(loc="left")] == ["one", "two"]
    np.testing.assert_allclose([bar.get_height() for bar in hard.patches[:4]], [1, 0, 0, 0])
    np.testing.assert_allclose(
        [bar.get_height() for bar in soft.patches[:4]], [0.1, 0.4, 0.3, 0.2]
    )


def test_the_hard_label_is_framed_and_the_true_cluster_starred_even_where_nobody_likes_it():
    figure = viz.label_targets(
        {"two": SOFT}, 1, truth=4, top=2, picture=np.zeros((3, 8, 4), np.uint8)
    )
    ax = figure.axes[1]
    assert ticks(ax) == ["1", "4*", "others"]
    (frame,) = (bar for bar in ax.patches if not bar.get_fill())
    assert frame.get_x() + frame.get_width() / 2 == pytest.approx(0)
    assert "Star" in texts(figure)
    outlier = viz.label_targets({"two": SOFT}, -1)
    assert all(bar.get_fill() for bar in outlier.axes[0].patches)
    assert "Star" not in texts(outlier)


def test_a_panel_takes_the_colour_that_is_given_for_it_and_is_blue_otherwise():
    panels = viz.label_targets({"e": SOFT, "x": SOFT}, 1, colours={"e": "#E69F00"}).axes
    colours = [matplotlib.colors.to_hex(ax.patches[0].get_facecolor()) for ax in panels]
    assert colours == ["#e69f00", viz.PALETTE["blue"].lower()]


def test_targets_that_are_missing_or_differ_in_length_are_one_sentence():
    with pytest.raises(KitError, match="no target given"):
        viz.label_targets({}, 0)
    with pytest.raises(KitError, match="lengths differ"):
        viz.label_targets({"one": HARD, "two": SOFT[:4]}, 0)


def test_a_table_of_cosines_shows_each_number_in_its_place_and_none_for_nan():
    figure = viz.cosine_table(
        [[1, -0.25], [np.nan, 0.5], [-0.001, -1]], ["a", "b", "c"], ["x", "y"]
    )
    ax = figure.axes[0]
    found = {t.get_position(): t.get_text() for t in ax.texts}
    assert found == {
        (0, 0): "1.00",
        (1, 0): "-0.25",
        (0, 1): "none",
        (1, 1): "0.50",
        (0, 2): "0.00",
        (1, 2): "-1.00",
    }
    assert ticks(ax) == ["x", "y"]
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "a",
        "b",
        "c",
    ]
    assert ax.images[0].get_clim() == (-1, 1)
    with pytest.raises(KitError, match="do not fit 1 rows and 2 columns"):
        viz.cosine_table([[1], [0]], ["a"], ["x", "y"])


def test_the_names_of_many_methods_do_not_overlap_under_their_bars():
    rows = {name: [0.5, 0.6, 0.7] for name in METHOD_LABELS}
    figure = viz.result_bars(rows)
    figure.draw_without_rendering()
    boxes = [tick.get_window_extent() for tick in figure.axes[0].get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in zip(boxes, boxes[1:]))
