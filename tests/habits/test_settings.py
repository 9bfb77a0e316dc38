"""A setting is honoured or refused, never ignored: every setting with every subcommand,
taken from the parser, so that a new one is covered without anyone remembering.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from dkdmpl_kit.cli import build_parser, main
from dkdmpl_kit.cli.settings import EVERY, MEANT, RENDERED, flag_of
from dkdmpl_kit.experiment import OPTIONS, PLACE, Config, preset, read_json
from dkdmpl_kit.lessons.stage import Stage

# what `train` and others are tried with; one command without a line fails the test
TRIED = {
    "train": "--epochs 2 --iterations 1 --method dkdmpl --data-root {people}",
    "adapt": "{people} --out {out}/adapted --data market1501 --backbone test_efficientnet "
    "--weights random --height 64 --width 32 --epochs 1 --iterations 1 --k1 8 --min-samples 2",
    "cluster": "--data-root {people} --out {out}/labels.csv",
    "evaluate": "--data-root {people}",
    "embed": "{gallery} --out {out}/features.npz --pattern (?P<pid>\\d)_c(?P<camid>\\d)",
    "export": "--out {out}/model --backbone test_resnet --weights random",
    "rank": "--query {query} --gallery {gallery} --sheet {out}/sheet.png",
    "threshold": "--data-root {people} --labels pseudo --fpr 0.1",
    "data check": "--data-root {people}",
    "data holdout": "--data-root {people} --out {out}/held-out",
    "data render": "",
}
# settings beside which a setting is looked at, where the plain command has no use for it
BESIDE = {
    **{name: {"n_train_ids": "10"} for name in RENDERED},
    "pattern": {"data": "folder", "data_root": "{gallery}", "pattern": r"(?P<pid>\d)"},
    "table": {"data": "table", "data_root": "{gallery}", "table": "{table}"},
    "step_epochs": {"schedule": "step"},
    "ema_momentum": {"skd_anchor": "ema"},
    "teacher_cameras": {"gkd_teacher": "vote", "teacher_cameras": "other"},
    "teacher_clusters": {"gkd_teacher": "vote", "teacher_clusters": "2"},
    "outliers": {"gkd_teacher": "vote", "outliers": "teach"},
    **{
        name: {"distance": "camera_jaccard", name: "2"}
        for name in ("k1_intra", "k1_inter", "k2_intra", "k2_inter")
    },
    "accumulation": {"samples_per_bn": "8", "accumulation": "2"},
}
# read where a folder is chosen or written, by properties that the test cannot tell from
# Config's own checks
NAMES_THE_PLACE = {"out_dir", "run_name"}


def subcommands(parser: argparse.ArgumentParser, before: str = "") -> dict:
    """{"data check": parser, ...} of all that have settings as flags."""
    found = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                inner = subcommands(sub, f"{before}{name} ")
                found |= inner or {f"{before}{name}": sub}
    return found


def settings_of(parser: argparse.ArgumentParser) -> set[str]:
    """The settings that are flags of a subcommand."""
    dests = {action.dest for action in parser._actions}
    return {dest.removeprefix("set_") for dest in dests if dest.startswith("set_")}


COMMANDS = {
    name: sub for name, sub in subcommands(build_parser()).items() if settings_of(sub)
}


def other(name: str) -> str:
    """A valid value of a setting that is not the smoke preset's."""
    value = getattr(preset("smoke"), name)
    if name in OPTIONS:
        return next(option for option in OPTIONS[name] if option != value)
    if isinstance(value, bool):
        return str(not value).lower()
    if isinstance(value, int):
        return str(value + 2)
    return f"{value * 0.9:g}" if isinstance(value, float) else "other"


@pytest.fixture(scope="module")
def places(tmp_path_factory, tiny_config, tiny_dataset) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("settings")
    gallery = out / "gallery"
    gallery.mkdir()
    for i in range(6):
        name = f"{i % 2}_c{i % 3}_{i}.png"
        Image.new("RGB", (32, 64), (40 * i, 255 - 40 * i, 90)).save(gallery / name)
    (out / "crops.csv").write_text("path\n0_c0_0.png\n1_c1_1.png\n")
    return {
        "table": out / "crops.csv",
        "people": Path(tiny_config.data_root),
        "gallery": gallery,
        "query": gallery / "0_c0_0.png",
        "out": out,
    }


class Looking:
    """Which settings are looked at by anything but `Config` itself."""

    def __init__(self, monkeypatch) -> None:
        self.seen: set[str] = set()
        plain = Config.__getattribute__
        names = {field.name for field in dataclasses.fields(Config)}
        own = os.sep + os.path.join("experiment", "config.py")
        copies = ("dataclasses.py", "copy.py")

        def look(config, name):
            if name in names:
                frame = sys._getframe(1)
                # properties and loss_weights are Config's answers to who asks
                asked = frame.f_code.co_name in ("name", "run_dir", "loss_weights")
                asked = asked or frame.f_code.co_name == "teaches_sparsely"
                file = frame.f_code.co_filename
                if asked or not (file.endswith(own) or file.endswith(copies)):
                    if "cli" + os.sep + "settings.py" not in file:
                        self.seen.add(name)
            return plain(config, name)

        monkeypatch.setattr(Config, "__getattribute__", look)


def run_and_look(command: str, beside: dict, places: dict, tmp_path: Path) -> set[str]:
    """The settings that a command looks at, run for real on a few pictures; with others
    `beside` it may end in a sentence, as it has looked by then.
    """
    with pytest.MonkeyPatch.context() as patch:
        looking = Looking(patch)
        argv = [*command.split(), "--quiet"]
        if any(action.dest == "preset" for action in COMMANDS[command]._actions):
            argv += ["--preset", "smoke"]
        argv += TRIED[command].format(**places | {"out": tmp_path}).split()
        for name, value in beside.items():
            argv += [flag_of(name), value.format(**places)]
        if "out_dir" in settings_of(COMMANDS[command]):
            argv += ["--out-dir", str(tmp_path)]
        assert main(argv) in ((0, 2) if beside else (0,))
    return looking.seen


def test_every_subcommand_with_settings_is_tried():
    assert sorted(COMMANDS) == sorted(TRIED)


def test_the_training_has_every_setting():
    assert (
        settings_of(COMMANDS["train"])
        == EVERY
        == set(Config.__dataclass_fields__) - {"preset"}
    )


@pytest.mark.parametrize("command", sorted(TRIED))
def test_a_setting_is_looked_at_or_refused(command, places, tmp_path, capsys):
    offered = settings_of(COMMANDS[command])
    seen = run_and_look(command, {}, places, tmp_path)
    for name in sorted(offered & set(BESIDE)):
        if name in seen:
            continue
        seen |= run_and_look(command, BESIDE[name], places, tmp_path / name)
    ignored = offered - seen - NAMES_THE_PLACE
    assert not ignored, f"dkdmpl {command} ignores {sorted(ignored)}"
    capsys.readouterr()
    for name in sorted(EVERY - offered):
        argv = [*command.split(), flag_of(name), other(name)]
        argv += TRIED[command].format(**places | {"out": tmp_path}).split()
        assert main(argv) == 2, name
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert flag_of(name) in error or "--eps-values" in error


@pytest.mark.parametrize("name", sorted(MEANT))
def test_a_setting_that_would_mean_nothing_is_refused(name, capsys, tmp_path):
    means, _ = MEANT[name]
    candidates = [
        "--method cluster_contrast",
        "--method spcl",
        "--cluster-method hdbscan",
        "--data market1501",
        "--schedule cosine",
        "--distance jaccard",
        "--distance camera_jaccard",
    ]
    for beside in candidates:
        flag, value = beside.split()
        if means(preset("smoke").replace(**{flag[2:].replace("-", "_"): value})):
            continue
        argv = ["train", *beside.split(), flag_of(name), other(name), "--preset", "smoke"]
        if name == "teacher_clusters" or name == "teacher_cameras" or name == "outliers":
            argv += ["--gkd-teacher", "vote"]
        assert main([*argv, "--out-dir", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert "would change nothing here" in error, error
        assert not list(tmp_path.iterdir())
        return
    raise AssertionError(f"nothing here makes {name} meaningless")


def test_the_temperature_of_gkd_is_refused_where_there_is_no_gkd(capsys, tmp_path):
    argv = ["train", "--preset", "smoke", "--method", "skd", "--out-dir", str(tmp_path)]
    assert main([*argv, "--distillation-temperature", "2"]) == 2
    assert "would change nothing here: it belongs to method=gkd" in capsys.readouterr().err


# --- the cases that people met ---


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_config, tiny_dataset) -> Path:
    from dkdmpl_kit.training import fit

    config = tiny_config.replace(
        out_dir=str(tmp_path_factory.mktemp("run")), epochs=1, iterations=1
    )
    return fit(config, tiny_dataset, progress=False).run_dir


def said(capsys, *argv: object, code: int = 0) -> str:
    assert main([str(a) for a in argv]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_centred_cameras_change_the_clusters(capsys, places, run):
    for start in (("--preset", "smoke", "--data-root", places["people"]), ("--run", run)):
        command = ("cluster", *start, "--quiet", "--eps-values", "0.4,0.5")
        plain = said(capsys, *command)
        centred = said(capsys, *command, "--centre-cameras", "true")
        assert plain != centred


def test_a_run_and_a_preset_are_two_answers(capsys, run):
    error = said(capsys, "evaluate", "--run", run, "--preset", "paper-market1501", code=2)
    assert "--preset paper-market1501" in error and str(run) in error
    error = said(capsys, "evaluate", "--run", run, "--backbone", "resnet18", code=2)
    assert "--backbone" in error
    said(capsys, "evaluate", "--run", run, "--preset", "smoke", "--quiet")


def test_a_run_of_a_folder_can_be_used_with_other_pictures(capsys, run, places, tmp_path):
    import shutil

    from dkdmpl_kit.experiment import write_json

    copy = shutil.copytree(run, tmp_path / "run")
    started = read_json(copy / "config.json")
    started["settings"] |= {"data": "folder", "pattern": "(?P<pid>x)", "data_root": "/gone"}
    write_json(copy / "config.json", started)
    root = places["people"]
    command = ("evaluate", "--run", copy, "--data", "market1501", "--data-root", root)
    assert "mAP" in said(capsys, *command, "--quiet")


def test_a_run_of_another_device_can_be_used_here(capsys, run, tmp_path):
    import shutil

    from dkdmpl_kit.experiment import write_json
    from dkdmpl_kit.training.export import load_encoder

    copy = shutil.copytree(run, tmp_path / "run")
    started = read_json(copy / "config.json")
    started["settings"]["device"] = "cuda"
    write_json(copy / "config.json", started)
    assert load_encoder(copy, device="cpu")[0].device == "cpu"
    assert "mAP" in said(capsys, "evaluate", "--run", copy, "--device", "cpu", "--quiet")


def test_a_dry_run_is_named_by_what_was_asked_for(capsys, places, tmp_path):
    from dkdmpl_kit.cli.shared import config_of

    def name(*argv: str) -> str:
        command = ["train", "--smoke", "--weights", "random", *argv]
        return config_of(build_parser().parse_args(command)).name

    asked = name("--method", "cluster_contrast", "--seed", "3")
    assert asked == "smoke-cluster_contrast-seed3"
    assert name() == "smoke-dkdmpl-seed0"


def test_a_quiet_command_draws_no_bar(capsys, tmp_path):
    command = ("train", "--preset", "smoke", "--quiet", "--out-dir", tmp_path)
    assert main([str(a) for a in (*command, "--epochs", "1", "--iterations", "1")]) == 0
    assert capsys.readouterr().err == ""


def test_numbers_of_jobs_are_refused_where_they_mean_nothing(capsys, tmp_path):
    for flag, value in (("--jobs", 0), ("--threads", 0), ("--retries", -1)):
        error = said(capsys, "grid", "x.yml", "--out", tmp_path, flag, value, code=2)
        assert flag in error and "at least" in error


def test_a_notebook_never_writes_other_settings_under_the_figures_of_a_run(
    places, tmp_path, run
):
    import shutil

    shutil.copytree(run.parent.parent, tmp_path / "out")
    stage = Stage(
        "06",
        preset_name="smoke",
        seed=0,
        device="cpu",
        data="synthetic",
        data_root=str(places["people"]),
        pattern="",
        out_dir=str(tmp_path / "out"),
        settings="epochs=3",
    )
    stage.features("dkdmpl")
    record = read_json(stage.write_metrics({"mAP": 0.5}))
    assert "epochs" not in record["settings"]
    assert record["runs"] == {"dkdmpl-seed0": {"epochs": 1, "iterations": 1}}
    assert not set(record["runs"]["dkdmpl-seed0"]) & set(PLACE)
