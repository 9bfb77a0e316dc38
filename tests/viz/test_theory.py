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


def test_the_slack_shows_each_cluster_with_a_variance_as_its_bound_and_its_loss():
    chain = {"loss": 6.0, "pinsker": 3.0, "sharp": 2.0, "stated": 1.0}
    calm = {"loss": 0.0, "pinsker": 0.0, "sharp": 0.0, "stated": 0.0}
    figure = viz.bound_slack({"real": [chain, chain, calm], "random": [calm]})
    (ax,) = figure.axes
    np.testing.assert_allclose(
        lines_named(ax, "real labels (2 clusters)").get_xydata(), [[2, 6], [2, 6]]
    )
    line = lines_named(ax, "loss = bound").get_xydata()
    np.testing.assert_allclose(line[:, 0], line[:, 1])
    assert "random" not in texts(figure)
    assert "labels agree" in texts(viz.bound_slack({"real": [calm]}))


def test_the_gains_stand_a_panel_a_ruler_with_zero_and_the_weight_in_sight():
    gains = {"sure": np.array([[0.1, 0.2, 0.3], [0.2, 0.1, 0.4]])}
    figure = viz.ruler_gains(
        [0.1, 1.0], gains, errors={"sure": np.full((2, 3), 0.05)}, used=0.3
    )
    assert len(figure.axes) == 3
    for k, ax in enumerate(figure.axes):
        np.testing.assert_allclose(lines_named(ax, "sure").get_ydata(), gains["sure"][:, k])
        assert lines_named(ax, "λ_g in use").get_xdata()[0] == 0.3
        low, high = ax.get_ylim()
        assert low < 0 < high
        band = next(c for c in ax.collections if len(c.get_paths()[0].vertices) > 4)
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.min() == pytest.approx(gains["sure"][:, k].min() - 0.1)
    assert "label smoothing" in figure.axes[2].get_title(loc="left")
    with pytest.raises(KitError):
        viz.ruler_gains([0.1, 1.0, 2.0], gains)


def test_without_its_square_the_gradient_falls_by_that_square():
    figure = viz.limit_curves(
        [1.0, 10.0], [2.0, 4.0], 4.0, {"real": ([1.0, 0.1], [2.0, 0.2])}, used=2.0
    )
    left, right = figure.axes
    np.testing.assert_allclose(lines_named(left, "without T²").get_ydata(), [2.0, 0.04])
    np.testing.assert_allclose(lines_named(right, "real: bound").get_ydata(), [2.0, 0.2])
    assert {lines_named(ax, "T in use").get_xdata()[0] for ax in (left, right)} == {2.0}
    with pytest.raises(KitError):
        viz.limit_curves([1.0, 10.0], [2.0], 4.0, {})
