"""Settings and results: one frozen `Config`; results are files."""

from dkdmpl_kit.experiment.config import (
    METHOD_LABELS,
    METHODS,
    OPTIONS,
    PICTURES,
    PLACE,
    PRESETS,
    Config,
    environment,
    open_dataset,
    open_run,
    pick_device,
    preset,
    read_json,
    smoke,
    write_atomic,
    write_json,
)

__all__ = [
    "Config",
    "environment",
    "METHOD_LABELS",
    "METHODS",
    "open_dataset",
    "open_run",
    "OPTIONS",
    "pick_device",
    "PICTURES",
    "PLACE",
    "preset",
    "PRESETS",
    "read_json",
    "smoke",
    "write_atomic",
    "write_json",
]
