"""What notebook 04 says of its run."""

from __future__ import annotations

import re

from .gkd import followed

ANCHORS = ("hardest", "random", "mean", "augmentation", "ema")


def gaps(c: dict) -> bool:
    named = re.search(r"the (\w+) anchor", c["sentence"])[1]
    return c[named] == max(c[name] for name in ANCHORS) and f"{c[named]:.2f}" in c["sentence"]


def p3(c: dict) -> bool:
    """The inequality, and the factors that are told."""
    pairs = list(zip(c["losses"], c["bounds"], strict=True))
    factors = [loss / max(bound, 1e-12) for loss, bound in pairs]
    told = re.search(r"is ([\d.]+) to ([\d.]+) times", c["sentence"])
    return (
        all(loss >= bound - 1e-12 for loss, bound in pairs)
        and f"all {len(pairs)} clusters" in c["sentence"]
        and [f"{min(factors):.1f}", f"{max(factors):.1f}"] == list(told.groups())
    )


def opposed(c: dict) -> bool:
    told = [int(n) for n in re.findall(r"for (\d+)", c["sentence"])]
    return told == [sum(x < 0 for x in c["cosines"][name]) for name in ("kl", "symmetric_kl")]


def wrong_anchors(c: dict) -> bool:
    more = c["hardest"] > c["random"], c["hardest"] < c["random"]
    said = "more often than" in c["sentence"], "less often than" in c["sentence"]
    return more == said and ("as often as" in c["sentence"]) == (c["hardest"] == c["random"])


def wrong_gap(c: dict) -> bool:
    """A mean is told for the wrong and for the right anchors, where there are any."""
    counts = {"wrong": c["n_wrong"], "right": c["n"] - c["n_wrong"]}
    told = re.findall(r"([\d.]+) nats for the (\d+) (\w+) ones", c["sentence"])
    return told == [
        (f"{c[name]:.2f}", str(count), name) for name, count in counts.items() if count
    ]


RULES = {
    "followed": followed,
    "gaps": gaps,
    "p3": p3,
    "opposed": opposed,
    "wrong_anchors": wrong_anchors,
    "wrong_gap": wrong_gap,
}
