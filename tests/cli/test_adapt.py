"""The command from a folder of crops to an encoder and labels."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from dkdmpl_kit.cli import main

SMALL = (
    *("--backbone", "test_efficientnet", "--weights", "random"),
    *("--height", "64", "--width", "32", "--epochs", "1", "--iterations", "2"),
    *("--k1", "8", "--min-samples", "2", "--quiet"),
)


@pytest.fixture(scope="module")
def crops(tiny_dataset, tmp_path_factory):
    """A plain folder of pictures, as people have it."""
    folder = tmp_path_factory.mktemp("own") / "crops"
    folder.mkdir()
    for place, image in enumerate(tiny_dataset.train):
        shutil.copy(image.path, folder / f"{place:03d}_c{image.camid}.png")
    return folder


def test_from_crops_to_an_encoder_and_labels(crops, tmp_path, capsys):
    out = tmp_path / "mine"
    pattern = r"(?P<pid>\d+)_c(?P<camid>\d+)"
    assert main(["adapt", str(crops), "--out", str(out), "--pattern", pattern, *SMALL]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Kept the ")
    rows = list(csv.DictReader((out / "labels.csv").open()))
    assert {row["path"] for row in rows} == {path.name for path in crops.iterdir()}
    record = json.loads((out / "adapt.json").read_text())
    assert record["choices"]["sampler"]["value"] == "camera"
    assert record["settings"]["backbone"] == "test_efficientnet"
    assert record["why"] in told

    # what it leaves is a run for every other command, and its labels are cluster's
    labels = tmp_path / "again.csv"
    run = ["--run", str(out / "runs" / "adapted")]
    assert main(["cluster", *run, "--out", str(labels), "--quiet"]) == 0
    assert labels.read_text() == (out / "labels.csv").read_text()

    # it is never begun twice by mistake, and resume tells the same
    assert main(["adapt", str(crops), "--out", str(out), "--pattern", pattern, *SMALL]) == 2
    assert "--resume" in capsys.readouterr().err
    again = [str(crops), "--out", str(out), "--pattern", pattern, *SMALL, "--resume"]
    assert main(["adapt", *again]) == 0
    assert capsys.readouterr().out == told


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--preset", "demo"], "--preset"),
        (["--data", "synthetic"], "a folder of crops"),
        (["--method", "supervised"], "no identities"),
        (["--weights", "none.pth"], "none.pth"),
        (["--pattern", "("], "pattern"),
        (["--epochs", "0"], "epochs"),
    ],
)
def test_what_it_cannot_do_is_one_sentence_and_leaves_nothing(
    crops, tmp_path, capsys, flags, said
):
    out = tmp_path / "mine"
    assert main(["adapt", str(crops), "--out", str(out), *SMALL, *flags]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not out.exists()


def test_its_results_do_not_lie_among_the_crops(crops, capsys):
    assert main(["adapt", str(crops), "--out", str(crops / "out"), *SMALL]) == 2
    assert "outside" in capsys.readouterr().err
