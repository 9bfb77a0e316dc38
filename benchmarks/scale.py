"""Time and memory of pseudo labels against the number of images, with fitted exponents."""

from __future__ import annotations

import numpy as np
from matplotlib import rc_context
from sklearn.metrics import adjusted_rand_score

from benchmarks.clustering import kit_labels
from benchmarks.measure import features_like, measured, peak_of_process_mb, row
from dkdmpl_kit.viz.style import PALETTE, STYLE, KitFigure

SIZES = {
    "small": ((1_000, 2_000, 4_000), ()),
    "full": ((1_000, 3_000, 10_000, 30_000, 100_000), (100_000, 300_000, 1_000_000)),
}
D = 128


def curve(size: str) -> dict:
    """Time and memory at each size: {"d", "exact": series, "approximate": series}.

    A series has lists "n", "seconds", "peak_mb", "process_mb", "ari", and the numbers
    "exponent_seconds" and "exponent_peak_mb". The exponents are slopes of straight
    lines through the logarithms of the three largest sizes.
    """
    found = {"d": D}
    for name, sizes in zip(("exact", "approximate"), SIZES[size]):
        figures = []
        for n in sizes:
            features, pids = features_like(n, D, per_identity=20, noise=0.3)
            figure, labels = measured(
                lambda features=features, name=name: kit_labels(features, name == "exact"),
                3 if n < 20_000 else 1,
            )
            figure["process_mb"] = peak_of_process_mb()
            figure["ari"] = adjusted_rand_score(pids, labels)
            figures.append(figure)
        series = {
            key: [f[key] for f in figures]
            for key in ("seconds", "peak_mb", "process_mb", "ari")
        }
        found[name] = {"n": list(sizes), **series}
        for key in ("seconds", "peak_mb"):
            found[name][f"exponent_{key}"] = exponent(sizes, series[key])
    return found


def largest_row(found: dict) -> dict:
    """The largest set of the curve as a row of the table."""
    name = "approximate" if found["approximate"]["n"] else "exact"
    n, seconds, peak, process, ari = (
        found[name][key][-1] for key in ("n", "seconds", "peak_mb", "process_mb", "ari")
    )
    said = f"ARI to the identities {ari:.3f}"
    if process is not None:
        said += f"; the whole process, features included, {process:,.0f} MB"
    return row(
        f"features -> pseudo labels, {n:,} x {found['d']}, {name}",
        {"seconds": seconds, "peak_mb": peak},
        agreement=said,
    )


def exponent(sizes, values) -> float | None:
    """Slope in log-log of the three largest sizes, None where there are fewer."""
    if len(sizes) < 3 or any(v is None or v <= 0 for v in values[-3:]):
        return None
    return float(np.polyfit(np.log(sizes[-3:]), np.log(values[-3:]), 1)[0])


def picture(found: dict) -> KitFigure:
    """Two panels, seconds and peak memory against N, both axes logarithmic."""
    with rc_context(STYLE):
        figure = KitFigure(figsize=(9, 3.6), layout="constrained")
        units = {"seconds": "seconds", "peak_mb": "peak memory above the features, MB"}
        for axes, (key, unit) in zip(figure.subplots(1, 2), units.items()):
            for name, colour, marker in (
                ("exact", PALETTE["blue"], "o"),
                ("approximate", PALETTE["orange"], "^"),
            ):
                series = found[name]
                if not series["n"] or None in series[key]:
                    continue
                slope = series[f"exponent_{key}"]
                label = (
                    name if slope is None else f"{name}: grows as N^{slope:.2f} at the end"
                )
                axes.loglog(
                    series["n"], series[key], marker=marker, color=colour, label=label
                )
            axes.set(xlabel="images N", ylabel=unit)
            axes.grid(True, axis="both")
            axes.legend()
        figure.suptitle(f"Features (N x {found['d']}) to pseudo labels")
    return figure
