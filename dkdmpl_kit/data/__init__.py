"""Data of the kit: records, readers of the known layouts, rendered people, and pictures as batches.

`dkdmpl_kit.data.synthetic` (the renderer) is imported on first use of one of its two functions.
"""
from __future__ import annotations

from .layouts import read_dataset
from .loading import ImageStore, augment, drop_corrupt, pk_batches, to_float
from .records import ReIDDataset, ReIDImage, TrainingImages, arrays_of

__all__ = ["ImageStore", "ReIDDataset", "ReIDImage", "TrainingImages", "arrays_of", "augment", "drop_corrupt",
           "load_factors", "pk_batches", "read_dataset", "synthetic_dataset", "to_float"]


def __getattr__(name: str):
    if name in ("synthetic_dataset", "load_factors"):
        from . import synthetic
        return getattr(synthetic, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
