"""What every live control shares: callbacks that cannot fail unseen, and pictures that
survive without a browser.

ipywidgets swallows what a callback raises. Here it is shown as a sentence in the panel,
kept in `.error`, and raised again by `.check()`: a test that moves a control and then
calls `check()` fails where the callback failed.
"""

from __future__ import annotations

import html
import threading
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.viz.style import PALETTE, figure_png


def task_line(sentence: str) -> ipywidgets.HTML:
    """What to do with a panel, in one line above its controls."""
    return ipywidgets.HTML(f"<b>{html.escape(sentence)}</b>")


def buttons(options: Sequence, description: str, value: Any = None) -> Any:
    """Toggle buttons that stay in one line, as wide as their words need."""
    widget = ipywidgets.ToggleButtons(
        options=options,
        description=description,
        style={"button_width": "auto", "description_width": "initial"},
        # as wide as all of them: a narrow page moves the whole group to a line of its own
        layout=ipywidgets.Layout(width="max-content", flex="0 0 auto", margin="0 1rem 0 0"),
    )
    if value is not None:
        widget.value = value
    return widget


def one_row(controls: Sequence) -> ipywidgets.HBox:
    """Controls side by side; those for which there is no room begin a line of their own."""
    return ipywidgets.HBox(list(controls), layout=ipywidgets.Layout(flex_flow="row wrap"))


class FigureView(ipywidgets.Image):
    """A matplotlib figure as PNG; `.figure` is the one shown (None at first), for tests
    to look into.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(
            format="png",
            layout=ipywidgets.Layout(max_width="100%", align_self="flex-start"),
            **options,
        )
        self.figure: Figure | None = None

    def show(self, figure: Figure) -> None:
        """Draw `figure`; KitError where it is not a Figure."""
        if not isinstance(figure, Figure):
            raise KitError(f"the function returned {type(figure).__name__}; return a Figure.")
        png = figure_png(figure)  # first: a figure that cannot be drawn leaves the old one
        self.figure = figure
        self.value = png


class Panel(ipywidgets.VBox):
    """A column of controls and pictures with a status line; subclasses set `.children`
    themselves.

    `.views`: the panel's `FigureView`s; the first stands for the panel where widgets
    cannot be shown.
    """

    views: tuple[FigureView, ...] = ()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.status = ipywidgets.HTML()
        self.error: Exception | None = None
        # callbacks come from the kernel's thread for widgets, and from one that trains
        self._lock = threading.RLock()

    def say(self, sentence: str) -> None:
        """Show a sentence in the status line."""
        self.status.value = html.escape(sentence)

    def attempt(self, action: Callable[[], Any]) -> bool:
        """Call `action`; what it raises is shown in the status line and kept for
        `check`. True where it went well.
        """
        try:
            with self._lock:
                action()
        # a callback may raise anything: shown, kept, raised again by check()
        except Exception as error:
            self.show_error(error)
            return False
        self.error = None
        return True

    def show_error(self, error: Exception) -> None:
        """Show an error in the status line and keep it for `check`."""
        self.error = error
        name = "" if isinstance(error, KitError) else f"{type(error).__name__}: "
        self.status.value = (
            f'<b style="color:{PALETTE["wrong"]}">{html.escape(name + str(error))} '
            "The picture is the last good one.</b>"
        )

    def on(
        self, control: ipywidgets.Widget, action: Callable[[], Any], names: str = "value"
    ) -> None:
        """Call `action()` through `attempt` whenever `control`'s trait changes."""
        control.observe(lambda change: self.attempt(action), names=names)

    def on_click(self, button: ipywidgets.Button, action: Callable[[], Any]) -> None:
        """Call `action()` through `attempt` at each click; in a test `button.click()`
        does the same.
        """
        button.on_click(lambda _: self.attempt(action))

    def check(self) -> None:
        """Raise the last callback's error, if it had one."""
        if self.error is not None:
            raise self.error

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The live view, with a PNG for viewers without widgets (GitHub, exported
        pages).
        """
        bundle = super()._repr_mimebundle_(**kwargs)
        picture = next((view.value for view in self.views if view.value), None)
        if bundle and picture:
            return {**bundle, "image/png": b64encode(picture).decode()}
        return bundle
