"""When what notebook 07 says is true of its numbers."""

from __future__ import annotations


def _followed(c: dict) -> bool:
    words = c["sentence"]
    return (
        f"label is cluster {c['label']};" in words
        and f"{c['mass']:.2f} of its mass on cluster {c['rival']}" in words
        and 0 <= c["mass"] <= 1
        and c["rival"] != c["label"]
        and all(1 <= rank <= c["count"] for rank in c["ranks"].values())
        and all(f"{name} {rank}" in words for name, rank in c["ranks"].items())
    )


def _word(sentence: str, first: float, last: float) -> bool:
    """Whether "more than", "fewer than" or "as many as" stands where it belongs."""
    right = "as many as" if first == last else "more than" if last > first else "fewer than"
    return f": {right} at first." in sentence


def _scores(c: dict) -> bool:
    known = [value for value in c["aurocs"].values() if value is not None]
    if not known:
        return "no score can be tested" in c["sentence"]
    return f"*{c['best']}* finds" in c["sentence"] and c["aurocs"][c["best"]] == max(known)


def _causes(c: dict) -> bool:
    if not c["clear"]:
        return "No recorded factor" in c["sentence"]
    name = max(c["clear"], key=c["explains"].get)
    share = c["explains"][name]
    return f"*{name}* explains" in c["sentence"] and f"{share:.0%}." in c["sentence"]


def _views(c: dict) -> bool:
    said = c["sentence"].split("the favourite of ")[1].rstrip(".").split("; nearest")
    named = [part.split("lies ")[-1].split(", ") for part in said]
    most = max(row[0] for row in c["scores"].values())
    least = min(row[2] for row in c["scores"].values())
    return named == [
        [name for name, row in c["scores"].items() if row[column] == best]
        for column, best in ((0, most), (2, least))
    ]


def _balance(c: dict) -> bool:
    found = {name: value for name, value in c.items() if name != "sentence"}
    for name, (margin, low, high) in found.items():
        right = "nearer" if low > 0 else "further" if high < 0 else "undecided"
        if f"*{name}*: {right}" not in c["sentence"] or not low <= margin <= high:
            return False
    return len(found) == 4


def _sure(c: dict) -> bool:
    named = c["sentence"].split("average: ")[1].split(". ")[0]
    sure = [name for name, lean in c["lean"].items() if lean > 0]
    least = min(c["ece"].values())
    smallest = c["sentence"].split("*")[1]
    return named == (", ".join(sure) or "no view") and c["ece"][smallest] == least


def _forecast(c: dict) -> bool:
    said = [c["first"], c["last"], *c["within"].values()]
    return len(c["within"]) == 3 and all(f"{rho:+.2f}" in c["sentence"] for rho in said)


def _helps(c: dict) -> bool:
    """Of the study's kinds of noise each method names exactly those of its list."""
    kinds = {"symmetric", "look alike", "camera split"}
    parts = dict(zip(("gkd", "skd"), c["sentence"].split(": ")[-1].split("; ")))
    named = {
        method: {kind for kind in kinds if kind in part} for method, part in parts.items()
    }
    return all(named[method] == set(c[method]) for method in ("gkd", "skd"))


RULES = {
    "doubt": lambda c: ("the vote doubts more" in c["sentence"]) == (c["vote"] < c["e"]),
    "followed": _followed,
    "moves": lambda c: _word(c["sentence"], c["first"], c["last"]),
    "errors": lambda c: (
        c[c["kind"]] == max(c["merged"], c["split"])
        and f"{c['merged']:,} pairs are wrongly merged" in c["sentence"]
        and f"**{c['kind']}**" in c["sentence"]
    ),
    "repairs": lambda c: (
        f"repair {c['repaired']} labels and spoil {c['spoilt']}." in c["sentence"]
    ),
    "scores": _scores,
    "causes": _causes,
    "views": _views,
    "balance": _balance,
    "sure": _sure,
    "helps": _helps,
    "forecast": _forecast,
}
