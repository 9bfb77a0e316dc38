"""Pseudo labels: k-reciprocal Jaccard distance on a sparse graph, then a clustering of
it.
"""

from dkdmpl_kit.clustering.jaccard import (
    PseudoLabels,
    centre_by_camera,
    jaccard_distances,
    pseudo_labels,
    require_clusters,
)

__all__ = [
    "centre_by_camera",
    "jaccard_distances",
    "pseudo_labels",
    "PseudoLabels",
    "require_clusters",
]
