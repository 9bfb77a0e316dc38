"""The command that clusters: cluster."""

from __future__ import annotations

import argparse

from dkdmpl_kit.cli.settings import CLUSTERING, DATA, LOOK
from dkdmpl_kit.cli.shared import features_of
from dkdmpl_kit.errors import KitError


def add(command) -> None:
    """Declare this module's command; `command(name, run, help, settings=...)` makes its
    parser.
    """
    sub = command(
        "cluster",
        _cluster,
        "pseudo labels of an encoder's features for several eps",
        uses=DATA | LOOK | CLUSTERING,
    )
    sub.add_argument(
        "--run",
        dest="run_folder",
        help="use the encoder of this run folder (default: untrained)",
    )
    sub.add_argument(
        "--eps-values",
        default="0.4,0.5,0.6,0.7",
        help="comma-separated (default: %(default)s)",
    )


def _cluster(args: argparse.Namespace) -> int:
    from dkdmpl_kit.clustering import (
        PseudoLabels,
        auto_labels,
        centre_by_camera,
        jaccard_distances,
        percolation_warning,
        pseudo_labels,
    )
    from dkdmpl_kit.data import arrays_of
    from dkdmpl_kit.neighbors import knn_graph
    from dkdmpl_kit.noise import cluster_agreement

    values = _eps_values(args.eps_values)
    config, dataset, of = features_of(args)
    images = dataset.unlabelled()
    if config.cluster_method == "hdbscan":
        raise KitError("hdbscan knows no eps, so cluster has no values to try with it.")
    features = of(images.paths)
    if config.centre_cameras:
        features = centre_by_camera(features, images.camids)
    graph = knn_graph(
        features,
        min(config.k1, len(features)),
        exact=config.knn == "exact",
        progress=not args.quiet,
    )
    distances = jaccard_distances(
        graph, k1=config.k1, k2=config.k2, max_distance=max(config.max_distance, *values)
    )
    pids = arrays_of(dataset.train)[1]
    print("  eps  clusters  outliers  largest      ARI")

    def show(found: PseudoLabels, remark: str = "") -> None:
        ari = cluster_agreement(found.labels, pids).ari
        print(
            f"{found.eps:5.3g} {found.n_clusters:9d} {found.outlier_fraction:9.1%} "
            f"{found.largest_share:8.1%} {'unknown' if ari is None else f'{ari:.3f}':>8}"
            f"{remark}"
        )

    for eps in values:
        show(
            pseudo_labels(
                distances,
                method=config.cluster_method,
                eps=eps,
                min_samples=config.min_samples,
            )
        )
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
