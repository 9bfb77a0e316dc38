"""Commands about data sets: check, render."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path

from dkdmpl_kit.cli.settings import DATA, RENDERED
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
    check.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="market1501, msmt17, veri776, folder ... (or --data)",
    )
    check.add_argument(
        "root", nargs="?", metavar="ROOT", help="where it lies (or --data-root)"
    )
    render = action(
        "render",
        _render,
        "render the embedded data set, or one in an official layout, sized by the preset",
        DATA - {"data", "pattern"},
        reads=False,
    )
    render.add_argument(
        "--layout",
        help="market1501 | dukemtmcreid | msmt17 | msmt17_v2 | msmt17_reorganised | veri776",
    )
    render.add_argument(
        "--out", type=Path, help="the folder for --layout (default: OUT_DIR/data/LAYOUT)"
    )


def _check(args: argparse.Namespace) -> int:
    from dkdmpl_kit.data import check_dataset, read_dataset

    given = settings_of(args)
    for flag, name, value in (
        ("--data", "data", args.name),
        ("--data-root", "data_root", args.root),
    ):
        if value and given.get(name, value) != value:
            raise KitError(
                f"{value} and {flag} {given[name]} are two answers to one question: give one."
            )
        if value:
            setattr(args, f"set_{name}", value)
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
