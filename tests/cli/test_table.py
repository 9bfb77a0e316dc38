"""--data table on the command line: the same figures as of the folders that it names."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkdmpl_kit.cli import main
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import Config, open_dataset
from dkdmpl_kit.studies.grid import read_grid, run_grid
from dkdmpl_kit.training.checkpoint import load_epoch
from dkdmpl_kit.training.features import read_features

SMOKE = ("--preset", "smoke", "--quiet", "--extraction-precision", "fp32")


def said(capsys, *argv: object, code: int = 0) -> str:
    assert main([str(a) for a in argv]) == code
    captured = capsys.readouterr()
    if code:
        assert captured.err.count("\n") == 1 and captured.err.startswith("dkdmpl: ")
    return captured.err if code else captured.out


def written(path: Path, rows: list[dict]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def people(tmp_path_factory, tiny_dataset) -> Path:
    """The rendered people as a table beside them, with texts as identities and cameras."""
    rows = [
        {
            "path": tiny_dataset.relative(image.path),
            "identity": f"person {image.pid:03d}",
            "camera": f"gate {image.camid}",
            "split": split,
            "species": "human",
        }
        for split in ("train", "query", "gallery")
        for image in getattr(tiny_dataset, split)
    ]
    return written(tmp_path_factory.mktemp("table") / "people.csv", rows)


@pytest.fixture(scope="module")
def flags(people, tiny_config) -> tuple:
    return ("--data", "table", "--table", people, "--data-root", tiny_config.data_root)


@pytest.fixture(scope="module")
def frames(tmp_path_factory, tiny_dataset) -> Path:
    """Six pictures of the gallery, pasted into two frames, and the table of their boxes."""
    root = tmp_path_factory.mktemp("frames")
    rows = []
    for number in range(2):
        frame = Image.new("RGB", (400, 300), "grey")
        for place in range(3):
            image = tiny_dataset.gallery[3 * number + place]
            crop = Image.open(image.path)
            x, y = 10 + 110 * place, 20 + 30 * place
            frame.paste(crop, (x, y))
            (root / "crops").mkdir(exist_ok=True)
            crop.save(root / "crops" / f"{number}{place}.png")
            row = dict(zip("xywh", (x, y, *crop.size)))
            rows.append({"file_name": f"{number}.png", "pid": image.pid, **row})
        frame.save(root / f"{number}.png")
    return written(root / "boxes.csv", rows)


def test_a_table_is_measured_as_the_folders_that_it_names(capsys, flags, tiny_config):
    plain = said(capsys, "evaluate", *SMOKE, "--data-root", tiny_config.data_root)
    found = said(capsys, "evaluate", *SMOKE, *flags)
    assert "mAP" in found and found == plain


def test_a_table_is_checked_by_position_and_by_flags(capsys, people, tiny_config):
    root = ("--data-root", tiny_config.data_root)
    by_place = said(capsys, "data", "check", "table", people, *root, "--quiet")
    assert by_place == said(
        capsys, "data", "check", "--data", "table", "--table", people, *root, "--quiet"
    )
    assert "1 not read, of the table's columns (species)" in by_place
    error = said(capsys, "data", "check", "table", people, "--table", "x.csv", code=2)
    assert "two answers to one question" in error
    assert "--table crops.csv" in said(capsys, "data", "check", "table", code=2)


def test_the_boxes_of_frames_are_embedded_as_their_crops(capsys, frames, tmp_path):
    said(capsys, "embed", frames, *SMOKE, "--out", tmp_path / "boxes.npz")
    said(capsys, "embed", frames.parent / "crops", *SMOKE, "--out", tmp_path / "crops.npz")
    boxes, crops = (read_features(tmp_path / f"{x}.npz") for x in ("boxes", "crops"))
    np.testing.assert_allclose(boxes.features, crops.features, atol=1e-6)
    assert boxes.paths[0].startswith("0.png#xywh=10,20,") and boxes.pids.min() == 0
    error = said(
        capsys, "embed", frames, *SMOKE, "--out", tmp_path / "x.npz", "--pattern", "x", code=2
    )
    assert "--pattern belongs to a folder" in error


def test_parts_of_frames_are_queries_and_gallery(capsys, frames, tmp_path):
    said(capsys, "embed", frames, *SMOKE, "--out", tmp_path / "boxes.npz")
    query = frames.parent / read_features(tmp_path / "boxes.npz").paths[0]
    for gallery in (tmp_path / "boxes.npz", frames):
        sheet = ("--sheet", tmp_path / "sheet.png")
        said(capsys, "rank", *SMOKE, "--query", query, "--gallery", gallery, *sheet)
        (answer,) = json.loads((tmp_path / "sheet.json").read_text())["answers"]
        # the query's own part is left out, and no other of the same frame
        names = [Path(match["path"]).name for match in answer["matches"]]
        assert len(names) == 5 and query.name not in names
        assert sum(name.startswith("0.png#") for name in names) == 2
        assert (tmp_path / "sheet.png").exists()
    said(capsys, "rank", *SMOKE, "--query", frames, "--gallery", frames, *sheet)
    assert len(json.loads((tmp_path / "sheet.json").read_text())["answers"]) == 6


def test_a_table_with_tracks_is_trained_on_and_told_from_another(
    capsys, people, tmp_path, tiny_config
):
    rows = list(csv.DictReader(people.open()))
    last = sum(row["split"] == "train" for row in rows) - 1
    for number, row in enumerate(rows):
        # the first pictures with the last ones, which show others
        tracked = number < 3 or last - 3 < number <= last
        row["track"] = min(number, last - number) if tracked else ""
        row["camera"] = "gate 0" if tracked else row["camera"]
    where = ("--data-root", tiny_config.data_root, "--out-dir", tmp_path / "out")
    short = ("--epochs", "1", "--iterations", "1", "--sampler", "random")

    def train(name: str, *more: str, code: int = 0) -> str:
        table = written(tmp_path / name, rows)
        command = ("train", *SMOKE, "--data", "table", "--table", table, *where, *short)
        return said(capsys, *command, *more, code=code)

    train("tracks.csv")
    run = tmp_path / "out" / "runs" / "dkdmpl-seed0"
    started = json.loads((run / "config.json").read_text())["settings"]
    assert started["table"] == str(tmp_path / "tracks.csv") and started["data"] == "table"
    assert "mAP" in said(capsys, "evaluate", "--run", run, "--quiet")
    labels = load_epoch(run / "epochs" / "epoch_000.npz", with_features=False)[0]
    assert (labels[:3] == labels[last - np.arange(3)]).all() and labels.max() > 0
    # the same rows elsewhere are the same data, other tracks are not
    train("moved.csv", "--resume")
    rows[0]["track"] = ""
    error = train("moved.csv", "--resume", code=2)
    assert "already holds a run" in error and "other pictures" in error


def test_missing_files_are_left_out_only_where_that_is_asked(capsys, people, flags, tmp_path):
    text = people.read_text().replace("bounding_box_train/0", "bounding_box_train/x", 1)
    (tmp_path / "people.csv").write_text(text)
    command = (*SMOKE, *flags[:2], "--table", tmp_path / "people.csv", *flags[4:])
    error = said(capsys, "evaluate", *command, code=2)
    assert "1 of " in error and "row 2 of people.csv" in error and "--skip-corrupt" in error
    loud = [flag for flag in command if flag != "--quiet"]
    text = said(capsys, "evaluate", *loud, "--skip-corrupt")
    assert "left out: 1 there is no such file" in text and "mAP" in text


def test_a_table_of_boxes_can_be_held_out_and_read_again(capsys, people, flags, tmp_path):
    text = said(capsys, "data", "holdout", *flags, "--out", tmp_path / "held", "--quiet")
    read = text.splitlines()[-1].removeprefix("Read it with: ").split()
    assert read[:2] == ["--data", "table"]
    assert "mAP" in said(capsys, "evaluate", *SMOKE, *read)


@pytest.mark.parametrize(
    "argv, words",
    [
        (("--data", "table"), "--table crops.csv"),
        (("--data", "table", "--table", "gone.csv"), "there is no such file"),
        (("--data", "table", "--table", "{t}", "--pattern", "x"), "--pattern would change"),
        (("--table", "{t}"), "--table would change nothing here: it belongs to data=table"),
        (("--data", "folder", "--data-root", ".", "--table", "{t}"), "--table would change"),
    ],
)
def test_bad_lines_are_refused_before_anything_is_written(
    capsys, people, tmp_path, monkeypatch, argv, words
):
    monkeypatch.chdir(tmp_path)
    line = [part.format(t=people) for part in argv]
    assert words in said(capsys, "train", "--preset", "smoke", *line, code=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "kind", ["missing", "folder", "empty", "binary", "loop", "device", "fifo", "long", "null"]
)
def test_what_is_no_table_is_one_sentence(capsys, tmp_path, kind):
    place = tmp_path / ("x" * 300 + ".csv" if kind == "long" else f"{kind}.csv")
    if kind == "folder":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind in ("loop", "device"):
        place.symlink_to(place if kind == "loop" else "/dev/zero")
    elif kind not in ("missing", "long", "null"):
        place.write_bytes(bytes(range(256)) if kind == "binary" else b"")
    name = "a\0b.csv" if kind == "null" else place
    for command in (("data", "check"), ("train", "--preset", "smoke")):
        error = said(capsys, *command, "--data", "table", "--table", name, code=2)
        assert "table" in error and error.endswith(".\n")
    if kind != "null":
        said(capsys, "embed", place, *SMOKE, "--out", tmp_path / "f.npz", code=2)
    assert not (tmp_path / "f.npz").exists()


def test_a_table_in_settings_is_never_ignored(people, tmp_path):
    config = Config(data="market1501", data_root=str(tmp_path), table=str(people))
    with pytest.raises(KitError, match='table= belongs to name="table"'):
        open_dataset(config)


def test_a_grid_takes_a_table_from_the_environment(people, tmp_path, monkeypatch):
    path = tmp_path / "grid.yml"
    path.write_text(
        'preset: smoke\nsettings: {data: table, table: "${MY_TABLE}"}\naxes: {seed: [1]}\n'
    )
    monkeypatch.delenv("MY_TABLE", raising=False)
    (config,) = read_grid(path, tmp_path)
    with pytest.raises(
        KitError, match=r"table='\$\{MY_TABLE\}' .* export MY_TABLE=/its/file"
    ):
        run_grid([config], progress=False)
    monkeypatch.setenv("MY_TABLE", str(people))
    (config,) = read_grid(path, tmp_path)
    assert config.table == str(people)
    assert config.fingerprint() == config.replace(table="elsewhere.csv").fingerprint()


def test_a_notebooks_stage_opens_a_table(people, tmp_path, tiny_config, tiny_dataset):
    from dkdmpl_kit.lessons.stage import Stage

    stage = Stage(
        "01_data",
        preset_name="smoke",
        seed=0,
        device="cpu",
        data="table",
        data_root=tiny_config.data_root,
        table=str(people),
        pattern="",
        out_dir=str(tmp_path),
        settings="",
    )
    assert stage.has_truth and stage.has_cameras and stage.has_test
    assert len(stage.paths) == len(tiny_dataset.train)
    assert stage.dataset.camera(int(stage.camids[0])).startswith("gate ")


def test_queries_of_nobody_are_not_measured(tiny_dataset):
    from dataclasses import replace

    from dkdmpl_kit.training.truth import _why_blind

    def unknown(images):
        return tuple(replace(image, pid=None) for image in images)

    assert _why_blind(tiny_dataset) is None
    nobody = replace(
        tiny_dataset, query=unknown(tiny_dataset.query), gallery=unknown(tiny_dataset.gallery)
    )
    assert "nothing can be matched" in _why_blind(nobody)
