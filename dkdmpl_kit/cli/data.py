"""Commands about data sets: check, hold out, render."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path

from dkdmpl_kit.cli.settings import DATA, RENDERED, flag_of
from dkdmpl_kit.cli.shared import add_settings, config_of, settings_of
from dkdmpl_kit.data.files import printable
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import open_dataset


def add(command) -> None:
    """Declare this module's commands; `command(name, run, help, settings=...)` makes
    each one's parser.
    """
    actions = command("data", None, "check a data set, or render one").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )

    def action(
        name: str, run, help: str, uses: Collection[str], *, reads: bool
    ) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=help, description=help, allow_abbrev=False)
        sub.set_defaults(run=run)
        add_settings(sub, uses, reads=reads)
        return sub

    check = action(
        "check",
        _check,
        "counts against the published ones, unreadable pictures, shared identities, "
        "duplicates",
        DATA,
        reads=False,
    )
    check.add_argument(
        "--allow-withdrawn",
        action="store_true",
        help="read DukeMTMC-reID although it was withdrawn",
    )
    _add_name_and_root(check)
    held = action(
        "holdout",
        _holdout,
        "links to the training split in which some of its identities are the test split: "
        "choose settings there",
        {"data", "data_root", "table", "pattern"},
        reads=False,
    )
    _add_name_and_root(held)
    held.add_argument("--out", type=Path, required=True, help="a new folder")
    held.add_argument(
        "--share",
        type=float,
        default=1 / 3,
        help="of the identities that are held out (default: a third)",
    )
    held.add_argument(
        "--split-seed", type=int, default=0, help="draws who is held out (default: 0)"
    )
    held.add_argument("--allow-withdrawn", action="store_true", help=argparse.SUPPRESS)
    render = action(
        "render",
        _render,
        "render the embedded data set, or one in an official layout, sized by the preset",
        DATA - {"data", "table", "pattern"},
        reads=False,
    )
    render.add_argument(
        "--layout",
        help="market1501 | dukemtmcreid | msmt17 | msmt17_v2 | msmt17_reorganised | veri776",
    )
    render.add_argument(
        "--out", type=Path, help="the folder for --layout (default: OUT_DIR/data/LAYOUT)"
    )


def _add_name_and_root(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="market1501, msmt17, veri776, folder, table ... (or --data)",
    )
    sub.add_argument(
        "root",
        nargs="?",
        metavar="ROOT",
        help="where it lies (or --data-root); of table the file (or --table)",
    )


def _name_and_root(args: argparse.Namespace) -> None:
    """NAME and ROOT as the settings data and data_root, or table."""
    given = settings_of(args)
    place = "table" if (args.name or given.get("data")) == "table" else "data_root"
    for flag, name, value in (
        ("--data", "data", args.name),
        (flag_of(place), place, args.root),
    ):
        if value and given.get(name, value) != value:
            raise KitError(
                f"{value} and {flag} {given[name]} are two answers to one question: give one."
            )
        if value:
            setattr(args, f"set_{name}", value)


def _holdout(args: argparse.Namespace) -> int:
    from dkdmpl_kit.data import hold_out, read_dataset
    from dkdmpl_kit.data.holdout import how_to_read

    _name_and_root(args)
    config = config_of(args)
    if config.data == "synthetic":  # as it is, whatever size the preset would render
        dataset = read_dataset("synthetic", config.data_root)
    else:
        dataset = open_dataset(
            config, allow_withdrawn=args.allow_withdrawn, progress=not args.quiet
        )
    found = hold_out(dataset, args.out, share=args.share, seed=args.split_seed)
    print(found.summary())
    print(f"Read it with: {how_to_read(found)}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from dkdmpl_kit.data import check_dataset, read_dataset

    _name_and_root(args)
    config = config_of(args)
    if (
        config.data == "synthetic"
        and not set(RENDERED) & set(settings_of(args))
        and config.data_root
        and (Path(config.data_root) / "dataset.json").is_file()
    ):
        # as it is, whatever size the preset would render; a size that was asked for is
        # compared with it
        dataset = read_dataset("synthetic", config.data_root)
    else:
        dataset = open_dataset(
            config, allow_withdrawn=args.allow_withdrawn, progress=not args.quiet
        )
    found = check_dataset(dataset, progress=not args.quiet)
    print(f"{found.text()}\n{dataset.root}")
    if found.problems:
        raise KitError(
            f"{printable(dataset.root)} is broken: {'; '.join(found.problems)}; mend these "
            "pictures or take them away "
            "(training leaves unreadable ones out with --skip-corrupt)."
        )
    return 0


def _render(args: argparse.Namespace) -> int:
    from dkdmpl_kit.data import render_layout

    # a paper preset brings the sizes of its pictures, and the name of its data set
    config = config_of(args).replace(data="synthetic")
    if args.layout is None:
        if args.out:
            raise KitError(
                "--out belongs to --layout; the embedded data set goes to --data-root."
            )
        dataset = open_dataset(config, progress=not args.quiet)
    else:
        if settings_of(args).get("kind", "") == (
            "person" if args.layout == "veri776" else "vehicle"
        ):
            raise KitError(f"{args.layout} does not show {config.kind}s: leave --kind out.")
        root = args.out or Path(
            config.data_root or Path(config.out_dir) / "data" / args.layout
        )
        sizes = {
            name: getattr(config, name)
            for name in (
                "n_train_ids",
                "n_test_ids",
                "n_cameras",
                "images_per_camera",
                "difficulty",
            )
        }
        dataset = render_layout(
            root, args.layout, seed=config.data_seed, progress=not args.quiet, **sizes
        )
    print(f"{dataset.summary()}\nfingerprint {dataset.fingerprint()}\n{dataset.root}")
    return 0
