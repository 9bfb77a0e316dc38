"""The figure that says which state of an adaptation is kept."""

from __future__ import annotations

import numpy as np

from dkdmpl_kit import viz


def test_the_kept_state_is_ringed_and_the_margin_stands_above_the_start():
    figure = viz.guard_curve(
        [0.4, 0.5, 0.6], [0, 0.05, 0.1], [0, 0.15, 0.3], chosen=2
    )
    (ax,) = figure.axes
    lines = {line.get_label(): line for line in ax.lines}
    assert list(lines["across"].get_ydata()) == [0.4, 0.5, 0.6]
    assert lines["the start"].get_ydata()[0] == 0.4
    ring = lines["kept"]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (2, 0.6)
    band = ax.collections[0].get_paths()[0].vertices
    assert (
        np.isclose(band[:, 1].max(), 0.7) and "epoch 2 is kept" in figure._suptitle.get_text()
    )


def test_another_criterion_has_its_name():
    figure = viz.guard_curve([0.4, 0.5], [0, 0.05], [0, 0.15], chosen=1, criterion="mutual")
    (ax,) = figure.axes
    assert [line.get_label() for line in ax.lines] == ["mutual", "the start", "kept"]
    assert ax.get_ylabel().startswith("mutual")


def test_a_start_alone_is_a_sentence():
    figure = viz.guard_curve([0.4], [0], [0], chosen=0)
    assert "Nothing was trained" in figure.axes[0].texts[0].get_text()


def test_a_criterion_that_follows_the_gain_says_so_and_unknown_values_are_left_out():
    changes = {
        "good": [-0.1, 0.0, 0.1, 0.2],
        "bad": [0.2, 0.1, 0.0, -0.1],
        "unknown": [float("nan")] * 4,
    }
    figure = viz.criteria_against_gain(changes, [-3, -1, 2, 5], ["a", "a", "b", "b"])
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[0] == "good: rank correlation 1.00"
    assert titles[1] == "bad: rank correlation -1.00"
    assert titles[2].startswith("unknown: rank correlation nan")
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    assert all(len(line.get_xdata()) in (0, 2) for ax in figure.axes for line in ax.lines)
