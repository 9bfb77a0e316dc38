"""When what notebook 06 says about its run is true."""

from __future__ import annotations


def gain(c: dict) -> bool:
    return (
        ("not better than" in c["sentence"]) == (c["change"] <= 0)
        and f"rose for {c['rose']} queries and fell for {c['fell']}." in c["sentence"]
        and not (c["rose"] == 0 and c["change"] > 0)
    )


def hard(c: dict) -> bool:
    facts = {name: pair for name, pair in c.items() if name != "sentence"}
    more = {name: one - two for name, (one, two) in facts.items()}
    if max(more.values()) <= 0:
        return c["sentence"].startswith("None of the three")
    named = [name for name in more if f"*{name.capitalize()}*" in c["sentence"]]
    return len(named) == 1 and more[named[0]] == max(more.values())


RULES = {
    "neighbours": lambda c: (
        ("not more pictures" in c["sentence"]) == (c["after"] <= c["before"])
    ),
    "rules": lambda c: (
        ("does not raise" in c["sentence"]) == (c["ranks"][1] <= c["ranks"][0])
    ),
    "gain": gain,
    "own_camera": lambda c: (
        ("it is not more frequent" in c["sentence"]) == (c["shares"][0] <= c["luck"])
    ),
    "apart": lambda c: ("no further apart" in c["sentence"]) == (c["after"] <= c["before"]),
    "hard": hard,
}
