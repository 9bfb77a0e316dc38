"""Commands about many runs: grid, robustness, report."""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import KitError
from ..experiment import read_json


def add(command) -> None:
    """Declare this module's commands; `command(name, run, help, settings=...)` makes each one's parser."""
    sub = command("grid", _grid, "train every cell of a grid file, resumable, several at a time")
    sub.add_argument("file")
    sub.add_argument("--out", required=True)
    sub.add_argument("--jobs", type=int, default=1)
    sub.add_argument("--threads", type=int, default=1, help="threads of each job (default: %(default)s)")

    sub = command("robustness", _robustness, "how much label noise each loss bears: a small head on frozen features, resumable")
    sub.add_argument("--out", default="runs/robustness", help="folder for data, features and cells (default: %(default)s)")
    sub.add_argument("--seeds", type=int, default=3, help="seeds of each cell (default: %(default)s)")
    sub.add_argument("--publish", metavar="FOLDER", help="write records and figures there (default: figures/ below --out)")

    sub = command("report", _report, "one page, and one table, of all runs below a folder")
    sub.add_argument("folder")
    sub.add_argument("--publish", metavar="FOLDER", help="also write the records (JSON) and the figures there")


def _grid(args: argparse.Namespace) -> int:
    from ..grid import read_grid, run_grid
    from ..results import collect_runs, markdown_table

    failed = run_grid(read_grid(args.file, args.out), jobs=args.jobs, threads=args.threads)
    print(markdown_table(collect_runs(args.out)))
    if failed:
        print(f"dkdmpl: failed: {', '.join(failed)}; see train.log in their folders below {args.out}/runs", file=sys.stderr)
    return 1 if failed else 0


def _robustness(args: argparse.Namespace) -> int:
    from ..robustness import findings, publish, run

    records = run(args.out, seeds=range(args.seeds))
    written = publish(records, read_json(Path(args.out) / "robustness.json"), args.publish or Path(args.out) / "figures")
    print(findings(records), *(f"wrote {path}" for path in written), sep="\n")
    return 0


def _report(args: argparse.Namespace) -> int:
    from ..report import write_report
    from ..results import collect_runs, markdown_table, publish

    records = collect_runs(args.folder)
    if not records:
        raise KitError(f"There are no runs below {args.folder}/runs: train first, or give the folder that was --out.")
    print(markdown_table(records))
    if args.publish:
        for path in publish(records, Path(args.publish)):
            print(f"wrote {path}")
    print(f"Open {write_report(Path(args.folder))}")
    return 0
