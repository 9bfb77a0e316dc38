"""`python -m benchmarks [--size small|full]`: each row is measured twice in this run, the kit and a naive reference.

Ratios travel between machines better than seconds do. Small takes seconds; full is Market-1501's size, for the
kit alone where the naive reference would need hours. Writes figures/benchmarks.md and .json.
"""
from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # the naive references are the tests' own

from reference.clustering import dense_dbscan, dense_jaccard  # noqa: E402
from reference.evaluation import brute_force_ranking  # noqa: E402

from dkdmpl_kit.clustering import jaccard_distances, pseudo_labels  # noqa: E402
from dkdmpl_kit.evaluation import evaluate_ranking  # noqa: E402
from dkdmpl_kit.experiment import environment, write_atomic, write_json  # noqa: E402
from dkdmpl_kit.memory import ClusterMemory  # noqa: E402
from dkdmpl_kit.neighbors import knn_graph  # noqa: E402


def clustered_features(n: int, d: int, per_cluster: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) noisy unit rows around n / per_cluster directions, and their cluster (n,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) // per_cluster
    rows = rng.normal(size=(labels.max() + 1, d))[labels] + 1.3 * rng.normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


def measured(work: Callable[[], object], repeats: int = 3) -> dict[str, float]:
    """Best seconds of `repeats`, and the peak of Python's and NumPy's allocations in MB in one more call."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return {"seconds": min(seconds), "peak_mb": peak}


def sequential_update(memory: torch.Tensor, z: torch.Tensor, labels: torch.Tensor, momentum: float) -> None:
    """The instance rule as it is usually written: one row of the batch at a time."""
    for row, k in zip(z, labels.tolist()):
        memory[k] = torch.nn.functional.normalize(momentum * memory[k] + (1 - momentum) * row, dim=0)


def rows(size: str) -> list[dict]:
    """One dict a measurement: what, the kit's figures, the naive ones (None where they would take hours)."""
    n, d = (600, 128) if size == "small" else (12_936, 2_048)
    naive = size == "small"
    features, labels = clustered_features(n, d, 17)
    graph = knn_graph(features, 30)
    distances = jaccard_distances(graph)

    def kit_labels():
        return pseudo_labels(jaccard_distances(knn_graph(features, 30)))

    table = [{"what": f"features -> pseudo labels, {n:,} x {d:,}", "kit": measured(kit_labels),
              "naive": measured(lambda: dense_dbscan(dense_jaccard(features, 30, 6), 0.6, 4), 1) if naive else None},
             {"what": f"another eps on the same graph, {n:,}", "kit": measured(lambda: pseudo_labels(distances, eps=0.5)),
              "naive": None}]
    queries, gallery = (100, 500) if naive else (3_368, 15_913)
    everything, pids = clustered_features(queries + gallery, d, 20, seed=1)
    order = np.random.default_rng(2).permutation(len(pids))
    query, rest, cams = order[:queries], order[queries:], np.arange(len(pids)) % 6
    args = (everything[query], everything[rest], pids[query], pids[rest], cams[query], cams[rest])
    table.append({"what": f"ranking, {queries:,} x {gallery:,} x {d:,}", "kit": measured(lambda: evaluate_ranking(*args)),
                  "naive": measured(lambda: brute_force_ranking(*args), 1) if naive else None})
    memory_features, memory_labels = clustered_features(8_000, 2_048, 4)
    batch = np.random.default_rng(3).permutation(200)[:16].repeat(16)
    z, y = torch.from_numpy(memory_features[batch * 4]), torch.from_numpy(batch)
    memory = ClusterMemory(memory_features, memory_labels)
    clone = memory.features.clone()
    table.append({"what": "memory update, B 256, K 2,000, d 2,048", "kit": measured(lambda: memory.update(z, y)),
                  "naive": measured(lambda: sequential_update(clone, z, y, 0.1))})
    return table


def markdown(table: list[dict]) -> str:
    """The table of a README."""
    lines = ["| what | seconds | peak MB | naive: seconds | naive: peak MB | times faster |", "|---|---|---|---|---|---|"]
    for row in table:
        kit, naive = row["kit"], row["naive"]
        rest = "| – | – | – |" if naive is None else (
            f"| {naive['seconds']:.3g} | {naive['peak_mb']:.3g} | {naive['seconds'] / kit['seconds']:.1f} |")
        lines.append(f"| {row['what']} | {kit['seconds']:.3g} | {kit['peak_mb']:.3g} {rest}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser("benchmarks", description=__doc__)
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--out", type=Path, default=ROOT / "figures")
    args = parser.parse_args()
    table = rows(args.size)
    print(markdown(table))
    write_atomic(args.out / f"benchmarks-{args.size}.md", markdown(table))
    write_json(args.out / f"benchmarks-{args.size}.json", {"rows": table, "environment": environment()})


if __name__ == "__main__":
    main()
