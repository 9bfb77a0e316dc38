"""Notebook 05's checks, attacked: wrong answers get no "right", right ones in any form do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dkdmpl_kit.lessons.checks import training
from dkdmpl_kit.memory import ClusterMemory

K = 4  # pictures of a cluster in a batch
CAMIDS = np.random.default_rng(0).integers(0, 3, 60)


def memory_after() -> ClusterMemory:
    generator = torch.Generator().manual_seed(1)
    z = F.normalize(torch.randn(12, 6, generator=generator), dim=1)
    memory = ClusterMemory(z, torch.arange(12) % 4)
    memory.update(
        F.normalize(torch.randn(6, 6, generator=generator), dim=1),
        torch.tensor([0, 0, 1, 1, 3, 3]),
    )
    return memory


MEMORY = memory_after()
check = training.checks(CAMIDS, K, MEMORY)


def rows(batch):
    return CAMIDS[batch].reshape(-1, K)


def other(batch):
    return (rows(batch)[:, 1:] != rows(batch)[:, :1]).mean()


@pytest.mark.parametrize(
    "answer",
    [
        [0.9, 0.6],  # a list typed in
        0.66,
        lambda b: 0.66,
        lambda b: 100 * other(b),
        lambda b: 1 - other(b),
        lambda b: (rows(b) != rows(b)[:, :1]).mean(),  # the first counted as well
        lambda b: (rows(b)[:, 1:] != rows(b)[:, :-1]).mean(),  # with the one before
        lambda b: (rows(b)[:, 1:] != rows(b)[:, :1]).sum(),
        lambda b: (rows(b)[:, 1:] != rows(b)[:, :1]).any(axis=1).mean(),
        lambda b: (CAMIDS[b].reshape(K, -1)[1:] != CAMIDS[b].reshape(K, -1)[:1]).mean(),
        lambda b: (rows(b)[:, :-1] != rows(b)[:, -1:]).mean(),  # with the last
        lambda b: (b.reshape(-1, K)[:, 1:] != b.reshape(-1, K)[:, :1]).mean(),  # no cameras
        lambda b: (rows(b)[:, :, None] != rows(b)[:, None]).mean(),  # all pairs
        lambda b: (CAMIDS[b][1:] != CAMIDS[b][0]).mean(),  # the whole batch as one cluster
        lambda b: np.mean([len(set(r)) for r in rows(b)]) / K,
        lambda b: other(b[: 2 * K]),  # two clusters only
        lambda b: rows(b),
        other(np.arange(8)),
        None,
    ],
)
def test_a_wrong_share_of_batch_mates_is_not_right(answer):
    assert not check(1, answer)


def by_counting(batch):
    hits = total = 0
    for start in range(0, len(batch), K):
        first, *mates = batch[start : start + K]
        hits += sum(CAMIDS[mate] != CAMIDS[first] for mate in mates)
        total += len(mates)
    return hits / total


@pytest.mark.parametrize(
    "answer",
    [
        other,
        by_counting,
        lambda b: float(other(b)),
        lambda b: np.float32(other(b)),
        lambda b: torch.tensor(other(b)),
    ],
)
def test_a_right_share_is_right_in_any_form(answer):
    assert check(1, answer)


def test_without_cameras_the_first_exercise_cannot_be_checked(capsys):
    assert not training.checks(None, K, MEMORY)(1, other)
    assert "cannot be checked" in capsys.readouterr().out


def step(row, one, m):
    row = m * row + (1 - m) * one
    return row / (row**2).sum() ** 0.5


def in_turn(row, z, m):
    for one in z:
        row = step(row, one, m)
    return row


def without_length(row, z, m):
    for one in z:
        row = m * row + (1 - m) * one
    return row


def each_of_the_old(row, z, m):
    for one in z:
        new = step(row, one, m)
    return new


@pytest.mark.parametrize(
    "answer",
    [
        without_length,
        lambda row, z, m: F.normalize(without_length(row, z, m), dim=0),
        lambda row, z, m: in_turn(row, z, 1 - m),
        lambda row, z, m: in_turn(row, z.flip(0), m),
        lambda row, z, m: in_turn(row, z[-1:], m),
        lambda row, z, m: in_turn(row, z[:1], m),
        lambda row, z, m: step(row, z.mean(0), m),
        lambda row, z, m: step(row, F.normalize(z.mean(0), dim=0), m),
        lambda row, z, m: step(row, z.sum(0), m),
        lambda row, z, m: row,
        lambda row, z, m: in_turn(row, z, 0.1),  # m typed in
        lambda row, z, m: -in_turn(row, z, m),
        lambda row, z, m: in_turn(row, z, m)[None],
        lambda row, z, m: in_turn(row, z, m) / 2,
        each_of_the_old,
        lambda row, z, m: (
            in_turn(row, z, m) / abs(in_turn(row, z, m)).sum()
        ),  # another length
        in_turn(MEMORY.features[0], MEMORY.centroids[:2], 0.1),
        None,
    ],
)
def test_a_row_that_moved_in_another_way_is_not_right(answer):
    assert not check(2, answer)


@pytest.mark.parametrize(
    "answer",
    [
        in_turn,
        lambda row, z, m: in_turn(row.numpy(), z.numpy(), m),
        lambda row, z, m: in_turn(row.numpy(), z.numpy(), m).tolist(),
        lambda row, z, m: in_turn(row.float(), z.float(), m),
    ],
)
def test_a_row_that_moved_as_the_kits_is_right(answer):
    assert check(2, answer)


M, C = MEMORY.features, MEMORY.centroids
COSINES = (M * C).sum(1)


@pytest.mark.parametrize(
    "answer",
    [
        1 - COSINES,
        COSINES.arccos(),
        torch.ones(4),
        (M * M).sum(1),
        (M - C).norm(dim=1),
        M @ C.T,
        (M @ C.T).max(1).values * 0.9,
        COSINES.mean(),
        (M * C).sum(0),
        COSINES.flip(0),
        COSINES.sort().values,
        COSINES[:3],
        100 * COSINES,
        COSINES**2,
        -COSINES,
        None,
        "0.9",
    ],
)
def test_other_numbers_than_the_cosines_are_not_right(answer):
    assert not check(3, answer)


@pytest.mark.parametrize(
    "answer",
    [
        COSINES,
        COSINES.tolist(),
        COSINES.double().numpy(),
        F.cosine_similarity(M, C),
        (M @ C.T).diagonal(),
    ],
)
def test_the_cosines_are_right_in_any_form(answer):
    assert check(3, answer)
