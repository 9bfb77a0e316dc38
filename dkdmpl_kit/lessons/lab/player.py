"""The epochs of a run, played: maps that stay aligned, the flows between clusters, the
table of records.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.lab.panel import FigureView, Panel, task_line
from dkdmpl_kit.lessons.replay import COLOURS, RunReplay
from dkdmpl_kit.viz.epochs import fixed_png

TASK = (
    "Task: play the run. Which clusters merge or split late, and which pictures keep moving?"
)
KEPT_FRAMES = 64  # drawn ones, for going back and forth


class EpochPlayer(Panel):
    """Play the epochs of the run in `run_dir`, a finished one or one that still trains
    (`refresh` reads what has come).

    pids, camids (N,): true identities and cameras, None or -1 where unknown. A frame is
    drawn once and then kept; the first showing of an epoch makes its map, and those of
    the epochs before it. Runs without features have no map, only flows and records.
    Controls: `.play`, `.epoch`, `.colour`, `.top`, `.by`, `.newest`, `.refresh_button`.
    """

    def __init__(
        self,
        run_dir: str | Path,
        *,
        pids: Any = None,
        camids: Any = None,
        seed: int = 0,
        max_points: int = 20_000,
    ) -> None:
        super().__init__()
        self.add_class("dkdmpl-player")
        self.replay = RunReplay(
            run_dir, pids=pids, camids=camids, seed=seed, max_points=max_points
        )
        self._frames: dict[tuple[int, str], tuple[Figure, bytes]] = {}
        self.play = ipywidgets.Play(min=0, max=0, interval=1000, show_repeat=True)
        self.epoch = ipywidgets.IntSlider(
            min=0, max=0, description="epoch", continuous_update=False
        )
        self.link = ipywidgets.link((self.play, "value"), (self.epoch, "value"))
        self.colour = ipywidgets.Dropdown(
            options=[(COLOURS[key], key) for key in self.replay.colours],
            description="colour by",
        )
        self.top = ipywidgets.IntSlider(
            7, 1, 21, description="clusters", continuous_update=False
        )
        self.by = ipywidgets.Dropdown(
            options=[("clusters that changed most", "change"), ("largest clusters", "size")],
            description="which",
        )
        self.newest = ipywidgets.Checkbox(
            False, description="go to the newest epoch", indent=False
        )
        self.refresh_button = ipywidgets.Button(
            description="Refresh",
            icon="refresh",
            tooltip="Read the epochs that a running training has added",
        )
        self.view = FigureView()
        self.table = ipywidgets.HTML()
        self.views = (self.view,)
        for control in (self.epoch, self.colour):
            self.on(control, self._show)
        for control in (self.top, self.by):
            self.on(control, self._choose_clusters)
        self.on_click(self.refresh_button, self._refresh)
        self.on(self.newest, self._refresh)
        self.children = [
            task_line(TASK),
            ipywidgets.HBox([self.play, self.epoch, self.refresh_button, self.newest]),
            ipywidgets.HBox([self.colour, self.top, self.by]),
            self.status,
            self.view,
            self.table,
        ]
        self.refresh()

    @property
    def figure(self) -> Figure | None:
        """The frame that is shown."""
        return self.view.figure

    def refresh(self) -> bool:
        """Read new epochs and show them; False, with the reason in the status line and
        `.error`, where that failed.
        """
        return self.attempt(self._refresh)

    def _refresh(self) -> None:
        try:
            new = self.replay.refresh()
        except KitError as error:
            if len(self.replay):
                raise
            self.say(str(error))  # nothing yet: a run may still begin
            return
        last = len(self.replay) - 1
        if new:
            self._frames.clear()
            self.play.max = self.epoch.max = last
        if self.newest.value and self.epoch.value != last:
            self.epoch.value = last  # which shows it
        else:
            self._show()

    def _choose_clusters(self) -> None:
        if len(self.replay):
            self.replay.choose_clusters(self.top.value, self.by.value)
            self._frames.clear()
            self._show()

    def _show(self) -> None:
        if not len(self.replay):
            return
        epoch = self.epoch.value
        key = (self.epoch.value, self.colour.value)
        if key not in self._frames:
            self.say(f"Drawing epoch {epoch} ...")
            figure = self.replay.frame(epoch, self.colour.value)
            self._frames[key] = figure, fixed_png(figure)
            if len(self._frames) > KEPT_FRAMES:
                self._frames.pop(next(iter(self._frames)))
        figure, png = self._frames[key]
        self.view.figure = figure
        self.view.value = png
        self.table.value = self.replay.table(epoch)
        self.say(self.replay.title(epoch) + self.replay.remark())
