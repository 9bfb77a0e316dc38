"""Pictures of wrong pairs: what stands in them, and what they say where nothing can be
drawn.
"""

from __future__ import annotations

import numpy as np
import pytest

from dkdmpl_kit import viz
from dkdmpl_kit.errors import KitError

NAN = float("nan")
TABLE = {
    "cause": ["same camera", "same view", "none of these"],
    "pairs": [30, 20, 10],
    "holds": [0.75, 0.5, 0.25],
    "clear": [True, False, False],
    "explains": [0.51, 0.2, 0.49],
    "from": [0.3, 0.0, NAN],
    "to": [0.7, 0.45, NAN],
    "odds_ratio": [3.14, 17983.0, NAN],
    "low": [2.0, 0.9, NAN],
    "high": [28.4, NAN, NAN],
}


def words(figure):
    return [text.get_text().replace("\n", " ") for ax in figure.axes for text in ax.texts]


def test_a_cause_has_a_bar_for_where_it_is_true_and_one_for_what_it_explains():
    figure = viz.pair_cause_bars(TABLE, kind="split", note="few")
    ax = figure.axes[0]
    assert [bar.get_width() for bar in ax.patches] == [75, 50, 51, 0, 49]
    assert [list(line.get_xdata()) for line in ax.lines] == [[30, 70], [0, 45]]
    assert words(figure) == [
        "explains 51% (30 to 70%), odds ×3.1",
        "undecided (0 to 45%), odds ×100 or more",
        "49% left",
    ]
    assert figure.get_supxlabel() == "few"
    plain = viz.pair_cause_bars(TABLE, kind="split")
    assert "need not add up" in plain.get_supxlabel()
    assert "one identity in two clusters" in figure.get_suptitle()


def test_a_cause_that_nearly_all_pairs_have_explains_nothing_and_says_why():
    everywhere = TABLE | {"low": [2.0, 1.5, NAN]}
    figure = viz.pair_cause_bars(everywhere, kind="split")
    assert words(figure)[1] == "nearly all pairs have it, odds ×100 or more"
    assert [list(line.get_xdata()) for line in figure.axes[0].lines] == [[30, 70]]


def test_without_wrong_pairs_or_known_causes_the_bars_say_so():
    nothing = {name: [0] if name == "pairs" else [NAN] for name in TABLE}
    assert words(viz.pair_cause_bars(nothing, kind="merged")) == [
        "No pair is wrongly merged."
    ]
    last = {name: column[-1:] for name, column in TABLE.items()} | {"explains": [1.0]}
    assert words(viz.pair_cause_bars(last, kind="merged")) == ["100% left"]


def test_the_map_of_factors_has_a_cell_a_factor_and_kind_and_says_where_one_is_missing():
    figure = viz.factor_map(
        {
            "merged": (["a", "b"], [2.0, 20.0], [0.5, 0.6], [0.3, 0.1]),
            "split": (["b"], [0.5], [0.2], [0.4]),
        }
    )
    drawn = figure.axes[0].images[0].get_array()
    assert drawn[0, 0] == 2
    assert drawn[1, 1] == 0.5
    assert np.isnan(np.ma.filled(drawn, np.nan)[0, 1])
    assert "odds ×20 60% of wrong, 10% of right pairs" in words(figure)
    assert "the same in all pairs" in words(figure)
    assert words(viz.factor_map({})) == ["No factor differs between wrong and right pairs."]


def test_pairs_stand_side_by_side_six_in_a_row_with_captions():
    first, second = np.full((2, 8, 3, 10, 5), 7, np.uint8)
    second[:] = 9
    figure = viz.pair_pictures(first, second, [f"pair {k}" for k in range(8)], kind="merged")
    assert len(figure.axes) == 2
    assert words(figure) == [f"pair {k}" for k in range(8)]
    canvas = figure.axes[0].images[0].get_array()
    top, left = np.argwhere((canvas == 7).all(axis=2))[0]
    assert (canvas[top, left : left + 5] == 7).all()
    assert (canvas[top, left + 5 : left + 10] == 9).all()
    assert words(viz.pair_pictures(first[:0], second[:0])) == [
        "There is no such pair to show."
    ]
    with pytest.raises(KitError, match="1 captions for 8 pairs"):
        viz.pair_pictures(first, second, ["one"])


def test_the_response_to_noise_draws_agreement_and_odds_and_leaves_out_what_is_not_known():
    table = {
        "rate": np.array([0, 0.5]),
        "ari": np.array([1, 0.4]),
        "pair_precision": np.array([1, NAN]),
        "pair_recall": np.array([NAN, NAN]),
        "same camera": np.array([NAN, 8.0]),
    }
    left, right = viz.noise_response_curves(
        table, noise="camera_split", kind="split", mark=0.5
    ).axes
    assert [line.get_label() for line in left.lines] == [
        "ARI",
        "pair precision",
        "the slider",
    ]
    low, high = right.get_ylim()
    assert right.get_yscale() == "log"
    assert right.lines[0].get_ydata()[1] == 8
    assert low < 1 < 8 <= high
    alone = viz.noise_response_curves(
        {k: v for k, v in table.items() if k != "same camera"}, noise="outlier"
    )
    assert "nothing known that may cause them" in " ".join(words(alone))
