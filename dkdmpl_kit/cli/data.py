"""Commands about data sets: check, render."""
from __future__ import annotations

import argparse

from ..errors import KitError
from ..experiment import open_dataset
from .shared import config_of


def add(command) -> None:
    """Declare this module's commands; `command(name, run, help, settings=...)` makes each one's parser."""
    sub = command("data", _data, "check a data set, or render the embedded one", settings=True)
    sub.add_argument("action", choices=("check", "render"))


def _data(args: argparse.Namespace) -> int:
    from ..data import drop_corrupt

    config = config_of(args)
    dataset = open_dataset(config, allow_withdrawn=args.allow_withdrawn)
    print(f"{dataset.summary()}\nfingerprint {dataset.fingerprint()}\n{dataset.root}")
    if args.action == "check":
        skipped = drop_corrupt(dataset, progress=not args.quiet)[1]
        if skipped:
            raise KitError(f"{len(skipped)} unreadable pictures, the first is {skipped[0]}: mend them, or use --skip-corrupt.")
        print("every picture can be read")
    return 0
