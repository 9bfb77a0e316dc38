"""Cluster memory: centroids and the three updates against loops; M takes no gradient;
bad input is named.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import memory as naive

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.losses import teacher_logits
from dkdmpl_kit.memory import UPDATES, ClusterMemory
from dkdmpl_kit.memory import cluster as memory_module

LABELS = torch.tensor([0, 2, 1, -1, 0, 2, 1, 1])


def unit_rows(seed, n, d=5):
    rows = torch.randn(
        n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return torch.nn.functional.normalize(rows, dim=1)


def assert_close_to_lists(tensor, rows):
    torch.testing.assert_close(
        tensor, torch.tensor(rows, dtype=torch.float64), rtol=1e-10, atol=1e-12
    )


def test_centroids_are_the_normalised_cluster_means_and_outliers_have_no_say():
    features = unit_rows(0, 8)
    memory = ClusterMemory(features, LABELS)
    assert memory.n_clusters == 3
    assert_close_to_lists(
        memory.centroids, naive.centroids(features.tolist(), LABELS.tolist())
    )
    assert torch.equal(memory.features, memory.centroids)
    changed = features.clone()
    changed[3] = -changed[3]  # the outlier
    assert torch.equal(ClusterMemory(changed, LABELS).centroids, memory.centroids)


@given(seed=st.integers(0, 10_000), momentum=st.floats(0.0, 1.0), size=st.integers(1, 12))
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@pytest.mark.parametrize("rule", UPDATES)
def test_an_update_equals_the_loop_one_row_at_a_time(rule, seed, momentum, size):
    memory = ClusterMemory(unit_rows(0, 8), LABELS, momentum=momentum, update=rule)
    expected = memory.features.tolist()
    for step in range(2):  # twice: the second starts from a memory that has moved
        z = unit_rows(seed + step, size)
        labels = torch.randint(
            3, (size,), generator=torch.Generator().manual_seed(seed + step)
        )
        memory.update(z, labels)
        expected = naive.update(expected, z.tolist(), labels.tolist(), momentum, rule)
    assert_close_to_lists(memory.features, expected)


def test_by_hand_one_update_with_momentum_one_half_lands_on_the_bisector():
    memory = ClusterMemory(
        torch.eye(2, dtype=torch.float64), torch.tensor([0, 1]), momentum=0.5
    )
    memory.update(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
    assert_close_to_lists(memory.features, [[0.5**0.5, 0.5**0.5], [0.0, 1.0]])


def test_by_hand_the_mean_is_not_normalised_so_members_that_cancel_leave_the_memory_where_it_was():
    memory = ClusterMemory(
        torch.eye(2, dtype=torch.float64), torch.tensor([0, 1]), momentum=0.5, update="mean"
    )
    memory.update(torch.tensor([[0.0, 1.0], [0.0, -1.0]]), torch.tensor([0, 0]))
    assert_close_to_lists(memory.features, [[1.0, 0.0], [0.0, 1.0]])


def test_by_hand_the_hardest_member_alone_moves_the_memory():
    memory = ClusterMemory(
        torch.eye(2, dtype=torch.float64),
        torch.tensor([0, 1]),
        momentum=0.0,
        update="hardest",
    )
    memory.update(
        torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.6, 0.8]]), torch.tensor([0, 0, 0])
    )
    assert_close_to_lists(memory.features, [[-1.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize("rule", UPDATES)
def test_rows_keep_norm_one_the_centroids_stay_and_clusters_outside_the_batch_do_not_move(
    rule,
):
    memory = ClusterMemory(unit_rows(0, 8), LABELS, update=rule)
    before, frozen = memory.features.clone(), memory.centroids.clone()
    memory.update(unit_rows(1, 4), torch.tensor([0, 0, 2, 0]))
    torch.testing.assert_close(
        memory.features.norm(dim=1), torch.ones(3, dtype=torch.float64)
    )
    assert torch.equal(memory.centroids, frozen)
    assert torch.equal(memory.features[1], before[1]) and not torch.allclose(
        memory.features[0], before[0]
    )


def test_the_order_of_the_batch_matters_to_instance_and_not_to_the_other_rules():
    z, labels = unit_rows(1, 4), torch.zeros(4, dtype=torch.long)
    for rule, same in (("instance", False), ("mean", True), ("hardest", True)):
        a, b = (ClusterMemory(unit_rows(0, 8), LABELS, update=rule) for _ in range(2))
        a.update(z, labels)
        b.update(z.flip(0), labels)
        assert torch.allclose(a.features, b.features) is same


def test_logits_are_similarities_over_the_temperature_and_the_gradient_reaches_z_alone():
    memory = ClusterMemory(unit_rows(0, 8), LABELS)
    z = unit_rows(1, 4).requires_grad_()
    logits = memory.logits(z, 0.05)
    torch.testing.assert_close(logits, z @ memory.features.T / 0.05)
    logits.sum().backward()
    torch.testing.assert_close(z.grad, (memory.features.sum(0) / 0.05).expand(4, -1))
    assert not memory.features.requires_grad and not memory.centroids.requires_grad


def test_features_and_batches_that_carry_a_graph_leave_the_memory_without_one():
    memory = ClusterMemory(unit_rows(0, 8).requires_grad_(), LABELS)
    memory.update(unit_rows(1, 3).requires_grad_(), torch.tensor([0, 1, 1]))
    assert not memory.features.requires_grad and memory.features.grad_fn is None


@pytest.mark.parametrize("rule", UPDATES)
def test_an_update_before_the_backward_pass_is_refused_by_autograd_instead_of_giving_a_wrong_gradient(
    rule,
):
    memory = ClusterMemory(unit_rows(0, 8), LABELS, update=rule)
    z = unit_rows(1, 3).requires_grad_()
    loss = memory.logits(z, 1.0).sum()
    memory.update(z, torch.tensor([0, 1, 2]))
    with pytest.raises(RuntimeError, match="inplace operation"):
        loss.backward()


def test_an_update_after_the_backward_pass_leaves_the_gradient_of_the_memory_as_it_was():
    memory = ClusterMemory(unit_rows(0, 8), LABELS)
    z = unit_rows(1, 3).requires_grad_()
    start = memory.features.clone()
    memory.logits(z, 1.0).sum().backward()
    memory.update(z, torch.tensor([0, 1, 2]))
    torch.testing.assert_close(z.grad, start.sum(0).expand(3, -1))


@pytest.mark.parametrize("move", [memory_module._move_in_turn, memory_module._move_in_rounds])
@pytest.mark.parametrize(
    ("n_clusters", "labels"),
    [
        (1, [0, 0, 0]),
        (1, [0]),
        (3, [2]),
        (3, [2, 0, 2, 2, 2, 2, 2, 1]),
        (40, list(range(40)) * 2),
        (2, [1] * 200 + [0]),
    ],
)
@pytest.mark.parametrize("momentum", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)]
)
def test_both_ways_to_take_the_members_in_turn_equal_the_loop(
    move, n_clusters, labels, momentum, dtype, tolerance
):
    """On the CPU a compiled loop, elsewhere rounds over the clusters: one cluster, one
    member, unequal counts.
    """
    rows, z = unit_rows(3, n_clusters, d=33), unit_rows(4, len(labels), d=33)
    moved = rows.to(dtype, copy=True)
    move(moved, z.to(dtype), torch.tensor(labels), momentum)
    expected = torch.tensor(
        naive.update(rows.tolist(), z.tolist(), labels, momentum, "instance"),
        dtype=torch.float64,
    )
    torch.testing.assert_close(moved.double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("rule", UPDATES)
def test_members_that_cancel_the_memory_leave_a_row_of_zeros_and_no_nan(rule):
    memory = ClusterMemory(torch.eye(2), torch.tensor([0, 1]), momentum=0.5, update=rule)
    memory.update(torch.tensor([[-1.0, 0.0]]), torch.tensor([0]))
    assert torch.equal(memory.features, torch.tensor([[0.0, 0.0], [0.0, 1.0]]))


def test_views_and_small_integers_update_as_whole_tensors_do():
    one, two = (ClusterMemory(unit_rows(0, 8).float(), LABELS) for _ in range(2))
    z, labels = unit_rows(1, 6).float(), torch.tensor([0, 1, 2, 0, 1, 2])
    one.update(z[::2], labels[::2])
    two.update(z[::2].clone(), labels[::2].clone().to(torch.int16))
    assert torch.equal(one.features, two.features) and not torch.equal(
        one.features, one.centroids
    )


def test_teacher_logits_use_the_frozen_centroids_also_after_an_update():
    memory = ClusterMemory(unit_rows(0, 8), LABELS)
    v = unit_rows(2, 3)
    before = teacher_logits(
        "sample", centroids=memory.centroids, features=v, temperature=0.05
    )
    memory.update(unit_rows(1, 3), torch.tensor([0, 1, 2]))
    assert torch.equal(
        teacher_logits("sample", centroids=memory.centroids, features=v, temperature=0.05),
        before,
    )
    assert not torch.allclose(memory.logits(v, 0.05), before)


def test_numpy_arrays_and_half_precision_are_taken_and_kept_in_float32():
    features = unit_rows(0, 8).numpy().astype(np.float16)
    memory = ClusterMemory(features, LABELS.numpy())
    assert memory.features.dtype == torch.float32
    memory.update(unit_rows(1, 2).bfloat16(), torch.tensor([0, 1]))
    assert memory.logits(unit_rows(1, 2).bfloat16(), 0.05).dtype == torch.float32


def test_logits_stay_in_float32_under_autocast():
    memory = ClusterMemory(unit_rows(0, 8).float(), LABELS)
    z = unit_rows(1, 4).float()
    with torch.autocast("cpu", torch.bfloat16):
        logits = memory.logits(z, 0.05)
    assert torch.equal(logits, memory.logits(z, 0.05))


UNIT = unit_rows(0, 4)


def fresh():
    return ClusterMemory(UNIT, torch.tensor([0, 1, 1, 0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ClusterMemory(UNIT, torch.full((4,), -1)), "every label is -1"),
        (lambda: ClusterMemory(UNIT, torch.tensor([0, 2, 2, -1])), "cluster 1 has no image"),
        (lambda: ClusterMemory(UNIT, torch.tensor([0, -2, 0, 0])), "from -1"),
        (lambda: ClusterMemory(UNIT, torch.tensor([0.0, 1.0, 1.0, 0.0])), "integers"),
        (lambda: ClusterMemory(UNIT, torch.tensor([0, 1])), "must fit"),
        (lambda: ClusterMemory(UNIT[:0], torch.zeros(0, dtype=torch.long)), "must fit"),
        (lambda: ClusterMemory(2 * UNIT, torch.tensor([0, 1, 1, 0])), "norm 1"),
        (lambda: ClusterMemory(UNIT * float("nan"), torch.tensor([0, 1, 1, 0])), "finite"),
        (lambda: ClusterMemory(UNIT, torch.tensor([0, 1, 1, 0]), momentum=1.5), "momentum"),
        (
            lambda: ClusterMemory(UNIT, torch.tensor([0, 1, 1, 0]), update="median"),
            "instance, mean, hardest",
        ),
        (lambda: fresh().update(UNIT, torch.tensor([0, 1, 2, 0])), "from 0 to 1"),
        (lambda: fresh().update(UNIT, torch.tensor([0, 1, -1, 0])), "from 0 to 1"),
        (lambda: fresh().update(UNIT[:0], torch.zeros(0, dtype=torch.long)), "must fit"),
        (lambda: fresh().update(UNIT * float("nan"), torch.tensor([0, 1, 1, 0])), "finite"),
        (lambda: fresh().logits(UNIT, 0.0), "temperature"),
        (lambda: fresh().logits(UNIT[:, :3], 0.05), "do not fit"),
    ],
)
def test_bad_input_is_told_in_one_sentence(call, message):
    with pytest.raises(KitError, match=message):
        call()


def test_a_refused_update_leaves_the_memory_as_it_was():
    memory = fresh()
    before = memory.features.clone()
    with pytest.raises(KitError):
        memory.update(UNIT, torch.tensor([0, 1, 7, 0]))
    assert torch.equal(memory.features, before)


def test_the_memory_keeps_the_classes_to_train_on_and_moves_by_image():
    features = unit_rows(0, 8)
    memory = ClusterMemory(features, LABELS)
    assert memory.classes.tolist() == LABELS.tolist() and len(memory.outliers) == 0
    images = torch.tensor([i for i, label in enumerate(LABELS) if label >= 0][:2])
    by_label = ClusterMemory(features, LABELS)
    by_label.update(features[images], memory.classes[images])
    memory.remember(features[images], images)
    assert torch.equal(memory.features, by_label.features)
    assert not torch.equal(memory.features, memory.centroids)
