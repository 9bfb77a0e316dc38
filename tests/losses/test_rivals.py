"""The neighbours' objectives: value and gradient against loops, hand-worked cases,
degenerate batches, by name.
"""

from __future__ import annotations

import math

import pytest
import torch
from reference import losses as naive_losses
from reference import objectives as naive

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.losses import carry_posterior, cluster_contrast_loss
from dkdmpl_kit.losses import rivals as objectives
from dkdmpl_kit.losses.rivals import (
    NEEDS,
    hard_instance_loss,
    hdcpd_loss,
    ice_loss,
    instance_consistency_loss,
    label_smoothing_loss,
    mean_teacher_loss,
    mmt_loss,
    probability_distillation_loss,
    refined_labels,
    rival_loss,
    rlcc_loss,
    softmax_triplet_loss,
)
from dkdmpl_kit.memory import HybridMemory

LABELS = torch.tensor([0, 2, 0, 1, 2, 0])  # row 3 is alone in its cluster
LIST = LABELS.tolist()


def batch(seed, *shape, scale=2.0):
    return scale * torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def unit_rows(seed, n=6, d=4):
    return torch.nn.functional.normalize(batch(seed, n, d), dim=1)


def rows(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def assert_same_value_and_gradients(kit, loop, *inputs):
    """Equal values, equal gradients of every input (None counts as zero), and a value
    that depends on the first.
    """
    mine, theirs = ([x.clone().requires_grad_() for x in inputs] for _ in range(2))
    a, b = kit(*mine), loop(*theirs)
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)
    a.backward()
    b.backward()
    for x, y in zip(mine, theirs, strict=True):
        zero = torch.zeros_like(x)
        torch.testing.assert_close(
            zero if x.grad is None else x.grad,
            zero if y.grad is None else y.grad,
            rtol=1e-10,
            atol=1e-11,
        )
    assert mine[0].grad.abs().sum() > 0


# --- against the loops
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
def test_label_smoothing_equals_the_loop(epsilon):
    assert_same_value_and_gradients(
        lambda x: label_smoothing_loss(x, LABELS, epsilon=epsilon),
        lambda x: naive.label_smoothing(x, LIST, epsilon),
        batch(0, 6, 5),
    )


def test_the_mean_teachers_cross_entropy_equals_the_loop_and_stops_at_the_teacher():
    assert_same_value_and_gradients(
        mean_teacher_loss, naive.mean_teacher, batch(1, 6, 5), batch(2, 6, 5)
    )


@pytest.mark.parametrize("seed", range(3))
def test_hard_and_soft_triplets_equal_the_loop(seed):
    assert_same_value_and_gradients(
        lambda z: softmax_triplet_loss(z, LABELS),
        lambda z: naive.triplet(z, LIST),
        unit_rows(seed),
    )
    assert_same_value_and_gradients(
        lambda z, m: softmax_triplet_loss(z, LABELS, m),
        lambda z, m: naive.triplet(z, LIST, m),
        unit_rows(seed),
        unit_rows(seed + 9),
    )


def test_mmt_equals_the_weighted_loops():
    assert_same_value_and_gradients(
        lambda x, z, mz, mx: mmt_loss(
            x, LABELS, z, mz, mx, soft_weight=0.3, soft_triplet_weight=0.6
        ),
        lambda x, z, mz, mx: naive.mmt(x, LIST, z, mz, mx, 0.3, 0.6),
        batch(1, 6, 5),
        unit_rows(2),
        unit_rows(3),
        batch(4, 6, 5),
    )


def test_rlcc_equals_the_loop():
    carried = batch(5, 6, 3).softmax(1)
    assert_same_value_and_gradients(
        lambda x: rlcc_loss(x, LABELS, carried, alpha=0.7),
        lambda x: naive.rlcc(x, LIST, carried, 0.7),
        batch(1, 6, 3),
    )


def test_refined_labels_equal_the_loop_and_an_outlier_keeps_its_posterior():
    labels, posterior = torch.tensor([0, -1, 2, 1, -1, 2]), batch(5, 6, 3).softmax(1)
    found = refined_labels(labels, posterior, alpha=0.7)
    torch.testing.assert_close(found, rows(*naive.refined(labels.tolist(), posterior, 0.7)))
    assert torch.equal(found[labels < 0], posterior[labels < 0])
    torch.testing.assert_close(found.sum(1), torch.ones(6, dtype=torch.float64))


def test_probability_distillation_equals_the_loop_and_stops_at_the_teacher():
    assert_same_value_and_gradients(
        probability_distillation_loss,
        naive.probability_distillation,
        batch(1, 6, 5),
        batch(2, 6, 5),
    )


def test_hdcpd_is_cluster_contrast_plus_the_weighted_distillation():
    x, m = batch(1, 6, 5), batch(2, 6, 5)
    expected = cluster_contrast_loss(x, LABELS) + 0.3 * probability_distillation_loss(x, m)
    torch.testing.assert_close(hdcpd_loss(x, LABELS, m, weight=0.3), expected)


@pytest.mark.parametrize("temperature", [0.1, 0.4])
def test_both_instance_losses_of_ice_equal_the_loop(temperature):
    assert_same_value_and_gradients(
        lambda z, m: hard_instance_loss(z, LABELS, m, temperature=temperature),
        lambda z, m: naive.hard_instance(z, LIST, m, temperature),
        unit_rows(1),
        unit_rows(2),
    )
    assert_same_value_and_gradients(
        lambda z, m, g: instance_consistency_loss(z, m, g, temperature=temperature),
        lambda z, m, g: naive.instance_consistency(z, m, g, temperature),
        unit_rows(1),
        unit_rows(2),
        unit_rows(3),
    )


def test_ice_equals_the_weighted_loops():
    def loop(x, z, m, g):
        return (
            naive_losses.cluster_contrast(x, LIST)
            + 0.7 * naive.hard_instance(z, LIST, m, 0.2)
            + 3.0 * naive.instance_consistency(z, m, g, 0.5)
        )

    assert_same_value_and_gradients(
        lambda x, z, m, g: ice_loss(
            x,
            LABELS,
            z,
            m,
            g,
            hard_weight=0.7,
            soft_weight=3.0,
            hard_temperature=0.2,
            soft_temperature=0.5,
        ),
        loop,
        batch(0, 6, 5),
        unit_rows(1),
        unit_rows(2),
        unit_rows(3),
    )


MIXED, NO_OUTLIER, ALL_OUTLIERS = [0, -1, 1, 0, -1, 1], [0, 1, 1, 0, 2, 2], [-1] * 6


@pytest.mark.parametrize("labels", [MIXED, NO_OUTLIER, ALL_OUTLIERS])
def test_the_hybrid_memorys_loss_and_its_updates_equal_the_loops(labels):
    features, indices = unit_rows(0), torch.tensor([1, 3, 3, 5])  # image 3 comes twice
    memory, expected = (
        HybridMemory(features, torch.tensor(labels), momentum=0.3),
        features.tolist(),
    )
    assert memory.classes.tolist() == naive.own_classes(labels)
    for step in range(2):  # the second loss reads a memory that has moved
        classes, stored = memory.classes[indices], expected
        assert_same_value_and_gradients(
            lambda z, y=classes: cluster_contrast_loss(memory.logits(z, 0.1), y),
            lambda z, y=classes, rows=stored: naive_losses.cluster_contrast(
                naive.hybrid_logits(z, rows, labels, 0.1), y
            ),
            unit_rows(step + 1, 4),
        )
        memory.update(unit_rows(step + 1, 4), indices)
        expected = naive.hybrid_update(
            expected, unit_rows(step + 1, 4).tolist(), indices.tolist(), 0.3
        )
        torch.testing.assert_close(memory.features, rows(*expected))


# --- worked by hand
# ---------------------------------------------------------------------------------------------------

Q = rows([math.log(3.0), 0.0])  # q = (3/4, 1/4)
FIRST = torch.tensor([0])


def test_by_hand_label_smoothing_of_one_fifth_over_two_clusters_is_a_label_of_nine_tenths():
    expected = 0.9 * math.log(4 / 3) + 0.1 * math.log(4)
    assert label_smoothing_loss(Q, FIRST, epsilon=0.2).item() == pytest.approx(expected)


def test_by_hand_a_flat_mean_teacher_asks_for_both_clusters_alike():
    assert mean_teacher_loss(Q, 0 * Q).item() == pytest.approx(
        0.5 * math.log(4 / 3) + 0.5 * math.log(4)
    )


def test_by_hand_triplets_of_a_line_of_three_points():
    """0 and 2 in one cluster, 5 alone: (d_p, d_n) = (2, 5), (2, 3) and, to itself, (0,
    3); -log T = log(1 + e^(p - n)).
    """
    z, labels = rows([0.0], [2.0], [5.0]), torch.tensor([0, 0, 1])
    hard = [
        math.log(1 + math.exp(-3)),
        math.log(1 + math.exp(-1)),
        math.log(1 + math.exp(-3)),
    ]
    assert softmax_triplet_loss(z, labels).item() == pytest.approx(sum(hard) / 3)
    # The EMA encoder sees all three in one place: T' = 1/2, and -(log T + log(1 - T)) /
    # 2 = -log T + (n - p) / 2.
    soft = [hard[0] + 3 / 2, hard[1] + 1 / 2, hard[2] + 3 / 2]
    assert softmax_triplet_loss(z, labels, 0 * z).item() == pytest.approx(sum(soft) / 3)


def test_by_hand_the_triplet_is_mined_in_the_students_features_not_in_the_teachers():
    """Row 0 of the student takes rows 1 and 2 (at 1 and 2); the teacher alone would
    take rows 4 and 3.
    """
    z, labels = rows([0.0], [1.0], [-2.0], [-4.0], [0.4]), torch.tensor([0, 0, 1, 1, 0])
    ema_z = rows([0.0], [3.0], [-9.0], [-1.0], [7.0])
    # (d_p, d_n) of each row
    student = [
        (1.0, 2.0),
        (1.0, 3.0),
        (2.0, 2.0),
        (2.0, 4.0),
        (0.6, 2.4),
    ]
    # of the same triplets
    teacher = [
        (3.0, 9.0),
        (3.0, 12.0),
        (8.0, 9.0),
        (8.0, 1.0),
        (4.0, 16.0),
    ]
    total = 0.0
    for (p, n), (ema_p, ema_n) in zip(student, teacher, strict=True):
        share, target = 1 / (1 + math.exp(p - n)), 1 / (1 + math.exp(ema_p - ema_n))
        total -= target * math.log(share) + (1 - target) * math.log(1 - share)
    assert softmax_triplet_loss(z, labels, ema_z).item() == pytest.approx(total / 5)


def test_by_hand_mmt_mixes_hard_and_soft_by_its_two_weights():
    z, labels = rows([0.0], [5.0]), torch.tensor([0, 1])
    # both rows: hard log(4/3), soft (log(4/3) + log 4) / 2 under a flat teacher
    x = torch.cat([Q, Q.flip(1)])
    hard, tri = math.log(4 / 3), math.log(1 + math.exp(-5))
    expected = 0.5 * hard + 0.5 * (hard + math.log(4)) / 2 + 0.2 * tri + 0.8 * (tri + 5 / 2)
    assert mmt_loss(x, labels, z, 0 * z, 0 * x).item() == pytest.approx(expected)


def test_by_hand_rlcc_trusts_the_clustering_for_nine_tenths():
    expected = 0.9 * math.log(4 / 3) + 0.1 * math.log(4)
    assert rlcc_loss(Q, FIRST, rows([0.0, 1.0])).item() == pytest.approx(expected)


def test_by_hand_rlcc_over_two_epochs():
    """{0, 1}, {2, 3} become {0}, {1, 2, 3}: IoU 1/2, 1/4 and 0, 2/3; normalised rows
    (2/3, 1/3) and (0, 1).
    """
    before, now = [0, 0, 1, 1], [0, 1, 1, 1]
    # (3/4, 1/4) or (1/4, 3/4)
    last = refined_labels(torch.tensor(before), rows(*[[0.5, 0.5]] * 4), alpha=0.5)
    carried = carry_posterior(last, before, now)
    torch.testing.assert_close(carried, rows(*[[1 / 2, 1 / 2]] * 2, *[[1 / 6, 5 / 6]] * 2))
    expected = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    assert rlcc_loss(Q, FIRST, carried[:1], alpha=0.5).item() == pytest.approx(expected)


def test_by_hand_the_distilled_probabilities_differ_by_a_half_twice():
    # (3/4 - 1/4)^2 twice
    assert probability_distillation_loss(Q, Q.flip(1)).item() == pytest.approx(0.5)
    assert hdcpd_loss(Q, FIRST, Q.flip(1)).item() == pytest.approx(math.log(4 / 3) + 0.5)


def test_by_hand_the_hardest_positive_stands_against_the_negatives_alone():
    """Row 0: positives at cosine 1 (itself) and 0.6, a negative at 0: e^0.6 / (e^0.6 +
    e^0), without the e^1.
    """
    z = rows([1.0, 0.0], [0.6, 0.8], [0.0, 1.0])
    # row 2 is alone: its own other view
    share = [
        math.exp(0.6) / (math.exp(0.6) + 1),
        math.exp(0.6) / (math.exp(0.6) + math.exp(0.8)),
        math.e / (math.e + 1 + math.exp(0.8)),
    ]
    found = hard_instance_loss(z, torch.tensor([0, 0, 1]), z, temperature=1.0)
    assert found.item() == pytest.approx(-sum(map(math.log, share)) / 3)


def test_by_hand_the_consistency_of_ice_is_the_kl_from_plain_to_augmented_similarities():
    """Plain rows are orthogonal, augmented ones equal: Q = (3/4, 1/4), P = (1/2, 1/2),
    KL(Q || P) = 3/4 log 3 - log 2.
    """
    z, plain = rows([1.0, 0.0], [1.0, 0.0]), torch.eye(2, dtype=torch.float64)
    found = instance_consistency_loss(z, z, plain, temperature=1 / math.log(3))
    assert found.item() == pytest.approx(0.75 * math.log(3) - math.log(2))


def test_by_hand_the_spcl_loss_of_a_query_between_a_loose_cluster_and_an_outlier():
    """The cluster's plain mean is (1/2, 1/2), not of norm 1; the outlier is (0, 1):
    logits of (0, 1) are 1/2 and 1.
    """
    memory = HybridMemory(
        rows([1.0, 0.0], [0.0, 1.0], [0.0, 1.0]), torch.tensor([0, 0, -1]), momentum=0.5
    )
    z = rows([0.0, 1.0])
    torch.testing.assert_close(memory.logits(z, 1.0), rows([0.5, 1.0]))
    loss = cluster_contrast_loss(memory.logits(z, 1.0), memory.classes[[2]])
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-0.5)))
    memory.update(z, torch.tensor([0]))  # image 0 -> the bisector; images 1 and 2 stay
    torch.testing.assert_close(
        memory.features, rows([0.5**0.5, 0.5**0.5], [0.0, 1.0], [0.0, 1.0])
    )
    torch.testing.assert_close(memory.logits(z, 1.0), rows([(0.5**0.5 + 1) / 2, 1.0]))


# --- degenerate batches
# -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [lambda z, y, m: softmax_triplet_loss(z, y), softmax_triplet_loss, hard_instance_loss],
)
def test_a_batch_of_one_cluster_has_nothing_to_contrast_and_costs_nothing(loss):
    z = unit_rows(1).requires_grad_()
    found = loss(z, torch.zeros(6, dtype=torch.long), unit_rows(2))
    found.backward()
    assert found.item() == pytest.approx(0.0, abs=1e-12) and z.grad.abs().max().item() < 1e-12


def test_equal_features_give_finite_gradients():
    z = torch.ones(4, 3, requires_grad=True)
    loss = softmax_triplet_loss(z, torch.tensor([0, 0, 1, 1]), torch.ones(4, 3))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2)) and torch.isfinite(z.grad).all()


def test_views_that_agree_cost_nothing():
    z, x = unit_rows(1), batch(1, 6, 5)
    assert instance_consistency_loss(z, z, z).item() == pytest.approx(0.0, abs=1e-12)
    assert probability_distillation_loss(x, x.clone()).item() == 0.0


def test_without_a_last_epoch_rlcc_is_cluster_contrast():
    x = batch(1, 6, 3)
    assert torch.equal(rlcc_loss(x, LABELS, None), cluster_contrast_loss(x, LABELS))


def test_a_posterior_whose_clusters_all_dissolved_makes_rlcc_label_smoothing():
    x = batch(1, 6, 3)
    found = rlcc_loss(x, LABELS, torch.full((6, 3), 1 / 3, dtype=torch.float64), alpha=0.8)
    torch.testing.assert_close(found, label_smoothing_loss(x, LABELS, epsilon=0.2))


def test_a_lone_instance_batch_gives_finite_losses():
    z, x = unit_rows(1, 1), batch(1, 1, 3)
    found = [rival_loss(name, x, FIRST, views_of(x, z)).total for name in NEEDS]
    assert all(torch.isfinite(loss) for loss in found)


# --- by name
# ----------------------------------------------------------------------------------------------------------


def views_of(logits, z):
    return {
        "z": z,
        "ema_z": z.flip(1),
        "ema_logits": logits.flip(1),
        "plain_z": z.roll(1, 1),
        "carried": logits.roll(1, 1).softmax(1),
    }


def test_each_name_leads_to_its_function_with_the_views_in_their_places_and_takes_its_keywords():
    x, z = batch(1, 6, 3), unit_rows(1)
    v = views_of(x, z)
    expected = {
        "label_smoothing": label_smoothing_loss(x, LABELS),
        "mmt": mmt_loss(x, LABELS, v["z"], v["ema_z"], v["ema_logits"]),
        "rlcc": rlcc_loss(x, LABELS, v["carried"]),
        "hdcpd": hdcpd_loss(x, LABELS, v["ema_logits"]),
        "ice": ice_loss(x, LABELS, v["z"], v["ema_z"], v["plain_z"]),
        "spcl": cluster_contrast_loss(x, LABELS),
    }
    assert expected.keys() == NEEDS.keys()
    # no two of them coincide
    assert len({round(loss.item(), 6) for loss in expected.values()}) == 6
    for name, loss in expected.items():
        found = rival_loss(name, x, LABELS, v)
        assert torch.equal(found.total, loss) and torch.equal(
            found.cluster_contrast, cluster_contrast_loss(x, LABELS)
        )
        assert found.gkd.item() == found.skd.item() == 0.0
    assert torch.equal(
        rival_loss("hdcpd", x, LABELS, v, weight=0.0).total,
        cluster_contrast_loss(x, LABELS),
    )


def test_the_defaults_are_the_published_settings():
    x, z, m, g, carried = (
        batch(1, 6, 3),
        unit_rows(1),
        unit_rows(2),
        unit_rows(3),
        batch(4, 6, 3).softmax(1),
    )
    assert torch.equal(
        label_smoothing_loss(x, LABELS), label_smoothing_loss(x, LABELS, epsilon=0.1)
    )
    assert torch.equal(
        mmt_loss(x, LABELS, z, m, -x),
        mmt_loss(x, LABELS, z, m, -x, soft_weight=0.5, soft_triplet_weight=0.8),
    )
    assert torch.equal(
        rlcc_loss(x, LABELS, carried), rlcc_loss(x, LABELS, carried, alpha=0.9)
    )
    assert torch.equal(
        refined_labels(LABELS, carried), refined_labels(LABELS, carried, alpha=0.9)
    )
    assert torch.equal(
        ice_loss(x, LABELS, z, m, g),
        ice_loss(
            x,
            LABELS,
            z,
            m,
            g,
            hard_weight=1.0,
            soft_weight=10.0,
            hard_temperature=0.1,
            soft_temperature=0.4,
        ),
    )
    assert HybridMemory(z, LABELS).momentum == 0.2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("method", NEEDS)
def test_losses_keep_float64_and_compute_in_float32_below(method, dtype):
    x, z = batch(1, 6, 3), unit_rows(1)
    views = {name: view.to(dtype) for name, view in views_of(x, z).items()}
    loss = rival_loss(method, x.to(dtype), LABELS, views).total
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    exact = rival_loss(method, x, LABELS, views_of(x, z)).total.item()
    assert loss.item() == pytest.approx(exact, rel=0.05 if dtype == torch.bfloat16 else 1e-5)


X, Z = torch.zeros(2, 3), torch.eye(2)
TWO = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rival_loss("mutual", X, TWO), "label_smoothing, mmt"),
        (
            lambda: rival_loss("ice", X, TWO, {"z": Z, "ema_z": Z}),
            "needs the view 'plain_z'",
        ),
        (
            lambda: rival_loss("hdcpd", X, TWO, {"ema_logits": None}),
            "needs the view 'ema_logits'",
        ),
        (lambda: rival_loss("rlcc", X, TWO), "needs the view 'carried'"),
        (lambda: label_smoothing_loss(X, TWO, epsilon=1.5), "epsilon=1.5"),
        (lambda: label_smoothing_loss(X, torch.tensor([0, -1])), "outliers"),
        (lambda: mean_teacher_loss(X, torch.zeros(2, 4)), "share one shape"),
        (lambda: mmt_loss(X, TWO, Z, Z, X, soft_triplet_weight=-0.1), "soft_triplet_weight"),
        (lambda: mmt_loss(X, TWO, Z, Z, X, soft_weight=float("nan")), "soft_weight"),
        (lambda: softmax_triplet_loss(Z, TWO, torch.eye(3)), "ema_z must be"),
        (lambda: softmax_triplet_loss(torch.zeros(0, 3), TWO[:0]), "at least one row"),
        (lambda: softmax_triplet_loss(Z * float("nan"), TWO), "z hold NaN"),
        (lambda: softmax_triplet_loss(Z, torch.tensor([0, 1, 2])), "labels"),
        (lambda: rlcc_loss(X, TWO, torch.zeros(2, 2)), "share one shape"),
        (lambda: refined_labels(TWO, X, alpha=2.0), "alpha=2.0"),
        (lambda: refined_labels(TWO, torch.zeros(3)), r"\(N, K\)"),
        (lambda: refined_labels(torch.tensor([0, 3]), X), r"0\.\.2"),
        (
            lambda: probability_distillation_loss(X, torch.full((2, 3), float("inf"))),
            "ema_logits hold NaN or infinity",
        ),
        (lambda: hard_instance_loss(Z, TWO, Z, temperature=0.0), "temperature"),
        (lambda: instance_consistency_loss(Z, Z, Z, temperature=-1.0), "temperature"),
        (lambda: instance_consistency_loss(Z, Z, Z[:1]), "plain_z must be"),
        (lambda: HybridMemory(Z, torch.tensor([0, 2])), "cluster 1 has no image"),
        (lambda: HybridMemory(Z, torch.tensor([0, -2])), "-1 or above"),
        (lambda: HybridMemory(Z, torch.tensor([0.0, 1.0])), "integers"),
        (lambda: HybridMemory(Z, torch.tensor([0])), "integers"),
        (lambda: HybridMemory(2 * Z, TWO), "norm 1"),
        (lambda: HybridMemory(Z, TWO).update(Z, torch.tensor([0, 2])), "from 0 to 1"),
        (lambda: HybridMemory(Z, TWO).logits(Z, 0.0), "temperature"),
        (
            lambda: cluster_contrast_loss(
                HybridMemory(Z, torch.tensor([0, 0])).logits(Z, 1.0), 0 * TWO
            ),
            "needs two",
        ),
    ],
)
def test_bad_input_is_told_in_one_sentence(call, message):
    with pytest.raises(KitError, match=message):
        call()


def test_every_public_loss_names_its_paper():
    papers = ("CVPR 2016", "MMT", "RLCC", "HDCPD", "ICE", "SpCL")
    public = [
        thing
        for name, thing in vars(objectives).items()
        if getattr(thing, "__module__", "") == objectives.__name__
        and not name.startswith("_")
    ]
    assert len(public) == 12
    assert all(
        any(p in thing.__doc__ for p in papers) for thing in public if thing is not rival_loss
    )
