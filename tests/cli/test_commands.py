"""The command line: what a user sees when all is well, and one sentence with exit code
2 when it is not.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from dkdmpl_kit.cli import build_parser, main
from dkdmpl_kit.data import arrays_of
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.training import extract, load_encoder
from dkdmpl_kit.training.checkpoint import load_epoch
from dkdmpl_kit.training.extraction import open_store

PATTERN = r"(?P<pid>\d+)_c(?P<camid>\d+)"


@pytest.fixture
def crops(tmp_path):
    """A plain folder of twelve small pictures of three identities in two cameras."""
    folder = tmp_path / "crops"
    folder.mkdir()
    for i in range(12):
        colour = [(200, 40, 40), (40, 200, 40), (40, 40, 200)][i % 3]
        Image.new("RGB", (32, 64), tuple(c + i for c in colour)).save(
            folder / f"{i % 3}_c{i % 2}_{i:03d}.png"
        )
    return folder


def refused(capsys, *argv: str) -> str:
    """Run a command that must fail as bad input; returns its sentence."""
    code = main([str(a) for a in argv])
    error = capsys.readouterr().err.strip()
    assert code == 2, error
    assert "Traceback" not in error and error.count("\n") == 0
    return error


def parsed(*argv: str):
    """The parsed arguments of a command, as its function gets them."""
    return build_parser().parse_args(argv)


def train(tmp_path, *more: str) -> list[str]:
    return [
        "train",
        "--preset",
        "smoke",
        "--out-dir",
        str(tmp_path / "out"),
        "--quiet",
        *map(str, more),
    ]


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """{data set: a small render in its official layout}."""
    from dkdmpl_kit.data import render_layout

    root, size = (
        tmp_path_factory.mktemp("layouts"),
        {"n_train_ids": 8, "n_test_ids": 4, "n_cameras": 2, "images_per_camera": 2},
    )
    return {
        name: render_layout(root / name, name, **size, difficulty="easy", progress=False).root
        for name in ("market1501", "dukemtmcreid", "msmt17", "veri776")
    }


def market(tiny_dataset, tmp_path):
    return shutil.copytree(tiny_dataset.root, tmp_path / "market")


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert all(
        c in text
        for c in (
            "demo",
            "train",
            "cluster",
            "evaluate",
            "rank",
            "export",
            "recipe",
            "cost",
            "data",
            "notebooks",
            "player",
            "grid",
            "report",
        )
    )


def test_a_missing_folder(capsys, tmp_path):
    assert "nowhere" in refused(
        capsys, *train(tmp_path, "--data", "market1501", "--data-root", tmp_path / "nowhere")
    )


def test_a_folder_of_another_layout(capsys, tmp_path, crops):
    assert "bounding_box_train" in refused(
        capsys, *train(tmp_path, "--data", "market1501", "--data-root", crops)
    )


def test_an_empty_split(capsys, tmp_path, tiny_dataset):
    root = market(tiny_dataset, tmp_path)
    for picture in (root / "query").iterdir():
        picture.unlink()
    assert "query" in refused(
        capsys, *train(tmp_path, "--data", "market1501", "--data-root", root)
    )


def test_a_corrupt_picture_is_named_and_can_be_skipped_and_counted(
    capsys, tmp_path, tiny_dataset
):
    root = market(tiny_dataset, tmp_path)
    broken = sorted((root / "bounding_box_train").iterdir())[3]
    broken.write_bytes(b"no picture")
    command = train(tmp_path, "--data", "market1501", "--data-root", root)
    error = refused(capsys, *command)
    assert broken.name in error and "--skip-corrupt" in error
    assert main([*command, "--skip-corrupt", "--run-name", "skipped"]) == 0
    assert "1 unreadable pictures left out" in capsys.readouterr().out


def test_all_outliers_says_which_knob_to_turn(capsys, tmp_path, tiny_config, tiny_dataset):
    error = refused(
        capsys, *train(tmp_path, "--data-root", tiny_config.data_root, "--min-samples", "60")
    )
    assert "eps" in error and "min_samples" in error


def test_one_cluster_says_which_knob_to_turn(capsys, tmp_path, tiny_config, tiny_dataset):
    error = refused(
        capsys,
        *train(
            tmp_path,
            "--data-root",
            tiny_config.data_root,
            "--eps",
            "0.99",
            "--max-distance",
            "0.995",
            "--k1",
            "60",
            "--k2",
            "40",
        ),
    )
    assert "lower eps" in error


def test_one_camera_only_cannot_be_evaluated(capsys, tmp_path, crops):
    for picture in sorted(crops.iterdir()):
        picture.rename(picture.with_name(picture.name.replace("_c1_", "_c0_")))
    (crops.parent / "own").mkdir()
    crops.rename(crops.parent / "own" / "test")
    shutil.copytree(crops.parent / "own" / "test", crops.parent / "own" / "train")
    error = refused(
        capsys,
        "evaluate",
        "--preset",
        "smoke",
        "--data",
        "folder",
        "--data-root",
        crops.parent / "own",
        "--pattern",
        PATTERN,
        "--quiet",
    )
    assert "Nothing can be matched" in error


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--skd-divergence", "l2"), "kl, symmetric_kl, js"),
        (("--eps", "wide"), "should be a float"),
        (("--device", "abacus"), "no torch device"),
        (("--weights", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--data", "imagenet"), "market1501"),
        (("--data", "dukemtmcreid"), "withdrawn"),
    ],
)
def test_unknown_values_name_the_valid_ones(
    capsys, tmp_path, tiny_config, tiny_dataset, flags, words
):
    assert words in refused(
        capsys, *train(tmp_path, "--data-root", tiny_config.data_root, *flags)
    )


def test_weights_that_do_not_fit(capsys, tmp_path, tiny_config, tiny_dataset):
    import torch
    from safetensors.torch import save_file

    save_file({"conv_stem.weight": torch.zeros(3, 3)}, tmp_path / "odd.safetensors")
    error = refused(
        capsys,
        *train(
            tmp_path,
            "--data-root",
            tiny_config.data_root,
            "--weights",
            tmp_path / "odd.safetensors",
        ),
    )
    assert "odd.safetensors" in error and "does not fit" in error


def test_an_out_dir_that_cannot_be_written(capsys, tmp_path, tiny_config, tiny_dataset):
    (tmp_path / "out").write_text("a file where the folder should be")
    error = refused(capsys, *train(tmp_path, "--data-root", tiny_config.data_root))
    assert "out_dir" in error


def test_a_second_run_into_the_same_folder_is_refused_and_a_resume_reads_it(
    capsys, tmp_path, tiny_config, tiny_dataset
):
    command = train(tmp_path, "--data-root", tiny_config.data_root, "--epochs", "1")
    assert main(command) == 0
    first = capsys.readouterr().out
    assert "--resume" in refused(capsys, *command)
    assert main([*command, "--resume"]) == 0
    assert capsys.readouterr().out == first


def test_a_finished_run_is_continued_as_a_new_one_that_starts_from_its_encoder(
    capsys, tmp_path, tiny_config, tiny_dataset
):
    command = train(tmp_path, "--data-root", tiny_config.data_root, "--keep-features", "true")
    assert main([*command, "--epochs", "1", "--run-name", "first"]) == 0
    first, runs = tmp_path / "out" / "runs" / "first", tmp_path / "out" / "runs"
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    assert main(["train", "--from-run", str(first), "--epochs", "2", "--quiet"]) == 0
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in runs.iterdir()) == ["first", "first-plus-2"]
    # its first epoch sees what the finished run's encoder sees
    config, encoder = load_encoder(first)
    store = open_store(config, arrays_of(tiny_dataset.train)[0])
    expected = extract(config, encoder, store)
    seen = load_epoch(runs / "first-plus-2" / "epochs" / "epoch_000.npz")[1]
    assert (expected * seen).sum(axis=1).min() > 0.999
    untrained = load_epoch(first / "epochs" / "epoch_000.npz")[1]
    assert (expected * untrained).sum(axis=1).mean() < 0.999


def test_what_cannot_be_continued_is_refused(capsys, tmp_path, tiny_config, tiny_dataset):
    command = train(tmp_path, "--data-root", tiny_config.data_root, "--epochs", "1")
    assert main([*command, "--run-name", "first"]) == 0
    run = tmp_path / "out" / "runs" / "first"
    capsys.readouterr()
    asked = ["train", "--from-run", run, "--quiet"]
    assert "--preset" in refused(capsys, *asked, "--preset", "demo")
    assert "backbone=resnet50" in refused(capsys, *asked, "--backbone", "resnet50")
    assert "leave weights out" in refused(capsys, *asked, "--weights", "bundled")
    (run / "result.json").unlink()
    assert "not finished" in refused(capsys, *asked)
    assert "is the path right" in refused(capsys, "train", "--from-run", tmp_path / "nothing")
    assert [path.name for path in run.parent.iterdir()] == ["first"]


def test_cluster_evaluate_and_rank_use_a_run(
    capsys, tmp_path, tiny_config, tiny_dataset, crops
):
    assert main(train(tmp_path, "--data-root", tiny_config.data_root, "--epochs", "1")) == 0
    run = str(tmp_path / "out" / "runs" / "dkdmpl-seed0")
    capsys.readouterr()
    assert main(["cluster", "--run", run, "--quiet"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 6 and "ARI" in table[0] and "eps=auto" in table[5]
    assert main(["evaluate", "--run", run, "--quiet"]) == 0
    final = json.loads(
        (tmp_path / "out" / "runs" / "dkdmpl-seed0" / "result.json").read_text()
    )["final"]
    assert f"mAP {final['mAP']:.1%}" in capsys.readouterr().out
    query = next(iter(sorted(crops.iterdir())))
    assert (
        main(
            [
                "rank",
                "--run",
                run,
                "--query",
                str(query),
                "--gallery",
                str(crops),
                "--top",
                "4",
                "--quiet",
                "--sheet",
                str(tmp_path / "sheet.png"),
            ]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["1", "2", "3", "4"] and (
        tmp_path / "sheet.png"
    ).stat().st_size > 1000


@pytest.mark.parametrize("name", ["market1501", "dukemtmcreid", "msmt17", "veri776"])
def test_each_paper_preset_runs_dry_on_its_layout_and_is_evaluated(
    capsys, tmp_path, layouts, name
):
    command = [
        "--preset",
        f"paper-{name}",
        "--smoke",
        "--data-root",
        str(layouts[name]),
        "--quiet",
    ]
    command += ["--allow-withdrawn"] if name == "dukemtmcreid" else []
    # given, as a measurement of all of them takes a minute
    command += ["--precision", "fp32", "--memory-format", "channels_last"]
    with (
        pytest.warns(UserWarning, match="withdrawn")
        if name == "dukemtmcreid"
        else contextlib.nullcontext()
    ):
        assert (
            main(["train", *command, "--weights", "random", "--out-dir", str(tmp_path)]) == 0
        )
        assert "smoke-dkdmpl-seed0: mAP" in capsys.readouterr().out
        run = tmp_path / "runs" / "smoke-dkdmpl-seed0"
        assert main(["evaluate", *command, "--run", str(run)]) == 0
    result = json.loads((run / "result.json").read_text())
    assert (
        f"mAP {result['final']['mAP']:.1%}" in capsys.readouterr().out
        and result["sampler"] == "camera"
    )
    settings = json.loads((run / "config.json").read_text())["settings"]
    assert settings["backbone"] == "resnet50.tv_in1k" and settings["width"] == (
        64 if name == "veri776" else 32
    )


def test_a_dry_run_takes_random_weights_where_the_hub_has_none_and_keeps_its_name(
    capsys, tmp_path, monkeypatch, layouts
):
    from dkdmpl_kit.cli.shared import config_of

    def no_hub(backbone):
        raise KitError("no hub today")

    monkeypatch.setattr("dkdmpl_kit.models.backbones.hub_backbone", no_hub)
    args = parsed(
        "train",
        "--preset",
        "paper-msmt17",
        "--smoke",
        "--run-name",
        "mine",
        "--iterations",
        "3",
    )
    config = config_of(args)
    assert (config.weights, config.name, config.iterations, config.epochs) == (
        "random",
        "smoke-mine",
        3,
        1,
    )
    assert "no hub today" in capsys.readouterr().err
    # a full run never falls back
    assert config_of(parsed("train", "--preset", "paper-msmt17")).weights == "imagenet"
    assert "no hub today" in refused(
        capsys,
        "train",
        "--preset",
        "paper-market1501",
        "--data-root",
        layouts["market1501"],
        "--out-dir",
        tmp_path,
        "--precision",
        "fp32",
        "--memory-format",
        "contiguous",
    )


def test_recipe_and_cost_print_a_table_and_know_only_paper_presets(capsys):
    assert main(["recipe", "paper-veri776"]) == 0
    assert "| iterations | 400 | 400 |" in capsys.readouterr().out
    assert main(["cost", "paper-veri776"]) == 0
    assert (
        "| paper-veri776 | resnet50_ibn_a | 224x224 | 5,120,000 |" in capsys.readouterr().out
    )
    for command in ("recipe", "cost"):
        assert "paper-market1501" in refused(capsys, command, "demo")


def test_rankings_of_nothing_and_exports_of_nothing_are_refused(capsys, tmp_path, crops):
    query, alone = sorted(crops.iterdir())[0], tmp_path / "alone"
    alone.mkdir()
    shutil.copy(query, alone)
    rank = [
        "rank",
        "--preset",
        "smoke",
        "--quiet",
        "--sheet",
        tmp_path / "sheet.png",
        "--query",
    ]
    assert "at least 1" in refused(capsys, *rank, query, "--gallery", crops, "--top", "0")
    assert "no picture but the query" in refused(
        capsys, *rank, alone / query.name, "--gallery", alone
    )
    assert "nowhere.png" in refused(
        capsys, *rank, tmp_path / "nowhere.png", "--gallery", crops
    )
    assert "config.json" in refused(
        capsys, "export", "--run", tmp_path, "--out", tmp_path / "model"
    )


def test_an_unreadable_picture_of_a_gallery_can_be_left_out(capsys, tmp_path, crops):
    (crops / "broken.jpg").write_bytes(b"no picture")
    rank = [
        "rank",
        "--preset",
        "smoke",
        "--quiet",
        "--sheet",
        str(tmp_path / "sheet.png"),
        "--gallery",
        str(crops),
        "--query",
        str(sorted(crops.iterdir())[0]),
    ]
    assert "broken.jpg" in refused(capsys, *rank)
    assert main([*rank, "--skip-corrupt"]) == 0
    # and the sheet
    assert (
        len([line for line in capsys.readouterr().out.splitlines() if ".png" in line])
        == 10 + 1
    )


def test_a_folder_without_identities_and_cameras_trains(capsys, tmp_path, tiny_dataset):
    folder = tmp_path / "unknown"
    folder.mkdir()
    for i, image in enumerate(tiny_dataset.train):
        shutil.copy(image.path, folder / f"{i:04d}.png")
    assert (
        main(
            train(tmp_path, "--data", "folder", "--data-root", folder, "--sampler", "random")
        )
        == 0
    )
    assert "not measurable here: mAP" in capsys.readouterr().out


def test_unknown_cameras_are_refused_before_anything_is_decoded(capsys, tmp_path, crops):
    error = refused(capsys, *train(tmp_path, "--data", "folder", "--data-root", crops))
    assert "--sampler random" in error and not (tmp_path / "out").exists()


def test_a_misspelt_flag_names_the_close_one(capsys, tmp_path):
    assert "--sampler" in refused(capsys, *train(tmp_path, "--smapler", "random"))


def test_data_check_counts_and_names(capsys, tmp_path, tiny_dataset):
    root = market(tiny_dataset, tmp_path)
    assert (
        main(["data", "check", "--data", "market1501", "--data-root", str(root), "--quiet"])
        == 0
    )
    assert "every picture can be read" in capsys.readouterr().out
    (root / "query" / sorted(p.name for p in (root / "query").iterdir())[0]).write_bytes(b"")
    assert "unreadable" in refused(
        capsys, "data", "check", "--data", "market1501", "--data-root", root, "--quiet"
    )


def test_a_grid_runs_every_cell_and_is_read_when_repeated(
    capsys, tmp_path, tiny_config, tiny_dataset
):
    grid = tmp_path / "grid.yml"
    grid.write_text(
        f"preset: smoke\nsettings: {{epochs: 1, data_root: "
        f"'{tiny_config.data_root}'}}\n"
        "axes: {seed: [0], method: [dkdmpl]}\n"
    )
    command = ["grid", str(grid), "--out", str(tmp_path / "grid-out")]
    assert main(command) == 0
    table = capsys.readouterr().out
    assert "| untrained |" in table and "DKD-MPL" in table
    stamp = (
        (tmp_path / "grid-out" / "runs" / "dkdmpl-seed0" / "checkpoint.json")
        .stat()
        .st_mtime_ns
    )
    assert main(command) == 0
    assert (
        tmp_path / "grid-out" / "runs" / "dkdmpl-seed0" / "checkpoint.json"
    ).stat().st_mtime_ns == stamp
    assert (
        main(["report", str(tmp_path / "grid-out"), "--publish", str(tmp_path / "figures")])
        == 0
    )
    assert json.loads((tmp_path / "figures" / "records.json").read_text())


def test_grids_that_make_no_sense_are_refused(capsys, tmp_path):
    grid = tmp_path / "grid.yml"
    for text, words in (
        ("axes: [1]", "axes"),
        ("axes: {method: [magic]}", "cluster_contrast"),
        ("axes: {}\nfoo: 1", "foo"),
    ):
        grid.write_text(text)
        assert words in refused(capsys, "grid", grid, "--out", tmp_path / "o")


def test_importing_the_kit_is_light():
    code = (
        "import sys, dkdmpl_kit, dkdmpl_kit.cli; "
        "print([m for m in ('umap', 'faiss', 'matplotlib', 'ipywidgets', 'papermill', "
        "'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_library_modules_do_not_load_heavy_packages_either():
    code = (
        "import sys, dkdmpl_kit.training, dkdmpl_kit.experiment, dkdmpl_kit.noise, "
        "dkdmpl_kit.studies.grid; "
        "print([m for m in ('umap', 'faiss', 'matplotlib', 'ipywidgets', 'papermill') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
