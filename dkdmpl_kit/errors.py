"""The one kind of error that a user of the kit should ever meet: a sentence, not a
traceback.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator


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


# what torch's allocators say, on a CPU and on devices
SHORTAGES = ("can't allocate memory", "out of memory", "alloc_failed")


def is_shortage(error: Exception) -> bool:
    """Whether an error says that memory, of the machine or of the device, is too little."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(text in said for text in SHORTAGES)


@contextlib.contextmanager
def shortage_named() -> Iterator[None]:
    """Too little memory, of the machine or of the device, becomes a `KitError` that names
    the settings to turn; every other error passes.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise KitError(
            f"there is too little memory ({reason[:200]}): raise accumulation (a batch in "
            "parts), lower batch_clusters, batch_images, height or width, or set "
            "precision=bf16; --smoke tells what the real size needs."
        ) from error
