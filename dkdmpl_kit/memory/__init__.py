"""Cluster memory: the centroids C of an epoch, and M, which moves with every batch."""

from dkdmpl_kit.memory.cluster import (
    UPDATES,
    ClusterMemory,
)

__all__ = [
    "ClusterMemory",
    "UPDATES",
]
