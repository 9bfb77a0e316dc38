"""`dkdmpl`: a thin face over the library. Exit codes: 0 done, 1 a notebook or run
failed, 2 bad input, 130 interrupted, 141 when nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import sys
from collections.abc import Collection, Sequence
from typing import NoReturn

from dkdmpl_kit.cli import adapt, data, grids, labels, lessons, runs, search, threshold
from dkdmpl_kit.cli.extras import how_to_install
from dkdmpl_kit.cli.settings import EVERY, flag_of
from dkdmpl_kit.cli.shared import add_settings, at_home
from dkdmpl_kit.errors import KitError, shortage_named

PIPE_CLOSED = 141  # as a shell counts a program that a closed pipe has ended


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run one command; `KitError` becomes one sentence on standard error and
    exit code 2.
    """
    _show_any_name()
    args = argparse.Namespace(command="dkdmpl")
    try:
        args, unknown = build_parser().parse_known_args(argv)
        _refuse_unknown(unknown, args)
        at_home(args)
        with shortage_named():
            code = args.run(args) or 0
        # here, and not when Python ends: whoever reads may have gone
        sys.stdout.flush()
        return code
    except KitError as error:
        print(f"dkdmpl: {_one_line(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # as `| head` does: it has read enough
        _forget_output()
        return PIPE_CLOSED
    except (OSError, RuntimeError) as error:
        # how Python 3.11 says what later ones say as an OSError
        if isinstance(error, RuntimeError) and "Symlink loop" not in str(error):
            raise
        where = f" {error.filename}" if getattr(error, "filename", None) else ""
        print(
            f"dkdmpl: the system refuses{where}: "
            f"{getattr(error, 'strerror', None) or _one_line(error)}.",
            file=sys.stderr,
        )
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


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one sentence."""

    def error(self, message: str) -> NoReturn:
        """KitError, which ends the command with exit code 2."""
        message = message.removeprefix("argument ")
        raise KitError(f"{message[:1].upper()}{message[1:]}; see {self.prog} --help.")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _forget_output() -> None:
    """Send what is still to be written nowhere, so that Python's end does not try again."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _refuse_unknown(unknown: Sequence[str], args: argparse.Namespace) -> None:
    """A misspelt flag is one sentence with the close ones; a setting of other commands
    is named as such.
    """
    if not unknown:
        return
    command = " ".join(filter(None, (args.command, getattr(args, "action", None))))
    flag = unknown[0].partition("=")[0]
    if not flag.startswith("-"):
        raise KitError(f"{flag!r} is one thing too many: see dkdmpl {command} --help.")
    settings = {flag_of(name) for name in EVERY}
    if flag in settings:
        raise KitError(
            f"dkdmpl {command} makes no use of {flag}, a setting of other commands: leave "
            "it out."
        )
    own = {"--" + name.removeprefix("set_").replace("_", "-") for name in vars(args)}
    close = difflib.get_close_matches(flag, sorted(own & settings or settings), 3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"see dkdmpl {command} --help."
    raise KitError(f"There is no option {flag}: {hint}")


def build_parser() -> argparse.ArgumentParser:
    """The command line: every subcommand with its flags."""
    parser = Parser(
        "dkdmpl", description="Dual knowledge distillation on multiview pseudo labels."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, run, help: str, *, uses: Collection[str] = (), presets: bool = True
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        sub.set_defaults(run=run)
        if uses:
            add_settings(sub, uses, presets=presets)
        return sub

    for group in (lessons, runs, adapt, labels, search, threshold, data, grids):
        group.add(command)
    return parser
