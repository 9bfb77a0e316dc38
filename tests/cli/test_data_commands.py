"""`dkdmpl data`: what it prints, and one sentence with exit code 2 where something is
broken.
"""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

from dkdmpl_kit.cli import main
from dkdmpl_kit.data import read_dataset, render_layout
from dkdmpl_kit.data.checking import OFFICIAL_COUNTS

SMALL = {
    "n_train_ids": 4,
    "n_test_ids": 2,
    "n_cameras": 2,
    "images_per_camera": 2,
    "progress": False,
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli-data")
    return {
        layout: render_layout(root / layout, layout, **SMALL).root
        for layout in ("market1501", "msmt17", "veri776")
    }


def data(*argv) -> int:
    return main(["data", *map(str, argv), "--quiet"])


def refused(capsys, *argv) -> str:
    assert data(*argv) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0 and error.startswith("dkdmpl: ") and error.endswith(".")
    return error


@pytest.mark.parametrize("layout", ["market1501", "msmt17", "veri776"])
def test_a_check_by_position_and_by_flags_prints_the_same(capsys, rendered, layout):
    root = rendered[layout]
    assert data("check", layout, root) == 0
    text = capsys.readouterr().out
    assert data("check", "--data", layout, "--data-root", root) == 0
    assert capsys.readouterr().out == text
    assert data("check", "--preset", f"paper-{layout}", "--data-root", root) == 0
    assert capsys.readouterr().out == text
    assert (
        "published" in text
        and "these pictures were rendered" in text
        and "every picture can be read" in text
    )
    assert (
        f"fingerprint {read_dataset(layout, root).fingerprint()}" in text
        and text.endswith(f"{root}\n")
    )


def test_the_fingerprint_of_the_check_is_the_one_in_a_result(capsys, rendered, tmp_path):
    assert data("check", "msmt17", rendered["msmt17"]) == 0
    text = capsys.readouterr().out
    assert (
        main(
            [
                "train",
                "--preset",
                "smoke",
                "--data",
                "msmt17",
                "--data-root",
                str(rendered["msmt17"]),
                "--epochs",
                "1",
                "--iterations",
                "1",
                "--out-dir",
                str(tmp_path),
                "--run-name",
                "once",
                "--quiet",
            ]
        )
        == 0
    )
    assert (
        f"fingerprint "
        f"{json.loads((tmp_path / 'runs/once/config.json').read_text())['data_fingerprint']}"
        in text
    )


def test_what_is_broken_is_one_sentence_after_the_table(capsys, rendered, tmp_path):
    root = shutil.copytree(rendered["market1501"], tmp_path / "market")
    first, second, *_ = sorted((root / "bounding_box_train").iterdir())
    first.write_bytes(b"no picture")
    shutil.copy(second, root / "query" / "0002_c2s1_000001_01.jpg")
    assert data("check", "market1501", root) == 2
    out, error = capsys.readouterr()
    assert (
        "BROKEN: 1 unreadable picture" in out
        and "published" in out
        and error.count("\n") == 1
    )
    assert all(
        word in error
        for word in (
            "market is broken: 1 unreadable picture",
            first.name,
            "1 picture both in train",
            second.name,
        )
    )


def test_counts_that_differ_alone_are_no_error(capsys, rendered, tmp_path):
    root = shutil.copytree(rendered["veri776"], tmp_path / "veri")
    next((root / "image_test").iterdir()).unlink()
    (root / "rendered.json").unlink()
    assert data("check", "veri776", root) == 0
    assert "11,579 are published: a partial copy" in capsys.readouterr().out


def test_an_own_folder_is_checked_by_position_and_pattern(capsys, tmp_path):
    for i in range(4):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i % 2}_c{i // 2}.png")
    assert data("check", "folder", tmp_path, "--pattern", r"(?P<pid>\d)_c(?P<camid>\d)") == 0
    assert "train              4           2           2" in capsys.readouterr().out


def test_the_embedded_data_are_checked_as_they_are_and_rendered_by_the_preset_where_missing(
    capsys, tiny_config, tiny_dataset, tmp_path
):
    assert data("check", "synthetic", tiny_config.data_root) == 0, (
        "though the preset would render more"
    )
    text = capsys.readouterr().out
    assert f"fingerprint {tiny_dataset.fingerprint()}" in text and "published" not in text
    assert (
        data(
            "check",
            "--preset",
            "smoke",
            "--out-dir",
            tmp_path,
            "--n-train-ids",
            "1",
            "--n-test-ids",
            "1",
        )
        == 0
    )
    assert capsys.readouterr().out.splitlines()[2].split() == ["train", "9", "1", "3"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("check", "market1501"), "data_root"),
        (("check", "imagenet", "."), "market1501"),
        (("check", "market1501", "nowhere"), "nowhere"),
        (("check", "dukemtmcreid", "."), "--allow-withdrawn"),
        (("check", "market1501", ".", "--data", "veri776"), "--data"),
        (("check", "market1501", ".", "--data-root", "elsewhere"), "--data-root"),
        (("render", "--layout", "market"), "veri776"),
        (("render", "--out", "x"), "--layout"),
        (("render", "--layout", "veri776", "--kind", "person"), "--kind"),
        (("render", "--layout", "market1501", "--n-cameras", "9", "--out", "x"), "6 cameras"),
    ],
)
def test_questions_that_make_no_sense_are_answered_in_one_sentence(
    capsys, tmp_path, monkeypatch, argv, words
):
    monkeypatch.chdir(tmp_path)
    assert words in refused(capsys, *argv)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:DukeMTMC")
@pytest.mark.parametrize("layout", OFFICIAL_COUNTS)
def test_every_layout_is_rendered_in_the_presets_size_and_checked(
    capsys, tmp_path, layout, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    where = ("--out", "people") if layout == "msmt17" else ("--out-dir", "out")
    assert (
        data(
            "render",
            "--layout",
            layout,
            "--preset",
            "smoke",
            "--n-train-ids",
            "2",
            "--n-test-ids",
            "1",
            *where,
        )
        == 0
    )
    text = capsys.readouterr().out
    root = "people" if layout == "msmt17" else f"out/data/{layout}"
    assert text.splitlines()[2].split() == ["train", "18", "2", "3"] and text.endswith(
        f"{root}\n"
    )
    assert data("check", layout, root, "--allow-withdrawn") == 0
    assert text.splitlines()[-2] in capsys.readouterr().out


def test_a_render_without_a_layout_is_the_embedded_data_set(
    capsys, tiny_config, tiny_dataset
):
    assert data("render", "--preset", "smoke", "--data-root", tiny_config.data_root) == 0
    assert f"fingerprint {tiny_dataset.fingerprint()}" in capsys.readouterr().out
