"""The command that adapts an encoder to a folder of crops: adapt."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from dkdmpl_kit.cli.settings import refuse_meaningless
from dkdmpl_kit.cli.shared import dataset_of, settings_of
from dkdmpl_kit.data.files import printable
from dkdmpl_kit.errors import KitError

# few, on purpose: what is not given is chosen, and the choice is told with its reason
USES = {
    "data",
    "pattern",
    "table",
    "backbone",
    "weights",
    "pooling",
    "normalisation",
    "height",
    "width",
    "distance",
    "k1",
    "eps",
    "min_samples",
    "method",
    "epochs",
    "iterations",
    "learning_rate",
    "memory_format",
    "seed",
    "device",
}


def add(command) -> None:
    """Declare this module's command; `command(name, run, help, settings=...)` makes its
    parser.
    """
    sub = command(
        "adapt",
        _adapt,
        "look at a folder of crops, choose settings, train without identities, and keep what "
        "pictures held out of it call better than the start, else the start",
        uses=USES,
        presets=False,
    )
    sub.add_argument("folder", help="the folder of crops, or of a data set (--data)")
    sub.add_argument("--out", required=True, metavar="FOLDER", help="where all of it goes")
    sub.add_argument(
        "--resume", action="store_true", help="go on with an adaptation that was interrupted"
    )


def _adapt(args: argparse.Namespace) -> int:
    from dkdmpl_kit.cli.labels import labelled, pictures_of, write_labels
    from dkdmpl_kit.experiment import preset
    from dkdmpl_kit.training.adaptation import adapt
    from dkdmpl_kit.training.corrections import names_below
    from dkdmpl_kit.training.label_files import check_names

    given = settings_of(args)
    own = {"data": "folder"} | given | {"data_root": args.folder, "out_dir": args.out}
    config = preset("demo", **own)
    if config.data == "synthetic":
        raise KitError(
            "adapt takes a folder of crops: leave --data out, or name the data set that "
            f"{printable(args.folder)} holds."
        )
    if config.method == "supervised":
        raise KitError("adapt uses no identities: choose another --method than supervised.")
    refuse_meaningless(config, given)
    if Path(os.path.realpath(args.out)).is_relative_to(os.path.realpath(args.folder)):
        raise KitError(
            f"--out {printable(args.out)} lies in the folder of crops, where the next call "
            "would take its pictures for crops: give a place outside of it."
        )
    dataset = dataset_of(config, args)
    labels = Path(args.out) / "labels.csv"
    check_names(names_below(dataset.unlabelled().paths, dataset.root), labels)
    found = adapt(
        config,
        dataset,
        given=given,
        resume=args.resume,
        progress=not args.quiet,
        tell=(lambda line: None) if args.quiet else print,
    )
    seen = pictures_of(found.config, found.encoder, dataset, lambda: found.features)
    table, record = labelled(seen, found.config, found.features, found.pseudo)
    write_labels(labels, seen, table, record)
    print(found.verdict.sentence)
    print(f"encoder: --run {printable(found.run_dir)}")
    print(f"labels: {printable(labels)}")
    return 0
