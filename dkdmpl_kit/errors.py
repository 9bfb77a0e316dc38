"""The one kind of error that a user of the kit should ever meet: a sentence, not a
traceback.
"""

from __future__ import annotations

from collections.abc import Iterable


class KitError(ValueError):
    """Bad input, told in one sentence: what is wrong, where, and what to do. The
    command line exits with 2.
    """


def check_option(name: str, value: object, valid: Iterable[object]) -> None:
    """Raise `KitError` unless `value` is one of `valid`; the message names them all."""
    valid = tuple(valid)
    if value not in valid:
        raise KitError(
            f"{name}={value!r} is not known; choose one of: {', '.join(map(str, valid))}."
        )
