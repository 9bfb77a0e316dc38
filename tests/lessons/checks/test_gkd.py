"""Notebook 03's checks under attack: plausible wrong answers fail, right variants pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dkdmpl_kit.lessons.checks.gkd import checks

torch.manual_seed(0)
TAU, TAU_T = 0.05, 0.03
LABELS = torch.tensor([0] * 6 + [1] * 5 + [2] * 4 + [-1] * 5)
CENTRES = F.normalize(torch.randn(3, 12), dim=1)
V = F.normalize(CENTRES[LABELS.clamp_min(0)] + 0.35 * torch.randn(20, 12), dim=1)
V[15:] = F.normalize(
    CENTRES.mean(0) + 0.2 * torch.randn(5, 12), dim=1
)  # outliers lie between
SUMS = torch.zeros(3, 12).index_add_(0, LABELS[:15], V[:15])
C = F.normalize(SUMS, dim=1)
STUDENT = V[:8] @ C.T / TAU + torch.randn(8, 3)
TEACHER = V[:8] @ C.T / TAU_T
CHECK = checks(
    student=STUDENT, teacher=TEACHER, v=V, labels=LABELS, C=C, tau=TAU, tau_t=TAU_T
)


def reverse(student=STUDENT, teacher=TEACHER) -> torch.Tensor:
    """The right gradient, by autograd."""
    leaf = student.clone().double().requires_grad_()
    q, e = torch.softmax(leaf, 1), torch.softmax(teacher.double(), 1)
    return torch.autograd.grad((q * (q / e).log()).sum(1).mean(), leaf)[0]


Q, E = torch.softmax(STUDENT, 1).double(), torch.softmax(TEACHER, 1).double()
G = Q.log() - E.log()
RIGHT_1 = reverse()
WRONG_1 = {
    "the kit's direction": (Q - E) / 8,
    "the sum over the batch": RIGHT_1 * 8,
    "the mean twice": RIGHT_1 / 8,
    "the other sign": -RIGHT_1,
    "no second term": Q * G / 8,
    "the mean over the clusters": Q * (G - G.mean(1, keepdim=True)) / 8,
    "a sum over the batch in the second term": Q * (G - (Q * G).sum()) / 8,
    "base 2": RIGHT_1 / np.log(2),
    "transposed": RIGHT_1.T,
    "one row": RIGHT_1[0],
    "half": RIGHT_1 / 2,
    "g without q": (G - (Q * G).sum(1, keepdim=True)) / 8,
    "q and e exchanged": reverse(TEACHER, STUDENT),
    "at temperature 2": reverse(STUDENT / 2, TEACHER / 2),
    "the loss itself": (Q * G).sum(1).mean(),
    "random": torch.randn(8, 3),
    "zeros": torch.zeros(8, 3),
    "a word": "q - e",
}


def left_out(tau=TAU_T, rows=range(15), own=None) -> torch.Tensor:
    """The right soft labels, picture by picture."""
    found = []
    for i in rows:
        members = [j for j in range(15) if LABELS[j] == LABELS[i] and j != i]
        centroids = C.clone()
        mean = V[members].mean(0)
        centroids[LABELS[i]] = F.normalize(mean, dim=0) if own is None else own(mean, i)
        found.append(torch.softmax(centroids @ V[i] / tau, dim=0))
    return torch.stack(found)


RIGHT_2 = left_out()
NINE = torch.softmax(V[:15] @ C.T / TAU_T, dim=1)
NINE[::2] = RIGHT_2[::2]
SHIFTED = RIGHT_2.roll(1, dims=0)
WRONG_2 = {
    "nothing left out": torch.softmax(V[:15] @ C.T / TAU_T, dim=1),
    "right in every second row": NINE,
    "right in all rows but the last": torch.cat([RIGHT_2[:-1], E[:1].float()]),
    "tau for tau_t": left_out(TAU),
    "no temperature": left_out(1.0),
    "half the temperature": left_out(TAU_T / 2),
    "a mean that is not normalised": left_out(own=lambda mean, i: mean),
    "a sum that is not normalised": left_out(
        own=lambda mean, i: mean * (int((LABELS == LABELS[i]).sum()) - 1)
    ),
    "the picture taken from C": left_out(
        own=lambda mean, i: F.normalize(C[LABELS[i]] - V[i], dim=0)
    ),
    "all pictures, outliers too": torch.softmax(V @ C.T / TAU_T, dim=1),
    "transposed": RIGHT_2.T,
    "logits": RIGHT_2.log(),
    "hard labels": F.one_hot(LABELS[:15], 3).float(),
    "even labels": torch.full((15, 3), 1 / 3),
    "rows in another order": SHIFTED,
    "the own cluster's column alone": RIGHT_2[torch.arange(15), LABELS[:15]],
    "not a number": torch.full((15, 3), torch.nan),
    "the first eight": RIGHT_2[:8],
    "random": torch.softmax(torch.randn(15, 3), dim=1),
}

SURE = torch.softmax(V @ C.T / TAU_T, dim=1)
RIGHT_3 = SURE[15:].max(1).values.mean()
WRONG_3 = {
    "clustered pictures": SURE[:15].max(1).values.mean(),
    "all pictures": SURE.max(1).values.mean(),
    "per cent": 100 * RIGHT_3,
    "the rest": 1 - RIGHT_3,
    "mean over clusters": SURE[15:].mean(),
    "the largest of all": SURE[15:].max(),
    "the least": SURE[15:].max(1).values.min(),
    "the sum": SURE[15:].max(1).values.sum(),
    "tau for tau_t": torch.softmax(V[15:] @ C.T / TAU, dim=1).max(1).values.mean(),
    "similarities": (V[15:] @ C.T).max(1).values.mean(),
    "the median": SURE[15:].max(1).values.median(),
    "one a picture": SURE[15:].max(1).values,
    "their number": 5,
    "the favourite's number": float(SURE[15:].argmax(1).float().mean()),
    "two digits": 0.5,
}


@pytest.mark.parametrize("name", WRONG_1)
def test_a_wrong_gradient_is_rejected(name):
    assert not CHECK(1, WRONG_1[name])


@pytest.mark.parametrize("name", WRONG_2)
def test_wrong_soft_labels_are_rejected(name):
    assert not CHECK(2, WRONG_2[name])


@pytest.mark.parametrize("name", WRONG_3)
def test_a_wrong_mean_is_rejected(name):
    assert not CHECK(3, WRONG_3[name])


@pytest.mark.parametrize(
    "form", [lambda x: x, lambda x: x.numpy(), lambda x: x.tolist(), lambda x: x.float()]
)
def test_right_answers_pass_as_tensor_array_list_or_in_single_precision(form):
    assert CHECK(1, form(RIGHT_1))
    assert CHECK(1, form(Q * (G - (Q * G).sum(1, keepdim=True)) / 8))
    assert CHECK(2, form(RIGHT_2))
    assert CHECK(2, form(RIGHT_2.double()))
    assert CHECK(3, form(RIGHT_3))


def test_a_mistake_is_named_and_the_hint_is_true(capsys):
    assert not CHECK(2, WRONG_2["a mean that is not normalised"])
    assert "back to length 1" in capsys.readouterr().out
    assert not CHECK(2, WRONG_2["tau for tau_t"])
    assert "tau_t, not tau" in capsys.readouterr().out
    assert not CHECK(2, NINE)
    off = (NINE - RIGHT_2).abs().amax(1) > 1e-4
    assert (
        f"{int(off.sum())} of its 15 rows differ, the first at index 1"
        in capsys.readouterr().out
    )
    assert not CHECK(2, WRONG_2["hard labels"])
    assert "those are hard labels" in capsys.readouterr().out
    assert not CHECK(1, WRONG_1["no second term"])
    assert "second term" in capsys.readouterr().out
    assert not CHECK(3, WRONG_3["clustered pictures"])
    assert "clustered pictures" in capsys.readouterr().out


def test_a_picture_alone_in_its_cluster_may_have_any_row_and_without_outliers_3_is_not_asked():
    labels = LABELS.clamp_min(0).clone()
    labels[0] = 3
    alone = F.normalize(torch.zeros(4, 12).index_add_(0, labels, V), dim=1)
    check = checks(
        student=STUDENT, teacher=TEACHER, v=V, labels=labels, C=alone, tau=TAU, tau_t=TAU_T
    )
    sums = torch.zeros(4, 12).index_add_(0, labels, V)
    logits = V @ alone.T
    own = F.normalize(sums[labels] - V, dim=1)
    logits[torch.arange(20), labels] = (V * own).sum(1)
    answer = torch.softmax(logits / TAU_T, dim=1)
    assert check(2, answer)
    answer[0] = 0.25
    assert check(2, answer)
    answer[1] = 0.25
    assert not check(2, answer)
    assert not check(3, 0.9)
