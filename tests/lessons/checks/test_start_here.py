"""Wrong answers to notebook 00's exercises are rejected, right variants accepted."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dkdmpl_kit.evaluation import evaluate_ranking
from dkdmpl_kit.lessons.checks.start_here import checks
from dkdmpl_kit.lessons.search import Search

RNG = np.random.default_rng(0)
# query 3 shows somebody who is not in the gallery; query 0 has a picture under its camera
QUERY = (np.array([1, 2, 3, 9]), np.array([0, 0, 1, 1]))
GALLERY = (np.array([1, 1, 1, 2, 3, 3, 3, 4, 4, 4]), np.array([0, 1, 2, 1, 0, 0, 2, 0, 1, 2]))


def rows(n: int) -> np.ndarray:
    x = RNG.normal(size=(n, 6))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def search() -> Search:
    features = rows(4), rows(10)
    result = evaluate_ranking(*features, QUERY[0], GALLERY[0], QUERY[1], GALLERY[1])
    return Search("query", "gallery", *features, *QUERY, *GALLERY, result)


SEARCH = search()
AP = SEARCH.result.average_precision
LABELS = {0.4: [-1] * 9 + [0] * 8 + [1] * 3, 0.7: [-1] * 4 + [0] * 8 + [1] * 4 + [2] * 4}


def cluster(eps: float) -> SimpleNamespace:
    labels = np.array(LABELS[eps])
    return SimpleNamespace(labels=labels, n_clusters=labels.max() + 1)


CHECK = checks(SEARCH, cluster)
# by hand: query 0 has 2 right of 9 counted, query 1 has 1 of 10, query 2 has 3 of 10
LUCK = (2 / 9 + 1 / 10 + 3 / 10) / 3
EASY, HARD = int(np.nanargmax(AP)), int(np.nanargmin(AP))
OTHER = 3 - EASY - HARD  # the three queries with an AP are 0, 1, 2

WRONG = {
    1: [
        100 * LUCK,
        1 - LUCK,
        -LUCK,
        3 * LUCK,
        LUCK * 3 / 4,
        (3 / 10 + 1 / 10 + 3 / 10) / 3,
        (2 / 10 + 1 / 10 + 3 / 10) / 3,
        (2 / 6 + 1 / 6 + 3 / 7) / 3,
        6 / 29,
        np.median([2 / 9, 1 / 10, 3 / 10]),
        2 / 9,
        1 / 4,
        1 / 10,
        SEARCH.result.cmc[1],
        SEARCH.result.mAP,
        [2 / 9, 1 / 10, 3 / 10],
        0.0,
        "a fifth",
        np.nan,
    ],
    2: [
        (HARD, EASY),
        (EASY, OTHER),
        (OTHER, HARD),
        (EASY, EASY),
        (int(np.argmax(AP)), HARD),
        (EASY, 3),
        (EASY, HARD - 4),
        (AP[EASY], AP[HARD]),
        (QUERY[0][EASY], QUERY[0][HARD]),
        (EASY + 10, HARD),
        EASY,
        [EASY, HARD, OTHER],
        [[EASY, HARD]],
        np.argsort(AP),
        "the first",
    ],
    3: [
        [11, 16],
        [4, 9],
        [2, 3],
        [9 / 20, 4 / 20],
        [45, 20],
        [9, 9],
        [4, 4],
        [9],
        9,
        13,
        5,
        [10, 5],
        [8, 3],
        [[9, 4]],
        ["nine", "four"],
        [9.5, 4.5],
    ],
}
RIGHT = {
    1: [LUCK, np.float32(LUCK), torch.tensor(LUCK), np.array(LUCK), round(LUCK, 5)],
    2: [(EASY, HARD), [EASY, HARD], np.array([EASY, HARD]), torch.tensor([EASY, HARD])],
    3: [[9, 4], (9, 4), np.array([9, 4]), torch.tensor([9, 4]), [9.0, 4.0]],
}


@pytest.mark.parametrize("number", WRONG)
def test_wrong_answers_are_rejected(number):
    assert len(WRONG[number]) >= 10
    assert [a for a in WRONG[number] if CHECK(number, a)] == []


@pytest.mark.parametrize("number", RIGHT)
def test_right_answers_are_accepted_in_every_form(number):
    assert [a for a in RIGHT[number] if not CHECK(number, a)] == []


def test_a_mistake_gets_its_own_hint(capsys):
    CHECK(1, 6 / 29)
    CHECK(1, SEARCH.result.cmc[1])
    CHECK(2, (HARD, EASY))
    CHECK(3, [11, 16])
    said = capsys.readouterr().out
    for hint in (
        "and then the mean",
        "that was measured",
        "other way round",
        "count the others",
    ):
        assert hint in said


def test_without_a_ranking_only_the_clustering_is_asked_for(capsys):
    given = {name: getattr(SEARCH, name) for name in SEARCH.__dataclass_fields__}
    check = checks(Search(**{**given, "result": None}), cluster)
    assert not check(1, LUCK)
    assert not check(2, (EASY, HARD))
    assert check(3, [9, 4])
    assert "cannot be checked" in capsys.readouterr().out
