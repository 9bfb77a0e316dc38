"""CA-Jaccard beside the plain distance, on the same features: `python -m benchmarks.cameras
FILE ... [--eps 0.4,0.5]`, or `make cameras DATA=FILE`.

FILE is what `dkdmpl embed` writes with a pattern (or a table) that tells identities and
cameras. Both distances cluster the same rows with DBSCAN in one run. ARI counts clustered
pictures; pair precision and recall count every pair of pictures, an outlier being alone.
Prints a table; --out DIR writes cameras.md and cameras.json there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.measure import measured
from dkdmpl_kit.clustering import (
    PseudoLabels,
    auto_labels,
    camera_jaccard_distances,
    jaccard_distances,
    pseudo_labels,
    require_cameras,
)
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import environment, write_atomic, write_json
from dkdmpl_kit.noise import cluster_agreement, label_report
from dkdmpl_kit.training import Features, read_features

EPS = (0.4, 0.5, 0.6, 0.7)
MAX_DISTANCE = 0.8
HEAD = (
    "| data | pictures | distance | eps | ARI | pair precision % | pair recall % | clusters "
    "| outliers % | distances, s | times plain |"
)


def compared(name: str, saved: Features, eps: Sequence[float] = EPS) -> list[dict]:
    """A row for each distance and eps. KitError where cameras or identities are unknown."""
    if (saved.pids < 0).any():
        raise KitError(f"{name}: an identity of every picture is needed, to count pairs.")
    require_cameras(saved.camids, len(saved))
    reach = max(MAX_DISTANCE, *eps)
    both = {
        "jaccard": lambda: jaccard_distances(saved.features, max_distance=reach),
        "camera_jaccard": lambda: camera_jaccard_distances(
            saved.features, saved.camids, max_distance=reach
        ),
    }
    rows = []
    plain = None
    for distance, work in both.items():
        work()  # compiles, or reads the compiled code
        figures, distances = measured(work, 2)
        plain = plain or figures["seconds"]
        for radius in (*eps, "auto"):
            if radius == "auto":
                found = auto_labels(distances)
            else:
                found = pseudo_labels(distances, eps=radius)
            row = {"data": name, "pictures": len(saved), "distance": distance}
            row |= {"eps": radius, "eps_used": found.eps, **quality(found, saved.pids)}
            rows.append(row | {**figures, "times_plain": figures["seconds"] / plain})
    return rows


def quality(found: PseudoLabels, pids: np.ndarray) -> dict:
    """ARI, pair precision and recall, clusters and outliers of a clustering."""
    pairs = label_report(found.labels, pids, outliers="singletons")
    return {
        "ari": cluster_agreement(found.labels, pids).ari,
        "precision": pairs.pair_precision or 0.0,
        "recall": pairs.pair_recall or 0.0,
        "clusters": found.n_clusters,
        "outliers": found.outlier_fraction,
    }


def line(row: dict) -> str:
    """A row of the table."""
    eps = f"auto: {row['eps_used']:.2f}" if row["eps"] == "auto" else f"{row['eps']:g}"
    cells = [
        row["data"],
        f"{row['pictures']:,}",
        row["distance"],
        eps,
        "–" if row["ari"] is None else f"{row['ari']:.2f}",
        f"{row['precision']:.1%}".rstrip("%"),
        f"{row['recall']:.1%}".rstrip("%"),
        f"{row['clusters']:,}",
        f"{row['outliers']:.1%}".rstrip("%"),
        f"{row['seconds']:.2f}",
        f"{row['times_plain']:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure, print each row as it comes, and write the files."""
    parser = argparse.ArgumentParser(
        "benchmarks.cameras",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--eps", default=",".join(map(str, EPS)))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    eps = [float(value) for value in args.eps.split(",")]
    table = [HEAD, "|" + "---|" * (HEAD.count("|") - 1)]
    rows = []
    print("\n".join(table), flush=True)
    for file in args.files:
        for row in compared(file.stem, read_features(file), eps):
            rows.append(row)
            table.append(line(row))
            print(table[-1], flush=True)
    if args.out:
        write_atomic(args.out / "cameras.md", "\n".join(table) + "\n")
        write_json(args.out / "cameras.json", {"rows": rows, "environment": environment()})


if __name__ == "__main__":
    try:
        main()
    except KitError as error:
        sys.exit(f"benchmarks.cameras: {error}")
