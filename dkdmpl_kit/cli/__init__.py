"""`dkdmpl`: a thin face over the library. Exit codes: 0 done, 1 a notebook or run
failed, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import sys
from collections.abc import Sequence

from dkdmpl_kit.cli import data, grids, lessons, runs
from dkdmpl_kit.cli.extras import how_to_install
from dkdmpl_kit.cli.shared import add_settings, at_home
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import Config


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run one command; `KitError` becomes one sentence on standard error and
    exit code 2.
    """
    _show_any_name()
    parser = build_parser()
    args, unknown = parser.parse_known_args(argv)
    try:
        _refuse_unknown(unknown)
        at_home(args)
        return args.run(args) or 0
    except KitError as error:
        print(f"dkdmpl: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        sentence = how_to_install((error.name or "").split(".")[0])
        if sentence is None:
            raise
        print(f"dkdmpl: {args.command} needs more than the core: {sentence}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "dkdmpl: interrupted; whole epochs are kept: the same command with "
            "--resume goes on.",
            file=sys.stderr,
        )
        return 130


def _show_any_name() -> None:
    """Names of files need not be text: a terminal that cannot show a letter gets its
    escape.
    """
    for stream in (sys.stdout, sys.stderr):
        # what notebooks and tests put in their place may lack it
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _refuse_unknown(flags: Sequence[str]) -> None:
    """A misspelt flag is one sentence with the close ones."""
    if not flags:
        return
    known = ["--" + field.name.replace("_", "-") for field in dataclasses.fields(Config)]
    close = difflib.get_close_matches(flags[0], known, 3)
    hint = f"did you mean {' or '.join(close)}?" if close else "see dkdmpl COMMAND --help."
    raise KitError(f"There is no option {flags[0]}: {hint}")


def build_parser() -> argparse.ArgumentParser:
    """The command line: every subcommand with its flags."""
    parser = argparse.ArgumentParser(
        "dkdmpl", description="Dual knowledge distillation on multiview pseudo labels."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, run, help: str, *, settings: bool = False
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        sub.set_defaults(run=run)
        if settings:
            add_settings(sub)
        return sub

    for group in (lessons, runs, data, grids):
        group.add(command)
    return parser
