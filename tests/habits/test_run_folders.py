"""What happens to run folders: two writers at once, kills, edits by hand, copies from
elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dkdmpl_kit.cli import main
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import claim, one_writer, preset, read_json, write_json
from dkdmpl_kit.studies.results import read_run
from dkdmpl_kit.training import fit, load_encoder


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_config, tiny_dataset) -> Path:
    """A finished run of one epoch, to be copied before it is damaged."""
    out = tmp_path_factory.mktemp("run")
    config = tiny_config.replace(
        out_dir=str(out), epochs=1, iterations=2, method="cluster_contrast"
    )
    return fit(config, tiny_dataset, progress=False).run_dir


@pytest.fixture
def copy(run, tmp_path) -> Path:
    """A copy of the run where its settings say that it lies."""
    folder = tmp_path / "runs" / run.name
    shutil.copytree(run, folder)
    started = read_json(folder / "config.json")
    started["settings"]["out_dir"] = str(tmp_path)
    write_json(folder / "config.json", started)
    return folder


def sentence(capsys, *argv: object) -> str:
    """The one line on standard error of a command that must be refused."""
    code = main([str(a) for a in argv])
    error = capsys.readouterr().err.strip()
    assert code == 2, error
    assert error.startswith("dkdmpl: ") and error.count("\n") == 0, error
    return error


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


# --- two writers ---


def test_a_run_that_another_process_writes_is_refused_and_nothing_is_lost(
    capsys, copy, tmp_path, tiny_config
):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    settings = read_json(copy / "config.json")["settings"]
    write_json(tmp_path / "settings.json", settings)
    command = ("train", "--config", tmp_path / "settings.json", "--quiet")
    with claim(copy / "run.lock"):
        for more in ((), ("--resume",)):
            error = sentence(capsys, *command, *more)
            assert "written by another process" in error and "run_name" in error
    after = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    after.pop(copy / "run.lock", None)
    before.pop(copy / "run.lock", None)
    assert after == before
    # and when the other one has ended, the result is read
    assert main([*map(str, command), "--resume"]) == 0


def test_a_writer_that_waits_goes_on_when_the_other_one_has_ended(tmp_path, capsys):
    code = (
        "import sys\nfrom pathlib import Path\nfrom dkdmpl_kit.experiment import one_writer\n"
        "with one_writer(Path(sys.argv[1])):\n    print('held', flush=True)\n"
        "    sys.stdin.read()\n    (Path(sys.argv[1]) / 'trained').touch()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "held\n"
    with pytest.raises(KitError, match="another process"), one_writer(tmp_path):
        pass
    other.stdin.close()
    with one_writer(tmp_path, wait=True):
        assert (tmp_path / "trained").exists()
    assert other.wait() == 0


def test_a_folder_is_given_back_when_a_run_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), one_writer(tmp_path):
        raise ZeroDivisionError
    entered = []
    with one_writer(tmp_path):
        entered.append(True)
    assert entered


# --- what kills leave ---


def test_what_a_kill_left_is_gone_after_the_next_start(copy):
    whole = names(copy)
    for name in ("checkpoint.json.x1.part", "epochs/epoch_000.npz.x2.part"):
        (copy / name).write_text("half")
    (copy / "checkpoint-0000.safetensors").write_text("the epoch before")
    (copy / "checkpoint-0002.safetensors").write_text("never named")
    (copy / "cache" / "pixels-abc").mkdir(parents=True)
    (copy / "cache" / "pixels-abc" / "part.npy").write_text("half decoded")
    (copy / "cache" / "pixels-0123456789abcdef.npy").write_text("decoded")
    with one_writer(copy):
        assert not (copy / "cache" / "pixels-abc").exists()
        assert {path.name for path in copy.glob("checkpoint*")} == {
            "checkpoint.json",
            "checkpoint-0001.safetensors",
        }
    # the run is finished: nothing will read the decoded pictures again
    assert names(copy) - {"run.lock"} == whole - {"run.lock"}


def test_weights_are_kept_where_the_ones_that_are_named_are_missing(copy):
    (copy / "checkpoint-0001.safetensors").rename(copy / "checkpoint-0007.safetensors")
    with one_writer(copy):
        assert (copy / "checkpoint-0007.safetensors").exists()


def test_the_pictures_of_an_unfinished_run_stay_decoded(copy):
    (copy / "result.json").unlink()
    (copy / "cache").mkdir()
    (copy / "cache" / "pixels-0123456789abcdef.npy").write_text("decoded")
    with one_writer(copy):
        pass
    assert (copy / "cache" / "pixels-0123456789abcdef.npy").exists()


def test_what_a_killed_process_had_not_finished_goes_with_the_next_one(tmp_path):
    from dkdmpl_kit.data.scratch import scratch_folder
    from dkdmpl_kit.experiment import write_atomic

    code = (
        "import sys, os, time\nfrom pathlib import Path\n"
        "from dkdmpl_kit.data.scratch import owned, scratch_folder\n"
        "top = Path(sys.argv[1])\n"
        "(top / (owned('a.json.') + 'x.part')).write_text('half')\n"
        "with scratch_folder(top, '.render.'):\n    print('here', flush=True)\n"
        "    time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "here\n"
    # while it lives, all of it is its own
    write_atomic(tmp_path / "a.json", "whole")
    with scratch_folder(tmp_path, ".render."):
        assert len(names(tmp_path)) == 4
    assert len(names(tmp_path)) == 3
    process.kill()
    process.wait()
    write_atomic(tmp_path / "a.json", "whole")
    with scratch_folder(tmp_path, ".render."):
        pass
    assert names(tmp_path) == {"a.json"}


def test_a_notebook_ends_when_who_started_it_is_killed(tmp_path):
    import nbformat

    v4 = nbformat.v4
    cell = (
        "import os, time\nfrom pathlib import Path\n"
        f"Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\ntime.sleep(600)"
    )
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell)])
    nbformat.write(notebook, tmp_path / "slow.ipynb")
    code = (
        "import sys\nfrom dkdmpl_kit.studies.notebooks import run_notebook\n"
        "run_notebook(sys.argv[1], sys.argv[2])"
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    starter = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "slow.ipynb"), str(tmp_path / "out")],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(scratch)},
    )
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    kernel = int((tmp_path / "pid").read_text())
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    until(lambda: not alive(kernel), seconds=30)
    assert not alive(kernel)
    until(lambda: not list(scratch.glob("dkdmpl-*")), seconds=30)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    # a process that has ended and that nobody asked for its end
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def until(found, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


# --- edited, damaged and foreign folders ---

DAMAGES = {  # how a file may be damaged: what is written in its place
    "empty": "",
    "cut": '{"settings": {"eps": 0.',
    "a list": "[1, 2]",
    "a number": "7",
    "null": "null",
    "another object": '{"hello": "world"}',
    "deep": "[" * 100_000,
}
FILES = ("config.json", "checkpoint.json", "result.json", "environment.json", "data.json")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_named_or_not_needed(capsys, copy, file, damage, tmp_path):
    (copy / file).write_text(DAMAGES[damage])
    read = (
        ("export", "--run", copy, "--out", tmp_path / "model"),
        ("evaluate", "--run", copy, "--quiet"),
        ("report", tmp_path),
    )
    for command in read[1:]:
        code = main([str(a) for a in command])
        said = capsys.readouterr()
        assert code in (0, 2)
        if code == 2:
            assert said.err.count("\n") == 1 and file in said.err, said.err
    if file == "config.json":
        assert file in sentence(capsys, *read[0])


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("config.json", {"settings": {"eps": "wide"}}, "config.json: eps"),
        ("config.json", {"settings": {"preset": "mine"}}, "mine"),
        ("config.json", {"settings": {"nonsense": 1}}, "no setting 'nonsense'"),
        ("config.json", {"settings": "none"}, "'settings'"),
        ("checkpoint.json", {"weights": "../../other.safetensors"}, "not a checkpoint"),
        ("checkpoint.json", {"weights": "/dev/zero"}, "not a checkpoint"),
        (
            "checkpoint.json",
            {"weights": "gone.safetensors"},
            "checkpoint.json names, cannot be read",
        ),
        ("checkpoint.json", {"epoch": 9}, "9 epochs"),
        ("checkpoint.json", {"epoch": True}, "whole number"),
        ("checkpoint.json", {"history": {}}, "list"),
        ("checkpoint.json", {"history": [3]}, "history"),
        ("environment.json", {"compute": 3}, "compute"),
        ("environment.json", {"compute": {"precision": None}}, "precision"),
    ],
)
def test_an_edited_field_is_named(copy, file, change, words):
    edited = read_json(copy / file)
    for name, value in change.items():
        both = isinstance(value, dict) and isinstance(edited.get(name), dict)
        edited[name] = edited[name] | value if both and name == "settings" else value
    write_json(copy / file, edited)
    with pytest.raises(KitError) as refused:
        load_encoder(copy)
    assert words in str(refused.value) and file in str(refused.value)


def test_weights_of_another_encoder_are_named(copy, tiny_config):
    started = read_json(copy / "config.json")
    started["settings"]["backbone"] = "resnet18"
    write_json(copy / "config.json", started)
    with pytest.raises(KitError, match="checkpoint-0001.safetensors does not fit"):
        load_encoder(copy)


def test_a_result_of_another_kind_is_named(copy, tiny_dataset):
    (copy / "result.json").write_text('{"final": "good"}')
    with pytest.raises(KitError, match="result.json .* 'final'"):
        read_run(copy)


# --- settings files ---


def test_a_settings_file_takes_the_values_of_its_preset(tmp_path):
    from dkdmpl_kit.cli import build_parser
    from dkdmpl_kit.cli.shared import config_of

    def read(settings: object):
        (tmp_path / "c.json").write_text(json.dumps(settings))
        args = build_parser().parse_args(["train", "--config", str(tmp_path / "c.json")])
        return config_of(args)

    assert read({"preset": "smoke"}) == preset("smoke")
    assert read({"preset": "smoke", "eps": 0.4}) == preset("smoke", eps=0.4)
    assert read({"settings": {"preset": "teach"}}) == preset("teach")
    assert read({}) == preset("demo")
    with pytest.raises(KitError, match="preset='mine' is not known"):
        read({"preset": "mine"})
