"""When what notebook 09 says is true, from the numbers beside it."""

from __future__ import annotations

import re


def slow_copy(c: dict) -> bool:
    share = c["momentum"] ** c["steps"]
    near = "its start." if share > 0.5 else "the encoder."
    return (
        c["sentence"].endswith(f"nearer to {near}")
        and f"{100 * share:.0f} %" in c["sentence"]
    )


def labels(c: dict) -> bool:
    hard = dict(c["hard"])
    furthest = min(hard.values())
    one_hot = [name for name in hard if name.startswith("cluster contrast")]
    soft = {name: mass for name, mass in hard.items() if name not in one_hot}
    if len(one_hot) != 1 or abs(hard[one_hot[0]] - 1) > 1e-9:
        return False
    ok = soft[c["near"]] == max(soft.values()) and hard[c["far"]] == furthest
    ok &= (
        f"Nearest to the hard label is *{c['near']}*, furthest *{c['far']}*" in c["sentence"]
    )
    truth = c["truth"]
    if None in truth.values():
        return (
            ok
            and set(truth.values()) == {None}
            and "No wrong label is known." in c["sentence"]
        )
    return (
        ok
        and truth[c["best"]] == max(truth.values())
        and f"On wrong labels *{c['best']}* gives the truth the most ({max(truth.values()):.2f})"
        in c["sentence"]
    )


def past(c: dict) -> bool:
    even = 1 / c["clusters"]
    nearer = abs(c["past"] - 1) < abs(c["past"] - even)
    return nearer == c["sentence"].endswith("nearer to cluster contrast.")


def across(c: dict) -> bool:
    parts = {
        name: 0.0 if length == 0 else length * max(1 - cosine**2, 0) ** 0.5
        for name, (length, cosine) in c["rows"].items()
    }
    against = [name for name, (length, cosine) in c["rows"].items() if length and cosine < 0]
    said = c["sentence"].rpartition("point: ")[2].removesuffix(".")
    control = c["rows"]["cluster contrast, twice"]
    return (
        f"added by {c['most']}:" in c["sentence"]
        and parts[c["most"]] > max(parts.values()) - 1e-9
        and said == (", ".join(against) or "none")
        and abs(control[0] - 1) + abs(control[1] - 1) < 1e-6
    )


def adam(c: dict) -> bool:
    # a louder gradient moves Adam's weights nearly as the gradient itself does
    return 0 <= c["difference"] < 0.2 and f"{100 * c['difference']:.1f} %" in c["sentence"]


def turned(c: dict) -> bool:
    updates = {name: angle for name, angle in c["turned"].items() if name != "before"}
    return (
        len(updates) == 4
        and updates[c["least"]] == min(updates.values())
        and f"the {c['least']} turns the row the least, by {min(updates.values()):.0f} "
        in c["sentence"]
    )


def cost(c: dict) -> bool:
    above = [ratio for ratio in c["more"] if all(ratio > own for own in c["one"])]
    return f"{len(above)} of {len(c['more'])} methods" in c["sentence"] and 1.0 in c["one"]


def decided(c: dict) -> bool:
    means = list(c["means"].values())
    names = list(c["means"])
    leave_out = [n for n, m, h in zip(names, means, c["halves"]) if abs(m) > h]
    firm = [n for n, m, h in zip(names, means, c["strict"]) if abs(m) > h]
    said = c["sentence"].rpartition("still decided: ")[2].removesuffix(".")
    return (
        f"here {len(leave_out)} do." in c["sentence"]
        and said == (", ".join(firm) or "none")
        and leave_out == c["decided"]
        and all(strict > half for strict, half in zip(c["strict"], c["halves"]))
    )


def power(c: dict) -> bool:
    low, high = re.findall(r"±([\d.]+)", c["sentence"])
    return float(low) == round(min(c["halves"]), 1) and float(high) == round(
        max(c["halves"]), 1
    )


def control(c: dict) -> bool:
    louder = [scale for scale in c["scales"] if scale != 1]
    return f": {len(louder)}. " in c["sentence"] and (not louder) == (
        "could not be told" in c["sentence"]
    )


RULES = {
    "slow_copy": slow_copy,
    "labels": labels,
    "past": past,
    "across": across,
    "adam": adam,
    "turned": turned,
    "cost": cost,
    "decided": decided,
    "power": power,
    "control": control,
}
