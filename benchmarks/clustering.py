"""Rows on pseudo labels, at the data sets' sizes and beyond."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from reference.clustering import dense_dbscan
from sklearn.metrics import adjusted_rand_score

from benchmarks.measure import features_like, measured, row
from benchmarks.peers import checkout, cluster_contrast_labels
from dkdmpl_kit.clustering import jaccard_distances, pseudo_labels
from dkdmpl_kit.clustering.by_the_book import jaccard_by_the_book
from dkdmpl_kit.neighbors import knn_graph, recall

FIRST_CLUSTERING = """
import time
start = time.perf_counter()
import numpy as np
from dkdmpl_kit.clustering import jaccard_distances, pseudo_labels
x = np.random.default_rng(0).standard_normal((1200, 64), np.float32)
x /= np.linalg.norm(x, axis=1, keepdims=True)
imported = time.perf_counter()
pseudo_labels(jaccard_distances(x))
print(imported - start, time.perf_counter() - imported)
"""


def kit_labels(features: np.ndarray, exact: bool = True) -> np.ndarray:
    """The kit's pseudo labels at the recipe's settings."""
    return pseudo_labels(jaccard_distances(knn_graph(features, 30, exact=exact))).labels


def rows(size: str):
    """Yield the rows, one measurement after the other."""
    kit_labels(features_like(2000, 64)[0])  # compiles, or reads the compiled code
    if size == "small":
        few, _ = features_like(600, 128)
        yield labels_row(
            "features -> pseudo labels, 600 x 128",
            few,
            "naive reference",
            lambda: dense_dbscan(jaccard_by_the_book(few, 30, 6), 0.6, 4),
        )
        yield eps_row(2000)
        return
    given = checkout("DKDMPL_CLUSTER_CONTRAST", "clustercontrast/utils/faiss_rerank.py")
    against = "Cluster Contrast's code" if given else None
    for name, noise in (("clean", 0.5), ("noisy", 0.9)):
        features, pids = features_like(12_936, 2_048, noise=noise)
        published = (
            (lambda features=features: cluster_contrast_labels(features)) if against else None
        )
        yield labels_row(
            f"features -> pseudo labels, 12,936 x 2,048, {name}",
            features,
            against,
            published,
            pids,
        )
    yield eps_row(12_936)
    features, pids = features_like(32_621, 2_048, per_identity=31)
    yield labels_row("features -> pseudo labels, 32,621 x 2,048", features, None, None, pids)
    del features
    yield from large_rows()
    yield from first_rows()


def labels_row(
    what: str,
    features: np.ndarray,
    against: str | None,
    other,
    pids: np.ndarray | None = None,
) -> dict:
    """Pseudo labels by the kit and by another, and how far the two agree."""
    kit, labels = measured(lambda: kit_labels(features))
    said = f"{labels.max() + 1:,} clusters, {np.mean(labels < 0):.1%} outliers"
    if pids is not None:
        said += f", ARI to the identities {adjusted_rand_score(pids, labels):.3f}"
    if other is None:
        return row(what, kit, agreement=said)
    theirs, found = measured(other, 1)
    agreement = adjusted_rand_score(found, labels)
    differ = int(((found < 0) != (labels < 0)).sum())
    said = f"ARI {agreement:.6f}, {differ} outliers differ; {said}"
    return row(what, kit, against, theirs, said)


def eps_row(n: int) -> dict:
    """Another eps on distances that are already there."""
    distances = jaccard_distances(knn_graph(features_like(n, 256, noise=0.9)[0], 30))
    return row(
        f"another eps on the same graph, {n:,}",
        measured(lambda: pseudo_labels(distances, eps=0.5))[0],
        agreement=f"{distances.nnz:,} distances stored",
    )


def large_rows():
    """Beyond the data sets: the approximate graph against the exact one at 200,000.

    A million is in scale.py.
    """
    features, pids = features_like(200_000, 512, per_identity=20)
    exact_figures, exact = measured(lambda: knn_graph(features, 30), 1)
    exact_labels = pseudo_labels(jaccard_distances(exact)).labels
    figures, labels = measured(lambda: kit_labels(features, exact=False), 1)
    found = knn_graph(features, 30, exact=False)
    yield row(
        "features -> pseudo labels, 200,000 x 512, approximate",
        figures,
        "the exact graph alone",
        exact_figures,
        f"recall@30 {recall(found, exact):.4f}, ARI to the exact result "
        f"{adjusted_rand_score(exact_labels, labels):.4f}",
    )


def first_rows():
    """The first clustering of a new process: with and without compiled code on disk."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        for name in ("nothing compiled yet", "compiled code on disk"):
            start = time.perf_counter()
            answer = subprocess.run(
                [sys.executable, "-c", FIRST_CLUSTERING],
                env=environment,
                check=True,
                capture_output=True,
                text=True,
            ).stdout.split()
            yield row(
                f"a new process' first clustering, {name}",
                {"seconds": float(answer[1]), "peak_mb": None},
                agreement=f"imports {float(answer[0]):.1f} s; in all "
                f"{time.perf_counter() - start:.1f} s",
            )
