"""A run that trains behind the notebook: its live curves, its hardest pictures, and
buttons that act on the real loop.
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import torch

from dkdmpl_kit.lessons.lab.panel import FigureView, Panel, task_line
from dkdmpl_kit.lessons.replay import hardest, teacher_line
from dkdmpl_kit.noise import error_kinds
from dkdmpl_kit.training.checkpoint import load_epoch, load_history
from dkdmpl_kit.training.control import RunControl, RunStopped
from dkdmpl_kit.viz.epochs import hardest_pictures, live_curves
from dkdmpl_kit.viz.style import UNKNOWN

TASK = (
    "Task: start the run and pause it. Do the labels still change when the loss has settled?"
)
BUTTONS = {"start": "play", "pause": "pause", "resume": "step-forward", "stop": "stop"}
ENABLED = {
    "not started": {"start"},
    "running": {"pause", "stop"},
    "paused": {"resume", "stop"},
    "stopping": set(),
    "stopped": {"resume"},
    "failed": {"resume"},
    "finished": set(),
}
TICK = 0.25  # seconds between two writings of the state line
NO_FEATURES = (
    "This run keeps no features of its epochs (keep_features=False), and this needs them."
)


class TrainingMonitor(Panel):
    """Train in a background thread and watch; the notebook goes on meanwhile.

    train   called as train(resume=True, on_epoch=..., control=...):
            functools.partial(fit, config, dataset, progress=False)
    config  the run's `Config`: name, run_dir, epochs and the teacher's temperature are
            read
    pids    (N,) true identities, None or -1 where unknown: they draw the break-even and
            mark the hardest pictures
    pictures  a store with .batch(indices) -> (B, 3, H, W) uint8; None: the hardest are
              not shown
    on_epoch  called with each record after the panel is drawn, say an `EpochPlayer`'s
              refresh

    `.start_button`, `.pause_button`, `.resume_button`, `.stop_button`; `.phase`;
    `.records`: the history with what is measured here. A stopped or failed run resumes
    from its last whole epoch. The first error of a run stays in `.error`.
    """

    def __init__(
        self,
        train: Callable[..., Any],
        config: Any,
        *,
        pids: Any = None,
        pictures: Any = None,
        n_hardest: int = 12,
        on_epoch: Callable[[dict], Any] | None = None,
    ) -> None:
        super().__init__()
        self.add_class("dkdmpl-monitor")
        self.train = train
        self.config = config
        self.pictures = pictures
        self.n_hardest = n_hardest
        self.on_epoch = on_epoch
        self.pids = None if pids is None or (np.asarray(pids) < 0).any() else np.asarray(pids)
        self.records: list[dict] = []
        self._first_error: Exception | None = None
        self.control = RunControl(self._tick)
        self.thread = None
        self._ended = "not started"
        self._written = 0.0
        # each thread has its own number: the run shall compute as one in the notebook does
        self._threads = torch.get_num_threads()
        self.line = ipywidgets.HTML()
        self.curves = FigureView()
        self.hardest = FigureView()
        self.views = (self.curves, self.hardest)
        for name, icon in BUTTONS.items():
            button = ipywidgets.Button(description=name.capitalize(), icon=icon)
            setattr(self, f"{name}_button", button)
            self.on_click(button, getattr(self, name))
        self.children = [
            task_line(TASK),
            ipywidgets.HBox([getattr(self, f"{name}_button") for name in BUTTONS]),
            self.line,
            self.status,
            self.curves,
            self.hardest,
        ]
        self.attempt(self._catch_up)
        self._write_line()

    @property
    def phase(self) -> str:
        """One of the keys of `ENABLED`."""
        if self._ended:
            return self._ended
        state = self.control.state
        return "stopping" if state == "stopped" else state

    def attempt(self, action: Callable[[], Any]) -> bool:
        """As any panel's, but an error stays until the next start: a later good epoch
        must not hide it.
        """
        well = super().attempt(action)
        self.error = self._first_error
        return well

    def start(self) -> None:
        """Begin the run, or go on with one that was stopped, or failed, from its last
        whole epoch.
        """
        if self._ended in ("", "finished"):
            return
        self.error = self._first_error = None
        self._ended = ""
        self.control = RunControl(self._tick)
        self.status.value = ""
        self.thread = threading.Thread(
            target=self._train, name=f"train {self.config.name}", daemon=True
        )
        self._write_line()
        self.thread.start()

    def pause(self) -> None:
        """The loop waits before its next batch."""
        self.control.pause()
        self._write_line()

    def resume(self) -> None:
        """Go on: at once where the run is paused, from its last whole epoch where it
        was stopped.
        """
        if self._ended:
            self.start()
        else:
            self.control.resume()
            self._write_line()

    def stop(self) -> None:
        """End the run before its next batch; whole epochs are kept, and `resume` goes
        on from them.
        """
        if not self._ended:
            self.control.stop()
            self._write_line()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the thread has ended, at most `timeout` seconds; whether it has.
        `check` then raises what it raised.
        """
        if self.thread is not None:
            self.thread.join(timeout)
        return self.thread is None or not self.thread.is_alive()

    def _train(self) -> None:
        """The thread: what it raises is shown and kept; `RunStopped` is no error."""
        ended = "failed"
        torch.set_num_threads(self._threads)
        try:
            self.train(resume=True, on_epoch=self._after_epoch, control=self.control)
            ended = "finished"
        except RunStopped:
            ended = "stopped"
        # whatever ends the training: the notebook must hear of it
        except Exception as error:
            self.show_error(error)
        self.attempt(self._catch_up)
        self._ended = ended
        self._write_line()

    def _after_epoch(self, record: dict) -> None:
        self.attempt(self._catch_up)
        if self.on_epoch is None:
            return
        try:
            self.on_epoch(record)  # outside of the lock: the buttons must not wait for it
        except Exception as error:  # the training goes on
            self.show_error(error)

    def show_error(self, error: Exception) -> None:
        """As any panel's, but the first error of a run stays."""
        if self._first_error is None:
            self._first_error = error
            super().show_error(error)

    def _catch_up(self) -> None:
        """Measure and draw the epochs that lie in the run's folder and are not shown
        yet.
        """
        history = load_history(Path(self.config.run_dir))
        for record in history[len(self.records) :]:
            measured = self._measure(record["epoch"], record is history[-1])
            self.records.append({**record, **measured})
        identities = None
        why = NO_FEATURES
        if self.pids is None:
            why = f"{UNKNOWN}: the break-even of P2 cannot be measured."
        else:
            identities = len(np.unique(self.pids))
        curves = live_curves(
            self.records,
            identities=identities,
            epochs=self.config.epochs,
            why={"margin": why},
        )
        self.curves.show(curves)

    def _measure(self, epoch: int, newest: bool) -> dict[str, float]:
        """The teacher's line of an epoch; the newest one's hardest pictures are drawn.
        From its files, after its training.
        """
        labels, features = load_epoch(
            Path(self.config.run_dir) / "epochs" / f"epoch_{epoch:03d}.npz"
        )
        if features is None:
            self.say(NO_FEATURES)
            return {}
        if newest and self.pictures is not None:
            worst, scores = hardest(labels, features, self.n_hardest)
            kinds = None if self.pids is None else error_kinds(labels, self.pids)[worst]
            self.hardest.show(
                hardest_pictures(
                    np.asarray(self.pictures.batch(worst)),
                    labels[worst],
                    scores,
                    kinds,
                    title=f"The hardest pictures of epoch {epoch}: nearest to another "
                    "cluster",
                )
            )
        if self.pids is None:
            return {}
        return teacher_line(labels, features, self.pids, self.config.teacher_temperature)

    def _tick(self) -> None:
        """Called by the loop before each batch: the state line, not more often than a
        reader can follow.
        """
        if time.monotonic() - self._written >= TICK or self.control.waiting:
            self.attempt(self._write_line)

    def _write_line(self) -> None:
        self._written = time.monotonic()
        phase = self.phase
        at = self.control.progress
        where = f"{len(self.records)} of {self.config.epochs} epochs done"
        if not self._ended:
            between = at.batch is None
            epoch = at.epoch + 1 if between and at.batches > 0 else at.epoch
            epoch = max(epoch, len(self.records))
            where = f"epoch {epoch} (0 to {self.config.epochs - 1}), "
            where += "between batches" if between else f"batch {at.batch + 1} of {at.batches}"
        if phase == "paused" and not self.control.waiting:
            phase = "pausing at the next batch"
        if phase == "stopping":
            phase = "stopping at the next batch"
        self.line.value = html.escape(f"{self.config.name} · {phase} · {where}")
        for name in BUTTONS:
            getattr(self, f"{name}_button").disabled = name not in ENABLED[self.phase]
