"""When what notebook 05 says about its run is true."""

from __future__ import annotations

import math


def first_epoch(c: dict) -> bool:
    below = c["first"] < math.log(c["clusters"])
    return (
        ("is less;" in c["sentence"]) == below
        and ("is not less;" in c["sentence"]) == (not below)
        and ("the loss fell" in c["sentence"]) == (c["last"] < c["first"])
    )


def events(c: dict) -> bool:
    split, merged, moved = c["split"], c["merged"], c["moved"]
    told = c["sentence"].split("(")[0]
    winner = {
        "Splits are more frequent": split > merged,
        "Merges are more frequent": merged > split,
        "equally frequent": split == merged,
    }
    right = all((words in told) == true for words, true in winner.items())
    if len(moved) > 1:
        right &= c["sentence"].endswith(": fewer.") == (moved[-1] < moved[0])
    return right and f"({split} splits, {merged} merges in" in c["sentence"]


def margin(c: dict) -> bool:
    right = ("P2 rises" in c["sentence"]) == (c["last"] > c["first"])
    if c["brier"] is not None:
        right &= ("gains nothing" in c["sentence"]) == (c["brier"] <= 0)
    return right


RULES = {
    "first_epoch": first_epoch,
    "same_loss": lambda c: (
        ("they agree" in c["sentence"]) == (abs(c["ours"] - c["kit"]) <= 1e-4)
    ),
    "events": events,
    "margin": margin,
    "hardest": lambda c: (
        ("no better than chance" in c["sentence"]) == (c["wrong"] / c["shown"] <= c["share"])
    ),
}
