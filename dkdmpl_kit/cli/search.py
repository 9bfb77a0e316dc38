"""Commands that look for the same again: evaluate, embed, rank, threshold."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dkdmpl_kit.cli.extras import require
from dkdmpl_kit.cli.settings import CLUSTERING, DATA, LOOK, flag_of
from dkdmpl_kit.cli.shared import (
    SMOKE,
    config_of,
    dataset_of,
    encoder_of,
    real_config_of,
    settings_of,
)
from dkdmpl_kit.data.files import printable
from dkdmpl_kit.errors import KitError

if TYPE_CHECKING:
    from dkdmpl_kit.evaluation import Answers, MatchCurve, OpenSet
    from dkdmpl_kit.experiment import Config

RUN = "use the encoder of this run folder (default: untrained)"
RERANK = "k-reciprocal re-ranking (Zhong et al. 2017)"
SOURCES = ("true", "pseudo")
FPR = 1e-4  # of pairs: one false match a query in a gallery of ten thousand
TRUE = {"labels": "true identities"}
PSEUDO = {"labels": "pseudo labels"}
PSEUDO_REMARK = (
    "the interval tells of the sample of pictures alone, not of clusters that are wrong"
)
OPEN_SET_REMARK = (
    "found first: queries whose identity ranks first and is believed; false alarms: queries "
    "that are told somebody when their identity is taken out of the gallery; right answers: "
    "of both questions together"
)
TOLD = (1e-2, 1e-3, 1e-4, 1e-5)  # false-positive rates of the printed table
ON_A_SHEET = 20  # pictures of a ranking; the printed list has all


def add(command) -> None:
    """Declare this module's commands; `command(name, run, help, settings=...)` makes
    each one's parser.
    """
    sub = command(
        "evaluate",
        _evaluate,
        "mAP, CMC and mINP of an encoder on a data set's test split",
        uses=DATA | LOOK,
    )
    sub.add_argument("--run", dest="run_folder", help=RUN)
    sub.add_argument(
        "--smoke",
        action="store_true",
        help=f"without --run: {SMOKE.partition(':')[0]} on small pictures",
    )

    sub.add_argument(
        "--rerank", action="store_true", help=f"measure {RERANK}, beside the plain ranking"
    )
    sub.add_argument(
        "--save-features",
        metavar="FILE",
        help="write the features of query and gallery to a file (.npz or .parquet)",
    )

    sub = command(
        "embed",
        _embed,
        "features of a folder of pictures, in a file",
        uses=LOOK | {"pattern"},
    )
    sub.add_argument("folder", help="a folder of pictures, with all below it")
    sub.add_argument("--run", dest="run_folder", help=RUN)
    sub.add_argument("--out", required=True, metavar="FILE", help="a .npz or .parquet file")

    sub = command(
        "rank", _rank, "rank your own gallery for your own query pictures", uses=LOOK
    )
    sub.add_argument("--query", required=True, help="a picture, or a folder of them")
    sub.add_argument(
        "--gallery", required=True, help="a folder of pictures, or the file that embed wrote"
    )
    sub.add_argument("--run", dest="run_folder", help=RUN)
    sub.add_argument("--top", type=int, default=10)
    sub.add_argument(
        "--threshold",
        metavar="SIMILARITY",
        help="believe no picture below it, and say nobody where none is left: a number, or "
        "the file that threshold wrote",
    )
    sub.add_argument("--rerank", action="store_true", help=f"order by {RERANK}")
    sub.add_argument(
        "--sheet",
        default="ranking.png",
        help="the contact sheet to write, and beside it the answers as .json (default: "
        "%(default)s)",
    )

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
        help="where identities come from (default: true ones where they are known)",
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


def _evaluate(args: argparse.Namespace) -> int:
    from dkdmpl_kit.data import arrays_of
    from dkdmpl_kit.evaluation import Reranking, evaluate_ranking
    from dkdmpl_kit.studies.needs import needs_table
    from dkdmpl_kit.training.features import (
        check_ending,
        encoder_record,
        features_of_pictures,
        save_features,
    )

    if args.save_features is not None:
        check_ending(args.save_features)
    config, encoder = encoder_of(args)
    dataset = dataset_of(config, args)
    if not dataset.query or not dataset.gallery:
        raise KitError(
            f"{dataset.root} has no query and gallery with known identities, so there "
            "is nothing to evaluate."
        )
    if args.smoke and not args.run_folder:
        print(needs_table(real_config_of(args), dataset, training=False))
    paths, pids, camids = arrays_of((*dataset.query, *dataset.gallery))
    features = _look_at(paths, config, encoder, args)
    n = len(dataset.query)
    if args.save_features is not None:
        found = features_of_pictures(
            features,
            paths,
            encoder_record(encoder, config),
            dataset.root,
            camids=camids,
            pids=pids,
            splits=["query"] * n + ["gallery"] * (len(paths) - n),
        )
        save_features(args.save_features, found)
    halves = features[:n], features[n:], pids[:n], pids[n:], camids[:n], camids[n:]
    print(_ranking_line(evaluate_ranking(*halves)))
    if args.rerank:
        settings = Reranking()
        result = evaluate_ranking(*halves, rerank=settings)
        print(f"re-ranked ({settings}): {_ranking_line(result)}")
    if args.save_features is not None:
        print(f"features: {args.save_features}")
    return 0


def _ranking_line(result) -> str:
    ranks = ", ".join(f"Rank-{k} {v:.1%}" for k, v in result.cmc.items())
    return (
        f"mAP {result.mAP:.1%}, {ranks}, mINP {result.mINP:.1%} over "
        f"{result.n_valid_queries} queries"
    )


def _look_at(paths, config, encoder, args: argparse.Namespace) -> np.ndarray:
    """Features (N, d) of the pictures at `paths`; each is looked at once, so none is kept."""
    from dkdmpl_kit.data import ImageStore
    from dkdmpl_kit.training import extract

    store = ImageStore(paths, config.height, config.width, keep=False)
    return extract(config, encoder, store, progress=not args.quiet)


def _embed(args: argparse.Namespace) -> int:
    from dkdmpl_kit.data import arrays_of
    from dkdmpl_kit.training.features import (
        check_ending,
        encoder_record,
        features_of_pictures,
        save_features,
    )

    check_ending(args.out)
    args.set_data = "folder"  # what --pattern belongs to
    config, encoder = encoder_of(args)
    # a run's own pattern is for its own pictures
    asked = "pattern" in settings_of(args)
    folder = _pictures_in(args.folder, args, pattern=config.pattern if asked else "")
    paths, pids, camids = arrays_of(folder.train)
    found = features_of_pictures(
        _look_at(paths, config, encoder, args),
        paths,
        encoder_record(encoder, config),
        folder.root,
        camids=camids,
        pids=pids,
    )
    save_features(args.out, found)
    print(f"features of {len(found):,} pictures, {found.features.shape[1]} each: {args.out}")
    return 0


def _pictures_in(place: str, args: argparse.Namespace, *, pattern: str = ""):
    """All pictures below a folder, whatever its folders are called, as one split."""
    from dkdmpl_kit.data import drop_corrupt, read_dataset

    folder = read_dataset("folder", place, pattern=pattern or None, splits=False)
    if args.skip_corrupt:
        folder, skipped = drop_corrupt(folder, progress=not args.quiet)
        print(f"{len(skipped)} unreadable pictures left out")
    if folder.remarks and not args.quiet:
        print(folder.account_text())
    return folder


def _rank(args: argparse.Namespace) -> int:
    require("matplotlib")  # for the sheet
    from dkdmpl_kit.evaluation import Reranking, search
    from dkdmpl_kit.training.features import encoder_record, require_same_encoder

    if args.top < 1:
        raise KitError(f"--top={args.top} must be at least 1.")
    if Path(args.sheet).suffix != ".png":
        raise KitError(f"--sheet {args.sheet} must end in .png.")
    threshold, calibrated = _threshold_of(args.threshold)
    config, encoder = encoder_of(args)
    record = encoder_record(encoder, config)
    if calibrated:
        require_same_encoder(calibrated, record, args.threshold)
    queries = [Path(args.query)]
    if queries[0].is_dir():
        queries = _pictures_in(args.query, args).paths()
        _refuse_inside(args.sheet, args.query, queries, "folder of queries")
    saved, paths = _gallery_of(args, record)
    names = [os.path.realpath(path) for path in (*queries, *paths)]
    numbers = np.unique(names, return_inverse=True)[1]
    files = numbers[: len(queries)], numbers[len(queries) :]
    if (files[1] == files[0][:, None]).all(axis=1).any():
        raise KitError(
            f"the gallery {args.gallery} holds no picture but the query: give a folder "
            "with others."
        )
    query = _look_at(queries, config, encoder, args)
    gallery = saved if saved is not None else _look_at(paths, config, encoder, args)
    settings = Reranking() if args.rerank else None
    found = search(
        query, gallery, top=args.top, threshold=threshold, rerank=settings, files=files
    )
    answers = [_answer(found, row, path, paths) for row, path in enumerate(queries)]
    for answer in answers:
        if len(answers) > 1:
            print(printable(answer["query"]))
        _print_answer(answer, threshold)
    asked = {
        "query": args.query,
        "gallery": args.gallery,
        "run": args.run_folder,
        "encoder": record,
        "threshold": threshold,
        "rerank": settings and str(settings),
        "answers": answers,
    }
    _write_sheet(args, found, queries, paths, config, asked)
    return 0


def _gallery_of(
    args: argparse.Namespace, record: dict
) -> tuple[np.ndarray | None, list[Path]]:
    """(features, pictures) of a file, or (None, pictures) of a folder."""
    from dkdmpl_kit.training.features import ENDINGS, read_features, require_same_encoder

    if Path(args.gallery).suffix in ENDINGS and not Path(args.gallery).is_dir():
        saved = read_features(args.gallery)
        require_same_encoder(saved.encoder, record, args.gallery)
        _refuse_inside(args.sheet, saved.root, saved.files(), "gallery")
        return saved.features, saved.files()
    paths = _pictures_in(args.gallery, args).paths()
    _refuse_inside(args.sheet, args.gallery, paths, "gallery")
    return None, paths


def _refuse_inside(
    sheet: str, folder: str | Path, paths: Sequence[Path], what: str, flag: str = "--sheet"
) -> None:
    """KitError where a sheet would become one of the pictures the next time."""
    # not Path.resolve, which a link that leads back to itself stops
    place = Path(os.path.realpath(sheet))
    folders = {os.path.dirname(os.path.realpath(path)) for path in paths}
    if place.is_relative_to(os.path.realpath(folder)) or str(place.parent) in folders:
        raise KitError(
            f"{flag} {sheet} lies in the {what} {folder}, where the next call would take it "
            "for one of the pictures: give a place outside of it."
        )


def _threshold_of(text: str | None) -> tuple[float | None, dict | None]:
    """--threshold: (similarity, the record of the encoder that it belongs to, if known)."""
    from dkdmpl_kit.evaluation import check_threshold
    from dkdmpl_kit.experiment import read_record

    if text is None:
        return None, None
    try:
        value, encoder = float(text), None
    except ValueError:
        if not os.path.lexists(text):
            raise KitError(
                f"--threshold {text!r} is neither a similarity from -1 to 1 nor a file that "
                "dkdmpl threshold --out wrote."
            ) from None
        found = read_record(text, {"threshold": (int, float), "encoder": dict})
        value, encoder = found["threshold"], found["encoder"]
    check_threshold(value)
    return value, encoder


def _answer(found: Answers, row: int, query: Path, paths: Sequence[Path]) -> dict:
    """The answer to one query, as it stands in the .json beside the sheet."""
    matches = []
    for place, index in enumerate(found.indices[row].tolist()):
        if index < 0:
            break
        match = {
            "path": str(paths[index]),
            "similarity": round(float(found.similarities[row, place]), 6),
        }
        if found.distances is not None:
            match["reranked_distance"] = round(float(found.distances[row, place]), 6)
        matches.append(match)
    return {
        "query": str(query),
        "nobody": not matches,
        "best_similarity": round(float(found.best[row]), 6),
        "matches": matches,
    }


def _print_answer(answer: dict, threshold: float | None) -> None:
    if answer["nobody"]:
        print(
            f"nobody: the most similar picture has {answer['best_similarity']:.3f}, below "
            f"the threshold {threshold:.3f}"
        )
    for place, match in enumerate(answer["matches"], 1):
        distance = match.get("reranked_distance")
        beside = "" if distance is None else f"{distance:.3f}  "
        print(f"{place:3d}  {match['similarity']:.3f}  {beside}{printable(match['path'])}")


def _write_sheet(
    args: argparse.Namespace,
    found: Answers,
    queries: Sequence[Path],
    paths: Sequence[Path],
    config: Config,
    record: dict,
) -> None:
    """The contact sheet with the answers beside it; the answers alone where pictures of a
    file of features are gone.
    """
    from dkdmpl_kit import viz
    from dkdmpl_kit.data import ImageStore
    from dkdmpl_kit.experiment import write_json

    # as many as fit beside one another and can still be seen
    shown = [[i for i in row if i >= 0] for row in found.indices[:ON_A_SHEET, :ON_A_SHEET]]
    gone = [paths[i] for row in shown for i in row if not paths[i].is_file()]
    if gone:
        answers = write_json(Path(args.sheet).with_suffix(".json"), record)
        print(
            f"no contact sheet, as {len(gone)} pictures are not where they were embedded "
            f"(such as {printable(gone[0])}); answers: {answers}"
        )
        return

    def pictures(files: Sequence[Path]) -> np.ndarray:
        if not files:
            return np.empty((0, 3, config.height, config.width), np.uint8)
        store = ImageStore(files, config.height, config.width, keep=False)
        return store.batch(range(len(files))).numpy()

    rows = [pictures([paths[i] for i in row]) for row in shown]
    nobody = found.nobody[:ON_A_SHEET]
    least = record["threshold"]
    title = None if least is None else f"Gallery pictures of similarity {least:.3g} or more"
    figure = viz.ranking_grid(
        pictures(queries[:ON_A_SHEET]),
        rows,
        None,
        titles=["nobody" if none else "" for none in nobody] if nobody.any() else None,
        title=title,
    )
    viz.save_figure(figure, args.sheet, metadata=record)
    longest = found.indices.shape[1] > ON_A_SHEET
    parts = [f"the first {ON_A_SHEET}"] if longest else []
    if len(queries) > ON_A_SHEET:
        parts.append(f"of {ON_A_SHEET} queries of {len(queries)}")
    which = f" ({' '.join(parts)})" if parts else ""
    print(f"contact sheet: {args.sheet}{which}")


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

    features, labels, camids, splits, about = _labelled(args)
    if splits is None:
        return match_curve_within(features, labels, camids), None, about
    q, g = splits
    sets = features[q], features[g], labels[q], labels[g], camids[q], camids[g]
    return match_curve(*sets), open_set(*sets), about


def _labelled(args: argparse.Namespace) -> tuple:
    """(features (N, d), labels (N,), camids (N,), (queries, gallery) or None, about)."""
    from dkdmpl_kit.data import arrays_of
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
        _refuse_inside(args.figure, dataset.root, paths, "data folder", "--figure")
    features = _look_at(paths, config, encoder, args)
    about = {"encoder": encoder_record(encoder, config), "data": str(dataset.root)}
    queries = np.arange(len(dataset.query)), np.arange(len(dataset.query), len(paths))
    if true:
        return features, pids, camids, queries if split else None, about | TRUE
    labels = _pseudo(config, features, camids)
    return features, labels, camids, None, about | PSEUDO


def _labelled_features(args: argparse.Namespace) -> tuple:
    """The same of a file of features."""
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
    config = config_of(args)
    saved = read_features(args.features)
    if args.figure is not None:
        _refuse_inside(args.figure, saved.root, saved.files(), "data folder", "--figure")
    queries = saved.of_split("query"), saved.of_split("gallery")
    split = bool(len(queries[0]) and len(queries[1]))
    about = {"encoder": saved.encoder, "data": saved.root}
    if _by_true_labels(args, bool((saved.pids >= 0).any()), args.features):
        return (
            saved.features,
            saved.pids,
            saved.camids,
            queries if split else None,
            about | TRUE,
        )
    labels = _pseudo(config, saved.features, saved.camids)
    return saved.features, labels, saved.camids, None, about | PSEUDO


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


def _pseudo(config: Config, features: np.ndarray, camids: np.ndarray) -> np.ndarray:
    """Pseudo labels (N,) under the clustering settings."""
    from dkdmpl_kit.clustering import require_clusters
    from dkdmpl_kit.training import cluster_epoch

    pseudo = cluster_epoch(config, features, camids)
    print(
        f"{pseudo.n_clusters:,} clusters of {len(features):,} pictures, "
        f"{pseudo.outlier_fraction:.1%} outliers, which are left out"
    )
    return require_clusters(pseudo).labels


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

    told = [fpr for fpr in TOLD if fpr * curve.n_different >= 1]
    low, high = curve.threshold_interval(rate)
    return {
        **row(rate),
        "threshold_interval": [low, high],
        "n_identities": len(curve.different),
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
        f"{record['n_pairs_same']:,} pairs of one, {record['n_pairs_different']:,} of two",
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
