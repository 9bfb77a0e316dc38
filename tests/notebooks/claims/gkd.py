"""What notebook 03 says of its run."""

from __future__ import annotations

import re

NAMES = ("sample", "vote", "cluster", "consensus", "neighbourhood")


def followed(c: dict) -> bool:
    """The label is called right or wrong, or the truth unknown, as the numbers have it."""
    said = c["sentence"]
    named = f"label is cluster {c['hard']};" in said and f"cluster is {c['other']}." in said
    judged = ("is right" in said, "is wrong" in said)
    if c["true"] < 0:
        return named and judged == (False, False)
    return named and judged == (c["true"] == c["hard"], c["true"] != c["hard"])


def favourites(c: dict) -> bool:
    said = c["sentence"]
    counted = f"{c['n']} clustered" in said and max(c["sample"], c["vote"]) <= c["n"]
    verdict = {
        "sample teacher repeats": c["sample"] > c["vote"],
        "vote teacher repeats": c["vote"] > c["sample"],
        "equally often": c["vote"] == c["sample"],
    }
    return counted and all((words in said) == holds for words, holds in verdict.items())


def second_cluster(c: dict) -> bool:
    """Each verb belongs to its gradient: a negative one raises a logit."""
    verbs = re.findall(r"raises|lowers", c["sentence"])
    right = ["raises" if c[name] < 0 else "lowers" for name in ("hard", "sample", "vote")]
    # a target never lies below lambda_g e / (1 + lambda_g) >= 0
    return verbs == right and c["hard"] >= max(c["sample"], c["vote"]) - 1e-6


def cosines(c: dict) -> bool:
    near, far = re.search(
        r"is the (\w+) teacher .* the (\w+) teacher", c["sentence"]
    ).groups()
    values = {name: c[name] for name in NAMES}
    return values[near] == max(values.values()) and values[far] == min(values.values())


def break_even(c: dict) -> bool:
    """Above where more is repaired than spoilt, and no verdict at 0.000."""
    told = re.findall(r"teacher (?:stands )?(above|below|at) ", c["sentence"])
    right = [
        "at" if abs(c[name]) < 5e-4 else "above" if c[name] > 0 else "below"
        for name in ("sample", "vote")
    ]
    return told == right


def wrong_labels(c: dict) -> bool:
    said = dict((name, int(n)) for n, name in re.findall(r"(\d+) \((\w+)\)", c["sentence"]))
    inside = all(0 <= n <= c["wrong"] for n in said.values())
    return said == {name: c[name] for name in NAMES} and inside


RULES = {
    "followed": followed,
    "favourites": favourites,
    "second_cluster": second_cluster,
    "cosines": cosines,
    "break_even": break_even,
    "wrong_labels": wrong_labels,
}
