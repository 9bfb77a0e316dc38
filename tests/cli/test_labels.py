"""cluster as people call it: labels in files, contact sheets, corrections that come back."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dkdmpl_kit.cli import main
from dkdmpl_kit.training.label_files import read_labels

SMOKE = ("--preset", "smoke", "--quiet", "--extraction-precision", "fp32")
PATTERN = r"^(?P<pid>\d+)_c(?P<camid>\d+)"


def said(capsys, *argv: object, code: int = 0) -> str:
    assert main([str(a) for a in argv]) == code
    captured = capsys.readouterr()
    if code:
        assert captured.err.count("\n") == 1 and captured.err.startswith("dkdmpl: ")
    return captured.err if code else captured.out


@pytest.fixture(scope="module")
def crops(tmp_path_factory, tiny_dataset) -> Path:
    folder = tmp_path_factory.mktemp("labels") / "crops"
    folder.mkdir()
    for image in tiny_dataset.train:
        shutil.copy(image.path, folder / f"{image.pid}_c{image.camid + 3}_{image.path.name}")
    return folder


@pytest.fixture(scope="module")
def saved(crops, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("saved") / "features.npz"
    assert main(["embed", str(crops), *SMOKE, "--out", str(out), "--pattern", PATTERN]) == 0
    return out


def cluster(capsys, saved, *argv, code: int = 0) -> str:
    command = ("cluster", "--features", saved, "--quiet", "--k1", 8, "--k2", 3)
    return said(capsys, *command, "--min-samples", 2, *argv, code=code)


def test_crops_become_labels_a_record_and_sheets(capsys, crops, tmp_path):
    out, sheets = tmp_path / "labels.csv", tmp_path / "sheets"
    sheets.mkdir()
    for kind in ("largest", "suspect", "outliers"):
        (sheets / f"{kind}-2.png").write_text("of an earlier call")
    (sheets / "mine.png").write_text("not of the kit")
    command = ("cluster", *SMOKE, "--data", "folder", "--data-root", crops)
    text = said(
        capsys,
        *command,
        "--pattern",
        PATTERN,
        "--out",
        out,
        "--sheet",
        sheets,
        "--eps",
        "auto",
    )
    rows = list(csv.DictReader(out.open(newline="")))
    assert [row["path"] for row in rows] == sorted(path.name for path in crops.iterdir())
    # as the files call them, which count from 3
    assert {row["camera"] for row in rows} == {
        p.name.split("_c")[1][0] for p in crops.iterdir()
    }
    record = json.loads((tmp_path / "labels.json").read_text())
    clusters = {int(row["cluster"]) for row in rows} - {-1}
    assert record["n_clusters"] == len(clusters) == max(clusters) + 1
    assert record["settings"]["eps"] == "auto" and 0 < record["eps"] < 1
    assert record["encoder"]["fingerprint"] and record["data"]["fingerprint"]
    suspects = sum(row["suspect"] == "true" for row in rows)
    assert f"{len(clusters)} clusters of {len(rows)} pictures" in text
    assert f"{suspects} suspect labels" in text
    pages = {path.name for path in sheets.glob("*.png")}
    assert {"largest-1.png", "mine.png"} <= pages and "outliers-2.png" not in pages
    assert all(f"contact sheet: {sheets / page}" in text for page in pages - {"mine.png"})


def test_saved_features_give_the_labels_that_their_pictures_give(
    capsys, crops, saved, tmp_path
):
    cluster(capsys, saved, "--out", tmp_path / "f.csv", "--eps", 0.5)
    command = ("cluster", *SMOKE, "--data", "folder", "--data-root", crops)
    fixed = ("--eps", 0.5, "--k1", 8, "--k2", 3, "--min-samples", 2, "--pattern", PATTERN)
    said(capsys, *command, *fixed, "--out", tmp_path / "p.csv")
    assert read_labels(tmp_path / "f.csv") == read_labels(tmp_path / "p.csv")


def test_without_eps_it_is_chosen(capsys, saved, tmp_path):
    cluster(capsys, saved, "--out", tmp_path / "l.csv")
    assert json.loads((tmp_path / "l.json").read_text())["settings"]["eps"] == "auto"
    text = cluster(capsys, saved, "--out", tmp_path / "h.csv", "--cluster-method", "hdbscan")
    assert "at eps" not in text
    assert json.loads((tmp_path / "h.json").read_text())["eps"] is None


def test_several_eps_are_compared_from_saved_features(capsys, saved):
    text = cluster(capsys, saved, "--eps-values", "0.4,0.6")
    assert [line.split()[0] for line in text.splitlines()[:3]] == ["eps", "0.4", "0.6"]
    assert "unknown" not in text  # identities were in the names


def test_corrections_come_back(capsys, saved, tmp_path):
    out, table = tmp_path / "labels.csv", tmp_path / "corrections.csv"
    cluster(capsys, saved, "--out", out, "--eps", 0.5)
    before = read_labels(out)
    names = list(before)
    labels = np.array(list(before.values()))
    sizes = np.bincount(labels[labels >= 0])
    largest, other = np.argsort(-sizes, kind="stable")[:2].tolist()
    leaving = names[int(np.flatnonzero(labels == largest)[0])]
    outliers = [name for name in names if before[name] < 0][:2]
    rows = [f"1,split,{leaving},{largest}", f"2,merge,,{largest + 0}", f"2,merge,,{other}"]
    table.write_text("\n".join(["correction,action,path,cluster", *rows]) + "\n")
    again = ("--out", tmp_path / "next.csv", "--eps", 0.5, "--corrections", table)
    text = cluster(capsys, saved, *again, code=2)
    assert "correction 2 (rows 3 and 4 of corrections.csv) and correction 1 (row 2" in text
    assert "contradict each other" in text and not (tmp_path / "next.csv").exists()
    rows = rows[:1] + [f"2,merge,{outliers[0]},", f"2,merge,,{other}"]
    table.write_text("\n".join(["correction;action;path;cluster", *rows]).replace(",", ";"))
    cluster(capsys, saved, *again)
    after = read_labels(tmp_path / "next.csv")
    stay = [name for name in names if before[name] == largest and name != leaving]
    assert len({after[name] for name in stay}) == 1 and after[leaving] != after[stay[0]]
    one = [outliers[0], *(name for name in names if before[name] == other)]
    assert len({after[name] for name in one}) == 1 and after[one[0]] >= 0
    untouched = [n for n in names if before[n] not in (largest, other) and n != outliers[0]]
    assert len({(before[n], after[n]) for n in untouched}) == len(
        {before[n] for n in untouched}
    )
    record = json.loads((tmp_path / "next.json").read_text())
    assert record["settings"]["corrections"] == str(table) and record["constraints"]
    # the comparison of several eps keeps to them, too
    compared = cluster(capsys, saved, "--eps-values", "0.5", "--corrections", table)
    plain = cluster(capsys, saved, "--eps-values", "0.5")
    assert compared != plain


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--out", "labels.txt"), ".csv or .parquet"),
        (("--out", "l.csv", "--eps-values", "0.5"), "--eps-values compares several eps"),
        (("--eps", "0.5"), "give --eps-values 0.4,0.5,0.6, or --out"),
        (("--out", "l.csv", "--eps", "0.9"), "is above max_distance=0.8"),
        (("--out", "l.csv", "--min-samples", "80"), "gives 1 clusters"),
        (
            ("--out", "l.csv", "--corrections", "none.csv"),
            "There are no corrections none.csv",
        ),
        (("--out", "l.csv", "--height", "64"), "--height would change nothing"),
        (("--out", "l.csv", "--run", "x"), "--run would change nothing"),
        (("--cluster-method", "hdbscan"), "give --out for its labels"),
        (("--sheet", "{crops}/sheets"), "lies in the data folder"),
        (("--sheet", "{saved}"), "is a file: give a folder"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    capsys, crops, saved, argv, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    given = [str(a).format(crops=crops, saved=saved) for a in argv]
    assert words in cluster(capsys, saved, *given, code=2)
    assert not list(tmp_path.iterdir())


def test_sheets_need_the_pictures_and_labels_do_not(capsys, crops, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(crops, moved)
    said(capsys, "embed", moved, *SMOKE, "--out", tmp_path / "f.npz")
    moved.rename(tmp_path / "elsewhere")
    out = ("--out", tmp_path / "l.csv", "--sheet", tmp_path / "sheets")
    text = cluster(capsys, tmp_path / "f.npz", *out)
    assert "no contact sheets, as" in text and (tmp_path / "l.csv").exists()
    assert not (tmp_path / "sheets").exists()
