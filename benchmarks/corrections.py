"""How far twenty corrections go: `python -m benchmarks.corrections NAME=FEATURES ...`.

FEATURES are files that `dkdmpl embed --pattern` wrote, with identities. They are clustered
with eps=auto. Then someone who knows the truth corrects twenty things at random: ten
splits (the pictures of one identity leave a cluster that mostly shows another) and ten
merges (two clusters that mostly show one identity), written and read as a table. Each is
checked in the clustering that comes out, and in that of another eps; pair precision and
recall are measured before and after. How well the table's quality finds the pictures that
are not of their cluster's most frequent identity is measured, too. Writes
figures/corrections.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from dkdmpl_kit.clustering import PseudoLabels
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import preset, write_json
from dkdmpl_kit.noise import auroc, label_report, label_table
from dkdmpl_kit.noise.agreement import cluster_owners
from dkdmpl_kit.training import Features, cluster_epoch, read_corrections, read_features
from dkdmpl_kit.training.corrections import Correction, write_corrections
from dkdmpl_kit.training.label_files import save_labels

ROOT = Path(__file__).resolve().parents[1]
EACH = 10  # splits, and merges
SEEDS = 5
MEASURES = ("pair_precision", "pair_recall", "pair_f")


def person(
    labels: np.ndarray, pids: np.ndarray, names: list[str], rng: np.random.Generator
) -> list[Correction]:
    """At most `EACH` splits and `EACH` merges of labels (N,), -1 for outliers, as someone
    gives them who knows the identities (N,); a cluster that is split is not merged.
    """
    owners = cluster_owners(labels, pids)
    strangers = [
        (int(k), int(pid))
        for k in range(len(owners))
        for pid in np.unique(pids[labels == k])
        if pid != owners[k]
    ]
    chosen = [strangers[i] for i in rng.permutation(len(strangers))[:EACH]]
    corrections = []
    for cluster, pid in chosen:
        leaving = np.flatnonzero((labels == cluster) & (pids == pid))
        rows = tuple((names[i], str(cluster), "") for i in leaving)
        corrections.append(Correction("split", rows))
    split = {cluster for cluster, _ in chosen}
    whole = [k for k in range(len(owners)) if k not in split]
    same = [(a, b) for a in whole for b in whole if a < b and owners[a] == owners[b]]
    for a, b in (same[i] for i in rng.permutation(len(same))[:EACH]):
        corrections.append(Correction("merge", (("", str(a), ""), ("", str(b), ""))))
    return corrections


def honoured(
    correction: Correction, before: np.ndarray, after: np.ndarray, names: list[str]
) -> bool:
    """Whether the labels `after` say what a correction of the labels `before` says."""
    if correction.action == "merge":
        one = np.isin(before, [int(cluster) for _, cluster, _ in correction.rows])
        return len(set(after[one])) == 1 and after[one].min() >= 0
    leaving = np.isin(np.array(names), [name for name, _, _ in correction.rows])
    staying = (before == int(correction.rows[0][1])) & ~leaving
    own = set(after[leaving])
    return len(own) == 1 and (own == {-1} or not own & set(after[staying]))


def measures(pseudo: PseudoLabels, pids: np.ndarray) -> dict:
    """Pair measures over all pictures, an outlier as a cluster of its own."""
    report = label_report(pseudo.labels, pids, outliers="singletons")
    return {name: getattr(report, name) for name in MEASURES}


def quality(saved: Features, labels: np.ndarray) -> dict:
    """How well columns of the table find the pictures that are not of the identity which
    most of their cluster have: areas under the ROC curve, and the share among suspects.
    """
    table = label_table(saved.features, labels)
    clustered = labels >= 0
    wrong = np.zeros(len(labels), bool)
    wrong[clustered] = (cluster_owners(labels, saved.pids)[labels] != saved.pids)[clustered]
    suspects = int(table.suspect.sum())
    return {
        "wrong": float(wrong[clustered].mean()),
        "auroc_quality": auroc(table.quality, wrong),
        "auroc_similarity": auroc(table.similarity, wrong),
        "suspects": suspects,
        "suspects_wrong": int(wrong[table.suspect].sum()),
    }


def measured(saved: Features, seeds: int = SEEDS) -> dict:
    """What twenty corrections do to the clustering of a file of features."""
    if (saved.pids < 0).any():
        raise KitError("corrections are measured by identities: embed with --pattern.")
    config = preset("demo", eps="auto")
    names, pids, camids = list(saved.paths), saved.pids, saved.camids
    plain = cluster_epoch(config, saved.features, camids)
    other = config.replace(eps=round(max(plain.eps - 0.1, 0.1), 4))
    runs = []
    for seed in range(seeds):
        given = person(plain.labels, pids, names, np.random.default_rng(seed))
        with tempfile.TemporaryDirectory() as folder:
            table = label_table(saved.features, plain.labels)
            save_labels(Path(folder) / "labels.csv", table, names, [""] * len(names), {})
            path = write_corrections(Path(folder) / "corrections.csv", given)
            constraints = read_corrections(path, names)
        same = cluster_epoch(config, saved.features, camids, constraints)
        next_one = cluster_epoch(other, saved.features, camids, constraints)
        kept = [
            honoured(one, plain.labels, found.labels, names)
            for found in (same, next_one)
            for one in given
        ]
        runs.append(
            {
                "merges": sum(one.action == "merge" for one in given),
                "splits": sum(one.action == "split" for one in given),
                "honoured": sum(kept),
                "of": len(kept),
                "after": measures(same, pids),
            }
        )
    return {
        "pictures": len(names),
        "clusters": plain.n_clusters,
        "eps": plain.eps,
        "eps_of_the_next": other.eps,
        "quality": quality(saved, plain.labels),
        "before": measures(plain, pids),
        "runs": runs,
    }


def told(name: str, found: dict) -> str:
    """One set's figures in lines."""
    runs = found["runs"]
    kept, of = sum(run["honoured"] for run in runs), sum(run["of"] for run in runs)
    lines = [
        f"{name}: {found['pictures']:,} pictures, {found['clusters']} clusters at eps "
        f"{found['eps']:g}; {kept} of {of} corrections honoured in {len(runs)} draws of "
        f"{runs[0]['splits']} splits and {runs[0]['merges']} merges, at this eps and at "
        f"{found['eps_of_the_next']:g}"
    ]
    found_by = found["quality"]
    lines.append(
        f"  {found_by['wrong']:.1%} of the clustered pictures are wrong: AUROC of quality "
        f"{found_by['auroc_quality'] or 0.5:.3f}, of similarity "
        f"{found_by['auroc_similarity'] or 0.5:.3f}; {found_by['suspects_wrong']} of "
        f"{found_by['suspects']} suspects are wrong"
    )
    for measure in MEASURES:
        after = [run["after"][measure] for run in runs]
        lines.append(
            f"  {measure:<15} {found['before'][measure]:.3f} -> {np.mean(after):.3f} "
            f"({min(after):.3f} to {max(after):.3f})"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure the files of features that are named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("features", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--out", default=str(ROOT / "figures" / "corrections.json"))
    args = parser.parse_args(argv)
    results = {}
    for text in args.features:
        name, _, path = text.rpartition("=")
        results[name or Path(path).stem] = found = measured(read_features(path))
        print(told(name, found))
    print(write_json(args.out, results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
