"""The pictures of noise: what stands in them, and what they say where nothing can be
drawn.
"""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from dkdmpl_kit import viz
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.noise import MassBalance


def texts(figure) -> str:
    figure.draw_without_rendering()
    return " ".join(
        " ".join(t.get_text() for t in figure.findobj(matplotlib.text.Text)).split()
    )


def test_the_map_of_cameras_shows_rates_and_the_pairs_behind_them():
    figure = viz.camera_error_maps(
        [0, 1], [[1, 2], [2, 0]], [[2, 8], [8, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]
    )
    shown = figure.axes[0].images[0].get_array()
    assert shown[0, 1] == 0.25
    assert shown[0, 0] == 0.5
    assert np.ma.getmaskarray(np.ma.masked_invalid(shown))[1, 1]
    words = texts(figure)
    assert "25% of 8" in words
    assert "no pair" in words
    assert "No such pairs." in words
    with pytest.raises(KitError, match="cameras"):
        viz.camera_error_maps([0], *[np.ones((2, 2))] * 4)


def test_rates_within_and_between_cameras_are_bars_with_a_dot_a_pair_of_cameras():
    merged = np.array([[1, 2, 0], [2, 3, 0], [0, 0, 0]])
    together = np.array([[2, 8, 0], [8, 8, 0], [0, 0, 0]])
    none = np.zeros((3, 3), int)
    figure = viz.camera_error_rates([1, 2, 3], merged, together, none, none)
    ax = figure.axes[0]
    assert [bar.get_height() for bar in ax.patches] == [40, 25]
    assert [dots.get_offsets()[:, 1].tolist() for dots in ax.collections] == [
        [50, 37.5],
        [25],
    ]
    words = texts(figure)
    assert "40 % of 10" in words
    assert "25 % of 8" in words
    assert "No such pairs." in words
    apart = np.array([[0, 4], [4, 0]])  # no cluster holds two pictures of one camera
    ax = viz.camera_error_rates([1, 2], apart // 4, apart, apart, apart).axes[0]
    assert [dots.get_offsets()[:, 1].tolist() for dots in ax.collections] == [[], [25]]
    assert any("no pair" in text.get_text() for text in ax.texts)
    with pytest.raises(KitError, match="fit 1 cameras"):
        viz.camera_error_rates([0], *[np.ones((2, 2))] * 4)


def test_what_views_bring_and_take_is_drawn_from_zero_with_the_difference():
    found = MassBalance(gained=0.3, lost=0.1, margin=0.2, low=0.1, high=0.25)
    figure = viz.mass_balance_bars({"e": found, "q": found})
    ax = figure.axes[0]
    assert [bar.get_width() for bar in ax.patches] == [-0.1, 0.3, -0.1, 0.3]
    assert [line.get_xdata().tolist() for line in ax.lines[:2]] == [[0.2], [0.2]]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["e", "q"]
    assert "taken where the label is right" in texts(figure)
    assert "No view" in texts(viz.mass_balance_bars({}))


def test_changes_are_drawn_per_epoch():
    names = "births deaths splits merges flips became_outliers stopped_outliers".split()
    table = {
        "epoch": np.array([1, 2]),
        **{name: np.array([i, i + 1]) for i, name in enumerate(names)},
    }
    figure = viz.change_curves(table)
    assert [line.get_ydata().tolist() for ax in figure.axes for line in ax.lines] == [
        [i, i + 1] for i in range(7)
    ]
    assert "stopped outliers" in texts(figure)
    assert "No two epochs" in texts(viz.change_curves({name: [] for name in table}))


def test_suspicion_curves_are_drawn_as_given_or_say_why_not():
    curve = ([0, 0.25, 0.5, 1], [0, 0.5, 0.5, 1])
    figure = viz.suspicion_curves({"score": curve, "other": None}, aurocs={"score": 0.625})
    line = figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == curve[0]
    assert line.get_ydata().tolist() == curve[1]
    assert "score (AUROC 0.62)" in texts(figure)
    assert "not known" in texts(viz.suspicion_curves(None))
    assert "No label is wrong" in texts(viz.suspicion_curves({"score": None}))
    with pytest.raises(KitError, match="lengths differ"):
        viz.suspicion_curves({"score": ([0, 1], [0])})


def test_panels_of_noise_show_each_kind_with_its_gains_around_zero():
    curves = {
        "symmetric": {
            "cluster_contrast": ([0, 0.3], [[0.8, 0.6], [0.6, 0.6]]),
            "gkd": ([0, 0.3], [[0.7, 0.5]] * 2),
        },
        "camera_split": {"gkd": ([0], [[0.7], [0.7]])},
    }
    gains = [
        {"method": "gkd", "kind": "symmetric", "rate": 0.3, "mean": -0.1, "half": 0.02},
        {"method": "gkd", "kind": "none", "rate": 0.0, "mean": 0.01, "half": None},
    ]
    figure = viz.noise_panels(curves, gains)
    top, other, bottom, last = figure.axes
    assert top.containers[0].lines[0].get_ydata().tolist() == pytest.approx([70, 60])
    line = bottom.containers[0].lines
    assert line[0].get_xdata().tolist() == [0, 0.3]
    assert line[0].get_ydata().tolist() == pytest.approx([1, -10])
    assert line[2][0].get_segments()[1][:, 1] == pytest.approx([-12, -8])
    # no noise belongs to every kind
    assert last.containers[0].lines[0].get_ydata().tolist() == pytest.approx([1])
    assert bottom.lines[0].get_ydata() == [0, 0]
    assert "camera split noise" in texts(figure)
    assert "No results" in texts(viz.noise_panels({}, []))


def test_panels_of_noise_draw_means_and_deviations_over_what_was_measured():
    figure = viz.noise_panels(
        {
            "symmetric": {
                "dkdmpl": ([0, 0.3, 0.6], [[0.8, 0.6, np.nan], [0.6, 0.6, np.nan]]),
                "gkd": ([0, 0.3, 0.6], [0.7, 0.5, 0.1]),
            }
        },
        [],
    )
    first, second = figure.axes[0].containers
    assert first.lines[0].get_ydata().tolist() == pytest.approx([70, 60])
    ends = first.lines[2][0].get_segments()
    assert ends[0][:, 1] == pytest.approx(70 + np.array([-1, 1]) * np.std([80, 60], ddof=1))
    assert second.lines[0].get_xdata().tolist() == [0, 0.3, 0.6]
    assert "DKD-MPL (2 seeds)" in texts(figure)
    assert "+ GKD (1 seed)" in texts(figure)
    assert viz.figure_png(figure).startswith(b"\x89PNG")


def test_margins_and_gains_stand_in_four_quarters_with_those_shaded_where_signs_agree():
    figure = viz.margin_gain(
        {"first": [("symmetric", 0.2, 0.01), ("none", -0.1, -0.02)], "last": []}
    )
    ax = figure.axes[0]
    assert [
        (line.get_xdata().tolist(), line.get_ydata().tolist()) for line in ax.lines[:2]
    ] == [([0.2], [1]), ([-0.1], [-2])]
    corners = [path.get_extents() for area in ax.collections for path in area.get_paths()]
    assert all((box.x0 >= 0) == (box.y0 >= 0) for box in corners)
    assert len(corners) == 2
    words = texts(figure)
    assert "after the first epoch" in words
    assert "no noise" in words
    assert "No pairs" in words


def test_reliability_stands_bin_by_bin_with_larger_dots_for_more_pictures():
    figure = viz.reliability_diagrams(
        {"e": ([0.2, 0.9], [0.1, 0.8], [1, 3]), "other": ([0.5], [0.5], [4])},
        errors={"e": 0.1},
    )
    ax = figure.axes[0]
    dots = ax.collections[-1]
    assert dots.get_offsets().tolist() == [[0.2, 0.1], [0.9, 0.8]]
    assert dots.get_sizes()[1] > dots.get_sizes()[0]
    assert ax.collections[0].get_segments()[1].tolist() == [[0.9, 0.9], [0.9, 0.8]]
    words = texts(figure)
    assert "epoch view (teacher) ECE 0.10" in words
    assert words.count("ECE") == 1
    assert "other" in words
    assert "No views" in texts(viz.reliability_diagrams({}))
    with pytest.raises(KitError, match="lengths differ"):
        viz.reliability_diagrams({"e": ([0.2], [0.1, 0.8], [1, 3])})


def test_the_pictures_of_noise_have_names_for_those_who_import_viz():
    for name in (
        "camera_error_maps",
        "change_curves",
        "margin_gain",
        "noise_panels",
        "reliability_diagrams",
        "suspicion_curves",
    ):
        assert name in viz.__all__


def test_two_bars_a_teacher_show_what_it_repairs_and_what_it_spoils():
    figure = viz.repaired_and_spoilt({"sample": (0.01, 0.02), "vote": (0.06, 0.03)})
    ax = figure.axes[0]
    repaired, spoilt = ax.containers
    assert [bar.get_width() for bar in repaired] == [0.01, 0.06]
    assert [bar.get_width() for bar in spoilt] == [0.02, 0.03]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["sample", "vote"]
    assert repaired[0].get_y() < spoilt[0].get_y() < repaired[1].get_y()
    assert ax.yaxis_inverted(), "the first teacher on top"
    assert "repaired: η e_w" in texts(figure)
    assert "No teachers" in texts(viz.repaired_and_spoilt({}))
    assert viz.repaired_and_spoilt({"x": (0.0, 0.0)}).axes[0].get_xlim()[1] > 0
