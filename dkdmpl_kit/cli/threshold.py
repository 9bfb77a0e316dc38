"""The command that says from which similarity a match is believed: threshold."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dkdmpl_kit.cli.extras import require
from dkdmpl_kit.cli.search import RUN, look_at, refuse_inside
from dkdmpl_kit.cli.settings import CLUSTERING, DATA, LOOK, flag_of
from dkdmpl_kit.cli.shared import config_of, dataset_of, encoder_of, settings_of
from dkdmpl_kit.data.files import printable
from dkdmpl_kit.errors import KitError

if TYPE_CHECKING:
    from dkdmpl_kit.clustering import Constraints
    from dkdmpl_kit.data import TrainingImages
    from dkdmpl_kit.evaluation import MatchCurve, OpenSet
    from dkdmpl_kit.experiment import Config
    from dkdmpl_kit.training import Features

SOURCES = ("true", "pseudo")
FPR = 1e-4  # of pairs: one false match a query in a gallery of ten thousand
TRUE = {"labels": "true identities"}
PSEUDO = {"labels": "pseudo labels"}
PSEUDO_REMARK = (
    "the interval tells of the sample of pictures alone, not of clusters that are wrong; "
    "pairs in a cluster are those that were found alike, so expect a far lower TPR"
)
OPEN_SET_REMARK = (
    "found first: queries whose identity ranks first and is believed; false alarms: queries "
    "that are told somebody when their identity is taken out of the gallery; right answers: "
    "of both questions together"
)
TOLD = (1e-2, 1e-3, 1e-4, 1e-5)  # false-positive rates of the printed table


class Labelled(NamedTuple):
    """Features (N, d) with labels (N,) and camids (N,); `halves`, the indices of queries
    and gallery, where there are both; `about`, what the record says of them.
    """

    features: np.ndarray
    labels: np.ndarray
    camids: np.ndarray
    halves: tuple[np.ndarray, np.ndarray] | None
    about: dict


def add(command) -> None:
    """Declare this module's command; `command(name, run, help, settings=...)` makes its
    parser.
    """
    sub = command(
        "threshold",
        _threshold,
        "the similarity from which a match is believed, from labels or pseudo labels",
        uses=DATA | LOOK | CLUSTERING | {"eps"},
    )
    sub.add_argument("--run", dest="run_folder", help=RUN)
    sub.add_argument(
        "--features",
        metavar="FILE",
        help="the file that embed or evaluate wrote, in place of pictures and an encoder",
    )
    sub.add_argument(
        "--labels",
        choices=("auto", *SOURCES),
        default="auto",
        help="where identities come from (default: true ones where they are known; else a "
        "clustering, with eps=auto unless --eps is given)",
    )
    sub.add_argument(
        "--fpr",
        default=f"{FPR:g}",
        metavar="RATE",
        help="the share of pairs of different identities that may be believed (default: "
        "%(default)s)",
    )
    sub.add_argument(
        "--out", metavar="JSON", help="write the threshold, for rank --threshold"
    )
    sub.add_argument("--figure", metavar="PNG", help="draw the rates at every threshold")


def _threshold(args: argparse.Namespace) -> int:
    from dkdmpl_kit.experiment import write_json

    rate = _rate_of(args)
    for flag, place, ending in (
        ("--out", args.out, ".json"),
        ("--figure", args.figure, ".png"),
    ):
        if place is not None and (Path(place).suffix != ending or Path(place).is_dir()):
            raise KitError(f"{flag} {place} must be a file that ends in {ending}.")
    if args.figure is not None:
        require("matplotlib")
    curve, open_world, found = _pairs_of(args)
    record = _threshold_record(curve, open_world, rate) | found
    print(_threshold_text(record))
    if args.out is not None:
        print(f"threshold: {write_json(args.out, record)}")
    if args.figure is not None:
        from dkdmpl_kit import viz

        figure = viz.match_rates(
            curve.thresholds,
            curve.fpr,
            curve.tpr,
            resampled=curve.resampled_fpr(),
            chosen=record["threshold"],
            labels=record["labels"],
        )
        viz.save_figure(figure, args.figure, metadata=record)
        print(f"figure: {args.figure}")
    return 0


def _rate_of(args: argparse.Namespace) -> float:
    try:
        rate = float(args.fpr)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1:
        raise KitError(
            f"--fpr={args.fpr!r} must be a number between 0 and 1, such as 0.0001."
        )
    return rate


def _pairs_of(args: argparse.Namespace) -> tuple[MatchCurve, OpenSet | None, dict]:
    """The pairs to count, the open-set scores where queries and a gallery are known, and
    what the record says of both.
    """
    from dkdmpl_kit.evaluation import match_curve, match_curve_within, open_set

    found = _labelled(args)
    columns = found.features, found.labels, found.camids
    if found.halves is None:
        return match_curve_within(*columns), None, found.about
    sets = [column[half] for column in columns for half in found.halves]
    return match_curve(*sets), open_set(*sets), found.about


def _labelled(args: argparse.Namespace) -> Labelled:
    """What the command names, looked at, with true labels or pseudo labels."""
    from dkdmpl_kit.data import arrays_of
    from dkdmpl_kit.training import constraints_of
    from dkdmpl_kit.training.features import encoder_record

    if args.features is not None:
        return _labelled_features(args)
    config, encoder = encoder_of(args)
    dataset = dataset_of(config, args)
    split = bool(dataset.query and dataset.gallery)
    images = (*dataset.query, *dataset.gallery) if split else dataset.train
    known = any(image.pid is not None for image in images)
    true = _by_true_labels(args, known, dataset.root)
    if not true:
        images = dataset.train
    if not images:
        dataset.unlabelled()  # the sentence for data without training pictures
    paths, pids, camids = arrays_of(images)
    if args.figure is not None:
        refuse_inside(args.figure, dataset.root, paths, "data folder", "--figure")
    constraints = None
    if not true:
        constraints = constraints_of(config, dataset.root, dataset.unlabelled())
    features = look_at(paths, config, encoder, args)
    about = {"encoder": encoder_record(encoder, config), "data": str(dataset.root)}
    if not true:
        labels = _pseudo(args, config, features, camids, constraints)
        return Labelled(features, labels, camids, None, about | PSEUDO)
    halves = tuple(np.split(np.arange(len(paths)), [len(dataset.query)]))
    return Labelled(features, pids, camids, halves if split else None, about | TRUE)


def features_file(args: argparse.Namespace) -> tuple[Config, Features]:
    """The clustering settings, and the file of --features, which brings all else: KitError
    for a setting beside it that could change nothing.
    """
    from dkdmpl_kit.training.features import read_features

    given = settings_of(args).keys() - CLUSTERING - {"eps"}
    unused = [flag_of(name) for name in sorted(given)]
    if args.run_folder:
        unused.append("--run")
    if unused:
        raise KitError(
            f"--features {args.features} brings its pictures and its encoder, so "
            f"{unused[0]} would change nothing: leave it out."
        )
    return config_of(args), read_features(args.features)


def images_of(saved: Features) -> TrainingImages:
    """The pictures of a file of features without their identities."""
    from dkdmpl_kit.data import TrainingImages

    return TrainingImages(tuple(saved.files()), saved.camids)


def _labelled_features(args: argparse.Namespace) -> Labelled:
    """What a file of features names, with true labels or pseudo labels."""
    from dkdmpl_kit.training import constraints_of

    config, saved = features_file(args)
    if args.figure is not None:
        refuse_inside(args.figure, saved.root, saved.files(), "data folder", "--figure")
    about = {"encoder": saved.encoder, "data": saved.root}
    if not _by_true_labels(args, bool((saved.pids >= 0).any()), args.features):
        constraints = constraints_of(config, saved.root, images_of(saved))
        labels = _pseudo(args, config, saved.features, saved.camids, constraints)
        return Labelled(saved.features, labels, saved.camids, None, about | PSEUDO)
    halves = saved.of_split("query"), saved.of_split("gallery")
    split = bool(len(halves[0]) and len(halves[1]))
    columns = saved.features, saved.pids, saved.camids
    return Labelled(*columns, halves if split else None, about | TRUE)


def _by_true_labels(args: argparse.Namespace, known: bool, where: object) -> bool:
    """Whether true labels are taken; KitError for what is asked for and cannot be."""
    if args.labels == "true" and not known:
        raise KitError(
            f"{printable(where)} knows no identities, so --labels true has none to take: "
            "leave it out for pseudo labels."
        )
    true = args.labels == "true" or (args.labels == "auto" and known)
    clustering = sorted(settings_of(args).keys() & {*CLUSTERING, "eps"})
    if true and clustering:
        raise KitError(
            f"{flag_of(clustering[0])} would change nothing, as true identities are known "
            "here: leave it out, or give --labels pseudo."
        )
    return true


def _pseudo(
    args: argparse.Namespace,
    config: Config,
    features: np.ndarray,
    camids: np.ndarray,
    constraints: Constraints | None,
) -> np.ndarray:
    """Pseudo labels (N,) under the clustering settings; eps=auto unless it was given."""
    from dkdmpl_kit.clustering import require_clusters
    from dkdmpl_kit.evaluation import outliers_apart
    from dkdmpl_kit.training import cluster_epoch

    # of clusters that have grown together, strangers count as one
    if config.cluster_method == "dbscan" and "eps" not in settings_of(args):
        config = config.replace(eps="auto")
    pseudo = require_clusters(cluster_epoch(config, features, camids, constraints))
    eps = "" if config.cluster_method == "hdbscan" else f" at eps {pseudo.eps:.3g}"
    print(
        f"{pseudo.n_clusters:,} clusters of {len(features):,} pictures{eps}; "
        f"{pseudo.outlier_fraction:.1%} outliers, each as a cluster of its own"
    )
    return outliers_apart(pseudo.labels)


def _threshold_record(curve: MatchCurve, world: OpenSet | None, rate: float) -> dict:
    """The threshold of a rate with all that stands beside it."""
    from dkdmpl_kit import __version__

    def row(fpr: float) -> dict:
        threshold = curve.threshold(fpr)
        found = {"fpr": fpr, "threshold": threshold, "tpr": curve.rates(threshold)[1]}
        if world is not None:
            found |= {
                "identified": world.identified(threshold),
                "false_alarms": world.false_alarms(threshold),
                "rank1_with_rejection": world.rank1_with_rejection(threshold),
            }
        return found

    # rates that these pairs can tell, and that a threshold reaches
    least = max(1 / curve.n_different, curve.fpr[-1])
    told = [fpr for fpr in TOLD if fpr >= least]
    low, high = curve.threshold_interval(rate)
    return {
        **row(rate),
        "threshold_interval": [low, high],
        "n_identities": curve.n_identities,
        "n_pairs_same": curve.n_same,
        "n_pairs_different": curve.n_different,
        "rates": [row(fpr) for fpr in sorted({*told, rate}, reverse=True)],
        "kit": __version__,
    }


def _threshold_text(record: dict) -> str:
    low, high = record["threshold_interval"]
    pseudo = record["labels"] == PSEUDO["labels"]
    who = "clusters" if pseudo else "identities"
    lines = [
        f"threshold {record['threshold']:.3f}, at which {record['fpr']:g} of the pairs of "
        f"different {who} are believed ({low:.3f} to {high:.3f} in 95% of resampled {who})",
        f"from {record['labels']}: {record['n_identities']:,} {who}, "
        f"{record['n_pairs_same']:,} pairs within one, "
        f"{record['n_pairs_different']:,} between two",
    ]
    if pseudo:
        lines.append(PSEUDO_REMARK)
    columns = {"fpr": "FPR", "threshold": "threshold", "tpr": "TPR"}
    if "identified" in record:
        columns |= {
            "identified": "found first",
            "false_alarms": "false alarms",
            "rank1_with_rejection": "right answers",
        }
        lines.append(OPEN_SET_REMARK)
    lines.append("".join(f"{title:>15}" for title in columns.values()))
    for row in record["rates"]:
        cells = [f"{row['fpr']:.2g}", f"{row['threshold']:.3f}"]
        cells += [f"{row[name]:.1%}" for name in list(columns)[2:]]
        lines.append("".join(f"{cell:>15}" for cell in cells))
    return "\n".join(lines)
