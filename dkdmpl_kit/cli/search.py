"""Commands that look for the same again: evaluate, embed, rank."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dkdmpl_kit.cli.extras import require
from dkdmpl_kit.cli.settings import DATA, LOOK
from dkdmpl_kit.cli.shared import (
    SMOKE,
    dataset_of,
    encoder_of,
    real_config_of,
    settings_of,
)
from dkdmpl_kit.data.files import printable, real_name, why_no_file
from dkdmpl_kit.errors import KitError

if TYPE_CHECKING:
    from dkdmpl_kit.evaluation import Answers
    from dkdmpl_kit.experiment import Config

RUN = "use the encoder of this run folder (default: untrained)"
RERANK = "k-reciprocal re-ranking (Zhong et al. 2017)"
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
        "features of a folder of pictures, or of a table's, in a file",
        uses=LOOK | {"pattern"},
    )
    sub.add_argument(
        "folder", help="a folder of pictures, with all below it, or a table that names them"
    )
    sub.add_argument("--run", dest="run_folder", help=RUN)
    sub.add_argument("--out", required=True, metavar="FILE", help="a .npz or .parquet file")

    sub = command(
        "rank", _rank, "rank your own gallery for your own query pictures", uses=LOOK
    )
    sub.add_argument("--query", required=True, help="a picture, or a folder or table of them")
    sub.add_argument(
        "--gallery",
        required=True,
        help="a folder or a table (.csv, .jsonl) of pictures, or the file that embed wrote",
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
    features = look_at(paths, config, encoder, args)
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


def look_at(paths, config, encoder, args: argparse.Namespace) -> np.ndarray:
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
        look_at(paths, config, encoder, args),
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
    """All pictures below a folder, whatever its folders are called, or all that a table
    names, as one split.
    """
    from dkdmpl_kit.data import drop_corrupt, read_dataset

    if _is_table(place):
        if pattern:
            raise KitError(f"--pattern belongs to a folder: {place} has columns instead.")
        folder = read_dataset(
            "table", table=place, splits=False, skip_missing=args.skip_corrupt
        )
    else:
        folder = read_dataset("folder", place, pattern=pattern or None, splits=False)
    if args.skip_corrupt:
        folder, skipped = drop_corrupt(folder, progress=not args.quiet)
        print(f"{len(skipped)} unreadable pictures left out")
    if folder.remarks and not args.quiet:
        print(folder.account_text())
    return folder


def _is_table(place: str) -> bool:
    """Whether a place is a file with the name of a table."""
    from dkdmpl_kit.data.rows import ENDINGS

    return Path(place).suffix.lower() in ENDINGS and os.path.isfile(place)


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
    several = queries[0].is_dir() or _is_table(args.query)
    if several:
        queries = _pictures_in(args.query, args).paths()
        refuse_inside(args.sheet, args.query, queries, "folder of queries")
    saved, paths = _gallery_of(args, record)
    names = [real_name(path) for path in (*queries, *paths)]
    numbers = np.unique(names, return_inverse=True)[1]
    files = numbers[: len(queries)], numbers[len(queries) :]
    if (files[1] == files[1][0]).all() and files[1][0] in files[0]:
        raise KitError(
            f"the gallery {args.gallery} holds no picture but the query: give a folder "
            "with others."
        )
    query = look_at(queries, config, encoder, args)
    gallery = saved if saved is not None else look_at(paths, config, encoder, args)
    settings = Reranking() if args.rerank else None
    found = search(
        query, gallery, top=args.top, threshold=threshold, rerank=settings, files=files
    )
    answers = [_answer(found, row, path, paths) for row, path in enumerate(queries)]
    for answer in answers:
        if several:
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
        refuse_inside(args.sheet, saved.root, saved.files(), "gallery")
        return saved.features, saved.files()
    paths = _pictures_in(args.gallery, args).paths()
    refuse_inside(args.sheet, args.gallery, paths, "gallery")
    return None, paths


def refuse_inside(
    sheet: str, folder: str | Path, paths: Sequence[Path], what: str, flag: str = "--sheet"
) -> None:
    """KitError where a sheet would become one of the pictures the next time."""
    # not Path.resolve, which a link that leads back to itself stops
    place = Path(os.path.realpath(sheet))
    folders = {os.path.dirname(real_name(path)) for path in paths}
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
    gone = [paths[i] for row in shown for i in row if why_no_file(paths[i])]
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
