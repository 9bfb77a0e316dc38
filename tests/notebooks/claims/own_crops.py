"""When what notebook 10 says is true, from the numbers beside it."""

from __future__ import annotations

import re


def guard(c: dict) -> bool:
    kept, trained, sentence = c["kept"], c["trained"], c["sentence"]
    if trained == 0:
        return kept == 0 and "nothing was trained" in sentence
    if not c["cameras"]:
        return kept == 0 and "fewer than two cameras are known" in sentence
    if kept == 0:
        return not c["sure"] and sentence.startswith("Kept the start: no epoch")
    told = f"after epoch {kept} of {trained}" in sentence
    return bool(c["sure"]) and c["mixed"][kept] and told


def labels(c: dict) -> bool:
    return (
        c["sentence"].startswith(
            f"Of {c['n']} pictures {c['outliers'] / c['n']:.0%} are outliers"
        )
        and f"in {c['clusters']} clusters. " in c["sentence"]
        and c["sentence"].endswith(f"Suspect labels: {c['suspect']}.")
    )


def corrected(c: dict) -> bool:
    one, other = c["pair"]
    left = sum(label == c["away"] >= 0 for label in c["mates"])
    return (
        (one == other) == ("are one cluster" in c["sentence"])
        and f"has {left} of its {len(c['mates'])} old mates" in c["sentence"]
        and left == 0
        and one == other  # a person's corrections are kept
    )


def split(c: dict) -> bool:
    change = c["after"] - c["before"]
    word = "rises" if change > 0 else "falls" if change < 0 else "stays the same"
    return (
        f"the threshold {word}: from {c['before']:.4f} to {c['after']:.4f}" in c["sentence"]
    )


def truth(c: dict) -> bool:
    best, kept = max(c["mAP"].values()), c["mAP"]["what was kept"]
    if best == kept:
        return "None is better" in c["sentence"]
    lost = re.search(r"lost ([\d.]+) points", c["sentence"])
    return lost is not None and float(lost[1]) == round(100 * (best - kept), 1)


RULES = {
    "guard": guard,
    "labels": labels,
    "corrected": corrected,
    "split": split,
    "truth": truth,
}
