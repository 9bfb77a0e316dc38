"""JupyterLab on this machine's loopback and a Chromium that drives it; not one request
may go further.

`serve` starts the server in folders of its own, `Desk` holds the browser, and
`Notebook` is one open notebook: its cells run as a user would run them, its widgets are
moved through the page, and `ask` reads Python's side.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from dkdmpl_kit.studies.notebooks import default_folder

SHOTS = os.environ.get("DKDMPL_BROWSER_SHOTS", "")

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
ELSEWHERE = re.compile(r"^(https?|wss?|ftp)://(?!(127\.0\.0\.1|localhost)[:/])")
FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",  # WebGL for the scatter map, without a GPU
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
# of JupyterLab: no news, every cell in the page at once, no saving while a test reads
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "docmanager-extension/plugin": {"autosave": False},
}
RUN_ALL = """() => { const app = window.jupyterapp; window.finished = null;
    app.commands.execute('notebook:run-all-cells').then(
        () => { window.finished = 'yes'; }, error => { window.finished = String(error); }); }"""
FINISHED = """() => { const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel;
    return window.finished !== null && kernel?.status === 'idle' ? window.finished : null; }"""
STATUS = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status"
ASK = """async code => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const future = kernel.requestExecute({code, store_history: false, stop_on_error: false});
    let text = '', error = null;
    future.onIOPub = message => {
        if (message.header.msg_type === 'stream') text += message.content.text;
        if (message.header.msg_type === 'error') error = message.content.ename + ': ' + message.content.evalue; };
    await future.done;
    return {text, error}; }"""
NEW_CELL = """async code => {
    const app = window.jupyterapp, notebook = app.shell.currentWidget.content;
    notebook.model.sharedModel.addCell({cell_type: 'code', source: code});
    notebook.activeCellIndex = notebook.widgets.length - 1;
    await app.commands.execute('notebook:run-cell');
    return notebook.activeCell.model.toJSON().outputs; }"""
OUTPUTS = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type === 'code').map(cell => cell.model.toJSON())"""
CHECK = """
from ipywidgets.widgets.widget import _instances as _all
from dkdmpl_kit.lessons.lab.panel import Panel as _Panel
for _one in list(_all.values()):
    if isinstance(_one, _Panel):
        with _one._lock:  # not while a callback is on its way
            _one.check()
"""
ONE = (
    CHECK
    + """
def _under(one):
    yield one
    for child in getattr(one, "children", ()):
        yield from _under(child)
one = [one for one in list(_all.values()) if CSS in getattr(one, "_dom_classes", ())][NTH]
"""
)
VALUES = """[repr(part.value) for part in _under(one) if hasattr(part, "value") and type(part).__name__ not in
             ("HTML", "Image", "FigureView")]"""
CONTROLS = (
    "[role=slider]:visible, select:visible, .widget-checkbox input:visible, "
    ".widget-text input[type=number]:visible, "
    ".widget-toggle-buttons button:visible, .widget-toggle-button:visible"
)


def chromium() -> str | None:
    """The browser's path, or None."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serve(folder: Path, root: Path, token: str) -> Iterator[str]:
    """JupyterLab over the notebooks below `root`, its own files below `folder`; yields
    its address.
    """
    places = {
        name: folder / name
        for name in ("config", "data", "runtime", "ipython", "settings", "workspaces")
    }
    for place in places.values():
        place.mkdir(parents=True)
    for name, content in SETTINGS.items():
        file = places["settings"] / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    lab = {
        "expose_app_in_browser": True,
        "news_url": None,
        "extension_manager": "readonly",
        "open_browser": False,
        "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "workspaces_dir": str(places["workspaces"]),
        "user_settings_dir": str(places["settings"]),
    }
    port = free_port()
    server = {
        "ip": "127.0.0.1",
        "port": port,
        "port_retries": 0,
        "root_dir": str(root),
        "allow_root": True,
    }
    (places["config"] / "jupyter_lab_config.json").write_text(
        json.dumps({"LabApp": lab, "ServerApp": server, "IdentityProvider": {"token": token}})
    )
    env = {
        **os.environ,
        "IPYTHONDIR": str(places["ipython"]),
        "JUPYTER_PLATFORM_DIRS": "0",
        **{
            f"JUPYTER_{name.upper()}_DIR": str(places[name])
            for name in ("config", "data", "runtime")
        },
    }
    with (folder / "server.log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
        )
        try:
            until(
                lambda: (
                    list(places["runtime"].glob("jpserver-*.json"))
                    or child.poll() is not None
                ),
                60,
                "the server's start",
            )
            assert child.poll() is None, (folder / "server.log").read_text()[-2000:]
            yield f"http://127.0.0.1:{port}"
        finally:
            child.terminate()  # the server ends its kernels
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def until(
    found: Callable[[], Any],
    seconds: float,
    what: str,
    *,
    pause: Callable[[float], Any] = time.sleep,
) -> Any:
    """The first true value of `found()`; AssertionError names `what` did not come
    within `seconds`.
    """
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, f"waited {seconds:g} s in vain for {what}"
        pause(0.1)
    return value


def copy_with(source: Path, target: Path, parameters: Mapping[str, Any]) -> None:
    """A copy of a notebook whose parameters cell sets `parameters` at its end."""
    notebook = json.loads(source.read_text())
    cell = next(
        cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", [])
    )
    cell["source"] = "".join(cell["source"]) + "".join(
        f"\n{name} = {value!r}" for name, value in parameters.items()
    )
    target.write_text(json.dumps(notebook))


class Desk:
    """A browser over a server: opens notebooks one at a time; `.outside` lists every
    request for another machine.
    """

    def __init__(
        self,
        playwright: Any,
        address: str,
        token: str,
        root: Path,
        parameters: Mapping[str, Any],
    ) -> None:
        self.address, self.token, self.root, self.parameters = (
            address,
            token,
            root,
            parameters,
        )
        self.outside: list[str] = []
        self.browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        self.context = self.browser.new_context(
            viewport={"width": 1360, "height": 1900}, service_workers="block"
        )
        self.context.route(ELSEWHERE, self._refuse)
        self.context.route_web_socket(
            ELSEWHERE, lambda socket: self.outside.append(socket.url)
        )

    def _refuse(self, route: Any) -> None:
        self.outside.append(route.request.url)
        route.abort()

    @contextmanager
    def open(self, name: str) -> Iterator[Notebook]:
        """A copy of one of the kit's notebooks in a fresh page; its kernel ends
        afterwards.
        """
        copy_with(
            default_folder() / f"{name}.ipynb", self.root / f"{name}.ipynb", self.parameters
        )
        page = self.context.new_page()
        try:
            page.goto(f"{self.address}/lab/tree/{name}.ipynb?token={self.token}&reset")
            page.wait_for_function(STATUS.replace(".", "?.") + " === 'idle'", timeout=90_000)
            yield Notebook(page, name)
        finally:
            page.evaluate(
                "async () => { await "
                "window.jupyterapp?.serviceManager?.sessions?.shutdownAll(); }"
            )
            page.close()

    def close(self) -> None:
        self.browser.close()


class Notebook:
    """One open notebook: `.page` is playwright's; `.failures` the page's own script
    errors.
    """

    def __init__(self, page: Any, name: str) -> None:
        self.page, self.name = page, name
        self.failures: list[str] = []
        page.on("pageerror", lambda error: self.failures.append(str(error)))

    def until(self, found: Callable[[], Any], seconds: float, what: str) -> Any:
        """`until`, while the page goes on."""
        return until(
            found, seconds, what, pause=lambda s: self.page.wait_for_timeout(1000 * s)
        )

    def run_all(self, seconds: float) -> None:
        """Run all cells, and wait until the kernel is idle; an error output anywhere is
        an AssertionError.
        """
        self.page.evaluate(RUN_ALL)
        self.until(lambda: self.page.evaluate(FINISHED), seconds, f"the end of {self.name}")
        cells = self.page.evaluate(OUTPUTS)
        for cell in cells:
            wrong = [out for out in cell["outputs"] if out["output_type"] == "error"]
            assert not wrong, (
                f"{self.name} [{cell['execution_count']}] {wrong[0]['ename']}: "
                f"{wrong[0]['evalue']}"
            )
        assert all(
            cell["execution_count"] for cell in cells if "".join(cell["source"]).strip()
        ), f"{self.name} stopped early"

    def ask(self, code: str) -> str:
        """What `code` prints, run by the kernel after all that the page has sent it;
        its error is an AssertionError.
        """
        answer = self.page.evaluate(ASK, code)
        assert answer["error"] is None, answer["error"]
        return answer["text"].strip()

    def cell(self, code: str) -> str:
        """Append a cell with `code`, run it, and return what it printed."""
        outputs = self.page.evaluate(NEW_CELL, code)
        assert not [out for out in outputs if out["output_type"] == "error"], outputs
        return "".join(
            "".join(out["text"]) for out in outputs if out["output_type"] == "stream"
        ).strip()

    def check(self) -> None:
        """Raise what any panel's last callback raised, and what the page's scripts did."""
        self.ask(CHECK)
        assert not self.failures, self.failures[0]

    def bench(self, css: str, nth: int = 0) -> Bench:
        """The `nth` widget of a class that the notebook shows; AssertionError where it
        is not in the page.
        """
        found = self.page.locator(f".jp-OutputArea-output .{css}")
        self.until(lambda: found.count() > nth, 15, f"a widget {css} in {self.name}")
        found.nth(nth).scroll_into_view_if_needed()
        return Bench(self, css, nth, found.nth(nth))


class Bench:
    """One widget on the page: `.box` is its locator; what is done to it goes through
    mouse and keyboard.
    """

    def __init__(self, notebook: Notebook, css: str, nth: int, box: Any) -> None:
        self.notebook, self.css, self.nth, self.box = notebook, css, nth, box

    def ask(self, expression: str) -> Any:
        """The value of a Python expression of `one`, this widget; raises what a
        callback of any panel raised.
        """
        code = ONE.replace("CSS", repr(self.css)).replace("NTH", str(self.nth))
        answer = self.notebook.ask(f"{code}\nimport json\nprint(json.dumps({expression}))")
        assert not self.notebook.failures, self.notebook.failures[0]
        return json.loads(answer)

    def shown(self) -> tuple[list[str], list[str]]:
        """Its pictures' addresses (a new one at each drawing) and its sentences."""
        pictures = self.box.locator("img").evaluate_all("all => all.map(one => one.src)")
        return pictures, self.box.locator(".widget-html").all_inner_texts()

    def move_all(self, *, leave: tuple[str, ...] = ()) -> dict[str, bool]:
        """Move every visible control but those to `leave`; {name: whether the move
        changed a picture or a sentence}.

        AssertionError where a move did not reach Python, or where a callback failed.
        """
        self.settled()
        changed: dict[str, bool] = {}
        for place in range(self.box.locator(CONTROLS).count()):
            control = self.box.locator(CONTROLS).nth(place)
            name = self._name(control)
            if name in leave or control.is_disabled():
                continue
            values, shown = self.ask(VALUES), self.shown()
            if not self._move(control):
                continue
            try:
                self.notebook.until(
                    lambda values=values: self.ask(VALUES) != values,
                    20,
                    f"{name!r} of {self.css}",
                )
            # a picture that arrives moves the page under the mouse: what a person would
            # do
            except AssertionError:
                self._move(control)
                self.notebook.until(
                    lambda values=values: self.ask(VALUES) != values,
                    60,
                    f"{name!r} of {self.css} to reach Python",
                )
            self.ask("None")
            changed[name] = self.settled() != shown or changed.get(name, False)
        self.ask("None")  # raises what a callback raised
        assert changed, f"{self.css} has no control to move"
        return changed

    def _name(self, control: Any) -> str:
        if control.evaluate("one => one.tagName") == "BUTTON":
            return control.inner_text().strip()
        whole = control.locator(
            "xpath=ancestor::*[contains(@class,'widget-inline-') or "
            "contains(@class,'widget-checkbox')][1]"
        )
        words = (
            whole
            if control.get_attribute("type") == "checkbox"
            else whole.locator(".widget-label").first
        )
        return words.text_content().strip(" \n\u200b")

    def _move(self, control: Any) -> bool:
        """One step with the keyboard, the next option, or a click; False where there is
        nowhere to go.
        """
        kind = control.evaluate("one => one.tagName")
        if kind == "SELECT":
            here, options = control.evaluate("one => [one.selectedIndex, one.options.length]")
            if options > 1:
                control.select_option(index=(here + 1) % options)
            return options > 1
        if control.get_attribute("type") == "number":
            control.press("ArrowUp")
            control.press("Enter")
            return True
        if kind in ("BUTTON", "INPUT"):
            taken = "mod-active" in (control.get_attribute("class") or "")
            grouped = control.locator(
                "xpath=ancestor::*[contains(@class,'widget-toggle-buttons')]"
            ).count()
            if not (taken and grouped):
                control.click()
            return not (taken and grouped)
        low, high, now = (
            float(control.get_attribute(f"aria-value{part}"))
            for part in ("min", "max", "now")
        )
        if low < high:
            control.press("ArrowRight" if now < high else "ArrowLeft")
        return low < high

    def settled(self) -> tuple[list[str], list[str]]:
        """What it shows, once the kernel is idle and nothing has changed for a while.

        JupyterLab sends a widget's messages to a thread of their own in the kernel (a
        subshell): no order holds between them and the cells, so that there is nothing
        to wait for but rest.
        """
        seen: list = []

        def rests() -> bool:
            seen.append((self.notebook.page.evaluate(STATUS), self.shown()))
            return (
                len(seen) > 3
                and seen[-1][0] == "idle"
                and all(one == seen[-1] for one in seen[-4:])
            )

        self.notebook.until(rests, 60, f"{self.css} to rest")
        return seen[-1][1]

    def shot(self, name: str) -> None:
        """Where pictures are asked for: the widget as NAME.png, in 256 colours and
        below 200 KB.
        """
        if not SHOTS:
            return
        self.settled()
        self.notebook.page.mouse.move(0, 0)
        target, whole = (
            Path(SHOTS) / f"{name}.png",
            Image.open(io.BytesIO(self.box.screenshot())).convert("RGB"),
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        for share in (1, 0.85, 0.7, 0.6, 0.5):
            small = whole.resize(
                [int(share * side) for side in whole.size], Image.Resampling.LANCZOS
            )
            small.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)
            if target.stat().st_size < 200_000:
                return
        raise AssertionError(f"{target} cannot be made smaller than 200 KB")

    def press(self, name: str) -> None:
        """Click the button with this text."""
        self.box.locator("button", has_text=re.compile(rf"^\s*{re.escape(name)}\s*$")).click()

    def drag(self, corners: list[tuple[float, float]], on: Any) -> None:
        """Drag the mouse along corners given in shares of the width and height of `on`;
        slowly, as a hand does.
        """
        on.scroll_into_view_if_needed()
        mouse, frame = self.notebook.page.mouse, on.bounding_box()
        path = [
            (frame["x"] + x * frame["width"], frame["y"] + y * frame["height"])
            for x, y in corners
        ]
        mouse.move(*path[0])
        mouse.down()
        for (x0, y0), (x1, y1) in zip(path, path[1:]):
            for step in range(1, 9):
                mouse.move(x0 + (x1 - x0) * step / 8, y0 + (y1 - y0) * step / 8)
                # the scatter map takes a lasso's points at intervals
                self.notebook.page.wait_for_timeout(20)
        mouse.up()
