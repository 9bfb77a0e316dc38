"""Every flag of every subcommand with every kind of bad value: one sentence, exit code 2.

Flags and subcommands come from the parser: a new one is covered at once. All run in this
process, and what would train, extract or start notebooks stops at its door.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dkdmpl_kit.cli import build_parser, main
from dkdmpl_kit.cli.settings import flag_of
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import OPTIONS, Config

SECONDS = 10  # more, and a command line counts as one that hangs
TYPES = {field.name: type(field.default) for field in dataclasses.fields(Config)}
# what each subcommand needs beside the flag that is tried; {..} are places of `places`
NEEDED = {
    "demo": "--out {out}/demo",
    "notebooks": "run --folder {empty} --out {out}/notebooks",
    "player": "{empty} --out {out}/player.gif",
    "train": "--preset smoke --data-root {other} --out-dir {out}",
    "adapt": "{other} --out {out}/adapted",
    "cluster": "--preset smoke --data-root {other} --out-dir {out}",
    "evaluate": "--preset smoke --data-root {other} --out-dir {out}",
    "embed": "{other} --preset smoke --out {out}/features.npz",
    "rank": "--preset smoke --query {other}/x.txt --gallery {other} --sheet {out}/s.png",
    "threshold": "--preset smoke --data-root {other} --out-dir {out}",
    "export": "--weights random --out {out}/model",
    "recipe": "paper-market1501",
    "cost": "nothing",
    "data check": "--data-root {other}",
    "data holdout": "--data-root {other} --out {out}/held-out",
    "data render": "--data-root {other}",
    "grid": "{grid} --out {out}/grid",
    "robustness": "--out {out}/robustness",
    "report": "{empty}",
}
NUMBERS = ("nan", "inf", "-inf", "1e400", "9" * 30, "-1", "text", "", "1,5", "0x10")
NO_NUMBERS = ("nan", "inf", "1e400", "text", "", "0x10")  # for any number
NAMES = ("nothing", "", "DKDMPL", "../..", "x" * 5000)
PATHS = (
    "missing",
    "folder",
    "empty file",
    "binary",
    "loop",
    "device",
    "fifo",
    "list",
    "long",
)


class Reached(KitError):
    """The command line was taken, and the work behind it would begin."""


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, str]:
    """Places on the disk that people give by mistake, {name: path}."""
    top = tmp_path_factory.mktemp("command-lines")
    for folder in ("empty", "other", "out"):
        (top / folder).mkdir()
    (top / "other" / "x.txt").write_text("no picture")
    (top / "file").write_text("")
    (top / "binary").write_bytes(bytes(range(256)) * 4)
    (top / "list").write_text("[1, 2]")
    os.symlink(top / "loop", top / "loop")
    os.symlink("/dev/zero", top / "device")
    os.mkfifo(top / "fifo")
    (top / "grid.yml").write_text("preset: smoke\naxes: {seed: [0]}\n")
    return {
        "out": str(top / "out"),
        "empty": str(top / "empty"),
        "other": str(top / "other"),
        "grid": str(top / "grid.yml"),
        "missing": str(top / "missing" / "x"),
        "folder": str(top / "empty"),
        "empty file": str(top / "file"),
        "binary": str(top / "binary"),
        "loop": str(top / "loop"),
        "device": str(top / "device"),
        "fifo": str(top / "fifo"),
        "list": str(top / "list"),
        "long": str(top / ("x" * 300)),
    }


@pytest.fixture(autouse=True)
def nothing_begins(monkeypatch, tmp_path):
    """What takes long says that it was reached; files that commands write go away."""
    import dkdmpl_kit.lessons.handouts
    import dkdmpl_kit.studies.grid
    import dkdmpl_kit.studies.label_noise
    import dkdmpl_kit.studies.notebooks
    import dkdmpl_kit.training

    def reached(*_, **__):
        raise Reached("reached")

    for place, name in (
        (dkdmpl_kit.training, "fit"),
        (dkdmpl_kit.training, "extract"),
        (dkdmpl_kit.training, "new_state"),
        (dkdmpl_kit.studies.grid, "run_grid"),
        (dkdmpl_kit.studies.label_noise, "run"),
        (dkdmpl_kit.studies.notebooks, "run_notebooks"),
        (dkdmpl_kit.studies.notebooks, "build_notebooks"),
        (dkdmpl_kit.lessons.handouts, "write_learner_copies"),
        (dkdmpl_kit.lessons.handouts, "write_slides"),
    ):
        monkeypatch.setattr(place, name, reached)
    monkeypatch.setattr("dkdmpl_kit.data.synthetic_dataset", reached)
    monkeypatch.setattr("dkdmpl_kit.data.render_layout", reached)
    monkeypatch.chdir(tmp_path)


def leaves(parser: argparse.ArgumentParser, before: str = "") -> dict:
    """{"data check": parser, ...} of all subcommands."""
    found = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                found |= leaves(sub, f"{before}{name} ") or {f"{before}{name}": sub}
    return found


COMMANDS = leaves(build_parser())


def bad_values(action: argparse.Action) -> list[str]:
    """Values that a flag or a positional is tried with; names of places among them."""
    name = action.dest.removeprefix("set_")
    if action.dest.startswith("set_"):
        kind = TYPES[name]
        if name in OPTIONS:
            return [*NAMES]
        if kind in (int, float):
            return [*NUMBERS]
        return [*NAMES, *PATHS] if kind is str else ["perhaps", "2", ""]
    if action.choices:
        return [*NAMES]
    if action.type is int:
        return [*NUMBERS]
    return ["", *PATHS]


def cases(command: str, places: dict) -> list[tuple[str, ...]]:
    """The command lines of a subcommand: each flag with each bad value, and a few more."""
    needed = NEEDED[command].format(**places).split()
    lines = [(*command.split(), *needed, "--nonsense"), (*command.split(), "--nonsense=3")]
    for action in COMMANDS[command]._actions:
        if action.nargs == 0:  # a switch, or --help
            continue
        for value in bad_values(action):
            value = places.get(value, value)
            copies = action.nargs if isinstance(action.nargs, int) else 1
            if action.option_strings:
                given = [action.option_strings[-1], *[value] * copies]
                base = without(needed, action.option_strings)
                lines.append((*command.split(), *base, *given))
            else:
                flags = needed[next((i for i, a in enumerate(needed) if a[:2] == "--"), 99) :]
                lines.append((*command.split(), *[value] * copies, *flags))
    return lines


def without(argv: list[str], flags: list[str]) -> list[str]:
    """argv without a flag and its value."""
    for flag in flags:
        if flag in argv:
            at = argv.index(flag)
            return argv[:at] + argv[at + 2 :]
    return argv


class TooLong(BaseException):
    """The command line hangs."""


def outcome(argv: tuple[str, ...]) -> tuple[str, str]:
    """("refused" | "reached" | "done" | what is wrong, what it said on standard error)."""

    def stop(*_):
        raise TooLong

    said = io.StringIO()
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = main(list(argv))
    except TooLong:
        return "hangs", ""
    except BaseException as error:
        return f"{type(error).__name__}: {error}", said.getvalue()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    text = said.getvalue()
    if text == "dkdmpl: reached\n":
        return "reached", text
    if code == 0:
        return "done", text
    lines = [line for line in text.splitlines() if line.startswith("dkdmpl: ")]
    clear = code == 2 and len(lines) == 1 and text.count("\n") == 1 and len(text) > 30
    return ("refused" if clear else f"exit code {code}"), text


def test_every_subcommand_is_tried():
    assert sorted(COMMANDS) == sorted(NEEDED)


@pytest.mark.parametrize("command", sorted(NEEDED))
def test_a_bad_value_is_one_sentence(command, places):
    wrong = []
    for argv in cases(command, places):
        found, text = outcome(argv)
        if found not in ("refused", "reached", "done"):
            wrong.append(f"{found}: {' '.join(argv)[:200]}\n    {text[-300:]}")
    assert not wrong, f"{len(wrong)} of {len(cases(command, places))}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("command", sorted(NEEDED))
def test_what_is_no_value_of_a_setting_names_it(command, places):
    """Numbers that are none, and names that are not known, are never taken."""
    for action in COMMANDS[command]._actions:
        name = action.dest.removeprefix("set_")
        if not action.dest.startswith("set_"):
            continue
        if name in OPTIONS:
            bad = ("nothing", "")
        elif TYPES[name] is int:
            bad = (*NO_NUMBERS, "9" * 30)
        elif TYPES[name] is float:
            bad = NO_NUMBERS
        elif TYPES[name] is bool:
            bad = ("perhaps", "2", "")
        else:
            continue
        needed = without(NEEDED[command].format(**places).split(), action.option_strings)
        for value in bad:
            found, text = outcome((*command.split(), *needed, flag_of(name), value))
            assert found == "refused", (command, name, value, text)
            assert name in text or flag_of(name) in text, text


def test_at_least_three_hundred_command_lines_are_tried(places):
    assert sum(len(cases(command, places)) for command in NEEDED) >= 300


# --- the cases that people met ---


def sentence(*argv: object) -> str:
    found, text = outcome(tuple(map(str, argv)))
    assert found == "refused", (found, text)
    return text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "There is no settings file"),
        ("folder", "is a folder"),
        ("empty file", "not valid JSON"),
        ("binary", "not text in UTF-8"),
        ("list", "not an object"),
        ("device", "not an ordinary file"),
        ("fifo", "not an ordinary file"),
        ("loop", "cannot be read"),
    ],
)
def test_a_settings_file_that_is_none(places, kind, words):
    path = places["empty"] + "/none.json" if kind == "missing" else places[kind]
    assert words in sentence("train", "--config", path)


@pytest.mark.parametrize("text", ["3", '"text"', "null", "[]", '{"settings": [1]}'])
def test_settings_that_are_no_settings(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    assert "not an object" in sentence("train", "--config", tmp_path / "c.json")


def test_a_preset_and_a_settings_file_are_two_answers(tmp_path):
    (tmp_path / "c.json").write_text("{}")
    text = sentence("train", "--config", tmp_path / "c.json", "--preset", "smoke")
    assert "two answers" in text


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../../x", "/abs", "x" * 300, "a\0b"])
def test_a_name_of_a_run_never_leaves_its_place(tmp_path, name):
    (tmp_path / "c.json").write_text(json.dumps({"run_name": name}))
    assert "run_name" in sentence("train", "--config", tmp_path / "c.json")
    assert "run_name" in sentence("train", "--run-name", name)


def grid(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "grid.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("settings: {out_dir: /elsewhere}\naxes: {seed: [0]}", "out_dir"),
        ("settings: {run_name: ../x}\naxes: {seed: [0]}", "run_name"),
        ("axes: {out_dir: [a, b]}", "out_dir"),
        ("axes: {data: [{name: x, settings: {out_dir: y}}]}", "out_dir"),
        ("axes: {seed: [0]}\nalso: [{out_dir: x}]", "out_dir"),
        ("axes: {seed: [0]}\nalso: 3", "also"),
        ("axes: {seed: [0]}\nalso: [3]", "also"),
        ("axes: {seed: [0]}\nsettings: [3]", "settings"),
        ("axes: {seed: [.nan]}", "seed"),
        ("axes: {eps: [.inf]}", "eps"),
        ("preset: [smoke]\naxes: {seed: [0]}", "preset"),
        ("axes: {1: [2]}", "as the name of a setting"),
        ("axes: &a {x: [*a]}", "aliases"),
        ("{" * 5000, "not valid YAML"),
        ("axes: {seed: [2020-01-01]}", "seed"),
        ("axes: !!python/object:os.system {}", "not valid YAML"),
        (
            "axes: {"
            + ", ".join(
                f"{name}: [{', '.join(map(str, range(1, 101)))}]"
                for name in ("seed", "epochs", "iterations", "batch_clusters")
            )
            + "}",
            "100,000,000 cells",
        ),
        (
            "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
            + "\n".join(
                f"{b}: &{b} [{', '.join(['*' + a] * 10)}]"
                for a, b in zip("abcdefghi", "bcdefghij")
            )
            + "\naxes: {seed: *j}",
            "aliases",
        ),
    ],
)
def test_a_grid_file_that_does_harm_is_refused(tmp_path, text, words):
    assert words in sentence("grid", grid(tmp_path, text), "--out", tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_a_grid_file_of_windows_is_read(tmp_path):
    text = "preset: smoke\naxes: {seed: [0]}\n"
    for encoding in ("utf-16", "utf-8-sig"):
        path = grid(tmp_path, text.encode(encoding))
        assert outcome(("grid", str(path), "--out", str(tmp_path / "o")))[0] == "reached"


def test_where_runs_lie_is_not_a_setting_of_a_grid(tmp_path):
    path = grid(tmp_path, "axes: {seed: [0]}")
    text = sentence("grid", path, "--out", tmp_path / "o", "--setting", "out_dir=/elsewhere")
    assert "out_dir" in text


def test_a_pattern_that_would_never_end_is_named(tmp_path, monkeypatch):
    from dkdmpl_kit.data import patience, read_dataset

    monkeypatch.setattr(patience, "SECONDS", 0.5)
    (tmp_path / "crops").mkdir()
    (tmp_path / "crops" / f"{'a' * 60}!.png").write_bytes(b"")
    with pytest.raises(KitError, match="takes very long"):
        read_dataset("folder", tmp_path / "crops", pattern=r"^(?P<pid>(a+)+)$")


def test_figures_of_others_stay_in_their_folder(tmp_path):
    from dkdmpl_kit.studies.report import write_report

    png = b"\x89PNG\r\n\x1a\n"
    (tmp_path / "secret.png").write_bytes(png + b"secret")
    out = tmp_path / "out"
    (out / "05").mkdir(parents=True)
    (out / "figures").mkdir()
    (out / "figures" / "own.png").write_bytes(png + b"own")
    (out / "figures" / "text.png").write_text("no picture")
    os.symlink(tmp_path / "secret.png", out / "figures" / "link.png")
    os.symlink(out / "figures" / "loop.png", out / "figures" / "loop.png")
    os.symlink("/dev/zero", out / "figures" / "endless.png")
    figures = [
        str(tmp_path / "secret.png"),
        "../secret.png",
        "/etc/passwd",
        "figures/own.png",
    ]
    record = {"notebook": "05", "metrics": {"mAP": 0.5}, "figures": figures}
    (out / "05" / "metrics.json").write_text(json.dumps(record))
    page = write_report(out).read_text(encoding="utf-8")
    assert "data:image/png;base64," in page and "own" in page
    assert page.count("so it is not shown") >= 4
    assert page.count("data:image/png;base64,") == 1


def test_a_module_in_the_current_folder_is_never_imported(tmp_path):
    """html.py lies where the command is given; a notebook's process must not run it."""
    import nbformat

    from dkdmpl_kit.studies.notebooks import process

    trap = "from pathlib import Path\nPath(__file__).with_name('executed').touch()\n"
    for name in ("html.py", "papermill.py", "nbclient.py"):
        (tmp_path / name).write_text(trap)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import html")])
    (tmp_path / "own").mkdir()
    nbformat.write(notebook, tmp_path / "own" / "one.ipynb")
    process.run_notebook(tmp_path / "own" / "one.ipynb", tmp_path / "done")
    assert not (tmp_path / "executed").exists()


def test_who_stops_reading_ends_the_command_without_a_word():
    process = subprocess.Popen(
        [sys.executable, "-m", "dkdmpl_kit.cli", "recipe"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


@pytest.mark.parametrize("device", ["mps", "xpu", "cuda:99", "meta", "cpu:3", "vulkan"])
def test_a_device_that_is_not_here_is_named(device):
    from dkdmpl_kit.experiment import pick_device

    with pytest.raises(KitError, match=device):
        pick_device(device)


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "levit_128s", "coat_lite_tiny"])
def test_a_transformer_is_one_sentence(backbone):
    import torch

    from dkdmpl_kit.models import build_encoder

    with pytest.raises(KitError, match=f"{backbone}.*convolutional one"):
        build_encoder(backbone, weights="random").eval()(torch.rand(2, 3, 64, 32))


def test_a_sheet_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    text = sentence("rank", "--query", "q.png", "--gallery", tmp_path, "--sheet", "x.jpg")
    assert ".png" in text


def test_without_a_home_compiled_code_finds_a_folder_of_this_user_alone(
    monkeypatch, tmp_path
):
    import dkdmpl_kit

    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", "so that it is put back")
    os.environ.pop("NUMBA_CACHE_DIR")
    dkdmpl_kit._compiled_code_needs_a_folder()
    own = Path(os.environ["NUMBA_CACHE_DIR"])
    assert own.parent == tmp_path and own.stat().st_mode & 0o777 == 0o700
    # someone else was there first, and left the door open
    own.chmod(0o777)
    os.environ.pop("NUMBA_CACHE_DIR")
    dkdmpl_kit._compiled_code_needs_a_folder()
    other = Path(os.environ["NUMBA_CACHE_DIR"])
    assert other != own and other.stat().st_mode & 0o777 == 0o700


def test_a_wheel_brings_every_notebook():
    import tomllib

    from dkdmpl_kit.studies.notebooks.sources import CELL, SHIPPED

    root = Path(__file__).resolve().parents[2]
    told = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    brought = {
        f"{place}/{path.name}"
        for place, patterns in told["data-files"].items()
        for pattern in patterns
        for path in root.glob(pattern)
    }
    course = {f"{SHIPPED}/{path.name}" for path in (root / "notebooks").glob("*.ipynb")}
    assert course and course | {f"{SHIPPED}/{CELL}.ipynb"} <= brought
