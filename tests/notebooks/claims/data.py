"""When what notebook 01 says is true of its numbers."""

from __future__ import annotations


def _cameras(c: dict) -> bool:
    by_name = sorted(zip(c["brightness"], c["names"]))
    (low, dark), (high, light) = by_name[0], by_name[-1]
    words = c["sentence"]
    return (
        f"camera {dark} is the darkest ({low:.0f} of 255)" in words
        and f"camera {light} the lightest ({high:.0f})" in words
        and low <= high
    )


def _samplers(c: dict) -> bool:
    said = "shows more cameras" in c["sentence"]
    return said == (c["camera"] > c["random"]) and min(c["camera"], c["random"]) >= 1


def _nearer(c: dict) -> bool:
    words = c["sentence"].split("By features")
    said = ["**nearer**" in part for part in words]
    return said == [a < b for a, b in zip(c["friend"], c["stranger"], strict=True)]


def _separates(c: dict) -> bool:
    costs, words = c["costs"], c["sentence"]
    listed = all(f"{name} {cost:+.3f}" in words for name, cost in costs.items())
    if max(costs.values()) <= 0:
        return listed and "nothing separates" in words
    named = words.split("known here, *")[1].split("*")[0]
    return listed and costs[named] == max(costs.values())


RULES = {
    "cameras": _cameras,
    "samplers": _samplers,
    "nearer": _nearer,
    "separates": _separates,
}
