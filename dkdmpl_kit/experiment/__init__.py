"""Settings and results: one frozen `Config`; results are files."""

from dkdmpl_kit.experiment.config import (
    METHOD_LABELS,
    METHODS,
    OPTIONS,
    PICTURES,
    PLACE,
    Config,
)
from dkdmpl_kit.experiment.files import read_json, write_atomic, write_json
from dkdmpl_kit.experiment.folders import environment, open_dataset, open_run, pick_device
from dkdmpl_kit.experiment.presets import PRESETS, preset, smoke

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
