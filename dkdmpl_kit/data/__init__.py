"""Data of the kit: records, readers of the known layouts, rendered people, and pictures
as batches.

The renderer (`synthetic`, `official`) and `checking` are imported on first use of one
of their functions.
"""

from __future__ import annotations

from dkdmpl_kit.data.layouts import read_dataset
from dkdmpl_kit.data.loading import ImageStore, augment, drop_corrupt, pk_batches, to_float
from dkdmpl_kit.data.records import ReIDDataset, ReIDImage, TrainingImages, arrays_of

__all__ = [
    "ImageStore",
    "ReIDDataset",
    "ReIDImage",
    "TrainingImages",
    "arrays_of",
    "augment",
    "check_dataset",
    "drop_corrupt",
    "load_factors",
    "pk_batches",
    "read_dataset",
    "render_layout",
    "synthetic_dataset",
    "to_float",
]
_LATER = {
    "check_dataset": "checking",
    "render_layout": "official",
    "synthetic_dataset": "rendering.dataset",
    "load_factors": "rendering.dataset",
}


def __getattr__(name: str):
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(f".{_LATER[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
