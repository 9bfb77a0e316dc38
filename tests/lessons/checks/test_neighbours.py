"""The checks of notebook 09, attacked: wrong answers that look right, and right ones in
other forms.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dkdmpl_kit.lessons.checks.neighbours import checks

B, K, EPOCHS, ITERATIONS = 6, 5, 4, 30
STEPS = EPOCHS * ITERATIONS
SHARE = 0.999**STEPS


def batch():
    draws = torch.Generator().manual_seed(3)
    y = torch.randint(K, (B,), generator=draws)
    q, p = (torch.randn(B, K, generator=draws).double().mul(1.5).softmax(1) for _ in range(2))
    return F.one_hot(y, K).double(), q, p


HARD, Q, P = batch()
GAP = Q - P
RIGHT_2 = 2 * Q * (GAP - (Q * GAP).sum(1, keepdim=True)) / B


@pytest.fixture
def check():
    return checks(HARD, Q, P, epochs=EPOCHS, iterations=ITERATIONS)


WRONG = {
    1: {
        "divided by its sum": (HARD + P) / 2,
        "lambda_g 0.5": HARD + 0.5 * P,
        "lambda_g 2": HARD + 2 * P,
        "weights as in MMT, once": 0.5 * HARD + P,
        "the student's own": HARD + Q,
        "both predictions": HARD + P + Q,
        "the hard label alone": HARD,
        "the prediction alone": P,
        "minus": HARD - P,
        "a product": HARD * P,
        "rows reversed": (HARD + P).flip(0),
        "transposed": (HARD + P).T,
        "hard prediction": HARD + F.one_hot(P.argmax(1), K),
        "mean over the batch": (HARD + P).mean(0),
        "one number": 2.0,
        "rounded": (HARD + P).round(decimals=1),
        "lambda_g itself": 1.0,
        "text": "lambda_g = 1",
    },
    2: {
        "no mean over the batch": RIGHT_2 * B,
        "mean over all numbers": RIGHT_2 / K,
        "mean twice": RIGHT_2 / B,
        "without the 2": RIGHT_2 / 2,
        "the sign": -RIGHT_2,
        "not centred": 2 * Q * GAP / B,
        "by q": 2 * GAP / B,
        "the cross entropy's": GAP / B,
        "centred by p": 2 * Q * (GAP - (P * GAP).sum(1, keepdim=True)) / B,
        "centred by the plain mean": 2 * Q * (GAP - GAP.mean(1, keepdim=True)) / B,
        "factor p": 2 * P * (GAP - (Q * GAP).sum(1, keepdim=True)) / B,
        "sum over the batch in the centre": 2 * Q * (GAP - (Q * GAP).sum()) / B,
        "transposed": RIGHT_2.T,
        "rows reversed": RIGHT_2.flip(0),
        "the loss": (GAP**2).sum(1).mean(),
        "zero": torch.zeros(B, K),
        "NaN": torch.full((B, K), torch.nan),
    },
    3: {
        "692.8": (SHARE, float(np.log(0.5) / np.log(0.999))),
        "692": (SHARE, 692),
        "694": (SHARE, 694),
        "half of 1000": (SHARE, 500),
        "by epochs": (0.999**EPOCHS, 693),
        "by batches": (0.999**ITERATIONS, 693),
        "learnt": (1 - SHARE, 693),
        "per cent": (100 * SHARE, 693),
        "a step less": (0.999 ** (STEPS - 1), 693),
        "a step more": (0.999 ** (STEPS + 1), 693),
        "linear": (1 - 0.001 * STEPS, 693),
        "mu 0.99": (0.99**STEPS, 69),
        "reversed": (693, SHARE),
        "exp without a minus": (float(np.exp(0.001 * STEPS)), 693),
        "the logarithm": (float(np.log(SHARE)), 693),
        "of one number": SHARE,
        "three numbers": (SHARE, 693, 0.5),
        "rounded to nothing": (round(SHARE, 1), 693),
    },
}
RIGHT = {
    1: {
        "float32": (HARD + P).float(),
        "numpy": (HARD + P).numpy(),
        "list": (HARD + P).tolist(),
        "twice the half": 2 * (0.5 * HARD + 0.5 * P),
    },
    2: {
        "float32": RIGHT_2.float(),
        "numpy": RIGHT_2.numpy(),
        "with a gradient": RIGHT_2.clone().requires_grad_(),
        "by the Jacobian": torch.stack(
            [(torch.diag(q) - torch.outer(q, q)) @ (2 * g) / B for q, g in zip(Q, GAP)]
        ),
    },
    3: {
        "tuple": (SHARE, 693),
        "list of floats": [SHARE, 693.0],
        "rounded to four places": (round(SHARE, 4), 693),
        "numpy": np.array([SHARE, 693]),
        "float64 tensor": torch.tensor([SHARE, 693.0], dtype=torch.float64),
    },
}


@pytest.mark.parametrize("number, name", [(n, name) for n in WRONG for name in WRONG[n]])
def test_a_wrong_answer_is_rejected(check, capsys, number, name):
    assert len(WRONG[number]) >= 10
    assert not check(number, WRONG[number][name])
    assert "not yet" in capsys.readouterr().out


@pytest.mark.parametrize("number, name", [(n, name) for n in RIGHT for name in RIGHT[n]])
def test_a_right_answer_passes_in_any_form(check, number, name):
    assert check(number, RIGHT[number][name])


@pytest.mark.parametrize(
    "number, name, hint",
    [
        (1, "lambda_g 0.5", "weight is not 0.5"),
        (1, "the student's own", "slow copy is asked for"),
        (2, "not centred", "subtract the mean"),
        (2, "the cross entropy's", "cross entropy with p"),
        (2, "no mean over the batch", "mean over the batch is missing"),
        (3, "692.8", "the number: it holds fractions"),
        (3, "692", "one more"),
        (3, "by epochs", "count the steps"),
        (3, "learnt", "still holds"),
        (3, "of one number", "two numbers"),
    ],
)
def test_a_hint_names_the_mistake(check, capsys, number, name, hint):
    check(number, WRONG[number][name])
    assert hint in capsys.readouterr().out


def test_the_number_of_steps_is_the_smallest_with_at_most_half():
    assert 0.999**693 <= 0.5 < 0.999**692
