"""The command that clusters: several eps compared, or labels written to a file."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dkdmpl_kit.cli.extras import require
from dkdmpl_kit.cli.search import RUN, look_at, refuse_inside
from dkdmpl_kit.cli.settings import CLUSTERING, DATA, LOOK
from dkdmpl_kit.cli.shared import dataset_of, encoder_of, settings_of
from dkdmpl_kit.cli.threshold import features_file, images_of
from dkdmpl_kit.data.files import printable
from dkdmpl_kit.errors import KitError

if TYPE_CHECKING:
    from dkdmpl_kit.clustering import Constraints, PseudoLabels
    from dkdmpl_kit.data import ReIDDataset, TrainingImages
    from dkdmpl_kit.experiment import Config
    from dkdmpl_kit.models import Encoder
    from dkdmpl_kit.noise import LabelTable

EPS_VALUES = "0.4,0.5,0.6,0.7"


@dataclass(frozen=True, eq=False)
class Pictures:
    """What the command clusters: its pictures, what is known of them, and how to get their
    features (N, d). pids (N,), -1 where unknown, are for measuring alone.
    """

    config: Config
    images: TrainingImages
    names: Sequence[str]
    root: Path
    pids: np.ndarray
    cameras: Sequence[str]
    constraints: Constraints | None
    features: Callable[[], np.ndarray]
    about: dict


def add(command) -> None:
    """Declare this module's command; `command(name, run, help, settings=...)` makes its
    parser.
    """
    sub = command(
        "cluster",
        _cluster,
        "pseudo labels of an encoder's features: several eps compared, or written to a file",
        uses=DATA | LOOK | CLUSTERING | {"eps"},
    )
    sub.add_argument("--run", dest="run_folder", help=RUN)
    sub.add_argument(
        "--features",
        metavar="FILE",
        help="the file that embed wrote, in place of pictures and an encoder",
    )
    sub.add_argument(
        "--eps-values",
        metavar="VALUES",
        help=f"the eps to compare, with commas (default: {EPS_VALUES})",
    )
    sub.add_argument(
        "--out",
        metavar="FILE",
        help="write the labels at one eps (auto, unless --eps, --run or --preset says "
        "another) to a .csv or .parquet file, and beside it how they were made as .json",
    )
    sub.add_argument(
        "--sheet",
        metavar="FOLDER",
        help="draw contact sheets of the largest clusters, of suspect pictures and of "
        "outliers into a folder",
    )


def _cluster(args: argparse.Namespace) -> int:
    if args.out is None and args.sheet is None:
        return _compare(args)
    if args.eps_values is not None:
        raise KitError(
            "--eps-values compares several eps, and --out and --sheet take one: give --eps, or "
            "leave it out for auto."
        )
    return _label(args)


def _compare(args: argparse.Namespace) -> int:
    """The table of several eps."""
    from dkdmpl_kit.clustering import (
        auto_labels,
        corrected,
        jaccard_of,
        percolation_warning,
        pseudo_labels,
        require_cameras,
    )
    from dkdmpl_kit.noise import cluster_agreement
    from dkdmpl_kit.training import neighbourhoods_of
    from dkdmpl_kit.training.extraction import centred

    if "eps" in settings_of(args):
        raise KitError(
            "cluster tries several eps at once: give --eps-values 0.4,0.5,0.6, or --out and "
            "--eps for the labels at one."
        )
    values = _eps_values(args.eps_values or EPS_VALUES)
    seen = _pictures(args)
    config, camids = seen.config, seen.images.camids
    if config.cluster_method == "hdbscan":
        raise KitError(
            "hdbscan knows no eps, so cluster has no values to try with it: give --out for "
            "its labels."
        )
    if config.distance == "camera_jaccard":
        require_cameras(camids, len(camids))  # before the long part
    features = seen.features()
    neighbourhoods = neighbourhoods_of(config, features, camids, progress=not args.quiet)
    distances = jaccard_of(neighbourhoods, max(config.max_distance, *values))
    print("  eps  clusters  outliers  largest      ARI")

    def show(found: PseudoLabels, remark: str = "") -> None:
        found = corrected(found, seen.constraints, centred(config, features, camids))
        ari = cluster_agreement(found.labels, seen.pids).ari
        print(
            f"{found.eps:5.3g} {found.n_clusters:9d} {found.outlier_fraction:9.1%} "
            f"{found.largest_share:8.1%} {'unknown' if ari is None else f'{ari:.3f}':>8}"
            f"{remark}"
        )

    method = {"method": config.cluster_method, "min_samples": config.min_samples}
    for eps in values:
        show(pseudo_labels(distances, eps=eps, **method))
    if config.cluster_method == "dbscan":
        chosen = auto_labels(distances, min_samples=config.min_samples)
        show(chosen, "  eps=auto: where clusters are most")
        if warning := percolation_warning(chosen.labels, chosen.eps):
            print(warning)
    return 0


def _eps_values(text: str) -> list[float]:
    """The numbers of --eps-values, each a Jaccard distance."""
    try:
        values = [float(value) for value in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(0 < value < 1 for value in values):
        raise KitError(
            f"--eps-values={text!r} should be numbers above 0 and below 1, with commas, "
            "such as 0.5,0.6."
        )
    return values


def _label(args: argparse.Namespace) -> int:
    """The labels at one eps, in a file and on contact sheets."""
    from dkdmpl_kit.clustering import percolation_warning, require_cameras, require_clusters
    from dkdmpl_kit.training import cluster_epoch
    from dkdmpl_kit.training.label_files import check_ending, check_names

    if args.out is not None:
        check_ending(args.out)
    if args.sheet is not None:
        require("matplotlib")
        if Path(args.sheet).exists() and not Path(args.sheet).is_dir():
            raise KitError(f"--sheet {args.sheet} is a file: give a folder.")
    seen = _pictures(args)
    config, camids = seen.config, seen.images.camids
    if args.out is not None:
        check_names(seen.names, args.out)
    if args.sheet is not None:
        refuse_inside(args.sheet, seen.root, seen.images.paths, "data folder")
    asked = args.run_folder or args.preset or "eps" in settings_of(args)
    if config.cluster_method == "dbscan" and not asked:
        config = config.replace(eps="auto")
    if config.distance == "camera_jaccard":
        require_cameras(camids, len(camids))  # before the long part
    features = seen.features()
    pseudo = require_clusters(
        cluster_epoch(config, features, camids, seen.constraints, progress=not args.quiet),
        at_least=1,
    )
    table, record = labelled(seen, config, features, pseudo)
    print(_told(pseudo, int(table.suspect.sum())))
    if warning := percolation_warning(pseudo.labels, pseudo.eps):
        print(warning)
    if args.out is not None:
        beside = write_labels(args.out, seen, table, record)
        print(f"labels: {printable(args.out)} (how they were made: {printable(beside)})")
    if args.sheet is not None:
        _draw(args.sheet, seen, table, config, record)
    return 0


def labelled(
    seen: Pictures, config: Config, features: np.ndarray, pseudo: PseudoLabels
) -> tuple[LabelTable, dict]:
    """The table of labels of features (N, d), and how they were made."""
    from dkdmpl_kit.noise import label_table
    from dkdmpl_kit.training.extraction import centred

    table = label_table(centred(config, features, seen.images.camids), pseudo.labels)
    return table, _record_of(seen, config, pseudo)


def write_labels(path: str | Path, seen: Pictures, table: LabelTable, record: dict) -> Path:
    """Write a table of labels and, beside it, how they were made: its path."""
    from dkdmpl_kit.experiment import write_json
    from dkdmpl_kit.training.label_files import save_labels

    save_labels(path, table, seen.names, seen.cameras, record)
    return write_json(Path(path).with_suffix(".json"), record)


def _told(pseudo: PseudoLabels, suspects: int) -> str:
    eps = "" if pseudo.method == "hdbscan" else f" at eps {pseudo.eps:.3g}"
    return (
        f"{pseudo.n_clusters:,} clusters of {len(pseudo.labels):,} pictures{eps}; "
        f"{pseudo.outlier_fraction:.1%} outliers, {suspects:,} suspect labels"
    )


def _pictures(args: argparse.Namespace) -> Pictures:
    """The pictures of --features, or of the data set with the encoder that is named."""
    if args.features is None:
        config, encoder = encoder_of(args)
        dataset = dataset_of(config, args)
        paths = dataset.unlabelled().paths
        return pictures_of(
            config, encoder, dataset, lambda: look_at(paths, config, encoder, args)
        )
    from dkdmpl_kit.training import constraints_of
    from dkdmpl_kit.training.corrections import names_below

    config, saved = features_file(args)
    images, root = images_of(saved), Path(saved.root)
    return Pictures(
        config,
        images,
        names_below(images.paths, root),
        root,
        saved.pids,
        _numbered(saved.camids),
        constraints_of(config, root, images),
        lambda: saved.features,
        {"encoder": saved.encoder, "data": {"root": saved.root}},
    )


def pictures_of(
    config: Config,
    encoder: Encoder,
    dataset: ReIDDataset,
    features: Callable[[], np.ndarray],
) -> Pictures:
    """The training pictures of a data set, looked at by an encoder."""
    from dkdmpl_kit.data import arrays_of
    from dkdmpl_kit.training import constraints_of
    from dkdmpl_kit.training.corrections import names_below
    from dkdmpl_kit.training.features import encoder_record

    images, root = dataset.unlabelled(), dataset.root
    about = {
        "encoder": encoder_record(encoder, config),
        "data": {
            "name": dataset.name,
            "root": str(Path(root).absolute()),
            "fingerprint": dataset.fingerprint(),
        },
    }
    return Pictures(
        config,
        images,
        names_below(images.paths, root),
        root,
        arrays_of(dataset.train)[1],
        _cameras_of(dataset),
        constraints_of(config, root, images),
        features,
        about,
    )


def _numbered(camids: np.ndarray) -> list[str]:
    """Cameras by their numbers, from 1 as files count them; "" where unknown."""
    return [str(camid + 1) if camid >= 0 else "" for camid in camids.tolist()]


def _cameras_of(dataset) -> list[str]:
    """What the files call each training picture's camera, where that is known."""
    names = dataset.camid_names
    camids = [-1 if image.camid is None else image.camid for image in dataset.train]
    numbered = _numbered(np.array(camids, np.int64))
    return [names.get(camid, text) for camid, text in zip(camids, numbered)]


def _record_of(seen: Pictures, config: Config, pseudo: PseudoLabels) -> dict:
    """How labels were made: what lies beside them."""
    from dkdmpl_kit import __version__
    from dkdmpl_kit.training.label_files import COLUMNS

    constraints = seen.constraints
    return {
        "kit": __version__,
        **seen.about,
        "settings": {name: getattr(config, name) for name in sorted({*CLUSTERING, "eps"})},
        "eps": None if pseudo.method == "hdbscan" else pseudo.eps,
        "n_pictures": len(pseudo.labels),
        "n_clusters": pseudo.n_clusters,
        "outlier_fraction": pseudo.outlier_fraction,
        "largest_share": pseudo.largest_share,
        "constraints": None if constraints is None else constraints.fingerprint(),
        "columns": COLUMNS,
    }


def _draw(folder: str, seen: Pictures, table, config: Config, record: dict) -> None:
    """Contact sheets, or one line where the pictures are not there any more."""
    from dkdmpl_kit.data import ImageStore
    from dkdmpl_kit.data.files import why_no_file
    from dkdmpl_kit.studies.label_sheets import save_sheets, sheets

    pages = sheets(table)
    shown = [int(i) for page in pages for row in page.rows for i in row["indices"]]
    gone = [i for i in dict.fromkeys(shown) if why_no_file(seen.images.paths[i])]
    if gone:
        print(
            f"no contact sheets, as {len(gone)} pictures are not where they were embedded "
            f"(such as {printable(seen.images.paths[gone[0]])})"
        )
        return
    height, width = config.height, config.width
    if "height" in seen.about["encoder"]:
        height, width = seen.about["encoder"]["height"], seen.about["encoder"]["width"]

    def pictures(indices: Sequence[int]) -> np.ndarray:
        files = [seen.images.paths[i] for i in indices]
        store = ImageStore(files, height, width, keep=False, progress=False)
        return store.batch(range(len(files))).numpy()

    for path in save_sheets(folder, pages, pictures, record):
        print(f"contact sheet: {printable(path)}")
