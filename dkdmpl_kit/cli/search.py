"""Commands that look for the same again: evaluate, rank."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from dkdmpl_kit.cli.extras import require
from dkdmpl_kit.cli.settings import DATA, LOOK
from dkdmpl_kit.cli.shared import SMOKE, encoder_of, features_of, real_config_of
from dkdmpl_kit.errors import KitError

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
    sub.add_argument(
        "--run",
        dest="run_folder",
        help="use the encoder of this run folder (default: untrained)",
    )
    sub.add_argument(
        "--smoke",
        action="store_true",
        help=f"without --run: {SMOKE.partition(':')[0]} on small pictures",
    )

    sub = command(
        "rank", _rank, "rank your own gallery for your own query picture", uses=LOOK
    )
    sub.add_argument("--query", required=True, help="a picture")
    sub.add_argument("--gallery", required=True, help="a folder of pictures")
    sub.add_argument(
        "--run",
        dest="run_folder",
        help="use the encoder of this run folder (default: untrained)",
    )
    sub.add_argument("--top", type=int, default=10)
    sub.add_argument(
        "--sheet",
        default="ranking.png",
        help="the contact sheet to write (default: %(default)s)",
    )


def _evaluate(args: argparse.Namespace) -> int:
    from dkdmpl_kit.data import arrays_of
    from dkdmpl_kit.evaluation import evaluate_ranking
    from dkdmpl_kit.studies.needs import needs_table

    config, dataset, of = features_of(args)
    if not dataset.query or not dataset.gallery:
        raise KitError(
            f"{dataset.root} has no query and gallery with known identities, so there "
            "is nothing to evaluate."
        )
    if args.smoke and not args.run_folder:
        print(needs_table(real_config_of(args), dataset, training=False))
    (query, query_pids, query_cams), (gallery, gallery_pids, gallery_cams) = (
        arrays_of(split) for split in (dataset.query, dataset.gallery)
    )
    result = evaluate_ranking(
        of(query), of(gallery), query_pids, gallery_pids, query_cams, gallery_cams
    )
    ranks = ", ".join(f"Rank-{k} {v:.1%}" for k, v in result.cmc.items())
    print(
        f"mAP {result.mAP:.1%}, {ranks}, mINP {result.mINP:.1%} over "
        f"{result.n_valid_queries} queries"
    )
    return 0


def _rank(args: argparse.Namespace) -> int:
    require("matplotlib")  # for the sheet
    from dkdmpl_kit import viz
    from dkdmpl_kit.data import ImageStore, drop_corrupt, read_dataset
    from dkdmpl_kit.evaluation import ranked_gallery
    from dkdmpl_kit.training import extract

    if args.top < 1:
        raise KitError(f"--top={args.top} must be at least 1.")
    if Path(args.sheet).suffix != ".png":
        raise KitError(f"--sheet {args.sheet} must end in .png.")
    config, encoder = encoder_of(args)
    folder = read_dataset("folder", args.gallery, splits=False)
    if args.skip_corrupt:
        folder, skipped = drop_corrupt(folder, progress=not args.quiet)
        print(f"{len(skipped)} unreadable pictures left out")
    if folder.remarks and not args.quiet:
        print(folder.account_text())
    # not Path.resolve, which a link that leads back to itself stops
    real = {path: os.path.realpath(path) for path in folder.paths()}
    sheet = Path(os.path.realpath(args.sheet))
    within = sheet.is_relative_to(os.path.realpath(folder.root))
    if within or str(sheet.parent) in set(map(os.path.dirname, real.values())):
        raise KitError(
            f"--sheet {args.sheet} lies in the gallery {args.gallery}, where the next call "
            "would rank it as one of the pictures: give a place outside of it."
        )
    query_file = os.path.realpath(args.query)
    paths = [path for path in real if real[path] != query_file]
    if not paths:
        raise KitError(
            f"the gallery {args.gallery} holds no picture but the query: give a folder "
            "with others."
        )
    # each picture is looked at once, and the best ones again for the sheet
    stores = [
        ImageStore(p, config.height, config.width, keep=False)
        for p in ([Path(args.query)], paths)
    ]
    query, gallery = (
        extract(config, encoder, store, progress=not args.quiet) for store in stores
    )
    order, _ = ranked_gallery(query[0], gallery, None, None, None, None, top=args.top)
    for place, index in enumerate(order, 1):
        print(f"{place:3d}  {gallery[index] @ query[0]:.3f}  {paths[index]}")
    # as many as fit beside one another and can still be seen
    shown = order[:ON_A_SHEET]
    figure = viz.ranking_grid(
        stores[0].batch([0]).numpy(), stores[1].batch(shown).numpy()[None], None
    )
    viz.save_figure(
        figure,
        args.sheet,
        metadata={"query": args.query, "gallery": args.gallery, "run": args.run_folder},
    )
    which = f" (the first {ON_A_SHEET})" if len(order) > ON_A_SHEET else ""
    print(f"contact sheet: {args.sheet}{which}")
    return 0
