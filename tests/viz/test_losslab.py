"""The bench of one label: what it refuses, and what it says in its title."""

from __future__ import annotations

import numpy as np
import pytest

from dkdmpl_kit import viz
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.losses.theory import label_case

LOGITS = np.array([[2.0, 0, 0], [0, 3, 0], [0, 0, 4]])


def drawn(query=0, teacher=0, anchor=0, label=0, **options):
    case = label_case(LOGITS[query], label, LOGITS[teacher], LOGITS[anchor])
    return viz.loss_lab(
        case.hard, case.views, case.losses, case.total, case.gradient, **options
    )


def test_the_title_tells_agreement_and_who_prefers_what():
    assert "All views name cluster 0" in drawn().get_suptitle()
    assert (
        drawn(1, 2, 1)
        .get_suptitle()
        .startswith("Hard label 0; e prefers 2, q prefers 1, a prefers 1; the target 0")
    )
    assert "outlier" in drawn(label=-1).get_suptitle()


def test_few_clusters_stand_in_their_order_and_the_hard_label_is_outlined():
    ax = drawn(label=2).axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1", "2"]
    outline = [bar for bar in ax.patches if not bar.get_fill() and bar.get_height() == 1]
    assert len(outline) == 1
    assert outline[0].get_x() + outline[0].get_width() / 2 == pytest.approx(2)


def test_an_arrow_that_leaves_the_unit_range_stays_in_the_picture():
    case = label_case(LOGITS[0] * 5, 1, LOGITS[1], None, temperature=20.0, gkd_weight=3.0)
    ax = viz.loss_lab(case.hard, case.views, case.losses, case.total, case.gradient).axes[0]
    ends = [a.xy[1] for a in ax.texts if getattr(a, "arrow_patch", None)]
    low, high = ax.get_ylim()
    assert max(ends) > 1
    assert low <= min(ends)
    assert max(ends) <= high


def test_the_number_at_an_arrow_is_how_far_it_goes():
    case = label_case(LOGITS[0], 1, LOGITS[1], None, temperature=1.0, gkd_weight=1.0)
    ax = viz.loss_lab(case.hard, case.views, case.losses, case.total, case.gradient).axes[0]
    arrows = [text for text in ax.texts if getattr(text, "arrow_patch", None)]
    moves = [f"{arrow.xy[1] - arrow.xyann[1]:+.2f}" for arrow in arrows]
    numbers = [text.get_text() for text in ax.texts if text not in arrows and text.get_text()]
    assert moves and numbers[: len(moves)] == moves


def test_views_without_q_or_of_one_cluster_are_refused():
    with pytest.raises(KitError, match="q among them"):
        viz.loss_lab(0, {"e": [0.5, 0.5]}, {}, None, None)
    with pytest.raises(KitError, match="two clusters"):
        viz.loss_lab(0, {"q": [1.0]}, {}, None, None)
