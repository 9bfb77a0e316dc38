"""The alluvial picture: what is drawn is what the labels say."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from dkdmpl_kit import viz
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.viz.flows import letter
from dkdmpl_kit.viz.style import CYCLE, PALETTE

# two chosen clusters (0, 1), the others (2), outliers (3): 0 splits, 1 is born in
# epoch 1 and dies after it
BANDS = np.array([[0, 0, 0, 0, 2, 3, 2], [0, 0, 1, 1, 1, 3, 2], [0, 0, 2, 3, 3, 3, 2]])


def height(strip):
    """Of a strip where it begins: the upper edge above the lower one."""
    return strip.vertices[:, 1].max() - strip.vertices[:, 1].min()


def strips(figure):
    return [c for c in figure.axes[0].collections if isinstance(c, PolyCollection)]


def test_a_column_is_as_high_as_the_pictures_in_its_bands_and_only_passing_ones_are_drawn():
    figure = viz.alluvial(BANDS, 2)
    bars = {
        (
            round(b.get_x() + b.get_width() / 2),
            b.get_facecolor(),
            b.get_hatch(),
        ): b.get_height()
        for b in figure.axes[0].patches
        if b.get_height()
    }
    by_epoch = [sum(h for (k, *_), h in bars.items() if k == epoch) for epoch in range(3)]
    # of 7 pictures two never pass through a chosen cluster
    assert by_epoch == [5, 5, 5]
    blue = [
        h
        for (k, colour, _), h in bars.items()
        if np.allclose(colour, matplotlib_colour(CYCLE[0]))
    ]
    assert blue == [4, 2, 2]
    assert sorted(h for (_, _, hatch), h in bars.items() if hatch) == [2]
    assert "5 of 7 pictures" in figure.get_supxlabel().replace("\n", " ")


def matplotlib_colour(name):
    from matplotlib.colors import to_rgba

    return to_rgba(name)


def test_ribbons_carry_the_counts_in_the_colour_of_where_they_come_from():
    figure = viz.alluvial(BANDS, 2)
    first = strips(figure)[:4]  # of the first step, one collection a band that sends
    assert np.allclose(first[0].get_facecolor()[0, :3], matplotlib_colour(CYCLE[0])[:3])
    ends = [
        (round(path.vertices[0, 1] - path.vertices[31, 1], 6))
        for path in first[0].get_paths()
    ]
    assert sorted(abs(end) for end in ends) == [2, 2]  # cluster A splits in halves
    assert len(first[1].get_paths()) == 0
    assert len(first[2].get_paths()) == 1
    assert np.allclose(
        first[2].get_facecolor()[0, :3], matplotlib_colour(PALETTE["light"])[:3]
    )


def test_births_deaths_and_letters_are_written():
    texts = [text.get_text() for text in viz.alluvial(BANDS, 2).axes[0].texts]
    assert texts == ["A", "+ B", "×"]
    assert [letter(place) for place in (0, 25, 26)] == ["A", "Z", "A1"]


def test_the_epoch_in_hand_is_marked():
    assert (
        len(viz.alluvial(BANDS, 2, now=1).axes[0].patches)
        == len(viz.alluvial(BANDS, 2).axes[0].patches) + 1
    )


@pytest.mark.parametrize(
    "bands, n_chosen", [(np.ones((2, 5), int), 0), (np.full((1, 5), 3), 2)]
)
def test_without_clusters_a_sentence_stands_there(bands, n_chosen):
    axes = viz.alluvial(bands, n_chosen).axes[0]
    assert "No cluster to show" in axes.texts[0].get_text().replace("\n", " ")


def test_one_epoch_is_one_column():
    axes = viz.alluvial(BANDS[:1], 2).axes[0]
    assert not strips(axes.figure)
    assert axes.get_xlim() == (-0.5, 0.5)


def test_bands_that_do_not_fit_are_refused():
    with pytest.raises(KitError, match="from 0 to 3"):
        viz.alluvial(BANDS + 1, 2)
    with pytest.raises(KitError, match="epochs, pictures"):
        viz.alluvial(BANDS[0], 2)
