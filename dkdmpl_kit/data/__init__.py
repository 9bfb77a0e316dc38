"""Data: records, readers of the known layouts, rendered people, pictures as batches.

Modules are imported on first use of one of their names: settings know `files` alone, and
stay fast to import.
"""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "ImageStore": "pictures",
    "ReIDDataset": "records",
    "ReIDImage": "records",
    "Remark": "files",
    "TrainingImages": "records",
    "arrays_of": "records",
    "augment": "augmentation",
    "check_dataset": "checking",
    "drop_corrupt": "pictures",
    "hold_out": "holdout",
    "load_factors": "rendering.dataset",
    "pk_batches": "sampler",
    "read_dataset": "layouts",
    "render_layout": "rendering.layouts",
    "synthetic_dataset": "rendering.dataset",
    "to_float": "augmentation",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
