"""The k-NN graph: one an epoch, shared by all that follows."""

from dkdmpl_kit.neighbors.across import knn_across
from dkdmpl_kit.neighbors.graph import (
    BLOCK_ENTRIES,
    NeighborGraph,
    as_features,
    knn_graph,
    map_ranges,
    recall,
)
from dkdmpl_kit.neighbors.layout import align, next_layout, umap_layout

__all__ = [
    "align",
    "as_features",
    "BLOCK_ENTRIES",
    "knn_across",
    "knn_graph",
    "map_ranges",
    "NeighborGraph",
    "next_layout",
    "recall",
    "umap_layout",
]
