"""When what notebook 00 says is true of its numbers."""

from __future__ import annotations


def _scores(c: dict) -> bool:
    said = "**more** than half" in c["sentence"]
    inside = all(0 <= c[name] <= 1 for name in ("rank1", "mAP", "mINP"))
    return (
        inside
        and said == (2 * c["rank1"] > 1)
        and f"Rank-1 {c['rank1']:.1%}" in c["sentence"]
    )


def _first_guess(c: dict) -> bool:
    words = {
        "more clusters": c["clusters"] > c["people"],
        "fewer clusters": c["clusters"] < c["people"],
        "as many clusters": c["clusters"] == c["people"],
    }
    true = next(word for word, holds in words.items() if holds)
    nearer = "1" if abs(1 - c["ari"]) <= abs(c["ari"]) else "0"
    return true in c["sentence"] and f"nearer to {nearer}." in c["sentence"]


def _example(c: dict) -> bool:
    words = c["sentence"]
    y, star = c["label"], c["true_cluster"]
    if star < 0:
        about = "not known" in words
    elif star == y:
        about = "label is right" in words
    else:
        given = f"own cluster is {star}, and the teacher gives that {c['teacher'][star]:.0%}"
        about = "label is wrong" in words and given in words
    named = {
        view: "the label"
        if max(range(len(c[view])), key=lambda k: (c[view][k], k == y)) == y
        else "another cluster"
        for view in ("teacher", "student")
    }
    return about and all(
        f"{v} names *{named[v]}* first ({c[v][y]:.0%}" in words for v in named
    )


RULES = {"scores": _scores, "first_guess": _first_guess, "example": _example}
