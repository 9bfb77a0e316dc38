"""The pictures of the propositions: what stands where, and what they say where there is
nothing to draw.
"""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from dkdmpl_kit import viz
from dkdmpl_kit.errors import KitError


def texts(figure) -> str:
    figure.draw_without_rendering()
    return " ".join(
        " ".join(t.get_text() for t in figure.findobj(matplotlib.text.Text)).split()
    )


def lines_named(ax, name: str):
    return next(line for line in ax.get_lines() if line.get_label() == name)


def test_certain_labels_are_the_corners_and_the_even_label_the_middle_of_the_triangle():
    path = np.array([[1.0, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0, 0, 1]])
    figure = viz.label_triangle({"one": ({"hard": [0, 1, 0]}, path)})
    way, start, end, hard = figure.axes[0].get_lines()
    np.testing.assert_allclose(
        way.get_xydata(), [[0, 0], [0.5, np.sqrt(0.75) / 3], [0.5, np.sqrt(0.75)]], atol=1e-12
    )
    np.testing.assert_allclose(
        np.vstack([start.get_xydata(), end.get_xydata()]), way.get_xydata()[[0, 2]]
    )
    np.testing.assert_allclose(hard.get_xydata(), [[1, 0]])
    assert "hard label" in texts(figure)


def test_a_triangle_asks_for_labels_of_three_clusters():
    for label in ([0.5, 0.5], [0.9, 0.9, 0.9]):
        with pytest.raises(KitError, match="three probabilities"):
            viz.label_triangle({"one": ({"e": label}, None)})


def test_the_break_even_line_goes_through_the_hard_label_and_solves_the_equation():
    ax = viz.break_even_map(
        0.25, {"teacher": ([0.9, 0.8], [0.1, 0.2])}, marks={"hard": (1, 0)}
    ).axes[0]
    e_c, e_w = lines_named(ax, "break-even at η = 0.25").get_data()
    np.testing.assert_allclose(0.25 * e_w, 0.75 * (1 - e_c), atol=1e-12)
    assert (e_c[-1], e_w[-1]) == (1, 0)
    assert e_w.max() <= 1
    np.testing.assert_allclose(
        lines_named(ax, "teacher").get_xydata(), [[0.9, 0.1], [0.8, 0.2]]
    )


@pytest.mark.parametrize("eta", (0.0, 1.0))
def test_without_right_or_without_wrong_labels_there_is_no_line(eta):
    figure = viz.break_even_map(eta, {})
    assert "no line to draw" in texts(figure)
    assert not figure.axes[0].get_lines()


def test_the_slack_counts_every_cluster_with_a_variance_and_splits_it_into_two_factors():
    chain = {"loss": 6.0, "pinsker": 3.0, "sharp": 2.0, "stated": 1.0}
    calm = {"loss": 0.0, "pinsker": 0.0, "sharp": 0.0, "stated": 0.0}
    figure = viz.bound_slack({"real": [chain, chain, calm]})
    left, right = figure.axes
    assert sum(bar.get_height() for bar in left.patches) == pytest.approx(100)
    assert "real (2)" in texts(figure)
    np.testing.assert_allclose(lines_named(right, "real").get_xydata(), [[2, 3], [2, 3]])
    assert "labels agree" in texts(viz.bound_slack({"real": [calm]}))


def test_without_its_square_the_gradient_falls_by_that_square():
    figure = viz.limit_curves(
        [1.0, 10.0], [2.0, 4.0], 4.0, {"real": ([1.0, 0.1], [2.0, 0.2])}
    )
    left, right = figure.axes
    np.testing.assert_allclose(lines_named(left, "without T²").get_ydata(), [2.0, 0.04])
    np.testing.assert_allclose(lines_named(right, "real: bound").get_ydata(), [2.0, 0.2])
    with pytest.raises(KitError):
        viz.limit_curves([1.0, 10.0], [2.0], 4.0, {})
