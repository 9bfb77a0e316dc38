"""embed, rank and threshold as people call them: files in, answers out, one sentence else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkdmpl_kit.cli import main
from dkdmpl_kit.training.features import read_features

SMOKE = ("--preset", "smoke", "--quiet", "--extraction-precision", "fp32")


def said(capsys, *argv: object, code: int = 0) -> str:
    assert main([str(a) for a in argv]) == code
    captured = capsys.readouterr()
    if code:
        assert captured.err.count("\n") == 1 and captured.err.startswith("dkdmpl: ")
    return captured.err if code else captured.out


@pytest.fixture(scope="module")
def crops(tmp_path_factory, tiny_dataset) -> Path:
    """Twelve pictures of a few people, in a folder without splits."""
    folder = tmp_path_factory.mktemp("search") / "crops"
    folder.mkdir()
    for image in tiny_dataset.gallery[:12]:
        shutil.copy(image.path, folder / f"{image.pid}_c{image.camid}_{image.path.name}")
    return folder


@pytest.fixture(scope="module")
def saved(crops, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("saved") / "features.npz"
    assert main(["embed", str(crops), *SMOKE, "--out", str(out)]) == 0
    return out


def rank(capsys, tmp_path, *argv, code: int = 0) -> str:
    sheet = tmp_path / "sheet.png"
    return said(capsys, "rank", *SMOKE, "--sheet", sheet, *argv, code=code)


def answers(tmp_path) -> list[dict]:
    return json.loads((tmp_path / "sheet.json").read_text())["answers"]


def test_a_folder_is_embedded_whole(saved, crops, capsys, tmp_path):
    found = read_features(saved)
    assert [path.name for path in found.files()] == sorted(p.name for p in crops.iterdir())
    assert set(found.camids) == {-1} and set(found.splits) == {""}
    assert found.encoder["height"] == 64 and found.encoder["weights"] == "bundled"
    pattern = r"^(?P<pid>\d+)_c(?P<camid>\d+)"
    table = tmp_path / "f.parquet"
    said(capsys, "embed", crops, *SMOKE, "--out", table, "--pattern", pattern)
    with_cameras = read_features(table)
    assert len(set(with_cameras.camids)) > 1 and with_cameras.pids.min() >= 0
    np.testing.assert_allclose(with_cameras.features, found.features, atol=1e-6)


def test_a_gallery_of_features_ranks_as_its_folder_does(capsys, tmp_path, crops, saved):
    query = sorted(crops.iterdir())[0]
    by_folder = rank(capsys, tmp_path, "--query", query, "--gallery", crops)
    first = answers(tmp_path)
    by_file = rank(capsys, tmp_path, "--query", query, "--gallery", saved)
    assert by_file == by_folder
    assert len(answers(tmp_path)[0]["matches"]) == 10
    for one, other in zip(first[0]["matches"], answers(tmp_path)[0]["matches"]):
        assert one["path"] == other["path"] != str(query)
        assert one["similarity"] == pytest.approx(other["similarity"], abs=1e-5)


def test_a_folder_of_queries_and_nobody(capsys, tmp_path, crops, saved):
    queries = tmp_path / "queries"
    queries.mkdir()
    for path in sorted(crops.iterdir())[:2]:
        shutil.copy(path, queries / path.name)
    Image.new("RGB", (32, 64), (255, 0, 255)).save(queries / "zzz.png")
    text = rank(
        capsys, tmp_path, "--query", queries, "--gallery", saved, "--threshold", "0.999"
    )
    found = answers(tmp_path)
    assert [Path(a["query"]).name for a in found] == sorted(p.name for p in queries.iterdir())
    assert [a["nobody"] for a in found] == [False, False, True]
    # the same pictures under another name are true matches
    assert found[0]["matches"][0]["similarity"] == pytest.approx(1, abs=1e-4)
    assert text.count("nobody: the most similar picture has") == 1
    assert found[2]["best_similarity"] < 0.999 and not found[2]["matches"]
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    assert json.loads((tmp_path / "sheet.json").read_text())["threshold"] == 0.999


def test_one_query_that_is_nobody_has_a_sheet_too(capsys, tmp_path, crops, saved):
    query = sorted(crops.iterdir())[0]
    text = rank(
        capsys, tmp_path, "--query", query, "--gallery", saved, "--threshold", "1", "--rerank"
    )
    assert text.startswith("nobody: the most similar picture has 0.")
    assert answers(tmp_path)[0]["nobody"] and (tmp_path / "sheet.png").exists()


def test_re_ranked_answers_have_both_figures(capsys, tmp_path, crops, saved):
    query = sorted(crops.iterdir())[0]
    rank(capsys, tmp_path, "--query", query, "--gallery", saved, "--rerank", "--top", 11)
    (answer,) = answers(tmp_path)
    distances = [match["reranked_distance"] for match in answer["matches"]]
    assert distances == sorted(distances) and len(distances) == 11
    record = json.loads((tmp_path / "sheet.json").read_text())
    assert record["rerank"] == "k1 20, k2 6, lambda 0.3"


def test_evaluate_says_both_rankings_and_saves_the_features(capsys, tmp_path, tiny_config):
    saved = tmp_path / "f.npz"
    command = ("evaluate", *SMOKE, "--data-root", tiny_config.data_root)
    text = said(capsys, *command, "--rerank", "--save-features", saved).splitlines()
    assert text[0].startswith("mAP ") and text[1].startswith("re-ranked (k1 20, k2 6, lambda")
    assert text[0] == said(capsys, *command).splitlines()[0]
    from dkdmpl_kit.evaluation import Reranking, evaluate_ranking

    found = read_features(saved)
    halves = [
        column[found.of_split(split)]
        for column in (found.features, found.pids, found.camids)
        for split in ("query", "gallery")
    ]
    assert f"mAP {evaluate_ranking(*halves).mAP:.1%}," in text[0]
    assert f"mAP {evaluate_ranking(*halves, rerank=Reranking()).mAP:.1%}," in text[1]


def test_pictures_that_are_gone_cost_the_sheet_alone(capsys, tmp_path, crops):
    moved = tmp_path / "moved"
    shutil.copytree(crops, moved)
    said(capsys, "embed", moved, *SMOKE, "--out", tmp_path / "f.npz")
    moved.rename(tmp_path / "elsewhere")
    query = sorted(crops.iterdir())[0]
    text = rank(capsys, tmp_path, "--query", query, "--gallery", tmp_path / "f.npz")
    assert "no contact sheet, as 10 pictures are not where they were embedded" in text
    assert len(answers(tmp_path)[0]["matches"]) == 10
    assert not (tmp_path / "sheet.png").exists()


def test_features_of_another_encoder_are_refused(capsys, tmp_path, crops, saved):
    query = sorted(crops.iterdir())[0]
    for other in (("--height", "96"), ("--pooling", "avg")):
        text = rank(capsys, tmp_path, "--query", query, "--gallery", saved, *other, code=2)
        assert "belongs to the encoder tf_efficientnet_lite0" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("threshold", ["1.5", "nan", "-2", "high", "missing.json", ""])
def test_a_threshold_out_of_range_is_refused(capsys, tmp_path, crops, saved, threshold):
    query = sorted(crops.iterdir())[0]
    argv = ("--query", query, "--gallery", saved, "--threshold", threshold)
    assert "threshold" in rank(capsys, tmp_path, *argv, code=2)
    assert list(tmp_path.iterdir()) == []


def test_bad_files_and_folders_are_one_sentence(capsys, tmp_path, crops, saved):
    query = sorted(crops.iterdir())[0]
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(saved.read_bytes()[:-100])
    empty = tmp_path / "empty"
    empty.mkdir()
    for gallery, words in (
        (damaged, "damaged"),
        (tmp_path / "nowhere.npz", "no such file"),
        (empty, "holds no picture"),
    ):
        assert words in rank(capsys, tmp_path, "--query", query, "--gallery", gallery, code=2)
    assert "holds no picture" in rank(
        capsys, tmp_path, "--query", empty, "--gallery", saved, code=2
    )
    for folder, out, words in (
        (empty, "f.npz", "holds no picture"),
        (tmp_path / "nowhere", "f.npz", "does not exist"),
        (crops, "f.csv", "must end in"),
        (crops, "", "must end in"),
    ):
        place = tmp_path / out if out else out
        assert words in said(capsys, "embed", folder, *SMOKE, "--out", place, code=2)
    assert {path.name for path in tmp_path.iterdir()} == {"damaged.npz", "empty"}


def test_a_sheet_in_a_folder_of_queries_is_refused(capsys, tmp_path, crops, saved):
    queries = shutil.copytree(crops, tmp_path / "queries")
    argv = ("--query", queries, "--gallery", saved, "--sheet", queries / "s.png")
    assert "lies in the folder of queries" in said(capsys, "rank", *SMOKE, *argv, code=2)
    argv = ("--query", queries, "--gallery", saved, "--sheet", crops / "s.png")
    assert "lies in the gallery" in said(capsys, "rank", *SMOKE, *argv, code=2)


def test_a_threshold_from_labels_is_written_and_believed(
    capsys, tmp_path, tiny_config, tiny_dataset
):
    saved, out = tmp_path / "f.npz", tmp_path / "threshold.json"
    people = ("--data-root", tiny_config.data_root)
    said(capsys, "evaluate", *SMOKE, *people, "--save-features", saved)
    figure = tmp_path / "rates.png"
    argv = ("--fpr", "0.05", "--out", out, "--figure", figure)
    text = said(capsys, "threshold", *SMOKE, *people, *argv)
    record = json.loads(out.read_text())
    assert record["labels"] == "true identities" and record["rates"][0]["fpr"] == 0.05
    low, high = record["threshold_interval"]
    assert low <= record["threshold"] <= high
    assert "false alarms" in text and figure.stat().st_size > 1000
    assert said(capsys, "threshold", "--features", saved, "--fpr", "0.05") in text

    from dkdmpl_kit.evaluation import match_curve

    found = read_features(saved)
    halves = [
        column[found.of_split(split)]
        for column in (found.features, found.pids, found.camids)
        for split in ("query", "gallery")
    ]
    fpr, tpr = match_curve(*halves).rates(record["threshold"])
    assert fpr <= 0.05 and tpr == record["tpr"]

    query = tiny_dataset.query[0].path
    argv = ("--query", query, "--gallery", saved, "--threshold", out, "--top", 500)
    rank(capsys, tmp_path, *argv)
    (answer,) = answers(tmp_path)
    listed = [match["similarity"] for match in answer["matches"]]
    assert listed and min(listed) >= record["threshold"]
    text = rank(capsys, tmp_path, *argv, "--pooling", "avg", code=2)
    assert "threshold.json belongs to the encoder" in text


def test_a_threshold_from_pseudo_labels(capsys, tmp_path, tiny_config):
    argv = ("threshold", *SMOKE, "--data-root", tiny_config.data_root, "--fpr", "0.1")
    out = tmp_path / "t.json"
    text = said(capsys, *argv, "--labels", "pseudo", "--out", out, "--eps", "0.5")
    assert "from pseudo labels" in text and "not of clusters that are wrong" in text
    assert json.loads(out.read_text())["labels"] == "pseudo labels"
    error = said(capsys, *argv, "--eps", "0.5", code=2)
    assert "--eps would change nothing, as true identities are known here" in error


def test_what_threshold_cannot_do_is_one_sentence(capsys, tmp_path, crops, saved):
    for argv, words in (
        (("--labels", "true"), "knows no identities"),
        (("--fpr", "2"), "between 0 and 1"),
        (("--fpr", "1e-9", "--eps", "0.5", "--min-samples", "2"), "cannot be told from"),
        (("--run", tmp_path), "--run would change nothing"),
        (("--height", "64"), "--height would change nothing"),
        (("--out", tmp_path / "t.txt"), "ends in .json"),
        (("--figure", tmp_path / "t.jpg"), "ends in .png"),
        (("--min-samples", "12"), "min_samples"),
        (("--figure", crops / "t.png"), "--figure"),
    ):
        argv = (*argv, "--k1", "6", "--k2", "2")
        assert words in said(capsys, "threshold", "--features", saved, *argv, code=2)
    assert "no such file" in said(
        capsys, "threshold", "--features", tmp_path / "no.npz", code=2
    )
    assert list(tmp_path.iterdir()) == []
