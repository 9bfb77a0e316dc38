from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from dkdmpl_kit import viz
from dkdmpl_kit.errors import KitError

THRESHOLDS = np.linspace(-1, 1, 9)
FPR = np.array([1, 1, 0.9, 0.5, 0.1, 0.01, 0.001, 0, 0])
TPR = np.array([1, 1, 1, 1, 0.9, 0.8, 0.5, 0.1, 0])


def words(figure) -> str:
    figure.draw_without_rendering()
    found = figure.findobj(matplotlib.text.Text)
    return " ".join(" ".join(text.get_text() for text in found).split())


def test_the_chosen_threshold_is_marked_with_its_rates():
    resampled = np.stack([FPR * 0.8, FPR * 1.2])
    figure = viz.match_rates(
        THRESHOLDS, FPR, TPR, resampled=resampled, chosen=0.25, labels="true identities"
    )
    said = words(figure)
    assert "similarity 0.250: 0.01 of strangers, 80% of true matches" in said
    assert "Identities: true identities. Band: 95% of resampled identities." in said
    left, right = figure.axes
    assert [line.get_label() for line in left.lines][2] == "chosen"
    np.testing.assert_allclose(right.lines[0].get_xdata(), FPR[:7])
    np.testing.assert_allclose(right.lines[1].get_xydata(), [[0.01, 0.8]])
    assert viz.figure_png(figure).startswith(b"\x89PNG")


def test_without_true_matches_only_strangers_are_drawn():
    figure = viz.match_rates(THRESHOLDS, FPR, np.full(9, np.nan), chosen=0.25)
    assert "true matches" not in figure.get_suptitle()
    assert not len(figure.axes[1].lines[0].get_xdata())
    assert viz.figure_png(figure).startswith(b"\x89PNG")


def test_lengths_that_differ_are_refused():
    with pytest.raises(KitError, match="lengths differ"):
        viz.match_rates(THRESHOLDS, FPR[:3], TPR)
