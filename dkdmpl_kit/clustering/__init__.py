"""Pseudo labels: k-reciprocal Jaccard distances, a clustering of them, soft labels, eps."""

from dkdmpl_kit.clustering.algorithms import PseudoLabels, pseudo_labels, require_clusters
from dkdmpl_kit.clustering.camera_jaccard import (
    camera_jaccard_distances,
    camera_neighbourhoods,
    require_cameras,
)
from dkdmpl_kit.clustering.cameras import centre_by_camera
from dkdmpl_kit.clustering.constraints import Constraints, corrected, corrected_labels
from dkdmpl_kit.clustering.eps import auto_labels, percolation_warning, sweep_eps
from dkdmpl_kit.clustering.jaccard import (
    jaccard_distances,
    jaccard_of,
    reciprocal_neighbourhoods,
    reciprocal_weights,
)
from dkdmpl_kit.clustering.soft import jaccard_votes, neighbourhood_shares, rows_of, strongest

__all__ = [
    "Constraints",
    "PseudoLabels",
    "auto_labels",
    "camera_jaccard_distances",
    "camera_neighbourhoods",
    "centre_by_camera",
    "corrected",
    "corrected_labels",
    "jaccard_distances",
    "jaccard_of",
    "jaccard_votes",
    "neighbourhood_shares",
    "percolation_warning",
    "pseudo_labels",
    "reciprocal_neighbourhoods",
    "reciprocal_weights",
    "require_cameras",
    "require_clusters",
    "rows_of",
    "strongest",
    "sweep_eps",
]
