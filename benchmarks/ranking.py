"""Rows on the evaluation: mAP and CMC of a query set against a gallery."""

from __future__ import annotations

import numpy as np
from reference.evaluation import brute_force_ranking

from benchmarks.measure import features_like, measured, peak_of_process_mb, row
from benchmarks.peers import checkout, cluster_contrast_ranking, torchreid_ranking
from dkdmpl_kit.evaluation import evaluate_ranking


def split(queries: int, gallery: int, d: int) -> tuple[np.ndarray, ...]:
    """Arguments of `evaluate_ranking` for features of so many images, 6 cameras."""
    features, pids = features_like(queries + gallery, d, per_identity=25, noise=0.9, seed=1)
    camids = np.random.default_rng(2).integers(0, 6, len(pids))
    return (
        features[:queries],
        features[queries:],
        pids[:queries],
        pids[queries:],
        camids[:queries],
        camids[queries:],
    )


def rows(size: str):
    """Yield the rows, one measurement after the other."""
    evaluate_ranking(*split(50, 200, 16))  # compiles, or reads the compiled code
    if size == "small":
        arguments = split(100, 500, 128)
        kit, ours = measured(lambda: evaluate_ranking(*arguments))
        other, theirs = measured(lambda: brute_force_ranking(*arguments), 1)
        yield row(
            "ranking, 100 x 500 x 128",
            kit,
            "naive reference",
            other,
            f"mAP differs by {abs(theirs['mAP'] - ours.mAP):.0e}",
        )
        return
    arguments = split(3_368, 15_913, 2_048)
    kit, ours = measured(lambda: evaluate_ranking(*arguments))
    published = (
        (
            "Cluster Contrast's code",
            "DKDMPL_CLUSTER_CONTRAST",
            "clustercontrast/evaluators.py",
            cluster_contrast_ranking,
        ),
        (
            "torchreid's code",
            "DKDMPL_TORCHREID",
            "torchreid/metrics/rank.py",
            torchreid_ranking,
        ),
    )
    found = [
        (name, evaluate)
        for name, variable, file, evaluate in published
        if checkout(variable, file)
    ]
    for name, evaluate in found:
        other, (mean_ap, first) = measured(lambda evaluate=evaluate: evaluate(*arguments), 1)
        yield row(
            "ranking, 3,368 x 15,913 x 2,048",
            kit,
            name,
            other,
            f"mAP {ours.mAP:.4f}, differs by "
            f"{abs(mean_ap - ours.mAP):.0e}; Rank-1 by {abs(first - ours.cmc[1]):.0e}",
        )
    if not found:
        yield row("ranking, 3,368 x 15,913 x 2,048", kit, agreement=f"mAP {ours.mAP:.4f}")
    del arguments
    arguments = split(11_659, 82_161, 2_048)
    kit, ours = measured(lambda: evaluate_ranking(*arguments), 1)
    yield row(
        "ranking, 11,659 x 82,161 x 2,048",
        kit,
        agreement=f"mAP {ours.mAP:.4f}; the whole process, features "
        f"included, {peak_of_process_mb() or 0:,.0f} MB",
    )
