"""Data: records, readers of the known layouts, rendered people, pictures as batches.

`checking` and `rendering` are imported on first use of one of their functions.
"""

from __future__ import annotations

from importlib import import_module

from dkdmpl_kit.data.augmentation import augment, to_float
from dkdmpl_kit.data.layouts import read_dataset
from dkdmpl_kit.data.pictures import ImageStore, drop_corrupt
from dkdmpl_kit.data.records import ReIDDataset, ReIDImage, TrainingImages, arrays_of
from dkdmpl_kit.data.sampler import pk_batches

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
    "render_layout": "rendering.layouts",
    "synthetic_dataset": "rendering.dataset",
    "load_factors": "rendering.dataset",
}


def __getattr__(name: str):
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
