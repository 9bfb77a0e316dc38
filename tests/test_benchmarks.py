"""The benchmarks' own arithmetic: what is measured, how it is written down, and what a
wrong checkout says.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import cameras, clustering, corrections, measure, peers, reading, scale, soak
from benchmarks.__main__ import GROUPS, line
from dkdmpl_kit.clustering import camera_jaccard_distances, pseudo_labels
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import read_json
from dkdmpl_kit.noise import label_report
from dkdmpl_kit.training.features import features_of_pictures

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(
    sys.platform != "linux", reason="peaks of resident memory are read from /proc"
)
def test_memory_that_is_taken_and_given_back_shows_in_the_peak():
    figures, result = measure.measured(lambda: np.ones(2**24).sum(), repeats=2)
    assert result == 2**24 and figures["seconds"] > 0
    assert 100 < figures["peak_mb"] < 400  # 128 MiB, and something for the rest
    assert measure.measured(lambda: None)[0]["peak_mb"] < 20


def test_features_have_norm_one_and_their_identities_can_be_found_again():
    features, pids = measure.features_like(400, 64, per_identity=20, noise=0.2)
    assert features.dtype == np.float32 and features.shape == (400, 64)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    nearest = np.argsort(-features @ features.T, axis=1)[:, 1]
    assert np.mean(pids[nearest] == pids) > 0.95
    assert not np.array_equal(np.sort(pids), pids)


def test_a_line_states_ratios_and_leaves_blanks_where_nothing_was_compared():
    alone = measure.row("work", {"seconds": 0.5, "peak_mb": None})
    assert line(alone) == "| work | 0.5 | – | – | – | – | – | – |"
    other = measure.row(
        "work",
        {"seconds": 0.5, "peak_mb": 12.3},
        "naive",
        {"seconds": 210.0, "peak_mb": 1500.0},
        "the same",
    )
    assert line(other) == "| work | 0.5 | 12.3 | naive | 210 | 1,500 | 420 | the same |"


def test_exponents_of_power_laws_are_found():
    sizes = (10, 100, 1000, 10_000)
    assert scale.exponent(sizes, [5.0 * n**1.5 for n in sizes]) == pytest.approx(1.5)
    assert (
        scale.exponent(sizes[:2], [1.0, 2.0]) is None
        and scale.exponent(sizes, [1.0, 1.0, 1.0, None]) is None
    )


def test_the_small_rows_agree_with_the_naive_references():
    rows = list(clustering.rows("small"))
    assert (
        "ARI 1.000000, 0 outliers differ" in rows[0]["agreement"]
        and rows[0]["other"]["seconds"] > 0
    )


def test_a_checkout_that_is_none_is_named_and_none_is_needed(monkeypatch, tmp_path):
    monkeypatch.delenv("DKDMPL_CLUSTER_CONTRAST", raising=False)
    assert peers.cluster_contrast_labels(np.eye(4, dtype=np.float32)) is None
    monkeypatch.setenv("DKDMPL_CLUSTER_CONTRAST", str(tmp_path))
    with pytest.raises(KitError, match="holds no clustercontrast"):
        peers.cluster_contrast_labels(np.eye(4, dtype=np.float32))


def test_names_of_msmt17_are_all_read_from_both_of_its_layouts():
    assert [row["agreement"] for row in reading.rows("small")] == 2 * [
        "2,527 read; train 651"
    ]
    assert sum(pictures for _, pictures in reading.SPLITS.values()) == 32_621 + 93_820


def test_the_soak_sees_one_bit_that_differs():
    ends = {"weights": {"a": torch.tensor([1.0, 2.0])}, "records": [{"loss": 0.5}], "n": 3}
    other = {"weights": {"a": torch.tensor([1.0, 2.0])}, "records": [{"loss": 0.5}], "n": 3}
    assert soak.same(ends, other)
    other["weights"]["a"][1] = float(np.nextafter(np.float32(2), np.float32(3)))
    assert not soak.same(ends, other)
    assert not soak.same({"records": [1]}, {"records": [1, 2]})
    assert not soak.same({"a": 1}, {"b": 1})


def test_the_small_benchmarks_run_to_their_end(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--size", "small", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    groups = read_json(tmp_path / "benchmarks-small.json")["groups"]
    assert set(groups) == {*GROUPS, "scale"}
    assert all(row["kit"]["seconds"] > 0 for rows in groups.values() for row in rows)
    assert (tmp_path / "benchmarks-small.md").read_text().startswith("| what |")


def test_twenty_corrections_are_given_as_a_person_would_and_checked():
    from dkdmpl_kit.training.features import features_of_pictures

    features, pids = measure.features_like(240, 32, per_identity=12, noise=1.1)
    files = [Path(f"/gone/{i}.jpg") for i in range(240)]
    encoder = {"fingerprint": "0" * 16, "backbone": "x", "height": 64, "width": 32}
    saved = features_of_pictures(features, files, encoder, "/gone", pids=pids)
    found = corrections.measured(saved, seeds=1)
    (run,) = found["runs"]
    assert run["honoured"] == run["of"] == 2 * (run["splits"] + run["merges"]) > 10
    assert run["after"]["pair_f"] > found["before"]["pair_f"]
    assert f"{run['of']} of {run['of']} corrections honoured" in corrections.told("x", found)
    assert found["quality"]["auroc_quality"] > 0.5
    # whoever knows the truth is not served by the labels as they were
    labels = np.array([0, 0, 0, 1, 1, 2, 2])
    who = np.array([5, 5, 7, 5, 5, 8, 8])
    names = [f"{i}.jpg" for i in range(7)]
    given = corrections.person(labels, who, names, np.random.default_rng(0))
    assert [c.action for c in given] == ["split"]
    assert not corrections.honoured(given[0], labels, labels, names)
    assert corrections.honoured(given[0], labels, np.array([0, 0, 3, 1, 1, 2, 2]), names)
    merge = corrections.Correction("merge", (("", "0", ""), ("", "1", "")))
    assert not corrections.honoured(merge, labels, labels, names)
    assert corrections.honoured(merge, labels, np.array([0] * 5 + [1] * 2), names)


def test_camera_aware_distances_stand_beside_the_plain_ones_of_the_same_features():
    features, pids = measure.features_like(120, 32, per_identity=12, noise=0.3)
    camids = np.arange(120) % 3
    about = {"fingerprint": "0", "backbone": "made", "height": 1, "width": 1}
    files = [Path(f"{i}.png") for i in range(120)]
    saved = features_of_pictures(features, files, about, "/", camids=camids, pids=pids)
    rows = cameras.compared("made", saved, eps=(0.5,))
    assert [(row["distance"], row["eps"]) for row in rows] == [
        ("jaccard", 0.5),
        ("jaccard", "auto"),
        ("camera_jaccard", 0.5),
        ("camera_jaccard", "auto"),
    ]
    labels = pseudo_labels(camera_jaccard_distances(features, camids), eps=0.5).labels
    pairs = label_report(labels, pids, outliers="singletons")
    assert (rows[2]["precision"], rows[2]["recall"]) == (
        pairs.pair_precision,
        pairs.pair_recall,
    )
    assert rows[0]["times_plain"] == 1
    row = rows[2] | {"ari": 0.5, "precision": 0.25, "recall": 1.0, "clusters": 9}
    row |= {"outliers": 0.125, "seconds": 2.0, "times_plain": 1.5}
    assert cameras.line(row) == (
        "| made | 120 | camera_jaccard | 0.5 | 0.50 | 25.0 | 100.0 | 9 | 12.5 | 2.00 | 1.50 |"
    )
    unknown = features_of_pictures(features, files, about, "/", camids=camids)
    with pytest.raises(KitError, match="identity of every picture"):
        cameras.compared("made", unknown)
    blind = features_of_pictures(features, files, about, "/", pids=pids)
    with pytest.raises(KitError, match="needs every camera"):
        cameras.compared("made", blind)
