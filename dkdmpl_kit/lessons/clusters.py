"""What the notebook on clustering looks at: a sweep of eps, what goes with an error, and
the radius in one's own hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from dkdmpl_kit.clustering import centre_by_camera, pseudo_labels
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.noise import cluster_agreement, error_kinds, gallery_rows


def eps_table(
    distances: csr_array, eps: Sequence[float], min_samples: int, pids: np.ndarray
) -> dict[str, np.ndarray]:
    """Columns (E,) of DBSCAN at each eps: "clusters", "outliers" (share), "ari" (NaN where
    nothing can be compared) and "right", the share of right labels among all pictures.
    """
    found = [pseudo_labels(distances, eps=float(e), min_samples=min_samples) for e in eps]
    ari = [cluster_agreement(one.labels, pids).ari for one in found]
    right = [np.mean(error_kinds(one.labels, pids) == "right") for one in found]
    return {
        "clusters": np.array([one.n_clusters for one in found]),
        "outliers": np.array([one.outlier_fraction for one in found]),
        "ari": np.array([np.nan if a is None else a for a in ari], float),
        "right": np.array(right, float),
    }


def error_marks(factors: Sequence[dict] | None) -> dict[str, np.ndarray]:
    """{what may go with an error: (N,) bool} of the renderer's factors of N pictures of
    people; empty where there are none.
    """
    if not factors or "pic_view" not in factors[0]:
        return {}
    return {
        "something in front": np.array([f["pic_occluder"] != "none" for f in factors]),
        "a view from behind": np.array([f["pic_view"] == "back" for f in factors]),
        "a look-alike": np.array([f["id_lookalike_of"] is not None for f in factors]),
    }


def eps_lab(stage: Stage, features: np.ndarray, distances: csr_array, eps: float) -> Any:
    """The slider that clusters distances (N, N) of features (N, d) again, with the purest
    cluster, the most mixed one and outliers below.
    """
    from dkdmpl_kit import viz
    from dkdmpl_kit.lessons import lab

    truth = stage.pids if stage.has_truth else None
    farthest = stage.config.max_distance

    def recluster(radius: float) -> tuple[np.ndarray, dict]:
        found = pseudo_labels(
            distances, eps=min(radius, farthest), min_samples=stage.config.min_samples
        )
        return found.labels, {
            "clusters": found.n_clusters,
            "outliers": found.outlier_fraction,
            "ari": cluster_agreement(found.labels, stage.pids).ari,
        }

    def gallery(labels: np.ndarray) -> Any:
        rows = gallery_rows(labels, truth, features, clusters_each=1)
        return viz.cluster_gallery(stage.pictures().pixels, rows, truth)

    return lab.eps_slider(recluster, gallery, value=eps, high=farthest)


def explorer(stage: Stage, xy: np.ndarray, features: np.ndarray, eps: float) -> Any:
    """The live map xy (N, 2) of the stage's pictures, clustered as its settings say with
    the radius eps; what its buttons say goes to out_dir/corrections.csv.
    """
    from dkdmpl_kit.lessons.lab import ClusterExplorer

    config = stage.config
    if config.centre_cameras:
        features = centre_by_camera(features, stage.camids)
    return ClusterExplorer(
        xy,
        features,
        pids=stage.pids if stage.has_truth else None,
        camids=stage.camids if stage.has_cameras else None,
        pictures=stage.pictures(),
        eps=eps,
        min_samples=config.min_samples,
        k1=config.k1,
        k2=config.k2,
        max_distance=config.max_distance,
        corrections=str(stage.out_dir / "corrections.csv"),
        names=[stage.dataset.relative(image.path) for image in stage.dataset.train],
    )
