"""When what notebook 02 says is true of its numbers."""

from __future__ import annotations


def _purer(c: dict) -> bool:
    said = "set is purer than" in c["sentence"]
    return (
        said == (c["reciprocal"] > c["nearest"]) and f"{c['expanded']:.0%}" in c["sentence"]
    )


def _eps(c: dict) -> bool:
    said = ", and more than half" in c["sentence"]
    return said == (c["outliers"] > 0.5) and f"{c['clusters']} clusters" in c["sentence"]


def _best(c: dict) -> bool:
    by_ari = c["ari"].index(max(c["ari"]))
    by_right = c["right"].index(max(c["right"]))
    same = "the same radius" in c["sentence"]
    return (
        f"highest at eps = {c['eps'][by_ari]:.2f}," in c["sentence"]
        and f"most at eps = {c['eps'][by_right]:.2f}: {max(c['right']):.0%}" in c["sentence"]
        and same == (by_ari == by_right)
        and all(0 <= share <= 1 for share in c["right"])
    )


def _auto(c: dict) -> bool:
    return ("more than 10 points" in c["sentence"]) == (c["highest"] - c["right"] > 0.1)


def _blocks(c: dict) -> bool:
    said = "are mostly blocks" in c["sentence"]
    return said == (c["inside"] > c["between"]) and f"{c['inside']:.0%}" in c["sentence"]


def _kinds(c: dict) -> bool:
    wrong = {name: share for name, share in c["shares"].items() if name != "right"}
    named = c["sentence"].rsplit(": ", 1)[1].rstrip(".")
    most = not wrong if named == "none" else wrong[named] == max(wrong.values())
    return most and abs(sum(c["shares"].values()) - 1) < 1e-6


def _with_errors(c: dict) -> bool:
    surplus = {name: c["merged"][name] - c["right"][name] for name in c["merged"]}
    most = max(surplus.values())
    if "Of these none is" in c["sentence"]:
        return most < 0.05
    return surplus[c["sentence"].split("*")[1]] == most >= 0.05


def _cameras(c: dict) -> bool:
    return ("not more often" in c["sentence"]) == (c["alike"] <= c["chance"])


def _centring(c: dict) -> bool:
    return ("not more pictures" in c["sentence"]) == (c["after"] <= c["before"])


RULES = {
    "purer": _purer,
    "eps": _eps,
    "best": _best,
    "auto": _auto,
    "blocks": _blocks,
    "kinds": _kinds,
    "with_errors": _with_errors,
    "cameras": _cameras,
    "centring": _centring,
}
