"""LossLab: what it prints are the kit's losses, what it draws is autograd's gradient,
and every control moves both.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.lab import LossLab
from dkdmpl_kit.losses import cluster_contrast_loss, dkdmpl_loss, gkd_loss, skd_loss

RNG = np.random.default_rng(0)
QUERY, TEACHER, ANCHOR = 0.08 * RNG.normal(size=(3, 6, 9))
LABELS = np.array([0, 1, 2, 8, -1, 5])
ANCHOR[5] = np.nan
PICTURES = RNG.integers(0, 255, (6, 3, 16, 8)).astype(np.uint8)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Figures are made and looked into, but rendered to pixels in the last test alone:
    it takes most of the time.
    """
    monkeypatch.setattr(
        "dkdmpl_kit.lessons.lab.panel.figure_png", lambda figure: b"not rendered"
    )


def lab(**options):
    return LossLab(
        QUERY,
        TEACHER,
        ANCHOR,
        LABELS,
        **{"pictures": PICTURES, "anchor_pictures": PICTURES[::-1], **options},
    )


def move(panel, **values):
    for name, value in values.items():
        panel.controls[name].value = value
        panel.check()
    return panel


def arrows(panel):
    """(from, to) heights of the arrows on the bars."""
    return [
        (a.xyann[1], a.xy[1])
        for a in bars(panel).texts
        if hasattr(a, "arrow_patch") and a.arrow_patch is not None
    ]


def bars(panel):
    return panel.figure.axes[-2]


def heights(panel, view):
    order = list(panel.case.views)
    return np.array([bar.get_height() for bar in bars(panel).containers[order.index(view)]])


def expected(i, *, tau=0.05, tau_t=0.05, T=1.0, lambda_g=0.5, lambda_s=0.5, divergence="kl"):
    """(losses by name, total, gradient (K,)) of picture i, from the kit's losses on the
    same logits.
    """
    query, teacher, anchor = (
        torch.from_numpy(x[i : i + 1]) / t
        for x, t in ((QUERY, tau), (TEACHER, tau_t), (ANCHOR, tau))
    )
    leaf, y = query.clone().requires_grad_(), torch.from_numpy(LABELS[i : i + 1])
    total = dkdmpl_loss(
        leaf,
        y,
        teacher_logits=teacher,
        anchor_logits=anchor,
        gkd_weight=lambda_g,
        skd_weight=lambda_s,
        temperature=T,
        divergence=divergence,
    ).total
    (gradient,) = torch.autograd.grad(total, leaf)
    return (
        {
            "L_CC": float(cluster_contrast_loss(query, y)),
            "L_GKD": float(gkd_loss(query, teacher, temperature=T)),
            "L_SKD": float(skd_loss(query, anchor, divergence=divergence)),
        },
        total.item(),
        gradient[0].numpy(),
    )


SETTINGS = [
    {},
    {"tau": 0.11, "tau_t": 0.02},
    {"T": 3.0},
    {"lambda_g": 2.0, "lambda_s": 0.0},
    {"lambda_g": 0.0, "T": 7.0},
    {"divergence": "symmetric_kl"},
    {"divergence": "js", "T": 2.0, "tau": 0.3},
]


@pytest.mark.parametrize("values", SETTINGS, ids=str)
def test_what_is_printed_equals_the_kits_losses_on_the_same_logits(values):
    panel = move(lab(), picture=3, **values)
    losses, total, _ = expected(3, **values)
    weights = {
        "L_CC": 1.0,
        "L_GKD": values.get("lambda_g", 0.5),
        "L_SKD": values.get("lambda_s", 0.5),
    }
    assert panel.case.total == pytest.approx(total, rel=1e-9)
    for name, value in losses.items():
        assert panel.case.losses[name] == pytest.approx((value, weights[name]), rel=1e-9)
        assert f"{name} {value:.4f}" in panel.status.value
    assert f"= {total:.4f} nats" in panel.status.value
    drawn = [bar.get_width() for bar in panel.figure.axes[-1].patches]
    assert drawn == pytest.approx(
        [*(losses[name] * weights[name] for name in losses), total], rel=1e-9
    )


@pytest.mark.parametrize("values", SETTINGS, ids=str)
def test_arrows_are_autograds_gradient_from_the_top_of_q(values):
    panel = move(lab(), picture=3, **values)
    _, _, gradient = expected(3, **values)
    np.testing.assert_allclose(panel.case.gradient, gradient, rtol=1e-8, atol=1e-10)
    q = torch.softmax(torch.from_numpy(QUERY[3]) / values.get("tau", 0.05), 0).numpy()
    names = [tick.get_text() for tick in bars(panel).get_xticklabels()]
    shown = [int(name) for name in names[:-1]]
    assert names[-1] == "others" and names[0] == "8", (
        "the hard label first, the rest gathered"
    )
    pull = np.append(gradient[shown], np.delete(gradient, shown).sum())
    start = np.append(q[shown], np.delete(q, shown).sum())
    scale = 1 + values.get("lambda_g", 0.5) + values.get("lambda_s", 0.5)
    np.testing.assert_allclose(heights(panel, "q"), start)
    moved = np.abs(pull / scale) > 0.008
    assert moved.any()
    np.testing.assert_allclose(
        arrows(panel), np.stack([start, start - pull / scale], 1)[moved], rtol=1e-8
    )
    numbers = [
        text.get_text()
        for text in bars(panel).texts
        if re.fullmatch(r"[+-]\d\.\d\d", text.get_text())
    ]
    # the number beside an arrow is the way it goes, in its own unit: minus the gradient
    assert numbers == [f"{value:+.2f}" for value in -pull[moved] / scale]


def test_arrows_end_at_r3_where_p4_holds_and_the_note_says_where_it_does_not():
    panel = move(lab(), picture=2)
    ends = dict(arrows(panel))
    r3 = dict(zip(heights(panel, "q"), heights(panel, "r3")))
    assert panel.case.exact
    assert ends == pytest.approx({start: r3[start] for start in ends})
    assert "each arrow ends at r3" in panel.figure.get_supxlabel()
    for values in ({"T": 2.0}, {"T": 1.0, "divergence": "js"}):
        move(panel, **values)
        off = float((panel.case.gradient - panel.case.mixed).abs().max())
        assert not panel.case.exact
        assert off > 0.01
        assert f"up to {off:.3f}" in panel.figure.get_supxlabel()
    move(panel, T=2.0, lambda_g=0.0, divergence="kl")
    assert panel.case.exact, "without GKD its temperature does not matter"
    move(panel, lambda_s=0.0, divergence="js")
    assert panel.case.exact, "nor the divergence without SKD"


def test_a_picture_and_its_anchor_stand_beside_the_bars_and_change_with_the_slider():
    panel = lab(picture=1)
    first = panel.figure.axes[0].images[0].get_array().copy()
    move(panel, picture=2)
    second = panel.figure.axes[0].images[0].get_array()
    assert (first != second).any()
    assert len(panel.figure.axes) == 3
    shown = second.reshape(-1, 8, 3)
    assert any(
        (shown[k : k + 16] == PICTURES[2].transpose(1, 2, 0)).all()
        for k in range(len(shown) - 15)
    )
    assert any(
        (shown[k : k + 16] == PICTURES[::-1][2].transpose(1, 2, 0)).all()
        for k in range(len(shown) - 15)
    )


def test_an_outlier_has_views_but_no_loss_no_arrow_and_a_sentence():
    panel = move(lab(), picture=4)
    assert panel.case.hard == -1
    assert panel.case.total is None
    assert not arrows(panel)
    assert "outlier" in panel.status.value
    assert "left out" in panel.figure.get_supxlabel()
    assert list(panel.case.views) == ["e", "q", "a"]
    assert move(panel, picture=0).case.total is not None


def test_a_picture_without_anchor_leaves_skd_out():
    panel = move(lab(), picture=5)
    assert list(panel.case.losses) == ["L_CC", "L_GKD"]
    assert "a" not in panel.case.views
    assert "No anchor" in panel.status.value
    assert panel.case.exact


def test_without_any_anchor_what_belongs_to_skd_is_hidden_and_r_is_p1s():
    panel = LossLab(QUERY, TEACHER, None, LABELS, lambda_s=0.7)
    panel.check()
    assert (
        panel.controls["lambda_s"].layout.display
        == "none"
        == panel.controls["divergence"].layout.display
    )
    hard, e = np.eye(9)[0], panel.case.views["e"].numpy()
    np.testing.assert_allclose(panel.case.views["r3"], (hard + 0.5 * e) / 1.5)
    move(panel, source="by hand")
    assert set(panel.hand) == {"e", "q"}
    assert "a" not in panel.case.views


def test_probabilities_dragged_by_hand_are_renormalised_and_temperatures_sharpen_them():
    panel = move(lab(tau=0.1, tau_t=0.04), source="by hand")
    for slider, value in zip(panel.hand["q"], (0.8, 0.4, 0.4, 0.0)):
        slider.value = value
        panel.check()
    np.testing.assert_allclose(panel.case.views["q"], [0.5, 0.25, 0.25, 0], atol=1e-3)
    np.testing.assert_allclose(panel.case.views["e"], [0.2, 0.7, 0.1, 0], atol=1e-3)
    assert len(panel.figure.axes) == 2, "no picture by hand"
    assert panel.case.total == pytest.approx(
        -np.log(0.5)
        + 0.5 * panel.case.losses["L_GKD"][0]
        + 0.5 * panel.case.losses["L_SKD"][0],
        abs=1e-3,
    )
    move(panel, tau=0.05)
    np.testing.assert_allclose(panel.case.views["q"], np.array([4, 1, 1, 0]) / 6, atol=1e-3)
    move(panel, hard=2)
    assert panel.case.hard == 2
    assert [t.get_text() for t in bars(panel).get_xticklabels()] == [
        "0",
        "1",
        "2",
        "3",
    ]
    move(panel, hard=-1)
    assert panel.case.total is None
    for slider in panel.hand["q"]:
        slider.value = 0.0
        panel.check()
    np.testing.assert_allclose(panel.case.views["q"], np.full(4, 0.25))


def test_only_the_controls_that_act_are_shown():
    panel = lab()
    assert panel.by_hand.layout.display == "none"
    assert panel.controls["picture"].layout.display == ""
    move(panel, source="by hand")
    assert panel.by_hand.layout.display == ""
    assert panel.controls["picture"].layout.display == "none"


@pytest.mark.parametrize(
    "pictures, clusters, sentence",
    [(3, 1, "1 cluster, and a contrast needs two"), (0, 5, "There is no picture")],
)
def test_one_cluster_or_no_picture_is_a_sentence_and_by_hand_still_works(
    pictures, clusters, sentence
):
    rows = np.zeros((pictures, clusters))
    panel = LossLab(rows, rows, rows, np.zeros(pictures, int))
    panel.check()
    assert panel.case is None
    assert sentence in panel.status.value
    assert "Traceback" not in panel.status.value
    move(panel, source="by hand")
    assert panel.case.total > 0
    move(panel, source="a picture")
    assert panel.case is None
    assert sentence in panel.status.value


def test_all_outliers_can_be_looked_at():
    panel = LossLab(QUERY, TEACHER, ANCHOR, np.full(6, -1), pictures=PICTURES)
    for i in range(6):
        assert move(panel, picture=i).case.total is None


class Broken:
    def batch(self, indices):
        raise KitError(f"picture {indices[0]} cannot be read.")


def test_a_picture_that_cannot_be_read_is_left_out_with_a_sentence():
    panel = lab(pictures=Broken())
    panel.check()
    assert "picture 0 cannot be read" in panel.status.value
    assert "nats" in panel.status.value
    assert len(panel.figure.axes) == 3, "its anchor is shown"


def test_an_exception_in_a_callback_is_kept_and_raised_by_check():
    panel = lab()
    panel.similarities["q"][1, 0] = np.inf
    panel.controls["picture"].value = 1
    with pytest.raises(KitError, match="NaN or infinity"):
        panel.check()
    assert "last good one" in panel.status.value
    move(panel, picture=0)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(KitError, match=r"\(B, K\)"):
        LossLab(QUERY, TEACHER[:, :4], ANCHOR, LABELS)
    with pytest.raises(KitError, match="4 labels"):
        LossLab(QUERY, TEACHER, ANCHOR, LABELS[:4])
    with pytest.raises(KitError, match="no control 'gkd_weight'; there are: picture, tau"):
        lab(gkd_weight=1.0)


def test_controls_begin_where_they_are_told_to():
    told = {
        "picture": 3,
        "tau": 0.2,
        "tau_t": 0.005,
        "T": 30.0,
        "lambda_g": 4.0,
        "lambda_s": 0.0,
        "divergence": "js",
    }
    panel = lab(**told)
    assert {name: panel.controls[name].value for name in told} == told
    assert panel.case.total == pytest.approx(
        expected(3, **{k: v for k, v in told.items() if k != "picture"})[1]
    )


def test_the_panel_is_drawn_as_a_png_and_can_be_found_in_a_page(monkeypatch):
    monkeypatch.undo()  # of `quick`
    panel = lab()
    before = bytes(panel.view.value)
    assert before.startswith(b"\x89PNG")
    assert "dkdmpl-losslab" in panel._dom_classes
    assert bytes(move(panel, tau=0.2).view.value) != before
    assert bytes(move(panel, tau=0.05).view.value) == before


def test_it_says_what_to_do_with_and_without_an_anchor():
    assert "anchor a disagree" in lab().children[0].value
    assert "lower tau_t" in LossLab(QUERY, TEACHER, None, LABELS).children[0].value
