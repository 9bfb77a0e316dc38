"""Work that may never end, such as a regular expression that someone else wrote."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import TypeVar

from dkdmpl_kit.errors import KitError

SECONDS = 20  # a pattern of the usual kind looks through a million names in two
T = TypeVar("T")


def in_time(work: Callable[[], T], sentence: str, seconds: float | None = None) -> T:
    """What `work` returns, or `KitError(sentence)` after `seconds` (`SECONDS`).

    Python can interrupt its own work in the main thread of a Unix process alone:
    elsewhere the work takes as long as it takes.
    """
    seconds = seconds or SECONDS
    main = threading.current_thread() is threading.main_thread()
    if (
        not main
        or not hasattr(signal, "setitimer")
        or signal.getitimer(signal.ITIMER_REAL)[0]
    ):
        return work()

    def give_up(*_: object) -> None:
        raise KitError(sentence)

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return work()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
