"""The checks of notebook 10, attacked: wrong answers that look right, and right ones in
other forms.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dkdmpl_kit.lessons.checks.own_crops import checks
from dkdmpl_kit.training.corrections import Correction

NAMES = ["a.jpg", "b.jpg", "sub/c.jpg", "d.jpg"]


@pytest.fixture
def check(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # there is no labels.csv here
    return checks(NAMES)


def risen(across, mixing):
    return [e for e in range(len(across)) if across[e] > 0 and mixing[e] > 0]


def said(action: str, *pictures: str) -> Correction:
    return Correction(action, tuple((name, "", "") for name in pictures))


MERGED, OTHER = said("merge", "a.jpg", "b.jpg"), said("different", "a.jpg", "sub/c.jpg")


def others(similarities, own):
    rest = np.array(similarities, float)
    rest[np.arange(len(own)), own] = -np.inf
    return rest


WRONG = {
    1: {
        "across alone": lambda a, m: [e for e in range(len(a)) if a[e] > 0],
        "mixing alone": lambda a, m: [e for e in range(len(a)) if m[e] > 0],
        "one of the two": lambda a, m: [e for e in range(len(a)) if a[e] > 0 or m[e] > 0],
        "their sum": lambda a, m: [e for e in range(len(a)) if a[e] + m[e] > 0],
        "their product": lambda a, m: [e for e in range(len(a)) if a[e] * m[e] > 0],
        "not fallen": lambda a, m: [e for e in range(1, len(a)) if a[e] >= 0 and m[e] >= 0],
        "0 is enough of mixing": lambda a, m: [
            e for e in range(1, len(a)) if a[e] > 0 and m[e] >= 0
        ],
        "by a margin": lambda a, m: [e for e in range(len(a)) if min(a[e], m[e]) > 0.01],
        "the start among them": lambda a, m: [0, *risen(a, m)],
        "counted from 0": lambda a, m: [e - 1 for e in risen(a, m)],
        "a mask": lambda a, m: (np.array(a) > 0) & (np.array(m) > 0),
        "the last alone": lambda a, m: risen(a, m)[-1:],
        "the first alone": lambda a, m: risen(a, m)[:1],
        "the highest": lambda a, m: [int(np.argmax(a))],
        "every epoch": lambda a, m: list(range(1, len(a))),
        "no epoch": lambda a, m: [],
        "how many": lambda a, m: len(risen(a, m)),
        "the values": lambda a, m: [a[e] for e in risen(a, m)],
        "against the epoch before": lambda a, m: [
            e for e in range(1, len(a)) if a[e] > a[e - 1]
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
        "array": lambda a, m: np.array(risen(a, m), int),
        "flatnonzero": lambda a, m: np.flatnonzero((np.array(a) > 0) & (np.array(m) > 0)),
        "the smaller one": lambda a, m: np.flatnonzero(np.minimum(a, m) > 0),
        "backwards": lambda a, m: risen(a, m)[::-1],
        "tensor": lambda a, m: torch.tensor(risen(a, m)),
        "tuple": lambda a, m: tuple(risen(a, m)),
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
        (1, "across alone", "both low ends must lie above 0"),
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
