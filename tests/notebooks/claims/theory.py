"""What notebook 08 says about its run, judged from the numbers beside it."""

from __future__ import annotations

import re

TOLERANCE = 1e-6


def one_label(c) -> bool:
    """P1 and P4 agree with autograd, symmetric_kl does not."""
    said = float(re.search(r"at most ([\d.e+-]+)\.", c["sentence"])[1])
    near = max(c["gaps"]) < TOLERANCE and said <= 1.5 * max(c["gaps"])
    far = f"up to {max(c['off'].values()):.2f}" in c["sentence"]
    return near and far and max(c["off"].values()) > 0.005


def p5_far(c) -> bool:
    """Whether the T in use is as large as the one from which on the limit describes."""
    describes = c["near"] is not None and c["T_used"] >= c["near"]
    return ("does not describe" in c["sentence"]) == (not describes) and (
        "not even" in c["sentence"]
    ) == (c["near"] is None)


def p2_calibrated(c) -> bool:
    opposed = (c["l1"] < 0 < c["brier"]) or (c["brier"] < 0 < c["l1"])
    return ("disagree" in c["sentence"]) == opposed


def mistakes(c) -> bool:
    """Each mistake is far above what a check allows, and the least is named."""
    least = min(c["seen"], key=c["seen"].get)
    return (
        len(c["seen"]) >= 6
        and all(x > 1000 * TOLERANCE for x in c["seen"].values())
        and c["sentence"].endswith(f"({least}).")
    )


def verdict(mean: float, error: float) -> str:
    if mean - 2 * error > 0 and round(mean, 3) > 0:
        return "nearer"
    if mean + 2 * error < 0 and round(mean, 3) < 0:
        return "further"
    return "undecided"


def p2_verdicts(c) -> bool:
    """Verdicts by teacher and ruler; none at 0.000 or within two errors."""
    for teacher, (means, errors) in c["found"].items():
        said = re.search(
            f"`{teacher}` ([^:;]*): (they agree|they do not agree)", c["sentence"]
        )
        expected = [verdict(m, s) for m, s in zip(means, errors)]
        if re.findall("nearer|further|undecided", said[1]) != expected:
            return False
        if expected != c["words"][teacher]:
            return False
        if (said[2] == "they agree") != (len(set(expected)) == 1):
            return False
    return True


RULES = {
    "one_label": one_label,
    "p5_far": p5_far,
    "p2_calibrated": p2_calibrated,
    "mistakes": mistakes,
    "p2_verdicts": p2_verdicts,
}
