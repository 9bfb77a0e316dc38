"""Losses: value and gradient against loops, hand-worked cases, the identities P1, P3,
P4 and P5, degenerate batches.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import losses as naive

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.losses import (
    anchor_features,
    carry_posterior,
    cluster_contrast_loss,
    dkdmpl_loss,
    gkd_loss,
    mixed_target,
    positive_anchors,
    skd_loss,
    teacher_logits,
)
from dkdmpl_kit.losses import dkdmpl as losses

CLOSE = {"rtol": 1e-10, "atol": 1e-11}


def batch(seed, *shape, scale=3.0):
    return scale * torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def leaf(tensor):
    return tensor.clone().requires_grad_()


def unit_rows(seed, n, d):
    return torch.nn.functional.normalize(batch(seed, n, d), dim=1)


def assert_same_value_and_gradients(kit, loop, *inputs):
    """Both functions on their own leaves: equal values, equal gradients (None counts as
    zero).
    """
    mine, theirs = [leaf(x) for x in inputs], [leaf(x) for x in inputs]
    a, b = kit(*mine), loop(*theirs)
    torch.testing.assert_close(a, b, **CLOSE)
    a.backward()
    b.backward()
    for x, y in zip(mine, theirs, strict=True):
        zero = torch.zeros_like(x)
        torch.testing.assert_close(
            zero if x.grad is None else x.grad, zero if y.grad is None else y.grad, **CLOSE
        )


@pytest.mark.parametrize(("rows", "clusters"), [(1, 2), (5, 3), (8, 7)])
def test_cluster_contrast_equals_the_loop_in_value_and_gradient(rows, clusters):
    labels = torch.randint(clusters, (rows,), generator=torch.Generator().manual_seed(rows))
    assert_same_value_and_gradients(
        lambda x: cluster_contrast_loss(x, labels),
        lambda x: naive.cluster_contrast(x, labels),
        batch(0, rows, clusters),
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_gkd_equals_the_loop_in_value_and_gradient(temperature):
    assert_same_value_and_gradients(
        lambda s, t: gkd_loss(s, t, temperature=temperature),
        lambda s, t: naive.gkd(s, t, temperature),
        batch(1, 6, 5),
        batch(2, 6, 5),
    )


@pytest.mark.parametrize("divergence", losses.SKD_DIVERGENCES)
def test_skd_equals_the_loop_in_value_and_gradient(divergence):
    assert_same_value_and_gradients(
        lambda q, a: skd_loss(q, a, divergence=divergence),
        lambda q, a: naive.skd(q, a, divergence),
        batch(3, 6, 5),
        batch(4, 6, 5),
    )


@pytest.mark.parametrize("divergence", losses.SKD_DIVERGENCES)
@pytest.mark.parametrize(
    ("gkd_weight", "skd_weight", "temperature"),
    [(0.5, 0.5, 1.0), (1.3, 0.2, 2.0), (0.0, 0.7, 1.0)],
)
def test_the_whole_loss_equals_the_weighted_loops(
    divergence, gkd_weight, skd_weight, temperature
):
    labels = torch.tensor([0, 3, 1, 1])

    def kit(q, t, a):
        return dkdmpl_loss(
            q,
            labels,
            teacher_logits=t,
            anchor_logits=a,
            gkd_weight=gkd_weight,
            skd_weight=skd_weight,
            temperature=temperature,
            divergence=divergence,
        ).total

    def loop(q, t, a):
        return (
            naive.cluster_contrast(q, labels)
            + gkd_weight * naive.gkd(q, t, temperature)
            + skd_weight * naive.skd(q, a, divergence)
        )

    assert_same_value_and_gradients(kit, loop, batch(5, 4, 4), batch(6, 4, 4), batch(7, 4, 4))


def test_the_parts_of_the_whole_loss_are_unweighted_and_add_up():
    q, t, a, labels = (
        batch(5, 4, 4),
        batch(6, 4, 4),
        batch(7, 4, 4),
        torch.tensor([0, 1, 2, 3]),
    )
    loss = dkdmpl_loss(
        q, labels, teacher_logits=t, anchor_logits=a, gkd_weight=0.25, skd_weight=2.0
    )
    torch.testing.assert_close(loss.gkd, gkd_loss(q, t))
    torch.testing.assert_close(loss.skd, skd_loss(q, a))
    torch.testing.assert_close(
        loss.total, loss.cluster_contrast + 0.25 * loss.gkd + 2.0 * loss.skd
    )


def test_a_weight_of_zero_skips_its_term_and_needs_no_logits():
    q, labels = batch(5, 4, 4), torch.tensor([0, 1, 2, 3])
    loss = dkdmpl_loss(q, labels, gkd_weight=0.0, skd_weight=0.0)
    torch.testing.assert_close(loss.total, cluster_contrast_loss(q, labels))
    assert loss.gkd.item() == 0.0 and loss.skd.item() == 0.0


# --- worked by hand
# ---------------------------------------------------------------------------------------------------


def test_by_hand_q_three_quarters_and_e_one_half():
    """q = (3/4, 1/4), label 0, e = (1/2, 1/2), a = (1/4, 3/4)."""
    q = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)
    flat, a = torch.zeros_like(q), -q
    assert cluster_contrast_loss(q, torch.tensor([0])).item() == pytest.approx(
        math.log(4 / 3)
    )
    # KL(e || q) = 1/2 log(2/3) + 1/2 log 2 = 1/2 log(4/3)
    assert gkd_loss(q, flat).item() == pytest.approx(0.5 * math.log(4 / 3))
    # KL(a || q) = 1/4 log(1/3) + 3/4 log 3 = 1/2 log 3, the same the other way round
    assert skd_loss(q, a, divergence="kl").item() == pytest.approx(0.5 * math.log(3))
    assert skd_loss(q, a, divergence="symmetric_kl").item() == pytest.approx(
        0.5 * math.log(3)
    )
    # m = (1/2, 1/2): JS = KL(a || m) = 1/4 log(1/2) + 3/4 log(3/2) = 3/4 log 3 - log 2
    assert skd_loss(q, a, divergence="js").item() == pytest.approx(
        0.75 * math.log(3) - math.log(2)
    )


def test_by_hand_the_temperature_flattens_both_and_multiplies_by_its_square():
    """Logits (2 log 3, 0) at T = 2 give q = (3/4, 1/4); a flat teacher stays flat: 4 *
    1/2 log(4/3).
    """
    q = torch.tensor([[2 * math.log(3.0), 0.0]], dtype=torch.float64)
    assert gkd_loss(q, torch.zeros_like(q), temperature=2.0).item() == pytest.approx(
        2 * math.log(4 / 3)
    )


def test_by_hand_the_mixed_target_of_one_row():
    e, a = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.0, 0.5, 0.5]])
    r3 = mixed_target(torch.tensor([1]), e, a, 0.5, 0.5)  # ((0, 1, 0) + e/2 + a/2) / 2
    torch.testing.assert_close(r3, torch.tensor([[0.125, 0.6875, 0.1875]]))


def test_opposite_certain_views_have_a_js_of_log_two_and_stay_finite_for_every_divergence():
    q, a = torch.tensor([[1000.0, 0.0]]), torch.tensor([[0.0, 1000.0]])
    assert skd_loss(q, a, divergence="js").item() == pytest.approx(math.log(2))
    assert skd_loss(q, a, divergence="kl").item() == pytest.approx(1000.0)
    assert skd_loss(q, a, divergence="symmetric_kl").item() == pytest.approx(1000.0)


# --- identities of the method
# -----------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000), gkd_weight=st.floats(0.0, 5.0))
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
def test_p1_contrast_plus_gkd_is_training_on_the_refined_label(seed, gkd_weight):
    q, t, labels = leaf(batch(seed, 4, 5)), batch(seed + 1, 4, 5), torch.tensor([0, 4, 2, 2])
    dkdmpl_loss(
        q, labels, teacher_logits=t, gkd_weight=gkd_weight, skd_weight=0.0
    ).total.backward()
    e = t.softmax(1)
    r = mixed_target(labels, e, torch.zeros_like(e), gkd_weight, 0.0)
    torch.testing.assert_close(
        q.grad, (1 + gkd_weight) * (q.detach().softmax(1) - r) / 4, **CLOSE
    )


@given(
    seed=st.integers(0, 10_000),
    gkd_weight=st.floats(0.0, 5.0),
    skd_weight=st.floats(0.0, 5.0),
)
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
def test_p4_dkdmpl_with_kl_trains_on_one_label_mixed_from_three_views(
    seed, gkd_weight, skd_weight
):
    q, t, a = leaf(batch(seed, 4, 5)), batch(seed + 1, 4, 5), batch(seed + 2, 4, 5)
    labels = torch.tensor([1, 0, 3, 3])
    dkdmpl_loss(
        q,
        labels,
        teacher_logits=t,
        anchor_logits=a,
        gkd_weight=gkd_weight,
        skd_weight=skd_weight,
        divergence="kl",
    ).total.backward()
    r3 = mixed_target(labels, t.softmax(1), a.softmax(1), gkd_weight, skd_weight)
    torch.testing.assert_close(r3.sum(1), torch.ones(4, dtype=torch.float64))
    expected = (1 + gkd_weight + skd_weight) * (q.detach().softmax(1) - r3) / 4
    torch.testing.assert_close(q.grad, expected, **CLOSE)


@pytest.mark.parametrize("seed", range(5))
def test_p3_symmetric_kl_over_all_pairs_bounds_the_variance_of_a_cluster(seed):
    """Random anchors: the expectation is the mean over all ordered pairs of different
    members.
    """
    n, logits = 5, batch(seed, 5, 4)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    left, right = (logits[[p[side] for p in pairs]] for side in (0, 1))
    q = logits.softmax(1)
    variance = ((q - q.mean(0)) ** 2).sum(1).mean()
    assert skd_loss(left, right).item() >= n / (n - 1) * variance.item()


def test_p5_the_gradient_of_gkd_keeps_its_scale_and_tends_to_matching_centred_logits():
    q, t = batch(1, 6, 5, scale=1.0), batch(2, 6, 5, scale=1.0)
    grads = []
    for temperature in (100.0, 1000.0):
        x = leaf(q)
        gkd_loss(x, t, temperature=temperature).backward()
        grads.append(x.grad)
    centred = (q - q.mean(1, keepdim=True)) - (t - t.mean(1, keepdim=True))
    torch.testing.assert_close(grads[1], centred / (5 * 6), rtol=0, atol=1e-3)
    assert grads[1].norm() / grads[0].norm() == pytest.approx(1.0, abs=0.05)


def test_gradients_stop_at_the_teacher_and_at_the_anchor_of_kl_but_reach_both_views_of_the_symmetric_ones():
    q, t = leaf(batch(1, 3, 4)), leaf(batch(2, 3, 4))
    gkd_loss(q, t).backward()
    assert t.grad is None and q.grad.abs().sum() > 0
    for divergence, flows in (("kl", False), ("symmetric_kl", True), ("js", True)):
        q, a = leaf(batch(1, 3, 4)), leaf(batch(2, 3, 4))
        skd_loss(q, a, divergence=divergence).backward()
        assert (a.grad is not None and bool(a.grad.abs().sum() > 0)) is flows


@pytest.mark.parametrize("divergence", losses.SKD_DIVERGENCES)
def test_a_loss_between_equal_views_is_zero(divergence):
    x = batch(1, 3, 4)
    assert skd_loss(x, x.clone(), divergence=divergence).item() == pytest.approx(
        0.0, abs=1e-12
    )
    assert gkd_loss(x, x.clone()).item() == pytest.approx(0.0, abs=1e-12)


def test_sixteen_bit_logits_are_computed_in_float32():
    q, t, labels = (
        batch(1, 6, 5).bfloat16(),
        batch(2, 6, 5).bfloat16(),
        torch.tensor([0, 1, 2, 3, 4, 0]),
    )
    loss = dkdmpl_loss(q, labels, teacher_logits=t, anchor_logits=t)
    assert loss.total.dtype == torch.float32
    exact = dkdmpl_loss(
        q.double(), labels, teacher_logits=t.double(), anchor_logits=t.double()
    )
    assert loss.total.item() == pytest.approx(exact.total.item(), rel=1e-5)


# --- anchors
# ----------------------------------------------------------------------------------------------------------

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 5])  # 2 and 5 are alone


def test_hardest_anchors_equal_the_loop():
    z = unit_rows(1, 7, 4)
    assert positive_anchors(z, LABELS).tolist() == naive.hardest_anchors(z, LABELS)


def test_by_hand_the_hardest_anchor_is_the_least_similar_mate_not_the_least_similar_row():
    z = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6], [-1.0, 0.0]])
    assert positive_anchors(z, torch.tensor([0, 0, 0, 1])).tolist() == [1, 0, 0, 3]


def test_anchors_of_another_camera_are_the_least_similar_there_and_any_mate_without_one():
    z = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6], [0.0, 1.0], [0.28, 0.96]])
    labels = torch.tensor([0, 0, 0, 1, 1])
    cameras = torch.tensor([1, 1, 2, 3, 3])
    chosen = positive_anchors(z, labels, strategy="camera", cameras=cameras)
    assert chosen.tolist() == [2, 2, 0, 4, 3]  # "hardest" would give 1, 0, 0, 4, 3
    assert positive_anchors(z, labels).tolist() == [1, 0, 0, 4, 3]
    with pytest.raises(KitError, match="needs cameras"):
        positive_anchors(z, labels, strategy="camera")


def test_random_anchors_are_mates_repeat_with_the_generator_and_reach_every_mate():
    z = unit_rows(1, 7, 4)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack(
        [
            positive_anchors(z, LABELS, strategy="random", generator=generator)
            for _ in range(60)
        ]
    )
    assert bool((LABELS[drawn] == LABELS).all())
    assert (
        set(drawn[:, 0].tolist()) == {2, 5}
        and set(drawn[:, 1].tolist()) == {4}
        and set(drawn[:, 3].tolist()) == {3}
    )
    again = positive_anchors(
        z, LABELS, strategy="random", generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(again, drawn[0])


def test_mean_anchors_equal_the_loop_in_value_and_gradient():
    weights = batch(9, 7, 4)
    assert_same_value_and_gradients(
        lambda z: (anchor_features(z, LABELS, strategy="mean") * weights).sum(),
        lambda z: (naive.mean_anchors(z, LABELS) * weights).sum(),
        unit_rows(2, 7, 4),
    )


def test_anchor_features_are_the_anchors_rows_and_let_the_gradient_through():
    z = leaf(unit_rows(1, 7, 4))
    features = anchor_features(z, LABELS, strategy="hardest")
    assert torch.equal(features, z[positive_anchors(z, LABELS)])
    features[0].sum().backward()
    assert torch.nonzero(z.grad.abs().sum(1)).flatten().tolist() == [
        int(positive_anchors(z, LABELS)[0])
    ]


def test_a_row_alone_in_its_cluster_is_its_own_anchor_or_an_error():
    z = unit_rows(1, 7, 4)
    anchors = positive_anchors(z, LABELS)
    assert anchors[3].item() == 3 and anchors[6].item() == 6
    torch.testing.assert_close(anchor_features(z, LABELS, strategy="mean")[[3, 6]], z[[3, 6]])
    with pytest.raises(KitError, match="row 3 is alone"):
        positive_anchors(z, LABELS, alone="error")


@pytest.mark.parametrize("strategy", ["augmentation", "ema"])
def test_anchors_that_need_an_encoder_are_left_to_the_training_loop(strategy):
    with pytest.raises(KitError, match="encoder"):
        anchor_features(unit_rows(1, 7, 4), LABELS, strategy=strategy)


# --- teachers
# ---------------------------------------------------------------------------------------------------------


def test_the_sample_and_the_cluster_teacher_are_scaled_similarities_to_the_centroids():
    c, v = unit_rows(1, 3, 4), unit_rows(2, 5, 4)
    sample = teacher_logits("sample", centroids=c, features=v, temperature=0.1)
    cluster = teacher_logits(
        "cluster", centroids=c, labels=torch.tensor([2, 0]), temperature=0.1
    )
    for i in range(5):
        for k in range(3):
            assert sample[i, k].item() == pytest.approx(
                10 * sum(v[i, j].item() * c[k, j].item() for j in range(4))
            )
    torch.testing.assert_close(
        cluster, teacher_logits("sample", centroids=c, features=c[[2, 0]], temperature=0.1)
    )


def test_the_softmax_of_the_consensus_teacher_gives_the_posterior_back():
    posterior = torch.tensor([[0.2, 0.8, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    e = teacher_logits("consensus", posterior=posterior).softmax(1)
    torch.testing.assert_close(e, posterior, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "lacks"),
    [
        ("sample", "features"),
        ("cluster", "labels"),
        ("consensus", "posterior"),
        ("vote", "posterior"),
    ],
)
def test_a_teacher_names_what_it_lacks(kind, lacks):
    with pytest.raises(KitError, match=lacks):
        teacher_logits(kind, centroids=unit_rows(1, 3, 4))


def test_by_hand_a_posterior_follows_a_cluster_that_splits_and_one_that_keeps_its_name():
    """Old cluster 0 = {0, 1, 2, 3} splits into 0 = {0, 1} and 1 = {2, 3}; old 1 = {4,
    5} is now called 2.
    """
    posterior = torch.tensor([[0.8, 0.2]] * 6, dtype=torch.float64)
    new = carry_posterior(posterior, [0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 2, 2])
    torch.testing.assert_close(new, torch.tensor([[0.4, 0.4, 0.2]] * 6, dtype=torch.float64))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
def test_a_carried_posterior_equals_the_loop_over_sets_and_its_rows_sum_to_one(seed):
    draw = torch.Generator().manual_seed(seed)
    n, k_old = 12, 4
    old, new = (torch.randint(-1, k, (n,), generator=draw).tolist() for k in (k_old, 3))
    new[0] = 2
    posterior = torch.rand(n, k_old, generator=draw, dtype=torch.float64)
    posterior = posterior / posterior.sum(1, keepdim=True)
    carried = carry_posterior(posterior, old, new)
    torch.testing.assert_close(carried, naive.carried_posterior(posterior, old, new), **CLOSE)
    torch.testing.assert_close(carried.sum(1), torch.ones(n, dtype=torch.float64))


def test_a_posterior_whose_clusters_all_dissolved_becomes_uniform():
    posterior = torch.tensor([[1.0, 0.0]] * 4, dtype=torch.float64)
    carried = carry_posterior(posterior, [0, 0, 1, 1], [-1, -1, 0, 1])
    torch.testing.assert_close(carried, torch.full((4, 2), 0.5, dtype=torch.float64))


# --- degenerate batches: one clear sentence, never a silent NaN
# -------------------------------------------------------

GOOD, TWO = torch.zeros(2, 3), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: cluster_contrast_loss(torch.zeros(2, 1), torch.tensor([0, 0])),
            "a contrast needs two",
        ),
        (
            lambda: cluster_contrast_loss(
                torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)
            ),
            "at least one row",
        ),
        (lambda: cluster_contrast_loss(torch.zeros(3), TWO), "batch"),
        (lambda: cluster_contrast_loss(GOOD, torch.tensor([0, -1])), "outliers"),
        (lambda: cluster_contrast_loss(GOOD, torch.tensor([0, 3])), r"0\.\.2"),
        (lambda: cluster_contrast_loss(GOOD, torch.tensor([0, 1, 2])), "labels"),
        (lambda: cluster_contrast_loss(GOOD, torch.tensor([0.0, 1.0])), "integers"),
        (
            lambda: cluster_contrast_loss(
                torch.tensor([[0.0, float("nan")]]), torch.tensor([0])
            ),
            "logits hold NaN",
        ),
        (lambda: gkd_loss(GOOD, torch.zeros(2, 4)), "share one shape"),
        (
            lambda: gkd_loss(GOOD, torch.full((2, 3), float("inf"))),
            "teacher_logits hold NaN or infinity",
        ),
        (lambda: gkd_loss(GOOD, GOOD, temperature=0.0), "temperature"),
        (lambda: gkd_loss(torch.zeros(2, 1), torch.zeros(2, 1)), "student_logits"),
        (lambda: skd_loss(GOOD, GOOD, divergence="euclid"), "symmetric_kl"),
        (lambda: skd_loss(GOOD, torch.full((2, 3), float("nan"))), "anchor_logits hold NaN"),
        (lambda: dkdmpl_loss(GOOD, TWO, anchor_logits=GOOD), "needs teacher_logits"),
        (lambda: dkdmpl_loss(GOOD, TWO, teacher_logits=GOOD), "needs anchor_logits"),
        (lambda: dkdmpl_loss(GOOD, TWO, gkd_weight=-1.0), "gkd_weight"),
        (
            lambda: dkdmpl_loss(GOOD, TWO, skd_weight=float("nan"), gkd_weight=0.0),
            "skd_weight",
        ),
        (lambda: mixed_target(TWO, GOOD, torch.zeros(2, 4), 0.5, 0.5), "share one shape"),
        (lambda: mixed_target(TWO, GOOD, GOOD, -0.5, 0.5), "0 or above"),
        (lambda: positive_anchors(GOOD, torch.tensor([0, -1])), "outliers"),
        (
            lambda: positive_anchors(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)),
            "at least one row",
        ),
        (lambda: positive_anchors(GOOD, TWO, strategy="mean"), "hardest"),
        (lambda: anchor_features(GOOD, TWO, strategy="nearest"), "hardest"),
        (lambda: teacher_logits("oracle"), "consensus"),
        (
            lambda: teacher_logits(
                "cluster", centroids=GOOD, labels=torch.tensor([2]), temperature=0.1
            ),
            r"0\.\.1",
        ),
        (lambda: carry_posterior(torch.zeros(3, 2), [0, 1], [0, 1]), "does not fit"),
        (lambda: carry_posterior(torch.zeros(2, 2), [0, 2], [0, 1]), "does not fit"),
        (lambda: carry_posterior(torch.zeros(2, 2), [0, 1], [-1, -1]), "no cluster left"),
    ],
)
def test_degenerate_input_is_told_in_one_sentence(call, message):
    with pytest.raises(KitError, match=message):
        call()


def test_a_posterior_is_carried_into_a_single_cluster_that_is_left():
    posterior = torch.tensor([[0.7, 0.3], [0.2, 0.8]])
    carried = carry_posterior(posterior, [0, 1], [0, 0])
    torch.testing.assert_close(carried, torch.ones(2, 1))
