"""Wrong answers to notebook 01's exercises are rejected, right variants accepted."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from dkdmpl_kit.lessons.checks.data import checks

GENERATOR = torch.Generator().manual_seed(0)
PIXELS = 4
CAMERAS = np.array([0, 1, 3])
COLOURS = np.array(
    [[100.0, 90, 80], [110.0, 120, 60], [60.0, 70, 150]]
)  # 1 and 3 differ most
CAMIDS = np.array([0, 1, 3, 0, 1, 3, 0, 0])
PIDS = np.array([1, 1, 1, 2, 2, 2, 1, 2])
ROW = np.searchsorted(CAMERAS, CAMIDS)
MEAN = torch.tensor(COLOURS[ROW] / 255, dtype=torch.float32)
IN_PLACE = MEAN.repeat_interleave(PIXELS, dim=1)
SMALL = (torch.rand(8, 3 * PIXELS, generator=GENERATOR) - 0.5) * 0.3 + IN_PLACE
SAME = PIDS[:, None] == PIDS
FRIENDS = SAME & (CAMIDS[:, None] != CAMIDS)
STRANGERS = ~SAME & (CAMIDS[:, None] == CAMIDS)
CHECK = checks(CAMERAS, COLOURS, CAMIDS, SMALL, FRIENDS)


def distances(pictures: torch.Tensor) -> np.ndarray:
    """Root mean square differences by a loop."""
    return np.array(
        [[float(((a - b) ** 2).mean().sqrt()) for b in pictures] for a in pictures]
    )


BEFORE, AFTER = distances(SMALL), distances(SMALL - IN_PLACE)
RIGHT_2 = AFTER[FRIENDS].mean()

WRONG = {
    1: [
        (0, 1),
        (0, 3),
        (2, 4),
        (1, 2),
        (1, 1),
        (3, 3),
        (1.2, 3.4),
        "13",
        ("1", "3"),
        (True, 3.0),
        [0, 1, 3],
        [[1, 3]],
        3,
        np.argmax(np.linalg.norm(COLOURS[:, None] - COLOURS, axis=2)),
        COLOURS[[1, 2]],
        np.argsort(COLOURS.mean(axis=1))[[0, -1]],
        (1, -1),
        152.0,
    ],
    2: [
        BEFORE[FRIENDS].mean(),
        distances(SMALL + IN_PLACE)[FRIENDS].mean(),
        distances(SMALL - 255 * IN_PLACE)[FRIENDS].mean(),
        distances(SMALL - MEAN.mean(dim=1, keepdim=True))[FRIENDS].mean(),
        distances(SMALL - MEAN.repeat(1, PIXELS))[FRIENDS].mean(),
        distances(SMALL - IN_PLACE.mean(dim=0))[FRIENDS].mean(),
        distances((SMALL - IN_PLACE).abs())[FRIENDS].mean(),
        distances(SMALL / IN_PLACE)[FRIENDS].mean(),
        RIGHT_2 * (3 * PIXELS) ** 0.5,
        (AFTER[FRIENDS] ** 2).mean(),
        np.median(AFTER[FRIENDS]),
        AFTER[FRIENDS].sum(),
        AFTER.mean(),
        AFTER[SAME].mean(),
        AFTER[STRANGERS].mean(),
        AFTER[~FRIENDS].mean(),
        BEFORE[FRIENDS].mean() - RIGHT_2,
        255 * RIGHT_2,
        100 * RIGHT_2,
        -RIGHT_2,
        AFTER,
        0.0,
    ],
    3: [
        r"c(?P<pid>\d+)-P(?P<camid>\d+)-",
        r"c(\d+)-P(\d+)-",
        r"c(?P<camid>\d)-P(?P<pid>\d+)",
        r"c(?P<camid>\d\d)-P(?P<pid>\d\d\d\d)-",
        r"c0(?P<camid>\d+)-P(?P<pid>\d+)-",
        r"(?P<camid>\d+).*(?P<pid>\d+)",
        r"c(?P<camid>\d+)-(?P<pid>P\d+)-",
        r"(?P<camid>c\d+)-P(?P<pid>\d+)-",
        r"c(?P<camid>\d+)-P\d+-frame(?P<pid>\d+)",
        r"c(?P<camid>\d+)",
        r"P(?P<pid>\d+)-c(?P<camid>\d+)",
        r"c(?P<camid>\d+)-p(?P<pid>\d+)-",
        r"c(?P<cam>\d+)-P(?P<pid>\d+)-",
        r"c(?P<camid>\d+)-P(?P<pid>\d)",
        r"c(?P<camid>\d+)-P(?P<pid>\d+)-frame(?P<frame>\d+)",
        r"c(?P<camid>03)-P(?P<pid>0042)-",
        r"c(?P<camid>\d*?)-?P?(?P<pid>\d*?)",
        r"c(?P<camid>\d+)-P(?P<pid>\d+",
        "c{camid}-P{pid}-frame{}.jpg",
        ("03", "0042"),
        3,
    ],
}
RIGHT = {
    1: [(1, 3), (3, 1), [3, 1], np.array([1, 3]), torch.tensor([1, 3]), CAMERAS[[2, 1]]],
    2: [RIGHT_2, np.float32(RIGHT_2), torch.tensor(RIGHT_2), np.array(RIGHT_2)],
    3: [
        r"c(?P<camid>\d+)-P(?P<pid>\d+)-",
        r"^c(?P<camid>[0-9]+)-P(?P<pid>[0-9]+)",
        r"(?P<camid>\d+)-P(?P<pid>\d+)-frame\d+\.jpg$",
        r"c0*(?P<camid>[1-9]\d*)-P0*(?P<pid>[1-9]\d*)-",
        re.compile(r"c(?P<camid>\d+)-P(?P<pid>\d+)"),
    ],
}


@pytest.mark.parametrize("number", WRONG)
def test_wrong_answers_are_rejected(number):
    assert len(WRONG[number]) >= 10
    assert [a for a in WRONG[number] if CHECK(number, a)] == []


@pytest.mark.parametrize("number", RIGHT)
def test_right_answers_are_accepted_in_every_form(number):
    assert [a for a in RIGHT[number] if not CHECK(number, a)] == []


def test_a_mistake_gets_its_own_hint(capsys):
    CHECK(1, (2, 4))
    CHECK(2, BEFORE[FRIENDS].mean())
    CHECK(2, distances(SMALL - MEAN.repeat(1, PIXELS))[FRIENDS].mean())
    CHECK(3, r"c(?P<pid>\d+)-P(?P<camid>\d+)-")
    said = capsys.readouterr().out
    for hint in (
        "counted from 1",
        "nothing was subtracted",
        "all red values",
        "takes 03 for",
    ):
        assert hint in said


def test_one_camera_or_no_such_pair_leaves_only_the_pattern(capsys):
    check = checks(CAMERAS[:1], COLOURS[:1], CAMIDS, SMALL, np.zeros_like(FRIENDS))
    assert not check(1, (1, 3))
    assert not check(2, RIGHT_2)
    assert check(3, RIGHT[3][0])
    assert "cannot be checked" in capsys.readouterr().out
