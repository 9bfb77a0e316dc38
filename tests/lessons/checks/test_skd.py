"""Notebook 04's checks under attack: plausible wrong answers fail, right variants pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dkdmpl_kit.lessons.checks.skd import checks
from dkdmpl_kit.losses import positive_anchors, skd_loss

torch.manual_seed(1)
Y = torch.tensor([0] * 4 + [1] * 4 + [2] * 3 + [3])  # the last picture is alone
CENTRES = F.normalize(torch.randn(4, 10), dim=1)
Z = F.normalize(CENTRES[Y] + 0.4 * torch.randn(12, 10), dim=1)
LOGITS = Z @ CENTRES.T / 0.1
HARDEST = positive_anchors(Z, Y, strategy="hardest")
ANCHOR_LOGITS = LOGITS[HARDEST] + 0.1 * torch.randn(12, 4)
ROW, B, K = 5, 12, 4
CHECK = checks(z=Z, y=Y, logits=LOGITS, anchor_logits=ANCHOR_LOGITS, hardest=HARDEST, row=ROW)

MATES = (Y[:, None] == Y) & ~torch.eye(B, dtype=torch.bool)
MATES[11, 11] = True
SIMILARITY = Z @ Z.T
RIGHT_1 = SIMILARITY.masked_fill(~MATES, -torch.inf).argmax(1)
ONE_OFF = RIGHT_1.clone()
ONE_OFF[3] = HARDEST[3]
WRONG_1 = {
    "the hardest": HARDEST,
    "itself": torch.arange(B),
    "itself, by a similarity that includes it": SIMILARITY.argmax(1),
    "any cluster": SIMILARITY.masked_fill(torch.eye(B, dtype=torch.bool), -2).argmax(1),
    "the least similar of all": SIMILARITY.argmin(1),
    "one row wrong": ONE_OFF,
    "numbers of the data set": RIGHT_1 + 100,
    "off by one": RIGHT_1 - 1,
    "the next picture": (torch.arange(B) + 1) % B,
    "fractions": RIGHT_1.double() + 0.5,
    "the similarities": SIMILARITY.masked_fill(~MATES, -2).amax(1),
    "a column": RIGHT_1[:, None],
    "a matrix": MATES,
    "all but one": RIGHT_1[:-1],
    "true and false": torch.ones(B, dtype=torch.bool),
    "the labels": Y,
    "backwards": RIGHT_1.flip(0),
    "the whole order": SIMILARITY.argsort(dim=1, descending=True),
}

ONE_ROW = torch.zeros(B, K)
ONE_ROW[7, 2] = 1.0
WRONG_2 = {
    "the logits of the batch": LOGITS,
    "the anchors' logits": ANCHOR_LOGITS,
    "the hard labels, very sure": 60.0 * F.one_hot(Y, K).float(),
    "hard labels": F.one_hot(Y, K).float(),
    "one row differs": ONE_ROW,
    "one row": torch.zeros(K),
    "transposed": torch.zeros(K, B),
    "a number": 0.0,
    "infinite": torch.full((B, K), torch.inf),
    "not a number": torch.full((B, K), torch.nan),
    "minus infinity": torch.tensor([0.0, -torch.inf, -torch.inf, -torch.inf]).repeat(B, 1),
    "random": torch.randn(B, K),
    "the mean of each cluster": torch.stack([LOGITS[Y == k].mean(0) for k in Y]),
    "small logits": 0.3 * LOGITS,
    "counting": torch.arange(B * K).reshape(B, K) ** 0.5,
    "no answer's kind": "zeros",
}


def rise(divergence: str, *, row=ROW, cluster=None, size=20.0, query=LOGITS) -> float:
    """How much one absurd anchor adds to the loss."""
    strange = ANCHOR_LOGITS.clone()
    strange[row] = -size
    strange[row, (int(Y[row]) + 1 if cluster is None else cluster) % K] = size
    before, after = (
        skd_loss(query, x, divergence=divergence) for x in (ANCHOR_LOGITS, strange)
    )
    return float(after - before)


KINDS = ("kl", "symmetric_kl", "js")
RIGHT_3 = [rise(kind) for kind in KINDS]
BEFORE = np.array([float(skd_loss(LOGITS, ANCHOR_LOGITS, divergence=kind)) for kind in KINDS])
NUMBERS = np.array(RIGHT_3)
WRONG_3 = {
    "with it": NUMBERS + BEFORE,
    "without it": BEFORE,
    "ratios": (NUMBERS + BEFORE) / BEFORE,
    "the sum over the batch": B * NUMBERS,
    "the mean twice": NUMBERS / B,
    "the other sign": -NUMBERS,
    "another order": NUMBERS[::-1],
    "the first two exchanged": NUMBERS[[1, 0, 2]],
    "base 2": NUMBERS / np.log(2),
    "per cent": 100 * NUMBERS,
    "a twentieth less sure": [rise(kind, size=2.0) for kind in KINDS],
    "the query's own cluster": [rise(kind, cluster=int(Y[ROW])) for kind in KINDS],
    "the cluster two after": [rise(kind, cluster=int(Y[ROW]) + 2) for kind in KINDS],
    "another query": [rise(kind, row=0) for kind in KINDS],
    "kl three times": [RIGHT_3[0]] * 3,
    "two numbers": RIGHT_3[:2],
    "a number": RIGHT_3[0],
    "the bound for js": [RIGHT_3[0], RIGHT_3[1], np.log(2) / B],
    "rounded": np.round(NUMBERS, 1),
}


@pytest.mark.parametrize("name", WRONG_1)
def test_wrong_anchors_are_rejected(name):
    assert not CHECK(1, WRONG_1[name])


@pytest.mark.parametrize("name", WRONG_2)
def test_logits_that_know_something_or_cost_something_are_rejected(name):
    assert not CHECK(2, WRONG_2[name])


@pytest.mark.parametrize("name", WRONG_3)
def test_wrong_rises_are_rejected(name):
    assert not CHECK(3, WRONG_3[name])


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x,
        lambda x: x.numpy(),
        lambda x: x.tolist(),
        lambda x: x.numpy().astype("int32"),
    ],
)
def test_the_easiest_anchors_pass_as_tensor_array_or_list(form):
    assert CHECK(1, form(RIGHT_1))


@pytest.mark.parametrize(
    "logits",
    [
        torch.zeros(B, K),
        np.ones((B, K)),
        [[0.5] * K] * B,
        torch.randn(1, K).repeat(B, 1),
        torch.arange(B)[:, None].expand(B, K),
        LOGITS.mean(0, keepdim=True).expand(B, K).double(),
    ],
)
def test_any_logits_that_say_the_same_of_all_pictures_pass(logits):
    assert CHECK(2, logits)


def test_the_rises_pass_as_list_array_tensor_or_in_double_precision():
    for form in (list, np.array, torch.tensor, lambda x: np.array(x, np.float32)):
        assert CHECK(3, form(RIGHT_3))
    double = [
        float(
            skd_loss(LOGITS.double(), after, divergence=kind)
            - skd_loss(LOGITS.double(), ANCHOR_LOGITS.double(), divergence=kind)
        )
        for kind in KINDS
        for after in [_replaced().double()]
    ]
    assert CHECK(3, double)


def _replaced() -> torch.Tensor:
    strange = ANCHOR_LOGITS.clone()
    strange[ROW] = -20.0
    strange[ROW, (int(Y[ROW]) + 1) % K] = 20.0
    return strange


def test_of_two_mates_that_are_equally_similar_either_may_be_chosen():
    z = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.1], [0.0, 1.0]]), dim=1)
    y = torch.tensor([0, 0, 0, 1])
    logits = torch.randn(4, 2)
    hardest = positive_anchors(z, y, strategy="hardest")
    check = checks(z=z, y=y, logits=logits, anchor_logits=logits, hardest=hardest, row=0)
    assert check(1, [1, 2, 1, 3]) and check(1, [2, 2, 1, 3])
    assert not check(1, [1, 0, 1, 3])
    assert not check(1, [1, 2, 1, 0]), "who is alone keeps itself"


def test_a_mistake_is_named(capsys):
    for number, answer, words in (
        (1, WRONG_1["the hardest"], "those are the hardest anchors"),
        (1, WRONG_1["itself"], "leave j = i out"),
        (1, WRONG_1["numbers of the data set"], "not numbers of pictures"),
        (2, WRONG_2["the hard labels, very sure"], "still differ between pictures"),
        (3, WRONG_3["with it"], "subtract the loss without it"),
        (3, WRONG_3["the query's own cluster"], "the cluster after the query's own"),
        (3, WRONG_3["the sum over the batch"], "mean over the batch is missing"),
    ):
        assert not CHECK(number, answer)
        assert words in capsys.readouterr().out
