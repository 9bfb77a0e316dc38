"""TensorBoard logs of a run: every number of every epoch's record, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.training.checkpoint import load_history


def tensorboard_writer(run_dir: str | Path) -> Callable[[dict], None]:
    """A function for `fit(on_epoch=...)` that writes each record's numbers to
    run_dir/tensorboard, the step its epoch.

    At its first call it writes anew what history.jsonl holds, so that a run which was
    cut and resumed has every epoch once. KitError where the package is missing.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise KitError(
            "TensorBoard logs need a package that is not installed: pip install tensorboard."
        ) from error
    run_dir = Path(run_dir)
    opened = []

    def write(record: dict) -> None:
        records = [record]
        if not opened:
            for old in (run_dir / "tensorboard").glob("events.out.tfevents.*"):
                old.unlink()
            opened.append(SummaryWriter(str(run_dir / "tensorboard")))
            records = load_history(run_dir)
        for one in records:
            for name, value in _scalars(one):
                opened[0].add_scalar(name, value, one["epoch"])
        opened[0].flush()

    return write


def _scalars(record: dict, prefix: str = "") -> Iterator[tuple[str, float]]:
    """("loss", 1.5), ("seconds/train", 2.0), ... of a record; what is not measured
    (None) is left out.
    """
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and name != "epoch":
            yield prefix + name, float(value)
