"""Cluster memory: the centroids C of an epoch, and M, which moves with every batch."""

from dkdmpl_kit.memory.cluster import UPDATES, ClusterMemory
from dkdmpl_kit.memory.hybrid import HybridMemory

__all__ = ["UPDATES", "ClusterMemory", "HybridMemory"]
