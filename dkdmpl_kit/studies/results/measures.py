"""Measures of rows: means over seeds, and differences with the seeds paired."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from dkdmpl_kit.errors import KitError

MEASURES = ("mAP", "rank1", "mINP", "ari", "n_clusters", "outlier_fraction")


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation (None for one value) and the values themselves,
    in the order of the seeds.
    """

    mean: float
    deviation: float | None
    values: tuple[float, ...]

    @property
    def interval(self) -> float | None:
        """Half the width of the mean's 95 % interval (Student's t); None for one value."""
        from scipy.stats import t

        if self.deviation is None:
            return None
        n = len(self.values)
        return float(t.ppf(0.975, n - 1) * self.deviation / n**0.5)


def spread(values: Iterable[float]) -> Spread:
    """Mean and sample standard deviation (n - 1). KitError where there are no values."""
    values = tuple(float(value) for value in values)
    if not values:
        raise KitError("There are no values to average: no run has been measured yet.")
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), deviation, values)


def interval_text(shares: Iterable[float]) -> str | None:
    """Mean and 95 % interval of shares in percentage points, "+1.2 [-0.3, +2.7]".

    A single value has no interval; None for no values.
    """
    points = [100 * share for share in shares]
    if not points:
        return None
    found = spread(points)
    if found.interval is None:
        return f"{found.mean:+.1f}"
    low = found.mean - found.interval
    high = found.mean + found.interval
    return f"{found.mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def final_measures(runs: dict[int, dict]) -> pd.DataFrame:
    """The final measures of {seed: record}: one line a seed, one column a measure, NaN
    where a run lacks one.
    """
    finals = [record["final"] for record in runs.values()]
    return pd.DataFrame(finals, index=list(runs), columns=list(MEASURES), dtype=float)


def spreads(runs: dict[int, dict]) -> dict[str, Spread]:
    """{measure: Spread over the seeds} of {seed: record}; measures that no run has are
    left out.
    """
    measured = final_measures(runs).dropna(axis="columns", how="all")
    return {measure: spread(column.dropna()) for measure, column in measured.items()}


def differences(
    runs: dict[int, dict], baseline: dict[int, dict], measure: str
) -> dict[int, float]:
    """{seed: measure minus the baseline's} over the seeds at which both were measured."""
    change = final_measures(runs)[measure] - final_measures(baseline)[measure]
    return change.dropna().to_dict()
