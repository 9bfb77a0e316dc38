"""Pseudo labels: k-reciprocal Jaccard distances, a clustering of them, soft labels, eps."""

from dkdmpl_kit.clustering.algorithms import PseudoLabels, pseudo_labels, require_clusters
from dkdmpl_kit.clustering.cameras import centre_by_camera
from dkdmpl_kit.clustering.jaccard import jaccard_distances

__all__ = [
    "PseudoLabels",
    "centre_by_camera",
    "jaccard_distances",
    "pseudo_labels",
    "require_clusters",
]
