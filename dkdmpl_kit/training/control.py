"""Pause, stop and watch a run from outside of its loop: from a notebook's button, or
from another thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass


class RunStopped(Exception):
    """The run was stopped between two batches; what its last whole epoch left lies on
    disk, and `resume=True` goes on.
    """


@dataclass(frozen=True)
class Progress:
    """Where a run is: `epoch` and `batch` count from 0, `batches` is the number in an
    epoch; batch None: between epochs.
    """

    epoch: int = 0
    batch: int | None = None
    batches: int = 0


class RunControl:
    """The handle that `fit(control=...)` looks at between batches. All methods may be
    called from any thread.

    `watch()` is called by the loop before each batch and when it begins to wait; what
    it raises would end the run. `.progress`: where the loop is; `.waiting`: whether it
    stands still, as it does from the first batch after `pause`.
    """

    def __init__(self, watch: Callable[[], None] | None = None) -> None:
        self._going = threading.Event()
        self._stopped = threading.Event()
        self._going.set()
        self.progress = Progress()
        self.waiting = False
        self._watch = watch or (lambda: None)

    @property
    def state(self) -> str:
        """ "stopped", "paused" or "running", as asked for; the loop follows at its next
        batch.
        """
        return (
            "stopped"
            if self._stopped.is_set()
            else "running"
            if self._going.is_set()
            else "paused"
        )

    def pause(self) -> None:
        """The loop waits before its next batch."""
        self._going.clear()

    def resume(self) -> None:
        """Go on after `pause`; the arithmetic is that of a run without a pause."""
        self._going.set()

    def stop(self) -> None:
        """The loop ends with `RunStopped` before its next batch; the begun epoch is
        dropped, whole ones are kept.
        """
        self._stopped.set()
        self._going.set()

    def between(self, batches: Iterable, epoch: int, count: int) -> Iterator:
        """Hand `batches` through, waiting while paused; raises `RunStopped` where the
        run was stopped.
        """
        for index, batch in enumerate(batches):
            self._pass()
            self.progress = Progress(epoch, index, count)
            self._watch()
            yield batch
        self._pass()
        self.progress = Progress(epoch, None, count)
        self._watch()

    def _pass(self) -> None:
        if not self._going.is_set():
            self.waiting = True
            self._watch()
            self._going.wait()
            self.waiting = False
        if self._stopped.is_set():
            raise RunStopped
