"""The command reference, made of the parser itself."""

from __future__ import annotations

import argparse
import copy

WIDTH = 88  # columns of a usage line


def command_pages(parser: argparse.ArgumentParser) -> dict[str, str]:
    """{page below commands/: its Markdown}: an index, and a page a command."""
    listed = _subcommands(parser)
    rows = [
        f"| [`{name}`]({name}.md) | {_text(sub.description)} |"
        for name, sub in listed.items()
    ]
    index = [
        "# Commands",
        _sentence(parser.description),
        "Each page here is made of the parser that `dkdmpl COMMAND --help` prints.",
        "\n".join(["| command | what it does |", "|---|---|", *rows]),
    ]
    pages = {"index.md": "\n\n".join(index)}
    for name, sub in listed.items():
        pages[f"{name}.md"] = "\n\n".join(_page(sub, level=1))
    return pages


def _page(parser: argparse.ArgumentParser, *, level: int) -> list[str]:
    parts = [f"{'#' * level} {parser.prog}", _sentence(parser.description)]
    deeper = _subcommands(parser)
    if deeper:
        for sub in deeper.values():
            parts += _page(sub, level=level + 1)
        return parts
    parts.append(f"```text\n{_usage(parser)}\n```")
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.help != argparse.SUPPRESS]
        if actions:
            rows = [f"| {_flags(a)} | {_meaning(parser, a)} |" for a in actions]
            kind = "option" if actions[0].option_strings else "what"
            title = (group.title or "").capitalize()
            parts.append(f"{'#' * (level + 1)} {_text(title)}")
            parts.append("\n".join([f"| {kind} | meaning |", "|---|---|", *rows]))
    return parts


def _subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _usage(parser: argparse.ArgumentParser) -> str:
    """The usage line; settings that nobody must give are one word of it."""
    formatter = argparse.HelpFormatter(parser.prog, width=WIDTH)
    shown = [a for a in parser._actions if not a.dest.startswith("set_") or a.required]
    has_settings = len(shown) < len(parser._actions)
    shown = [_short(a) for a in shown if a.dest != "help"]
    formatter.add_usage(None, shown, ())
    usage = formatter.format_help().strip().removeprefix("usage: ")
    return usage + (" [SETTINGS]" if has_settings else "")


def _short(action: argparse.Action) -> argparse.Action:
    """A choice of many values is one word of a usage line."""
    action = copy.copy(action)
    if len("|".join(map(str, action.choices or ()))) > 30 and action.option_strings:
        action.metavar = "VALUE"
    return action


def _flags(action: argparse.Action) -> str:
    """`--flag VALUE`, its short forms with it; a positional argument by its name."""
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    value = ""
    if action.nargs != 0:
        shown = action.metavar or (
            "|".join(map(str, action.choices or ())) or action.dest.upper()
        )
        value = " " + (" ".join(shown) if isinstance(shown, tuple) else shown)
    # a choice of many values stands in the meaning
    value = " VALUE" if len(value) > 30 else value
    return "<br>".join(
        f"`{flag}{value}`".replace("|", "\\|") for flag in action.option_strings
    )


def _meaning(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    said = _text(parser._get_formatter()._expand_help(action)) if action.help else ""
    choices = [str(choice) for choice in action.choices or ()]
    if choices and (not action.option_strings or len("|".join(choices)) > 29):
        said += "; one of " + ", ".join(f"`{choice}`" for choice in choices)
    return said


def _sentence(text: str | None) -> str:
    shown = _text(text)
    return f"{shown[:1].upper()}{shown[1:].removesuffix('.')}."


def _text(text: str | None) -> str:
    """Plain text as Markdown that shows it as it is."""
    for letter in "\\`*_<>[]|#$":
        text = (text or "").replace(letter, "\\" + letter)
    return " ".join((text or "").split())
