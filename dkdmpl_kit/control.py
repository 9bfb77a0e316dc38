"""Pause, stop and follow a run from outside of its loop: from a notebook's button, or from another thread."""
from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


class RunStopped(Exception):
    """The run was stopped between two batches; what its last whole epoch left lies on disk, and `resume=True` goes on."""


@dataclass(frozen=True)
class Progress:
    """Where a run is: `epoch` and `batch` count from 0, `batches` is the number in an epoch; batch None: between epochs."""

    epoch: int = 0
    batch: int | None = None
    batches: int = 0


class RunControl:
    """The handle that `fit(control=...)` looks at between batches. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._going, self._stopped = threading.Event(), threading.Event()
        self._going.set()
        self.progress = Progress()

    @property
    def state(self) -> str:
        """"stopped", "paused" or "running", as asked for; the loop follows at its next batch."""
        return "stopped" if self._stopped.is_set() else "running" if self._going.is_set() else "paused"

    def pause(self) -> None:
        """The loop waits before its next batch."""
        self._going.clear()

    def resume(self) -> None:
        """Go on after `pause`; the arithmetic is that of a run without a pause."""
        self._going.set()

    def stop(self) -> None:
        """The loop ends with `RunStopped` before its next batch; the begun epoch is dropped, whole ones are kept."""
        self._stopped.set()
        self._going.set()

    def follow(self, batches: Iterable, epoch: int, count: int) -> Iterator:
        """Hand `batches` through, waiting while paused; raises `RunStopped` where the run was stopped."""
        for index, batch in enumerate(batches):
            self._pass()
            self.progress = Progress(epoch, index, count)
            yield batch
        self._pass()
        self.progress = Progress(epoch, None, count)

    def _pass(self) -> None:
        self._going.wait()
        if self._stopped.is_set():
            raise RunStopped
