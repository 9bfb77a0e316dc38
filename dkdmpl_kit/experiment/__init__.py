"""Settings and results: one frozen `Config`; results are files."""

from dkdmpl_kit.experiment.config import (
    METHOD_LABELS,
    METHODS,
    OPTIONS,
    PICTURES,
    PLACE,
    Config,
)
from dkdmpl_kit.experiment.files import (
    check_record,
    read_json,
    read_record,
    read_text,
    write_atomic,
    write_json,
)
from dkdmpl_kit.experiment.folders import (
    environment,
    open_dataset,
    open_run,
    pick_device,
    started,
)
from dkdmpl_kit.experiment.locks import CHECKPOINT, claim, one_writer
from dkdmpl_kit.experiment.presets import PRESETS, as_config, preset, smoke

__all__ = [
    "as_config",
    "check_record",
    "CHECKPOINT",
    "claim",
    "Config",
    "environment",
    "METHOD_LABELS",
    "METHODS",
    "one_writer",
    "open_dataset",
    "open_run",
    "OPTIONS",
    "pick_device",
    "PICTURES",
    "PLACE",
    "preset",
    "PRESETS",
    "read_json",
    "read_record",
    "read_text",
    "smoke",
    "started",
    "write_atomic",
    "write_json",
]
