"""The k-NN graph: one an epoch, shared by all that follows."""

from dkdmpl_kit.neighbors.graph import (
    BLOCK_ENTRIES,
    NeighborGraph,
    as_features,
    knn_graph,
    map_ranges,
    recall,
)

__all__ = [
    "as_features",
    "BLOCK_ENTRIES",
    "knn_graph",
    "map_ranges",
    "NeighborGraph",
    "recall",
]
