"""Frames of a run: what a frame shows, the live curves, the hardest
pictures.
"""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dkdmpl_kit import viz
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.viz.epochs import fixed_png, map_limits

XY = np.random.default_rng(0).normal(size=(30, 2)) * (3, 1)
BANDS = np.stack([np.arange(30) % 4, np.arange(30) % 4, np.full(30, 3)])


def test_a_frame_shows_chosen_clusters_with_their_letters_and_marks_the_epoch():
    figure = viz.epoch_frame(XY, BANDS, 2, 1, title="Epoch 1", limits=(-9, 9, -5, 5))
    left, right = figure.axes
    assert [text.get_text() for text in left.texts] == ["A", "B"]
    assert left.get_xlim() == (
        -9,
        9,
    )
    sizes = [len(c.get_offsets()) for c in left.collections]
    assert sizes == [7, 7, 8, 8]  # outliers, others, A, B
    # the mark of epoch 1
    assert any(abs(p.get_x() - 0.7) < 1e-6 for p in right.patches)


def test_a_frame_of_some_pictures_takes_their_bands():
    shown = np.array([0, 1, 2, 3, 4, 8])
    figure = viz.epoch_frame(XY[shown], BANDS, 2, 0, map_images=shown)
    assert [len(c.get_offsets()) for c in figure.axes[0].collections] == [1, 1, 3, 1]
    with pytest.raises(KitError, match="lengths differ"):
        viz.epoch_frame(XY, BANDS, 2, 0, map_images=shown)


def test_a_frame_without_a_map_says_why_and_other_colours_are_those_of_the_maps():
    assert "kept no" in viz.epoch_frame(None, BANDS, 2, 0).axes[0].texts[0].get_text()
    kinds = np.where(np.arange(30) < 10, "right", "merged")
    labels = (
        viz.epoch_frame(XY, BANDS, 2, 0, kind="error", colour_by=kinds)
        .axes[0]
        .get_legend_handles_labels()[1]
    )
    assert any("33%" in label for label in labels)
    with pytest.raises(KitError, match="epoch 3 is not among the 3"):
        viz.epoch_frame(XY, BANDS, 2, 3)


def test_frames_are_of_one_size_and_a_strip_has_one_map_a_still():
    sizes = {
        Image.open(
            io.BytesIO(fixed_png(viz.epoch_frame(XY, BANDS, 2, k, title="long " * 9 * k)))
        ).size
        for k in range(3)
    }
    assert len(sizes) == 1
    strip = viz.epoch_strip([XY, XY + 1], BANDS[:2], 2, titles=["one", "two"])
    assert [ax.get_title(loc="left") or ax.get_title() for ax in strip.axes] == ["one", "two"]
    assert (
        strip.axes[0].get_xlim() == strip.axes[1].get_xlim() == map_limits([XY, XY + 1])[:2]
    )
    with pytest.raises(KitError, match="no maps"):
        viz.epoch_strip([], [], 2)


def test_the_titles_of_a_strip_stay_below_its_own():
    tall = XY[:, ::-1] * (1, 1.2)  # maps about as high as wide
    strip = viz.epoch_strip([tall, tall], BANDS[:2], 2, titles=["Epoch 0\na\nb"] * 2)
    strip.draw_without_rendering()
    lowest = strip._suptitle.get_window_extent().y0
    for ax in strip.axes:
        assert ax._left_title.get_window_extent().y1 <= lowest


def test_live_curves_draw_what_is_there_and_say_what_is_not():
    history = [
        {
            "epoch": k,
            "loss": 3.0 - k,
            "n_clusters": 5 + k,
            "outlier_fraction": 0.1,
            "ari": None,
            "mAP": 0.5 if k else None,
            "hard_accuracy": 0.5,
            "teacher_mass": 0.4 + 0.2 * k,
        }
        for k in range(2)
    ]
    axes = viz.live_curves(history, identities=6, why={"ari": "nobody knows"}).axes
    assert axes[0].lines[0].get_ydata().tolist() == [3.0, 2.0]
    assert axes[1].lines[0].get_xdata().tolist() == [1]
    assert axes[2].texts[0].get_text() == "nobody knows"
    assert axes[3].lines[0].get_ydata().tolist() == [5, 6]
    assert axes[3].lines[1].get_ydata()[0] == 6
    # the teacher passes in the second epoch
    np.testing.assert_allclose(axes[5].lines[0].get_ydata(), [-0.1, 0.1])
    assert axes[5].lines[1].get_label() == "break-even"
    assert axes[0].get_xlim() == axes[1].get_xlim()
    assert all(
        "No epoch is done yet." in ax.texts[0].get_text() for ax in viz.live_curves([]).axes
    )


def test_hardest_pictures_are_framed_by_what_became_known():
    pictures = np.zeros((2, 3, 8, 4), np.uint8)
    known = viz.hardest_pictures(pictures, [3, 0], [-0.5, 0.25], ["right", "merged"]).axes[0]
    assert [t.get_text() for t in known.texts] == [
        "cluster 3\n-0.50",
        "✓",
        "cluster 0\n+0.25",
        "✗",
    ]
    unknown = viz.hardest_pictures(pictures, [3, 0], [-0.5, 0.25])
    assert len(unknown.axes[0].patches) == 0
    assert "not known" in unknown.get_supxlabel()
    none = viz.hardest_pictures(pictures[:0], [], []).axes[0]
    assert "No clustered picture" in none.texts[0].get_text()
