"""What a set of records says: means by method, differences to a baseline, and the table
that a README shows.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import pandas as pd

from dkdmpl_kit.studies.results.measures import Spread, differences, spreads
from dkdmpl_kit.studies.results.rows import (
    WITHOUT_BASELINE,
    by_data,
    by_method,
    by_row,
)
from dkdmpl_kit.studies.tables import MISSING, markdown

COLUMNS = (  # (head, measure, factor, digits) of the README's table
    ("mAP %", "mAP", 100, 1),
    ("Rank-1 %", "rank1", 100, 1),
    ("mINP %", "mINP", 100, 1),
    ("ARI", "ari", 1, 2),
    ("clusters", "n_clusters", 1, 0),
    ("outliers %", "outlier_fraction", 100, 1),
)


def summary(records: Sequence[dict]) -> dict[str, dict[str, Spread]]:
    """{method: {measure: Spread over seeds}} of the final measures; measures that no run
    has are left out.
    """
    return {method: spreads(runs) for method, runs in by_method(records).items()}


def paired_differences(
    records: Sequence[dict], baseline: str = "cluster_contrast", measure: str = "mAP"
) -> dict[str, dict[int, float]]:
    """{method: {seed: its measure minus the baseline's at the same seed}}, over the
    seeds that both have.
    """
    table = by_method(records)
    base = table.get(baseline, {})
    return {
        method: differences(runs, base, measure)
        for method, runs in table.items()
        if method not in (*WITHOUT_BASELINE, baseline)
    }


def markdown_table(records: Sequence[dict]) -> str:
    """The table of a README: one row a method and variant; shares in percent, mean ±
    deviation over seeds.

    Seconds are the median over epochs of loading and training, without clustering and
    evaluation: a median, so that a run that was suspended does not distort it.
    """
    lines = []
    for row, runs in by_row(records).items():
        measured = spreads(runs)
        line = {"method": row.label, "seeds": len(runs)}
        for head, measure, factor, digits in COLUMNS:
            line[head] = _mean_text(measured.get(measure), factor, digits)
        line["s an epoch"] = _seconds_text(runs.values())
        lines.append(line)
    heads = ["method", "seeds", *(column[0] for column in COLUMNS), "s an epoch"]
    return markdown(pd.DataFrame(lines, columns=heads, dtype=object))


def _mean_text(found: Spread | None, factor: float, digits: int) -> str:
    if found is None:
        return MISSING
    text = f"{factor * found.mean:.{digits}f}"
    if found.deviation is not None:
        text += f" ± {factor * found.deviation:.{digits}f}"
    return text


def _seconds_text(runs) -> str:
    seconds = [
        epoch["seconds"].get("load", 0.0) + epoch["seconds"].get("train", 0.0)
        for record in runs
        for epoch in record["history"]
    ]
    return f"{statistics.median(seconds):.1f}" if seconds else MISSING


def markdown_tables(records: Sequence[dict]) -> str:
    """`markdown_table` for each set of pictures, under its name where there are
    several.
    """
    groups = by_data(records)
    if len(groups) == 1:
        return markdown_table(records)
    return "\n\n".join(
        f"**{label}**\n\n{markdown_table(group)}" for label, group in groups.items()
    )
