"""What the records of the experiment say: gains, P2's forecast, sentences, exhibits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from dkdmpl_kit.experiment import METHOD_LABELS, write_atomic
from dkdmpl_kit.studies.exhibits import drawing
from dkdmpl_kit.studies.results import spread

BASELINE = "cluster_contrast"
WHENS = ("first", "last")  # the epochs after which P2's margin is measured
WHAT_IT_IS = (
    "A head (linear layer, BNNeck) on frozen features, trained on true labels made wrong "
    "on purpose, ranked on other identities: not a training of the whole encoder."
)


def gains(records: list[dict], measure: str = "mAP") -> list[dict]:
    """Each method less cluster contrast at the same condition and seed: one row a
    method and condition.

    {"method", "kind", "rate", "values" by seed, "mean", "half"}: half the width of the
    mean's 95 % t interval over the seeds (None from fewer than two), and "verdict":
    "helps" or "hurts" where it excludes 0, else "unclear".
    """
    measured = pd.DataFrame(records).pivot(
        index=["kind", "rate", "seed"], columns="method", values=measure
    )
    if BASELINE not in measured:
        return []
    changes = measured.sub(measured[BASELINE], axis="index")
    rows = []
    for kind, rate, method in dict.fromkeys(
        (record["kind"], record["rate"], record["method"]) for record in records
    ):
        values = changes.loc[(kind, rate), method].dropna()
        if method == BASELINE or values.empty:
            continue
        found = spread(values)
        half = found.interval
        verdict = "unclear"
        if half is not None and abs(found.mean) > half:
            verdict = "helps" if found.mean > 0 else "hurts"
        rows.append(
            {
                "method": method,
                "kind": kind,
                "rate": rate,
                "values": list(found.values),
                "mean": found.mean,
                "half": half,
                "verdict": verdict,
            }
        )
    return rows


def margins_and_gains(
    records: list[dict], when: str = "first"
) -> list[tuple[str, float, float]]:
    """(kind, break-even margin of P2, gain of GKD in mAP) of every condition and seed
    that has both runs.

    The margin is the cluster contrast run's: what could be known without trying GKD.
    when: "first" or "last" epoch.
    """
    with_gkd = {
        (record["kind"], record["rate"], record["seed"]): record["mAP"]
        for record in records
        if record["method"] == "gkd"
    }
    points = []
    for record in records:
        place = (record["kind"], record["rate"], record["seed"])
        if record["method"] == BASELINE and place in with_gkd:
            gain = with_gkd[place] - record["mAP"]
            points.append((record["kind"], record[when]["break_even"], gain))
    return points


def agreement(points: list[tuple[str, float, float]]) -> dict:
    """Does the margin predict the gain? Spearman's rho over the n points, the share of
    equal signs, and rho by kind.

    rho is None where it does not exist: fewer than three points, or one of the two
    never changes.
    """
    by_kind: dict[str, list[tuple[float, float]]] = {}
    for kind, margin, gain in points:
        by_kind.setdefault(kind, []).append((margin, gain))
    pairs = [(margin, gain) for _, margin, gain in points]
    return {
        "n": len(pairs),
        "rho": _spearman(pairs),
        "rho_by_kind": {kind: _spearman(mine) for kind, mine in by_kind.items()},
        "same_sign": sum((margin > 0) == (gain > 0) for margin, gain in pairs),
        "above": sum(margin > 0 for margin, _ in pairs),
    }


def _spearman(pairs: list[tuple[float, float]]) -> float | None:
    from scipy.stats import spearmanr

    if len(pairs) < 3:
        return None
    margins, gained = np.array(pairs).T
    if np.ptp(margins) == 0 or np.ptp(gained) == 0:
        return None
    return float(spearmanr(margins, gained).statistic)


def findings(records: list[dict]) -> str:
    """What the numbers say, in sentences: where each method helps and hurts, and
    whether P2's break-even predicted it.
    """
    rows = gains(records)
    n_seeds = len({record["seed"] for record in records})
    methods = dict.fromkeys(row["method"] for row in rows)
    lines = [_of_method(method, rows) for method in methods]
    if n_seeds > 1:
        lines.append(
            f"To help or hurt: the 95 % t interval of the difference over {n_seeds} seeds "
            "leaves out 0; elsewhere it includes 0. "
            f"Of {len(rows)} intervals about {0.05 * len(rows):.0f} would leave it out by "
            "chance alone."
        )
    else:
        lines.append("One seed has no interval: nothing can be said to help or to hurt.")
    lines += [_of_forecast(when, records) for when in WHENS]
    lines.append(
        "The first of these margins is a forecast, the second is known only when "
        "training is over; points that share a seed or a rate are not independent."
    )
    return "\n".join(lines)


def _of_method(method: str, rows: list[dict]) -> str:
    """Where one method helps and hurts, and its mean gain by kind of noise."""
    mine = [row for row in rows if row["method"] == method]
    parts = []
    for verdict in ("helps", "hurts"):
        clear = [
            f"{_condition(row['kind'], row['rate'])} {100 * row['mean']:+.2f} ± "
            f"{100 * row['half']:.2f}"
            for row in mine
            if row["verdict"] == verdict
        ]
        where = f" ({', '.join(clear)})" if clear else ""
        parts.append(f"{verdict} in {len(clear)} of {len(mine)} conditions{where}")
    by_kind: dict[str, list[float]] = {}
    for row in mine:
        by_kind.setdefault(row["kind"], []).append(row["mean"])
    means = [f"{_condition(k)} {100 * np.mean(v):+.2f}" for k, v in by_kind.items()]
    label = METHOD_LABELS[method].removeprefix("+ ")
    return f"{label} {' and '.join(parts)}. Mean gain in mAP points: {', '.join(means)}."


def _of_forecast(when: str, records: list[dict]) -> str:
    """How well P2's margin after one epoch went with GKD's gain."""
    found = agreement(margins_and_gains(records, when))
    by_kind = [
        f"{_condition(kind)} {_rho_text(rho)}"
        for kind, rho in found["rho_by_kind"].items()
        if kind != "none"
    ]
    return (
        f"P2's margin after the {when} epoch of cluster contrast, and GKD's gain in mAP: "
        f"Spearman's rho {_rho_text(found['rho'])} over n = {found['n']} pairs of runs; "
        f"within one kind of noise: {', '.join(by_kind)}. "
        f"Above break-even: {found['above']}; margin and gain of one sign: "
        f"{found['same_sign']} of {found['n']}."
    )


def _condition(kind: str, rate: float = 0.0) -> str:
    if kind == "none":
        return "no noise"
    return kind.replace("_", " ") + (f" {rate:.2f}" if rate else "")


def _rho_text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.2f}"


def by_rate(
    records: list[dict], measure: str = "mAP"
) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """{kind: {method: (rates (R,), values (S, R), NaN where not measured)}}; no noise
    is every kind's rate 0.
    """
    cells = pd.DataFrame(records)
    seeds = sorted(cells["seed"].unique())
    kinds = [kind for kind in cells["kind"].unique() if kind != "none"] or ["none"]
    table = {}
    for kind in kinds:
        chosen = cells[cells["kind"].isin([kind, "none"])]
        rates = np.sort(chosen["rate"].unique())
        table[kind] = {}
        for method, mine in chosen.groupby("method", sort=False):
            values = mine.pivot(index="seed", columns="rate", values=measure)
            values = values.reindex(index=seeds, columns=rates)
            table[kind][method] = (rates, values.to_numpy())
    return table


def write_exhibits(records: list[dict], about: dict, folder: str | Path) -> list[Path]:
    """Write records.json, findings.txt and both figures with what made them; `about`:
    settings, versions, fingerprint. The paths; KitError where matplotlib is missing.
    """
    viz = drawing()
    folder = Path(folder)
    margins = {when: margins_and_gains(records, when) for when in WHENS}
    figures = {
        "robustness": viz.noise_panels(by_rate(records), gains(records)),
        "break_even": viz.margin_gain(margins),
    }
    text = f"{WHAT_IT_IS}\n{findings(records)}"
    kept = json.dumps({"about": about, "records": records}, separators=(",", ":"))
    written = [
        write_atomic(folder / "records.json", kept + "\n"),
        write_atomic(folder / "findings.txt", text + "\n"),
    ]
    metadata = about | {
        "caption": text.replace("\n", " "),
        "seeds": sorted({record["seed"] for record in records}),
    }
    for name, figure in figures.items():
        written.append(viz.save_figure(figure, folder / f"{name}.png", metadata=metadata))
    return written
