"""Commands about many runs: grid, robustness, report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dkdmpl_kit.cli.extras import require
from dkdmpl_kit.cli.shared import SMOKE, named_and_weighted
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import Config, open_dataset, read_json, smoke


def add(command) -> None:
    """Declare this module's commands; `command(name, run, help, settings=...)` makes
    each one's parser.
    """
    sub = command(
        "grid",
        _grid,
        "run every cell of a grid file, resumable, several at a time, and write one "
        "page of it",
    )
    sub.add_argument("file")
    sub.add_argument("--out", required=True)
    sub.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="cells at a time, here or in the scheduler's queue (default: 1)",
    )
    sub.add_argument(
        "--threads", type=int, default=1, help="threads of each job (default: %(default)s)"
    )
    sub.add_argument(
        "--retries",
        type=int,
        default=1,
        help="how often to try again a cell that died (default: %(default)s)",
    )
    sub.add_argument(
        "--executor",
        default="local",
        choices=("local", "slurm", "auto", "local-submitit"),
        help="local processes, or jobs through submitit (default: %(default)s)",
    )
    sub.add_argument(
        "--executor-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="for submitit, such as slurm_partition=gpu, timeout_min=600 or gpus_per_node=1",
    )
    sub.add_argument(
        "--setting",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting for every cell that wins over the file, such as device=cuda or "
        "epochs=1",
    )
    sub.add_argument(
        "--smoke",
        action="store_true",
        help=f"{SMOKE}; it goes to the folder --out with -smoke at its end",
    )
    sub.add_argument(
        "--allow-withdrawn",
        action="store_true",
        help="read DukeMTMC-reID although it was withdrawn",
    )

    sub = command(
        "robustness",
        _robustness,
        "how much label noise each loss bears: a small head on frozen features, resumable",
    )
    sub.add_argument(
        "--out",
        default="runs/robustness",
        help="folder for data, features and cells (default: %(default)s)",
    )
    sub.add_argument(
        "--seeds", type=int, default=3, help="seeds of each cell (default: %(default)s)"
    )
    sub.add_argument(
        "--publish",
        metavar="FOLDER",
        help="write records and figures there (default: figures/ below --out)",
    )

    sub = command(
        "report",
        _report,
        "one page, and one table, of all runs below a folder; or two runs side by side",
    )
    sub.add_argument("folder", nargs="?")
    sub.add_argument(
        "--publish",
        metavar="FOLDER",
        help="also write the records (JSON) and the figures there",
    )
    sub.add_argument(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="two runs, or two folders of runs: what differs",
    )
    sub.add_argument(
        "--page", metavar="FILE", help="also write the comparison as a page (HTML)"
    )


def _pairs(items: list[str], flag: str) -> dict[str, str]:
    """{name: text} of NAME=VALUE flags."""
    found = [item.partition("=") for item in items]
    if wrong := [item for item, (_, equals, _) in zip(items, found) if not equals]:
        raise KitError(f"{flag} {wrong[0]} is not of the form NAME=VALUE.")
    return {name: value for name, _, value in found}


def _grid(args: argparse.Namespace) -> int:
    import yaml

    from dkdmpl_kit.studies.grid import read_grid, run_grid, write_plan
    from dkdmpl_kit.studies.report import write_report
    from dkdmpl_kit.studies.results import collect_runs, markdown_tables

    for name, least in (("jobs", 1), ("threads", 1), ("retries", 0)):
        if getattr(args, name) < least:
            raise KitError(f"--{name} {getattr(args, name)} must be at least {least}.")
    if args.executor_option and args.executor == "local":
        raise KitError(
            "--executor-option is for a scheduler: name it too, such as --executor slurm."
        )
    options = {}
    for name, value in _pairs(args.executor_option, "--executor-option").items():
        try:
            options[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise KitError(f"--executor-option {name}={value} is not valid YAML.") from error
    out = Path(args.out + "-smoke" if args.smoke else args.out)
    configs = read_grid(args.file, out, _pairs(args.setting, "--setting"))
    real = configs
    if args.smoke:
        configs = [named_and_weighted(smoke(config)) for config in configs]
    if configs:
        write_plan(args.file, configs)
    try:
        failed = run_grid(
            configs,
            jobs=args.jobs,
            threads=args.threads,
            retries=args.retries,
            executor=args.executor,
            options=options,
            allow_withdrawn=args.allow_withdrawn,
        )
    except KeyboardInterrupt:
        print(
            "dkdmpl: interrupted; whole epochs are kept: the same command goes on from "
            "there.",
            file=sys.stderr,
        )
        return 130
    if args.smoke:
        _tell_needs(real, configs, failed, args.allow_withdrawn)
    left_out: list[str] = []
    records = collect_runs(out, left_out)
    if records:
        print(markdown_tables(records))
        print(f"Open {write_report(out)}")
    for sentence in left_out:
        print(f"dkdmpl: left out: {sentence}", file=sys.stderr)
    for name, why in failed.items():
        log = out / "runs" / name / "cell.log"
        print(
            f"dkdmpl: failed: {name}: {why}" + (f" (see {log})" if log.exists() else ""),
            file=sys.stderr,
        )
    return 1 if failed else 0


def _tell_needs(
    real: list[Config], dry: list[Config], failed: dict[str, str], allow_withdrawn: bool
) -> None:
    """What the first cell whose dry run succeeded needs at its real size."""
    from dkdmpl_kit.studies.needs import needs_table

    for config, tried in zip(real, dry):
        if tried.name not in failed:
            dataset = open_dataset(config, allow_withdrawn=allow_withdrawn)
            print(f"{config.name}, one of {len(real)} cells:")
            print(needs_table(config, dataset))
            return


def _robustness(args: argparse.Namespace) -> int:
    require("matplotlib")
    if args.seeds < 1:
        raise KitError(f"--seeds {args.seeds} must be at least 1: each is a run of its own.")
    from dkdmpl_kit.studies.label_noise import findings, run, write_exhibits

    records = run(args.out, seeds=range(args.seeds))
    written = write_exhibits(
        records,
        read_json(Path(args.out) / "robustness.json"),
        args.publish or Path(args.out) / "figures",
    )
    print(findings(records), *(f"wrote {path}" for path in written), sep="\n")
    return 0


def _report(args: argparse.Namespace) -> int:
    from dkdmpl_kit.studies.exhibits import write_exhibits
    from dkdmpl_kit.studies.report import write_report
    from dkdmpl_kit.studies.results import collect_runs, markdown_tables

    given = {"FOLDER": args.folder, "--publish": args.publish}
    spare = [name for name, value in given.items() if value]
    if args.compare and spare:
        raise KitError(f"{spare[0]} does not belong to --compare: give one of the two.")
    if args.page and not args.compare:
        raise KitError("--page belongs to --compare: the report has a page of its own.")
    if args.compare:
        return _compare(*args.compare, page=args.page)
    if not args.folder:
        raise KitError("Give the folder of the runs, or --compare with two of them.")
    left_out: list[str] = []
    records = collect_runs(args.folder, left_out)
    if not records and left_out:
        raise KitError(left_out[0])
    if not records:
        raise KitError(
            f"There are no runs below {args.folder}: train first, or give the folder "
            "that was --out."
        )
    print(markdown_tables(records))
    if args.publish:
        for path in write_exhibits(records, Path(args.publish)):
            print(f"wrote {path}")
    print(f"Open {write_report(Path(args.folder))}")
    for sentence in left_out:
        print(f"dkdmpl: left out: {sentence}", file=sys.stderr)
    return 0


def _compare(a: str, b: str, *, page: str | None) -> int:
    from dkdmpl_kit.studies.comparison import compare, comparison_page, comparison_text

    sections = compare(a, b)
    print(comparison_text(sections))
    if page:
        print(f"Open {comparison_page(sections, a, b, page)}")
    return 0
