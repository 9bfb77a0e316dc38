"""The checks of notebook 10, attacked: wrong answers that look right, and right ones in
other forms.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dkdmpl_kit.lessons.checks.own_crops import checks
from dkdmpl_kit.training.corrections import Correction
from dkdmpl_kit.training.guard import MARGIN

NAMES = ["a.jpg", "b.jpg", "sub/c.jpg", "d.jpg"]


@pytest.fixture
def check(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # there is no labels.csv here
    return checks(NAMES)


def risen(stability, low):
    return [e for e in range(1, len(low)) if low[e] > MARGIN * stability[0]]


def said(action: str, *pictures: str) -> Correction:
    return Correction(action, tuple((name, "", "") for name in pictures))


MERGED, OTHER = said("merge", "a.jpg", "b.jpg"), said("different", "a.jpg", "sub/c.jpg")


def others(similarities, own):
    rest = np.array(similarities, float)
    rest[np.arange(len(own)), own] = -np.inf
    return rest


WRONG = {
    1: {
        "the rise is above zero": lambda s, low: [e for e in range(1, len(s)) if low[e] > 0],
        "the mean": lambda s, low: [
            e for e in range(1, len(s)) if s[e] > s[0] * (1 + MARGIN)
        ],
        "the margin itself": lambda s, low: [e for e in range(1, len(s)) if low[e] > MARGIN],
        "the stability's end": lambda s, low: [
            e for e in range(1, len(s)) if s[0] + low[e] > MARGIN
        ],
        "margin of each": lambda s, low: [
            e for e in range(1, len(s)) if low[e] > MARGIN * s[e]
        ],
        "against 15 % above the start": lambda s, low: [
            e for e in range(1, len(s)) if low[e] > (1 + MARGIN) * s[0]
        ],
        "half of the margin": lambda s, low: [
            e for e in range(1, len(s)) if low[e] > MARGIN / 2 * s[0]
        ],
        "the start among them": lambda s, low: [0, *risen(s, low)],
        "counted from 0": lambda s, low: [e - 1 for e in risen(s, low)],
        "a mask": lambda s, low: np.array(low) > MARGIN * s[0],
        "the last alone": lambda s, low: risen(s, low)[-1:],
        "the first alone": lambda s, low: risen(s, low)[:1],
        "the most stable": lambda s, low: [int(np.argmax(s))],
        "every epoch": lambda s, low: list(range(1, len(s))),
        "no epoch": lambda s, low: [],
        "how many": lambda s, low: len(risen(s, low)),
        "the stabilities": lambda s, low: [s[e] for e in risen(s, low)],
        "against the epoch before": lambda s, low: [
            e for e in range(1, len(s)) if s[e] > s[e - 1]
        ],
        "a list, not a function": [1, 2],
    },
    2: {
        "merge alone": [MERGED],
        "different alone": [OTHER],
        "nothing": [],
        "all three merged": [said("merge", "a.jpg", "b.jpg", "sub/c.jpg")],
        "the wrong two merged": [
            said("merge", "a.jpg", "sub/c.jpg"),
            said("different", "a.jpg", "b.jpg"),
        ],
        "all three different": [said("different", "a.jpg", "b.jpg", "sub/c.jpg")],
        "a contradiction": [MERGED, said("different", "a.jpg", "b.jpg")],
        "both, of all three": [MERGED, said("different", "a.jpg", "b.jpg", "sub/c.jpg")],
        "split of the third": [MERGED, said("split", "sub/c.jpg")],
        "the fourth": [MERGED, said("different", "a.jpg", "d.jpg")],
        "the fourth, too": [MERGED, OTHER, said("different", "a.jpg", "d.jpg")],
        "merged with the fourth, too": [said("merge", "a.jpg", "b.jpg", "d.jpg"), OTHER],
        "an unknown name": [MERGED, said("different", "a.jpg", "c.jpg")],
        "an unknown action": [MERGED, said("apart", "a.jpg", "sub/c.jpg")],
        "indices": [Correction("merge", ((0, "", ""), (1, "", ""))), OTHER],
        "strings": ["merge a.jpg b.jpg", "different a.jpg sub/c.jpg"],
        "the names": NAMES[:3],
    },
    3: {
        "itself counts": lambda s, own, t: s.max(1) < t,
        "above, and not from it on": lambda s, own, t: others(s, own).max(1) <= t,
        "somebody": lambda s, own, t: others(s, own).max(1) >= t,
        "one is below": lambda s, own, t: (others(s, own) < t).any(1),
        "the mean": lambda s, own, t: (
            (s.sum(1) - s[np.arange(len(own)), own]) / (s.shape[1] - 1) < t
        ),
        "its own zero": lambda s, own, t: (
            np.where(np.arange(s.shape[1]) == np.array(own)[:, None], 0, s).max(1) < t
        ),
        "all that equals 1 left out": lambda s, own, t: (
            np.where(s == 1, -np.inf, s).max(1) < t
        ),
        "a threshold of its own": lambda s, own, t: others(s, own).max(1) < 0.5,
        "how many": lambda s, own, t: int((others(s, own).max(1) < t).sum()),
        "which": lambda s, own, t: np.flatnonzero(others(s, own).max(1) < t),
        "the similarities": lambda s, own, t: others(s, own).max(1),
        "each pair": lambda s, own, t: others(s, own) < t,
        "over the queries": lambda s, own, t: others(s, own).max(0) < t,
        "nobody ever": lambda s, own, t: np.ones(len(own), bool),
        "always somebody": lambda s, own, t: np.zeros(len(own), bool),
        "the place as the query": lambda s, own, t: others(s, np.arange(len(own))).max(1) < t,
        "an array, not a function": np.array([False, True]),
    },
}
RIGHT = {
    1: {
        "list": risen,
        "array": lambda s, low: np.array(risen(s, low), int),
        "flatnonzero": lambda s, low: np.flatnonzero(np.array(low) > MARGIN * s[0]),
        "backwards": lambda s, low: risen(s, low)[::-1],
        "tensor": lambda s, low: torch.tensor(risen(s, low)),
        "tuple": lambda s, low: tuple(risen(s, low)),
    },
    2: {
        "list": [MERGED, OTHER],
        "the other order": (OTHER, MERGED),
        "pictures the other way": [
            said("merge", "b.jpg", "a.jpg"),
            said("different", "sub/c.jpg", "a.jpg"),
        ],
        "different from the second": [MERGED, said("different", "b.jpg", "sub/c.jpg")],
        "different from both": [MERGED, OTHER, said("different", "b.jpg", "sub/c.jpg")],
    },
    3: {
        "numpy": lambda s, own, t: others(s, own).max(1) < t,
        "list": lambda s, own, t: [
            all(x < t for j, x in enumerate(row) if j != k) for row, k in zip(s, own)
        ],
        "torch": lambda s, own, t: torch.from_numpy(others(s, own)).amax(1) < t,
        "the second largest": lambda s, own, t: np.sort(s, 1)[:, -2] < t,
        "not any": lambda s, own, t: ~(others(s, own) >= t).any(1),
        "whole numbers": lambda s, own, t: (others(s, own).max(1) < t).astype(int),
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
        (1, "a mask", "numbers of the epochs"),
        (1, "the start among them", "epoch 0 is the start"),
        (1, "the mean", "low end must lie above"),
        (2, "merge alone", "somebody else"),
        (2, "all three merged", "no others"),
        (2, "a contradiction", "contradict each other"),
        (3, "somebody", "somebody is found"),
        (3, "itself counts", "own picture is not an answer"),
        (3, "how many", "for each query"),
    ],
)
def test_a_hint_names_the_mistake(check, capsys, number, name, hint):
    check(number, WRONG[number][name])
    assert hint in capsys.readouterr().out
