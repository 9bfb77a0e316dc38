"""When what notebook 05b says about its runs is true."""

from __future__ import annotations

import statistics

from scipy import stats


def place(c: dict) -> bool:
    start, end, top = c["untrained"], c["dkdmpl"], c["supervised"]
    if end <= start:
        words = "not above its start."
    elif top is None:
        words = "ends above its start."
    else:
        words = "above both." if end > top else "between the two."
    return c["sentence"].endswith(words)


def two_measures(c: dict) -> bool:
    gaps = [abs(a - r) for a, r in zip(c["ari"], c["right"])]
    return ("The ARI is larger" in c["sentence"]) == (c["ari"][0] > c["right"][0]) and (
        "did not come together" in c["sentence"]
    ) == (gaps[1] >= gaps[0])


def kinds(c: dict) -> bool:
    shares = {name: c[name] for name in ("merged", "split", "outlier")}
    if not any(shares.values()):
        return "All labels" in c["sentence"]
    return all(
        shares[name] == max(shares.values())
        for name in shares
        if f"*{name}*" in c["sentence"]
    )


def adds(c: dict) -> bool:
    for term in ("gkd", "skd"):
        named = term.upper() in c["sentence"]
        if named != (c.get(term) is not None and c[term] > 0.95):
            return False
    return True


def spread(c: dict) -> bool:
    largest = max(abs(statistics.fmean(points)) for points in c["differences"].values())
    return ("is smaller." in c["sentence"]) == (largest < c["deviation"])


def verdict(points: list[float]) -> str:
    mean, n = statistics.fmean(points), len(points)
    if n < 2:
        return "undecided"
    low, high = stats.t.interval(0.95, n - 1, mean, statistics.stdev(points) / n**0.5)
    return "helps here" if low > 0 else "harms here" if high < 0 else "undecided"


def verdicts(c: dict) -> bool:
    right = c["verdicts"] == {m: verdict(points) for m, points in c["differences"].items()}
    if c["early"] and "dkdmpl" in c["differences"]:
        turned = (
            statistics.fmean(c["early"]) * statistics.fmean(c["differences"]["dkdmpl"]) < 0
        )
        right &= ("the opposite sign" in c["sentence"]) == turned
    right &= ("could not be told" in c["sentence"]) == (c["loud"] == 0)
    return right


RULES = {
    "place": place,
    "two_measures": two_measures,
    "kinds": kinds,
    "adds": adds,
    "plateau": lambda c: (
        ("was not a plateau" in c["sentence"]) == (abs(c["ends"][1] - c["ends"][0]) > 0.01)
    ),
    "spread": spread,
    "verdicts": verdicts,
}
