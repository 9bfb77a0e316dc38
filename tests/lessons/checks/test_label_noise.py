"""Wrong answers to notebook 07's exercises are rejected, and right ones pass in every form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dkdmpl_kit.lessons.checks.label_noise import checks
from dkdmpl_kit.losses.theory import break_even, teacher_quality

GENERATOR = torch.Generator().manual_seed(0)
M, K = 60, 7
LABELS = torch.randint(K, (M,), generator=GENERATOR)
STAR = torch.where(torch.rand(M, generator=GENERATOR) < 0.2, (LABELS + 1) % K, LABELS)
JUDGED = torch.rand(M, generator=GENERATOR) < 0.9
GOAL = STAR[JUDGED]
# a sure teacher: cosines over a temperature of 0.03, its label first
T = (torch.rand(M, K, generator=GENERATOR).double() * 0.3) / 0.03
T[torch.arange(M), LABELS] = 0.5 / 0.03
E = T.softmax(1)
Q = (torch.randn(M, K, generator=GENERATOR).double() * 3).softmax(1)
ETA = float((LABELS[JUDGED] != GOAL).double().mean())


def entropy(p):
    return torch.special.entr(p).sum(1)


def margin(view):
    return break_even(*teacher_quality(view[JUDGED], LABELS[JUDGED], GOAL))


def sharp(factor):
    return margin((T * factor).softmax(1))


JSD = (entropy((E + Q) / 2) - (entropy(E) + entropy(Q)) / 2) / np.log(2)
SYMMETRIC = ((E - Q) * (E.log() - Q.log())).sum(1)
ONE_HOT = torch.nn.functional.one_hot(T.argmax(1), K).double()

WRONG = {
    1: {
        "accuracy": 1 - ETA,
        "nothing": 0.0,
        "certainty": 1.0,
        "per cent": 100 * ETA,
        "twice": 2 * ETA,
        "half": ETA / 2,
        "square": ETA**2,
        "sign": -ETA,
        "both": ETA * (1 - ETA),
        "odds": ETA / (1 - ETA),
        "of all pictures": ETA * float(JUDGED.double().mean()),
        "unjudged are wrong": float(1 - (1 - ETA) * JUDGED.double().mean()),
        "count": float((LABELS[JUDGED] != GOAL).sum()),
        "rounded": round(ETA, 2) + 0.001,
        "root": ETA**0.5,
        "words": "eta",
        "a list": [ETA, 1 - ETA],
    },
    2: {
        "as it is": sharp(1),
        "argmax": margin(ONE_HOT),
        "the probabilities divided": margin(E / 4),
        "the margin divided": sharp(1) / 4,
        "the margin times 4": sharp(1) * 4,
        "sign": -sharp(1 / 4),
        "per cent": 100 * sharp(1 / 4),
        "all at once": [sharp(1 / 4)] * 2,
        "mass alone": float(((T / 4).softmax(1)[JUDGED].gather(1, GOAL[:, None])).mean()),
        "the query's": margin(Q),
        "half": sharp(1 / 4) / 2,
        "eta": ETA,
        **{
            f"temperature times {1 / f:g}": sharp(f)
            for f in (1 / 2, 1 / 3, 1 / 5, 1 / 6, 1 / 8)
        },
        **{f"temperature times {1 / f:g} ": sharp(f) for f in (1 / 16, 1 / 100)},
        **{f"temperature divided by {f}": sharp(f) for f in (2, 4, 5, 6, 8, 16, 100)},
    },
    3: {
        "nats": JSD * np.log(2),
        "log 10": JSD * np.log(2) / np.log(10),
        "log of K": JSD * np.log(2) / np.log(K),
        "sum of entropies": (entropy((E + Q) / 2) - entropy(E) - entropy(Q)) / np.log(2),
        "agreement": 1 - JSD,
        "distance": JSD.sqrt(),
        "symmetric KL": SYMMETRIC,
        "KL": (E * (E.log() - Q.log())).sum(1),
        "sorted": JSD.sort().values,
        "mean": JSD.mean(),
        "subset": JSD[JUDGED],
        "per cent": 100 * JSD,
        "sign": -JSD,
        "zeros": torch.zeros(M),
        "random": torch.rand(M, generator=GENERATOR),
        "reversed": JSD.flip(0),
        "shifted by one": JSD.roll(1),
        "column": JSD[:, None],
        "by class": torch.special.entr((E + Q) / 2).sum(0),
        "with a sharper teacher": (
            entropy(((4 * T).softmax(1) + Q) / 2)
            - (entropy((4 * T).softmax(1)) + entropy(Q)) / 2
        )
        / np.log(2),
    },
}
RIGHT = {
    1: [ETA, np.float32(ETA), np.float64(ETA), torch.tensor(ETA), 1 - (1 - ETA)],
    2: [sharp(1 / 4), np.float64(sharp(1 / 4)), torch.tensor(sharp(1 / 4))],
    3: [JSD, JSD.numpy(), JSD.tolist(), JSD.float(), JSD.numpy().astype(np.float32)],
}


@pytest.fixture(scope="module")
def check():
    return checks(eta=ETA, logits=T, labels=LABELS, judged=JUDGED, goal=GOAL, e=E, q=Q)


@pytest.mark.parametrize(
    "number, name", [(number, name) for number, found in WRONG.items() for name in found]
)
def test_a_wrong_answer_is_rejected(check, number, name, capsys):
    assert not check(number, WRONG[number][name])
    assert "not yet" in capsys.readouterr().out


@pytest.mark.parametrize("number", RIGHT)
def test_right_answers_pass_in_every_form(check, number):
    assert len(WRONG[number]) >= 10
    for answer in RIGHT[number]:
        assert check(number, answer), answer


@pytest.mark.parametrize(
    "number, answer, hint",
    [
        (1, 1 - ETA, "that is its accuracy"),
        (2, sharp(4), "sharper teacher"),
        (2, sharp(1), "soften it first"),
        (3, JSD * np.log(2), "divide by log 2"),
        (3, 1 - JSD, "1 less the disagreement"),
    ],
)
def test_a_common_mistake_is_named(check, number, answer, hint, capsys):
    check(number, answer)
    assert hint in capsys.readouterr().out


def test_a_teacher_that_repeats_its_label_leaves_exercise_2_answerable():
    """Here sharper teachers cannot be told apart, and softer ones can."""
    assert sharp(4) == pytest.approx(sharp(16), abs=1e-3)
    assert abs(sharp(1 / 4) - sharp(1 / 5)) > 1e-3
