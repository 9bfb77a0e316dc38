"""The robustness experiment: what is trained on which labels, what is kept, and that
its sentences follow from its numbers.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import t

from dkdmpl_kit import cli
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import read_json, write_json
from dkdmpl_kit.studies import label_noise as robustness
from dkdmpl_kit.studies.label_noise import (
    FrozenFeatures,
    agreement,
    by_rate,
    cells,
    findings,
    gains,
    margins_and_gains,
    train_cell,
)


@pytest.fixture(scope="module")
def frozen() -> FrozenFeatures:
    """Six people under three cameras, two pictures each, as noisy points around a place
    of their own.
    """
    draws = np.random.default_rng(0)
    centres = draws.normal(size=(6, 16))

    def points(pids):
        x = centres[pids] + 0.4 * draws.normal(size=(len(pids), 16))
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    pids = np.repeat(np.arange(6), 6)
    camids = np.tile(np.repeat(np.arange(3), 2), 6)
    return FrozenFeatures(
        points(pids),
        np.stack([points(pids), points(pids)]),
        pids + 10,
        camids,
        (points(pids[::6]), pids[::6], camids[::6]),
        (points(pids), pids, camids),
        "invented",
    )


@pytest.fixture
def config(tiny_config):
    return tiny_config.replace(
        epochs=3,
        iterations=4,
        batch_clusters=4,
        batch_images=3,
        warmup_epochs=0,
        learning_rate=3e-3,
    )


def record(kind, rate, method, seed, mAP, first=0.0, last=0.0):
    return {
        "kind": kind,
        "rate": rate,
        "method": method,
        "seed": seed,
        "mAP": mAP,
        "first": {"break_even": first},
        "last": {"break_even": last},
    }


def pair(kind, rate, base, gained, **margins):
    """Cluster contrast and GKD at the seeds 0, 1, ...; `gained` per seed."""
    return [
        record(kind, rate, method, seed, base + (g if method == "gkd" else 0.0), **margins)
        for seed, g in enumerate(gained)
        for method in ("cluster_contrast", "gkd")
    ]


def test_without_noise_all_kinds_are_one_condition_and_every_other_is_crossed():
    found = cells()
    assert len(found) == len(set(found)) == 3 * 4 * (1 + 3 * 4)
    assert {c[0] for c in found if c[1] == 0} == {"none"}
    assert "none" not in {c[0] for c in found if c[1]}
    assert [c[3] for c in found] == sorted(c[3] for c in found)


def test_the_truth_is_the_label_of_the_own_identity_and_minus_one_where_no_picture_carries_it(
    frozen,
):
    true = np.repeat(np.arange(6), 6)
    labels, truth = robustness.noisy_labels(frozen, "none", 0.0, 0)
    assert (labels == true).all()
    assert (truth == true).all()
    labels, truth = robustness.noisy_labels(frozen, "symmetric", 0.5, 0)
    assert (truth == true).all()
    assert (labels != truth).sum() == 18
    labels, truth = robustness.noisy_labels(frozen, "camera_split", 0.25, 0)
    assert (truth == true).all()
    assert (labels != truth).sum() == 9
    assert (labels[labels != truth] >= 6).all()
    # everybody carries the nearest one's name
    labels, truth = robustness.noisy_labels(frozen, "look_alike", 1.0, 0)
    assert set(labels) == set(range(labels.max() + 1))
    assert labels.max() < 5
    assert (labels != truth).all()
    assert (truth < 0).any()
    assert len(set(truth[truth >= 0])) == labels.max() + 1


def test_a_cell_repeats_itself_and_its_share_of_wrong_labels_is_the_rate(frozen, config):
    one, two = (
        train_cell(frozen, config.replace(method="dkdmpl", seed=1), "symmetric", 0.5)
        for _ in range(2)
    )
    assert {k: v for k, v in one.items() if k != "seconds"} == {
        k: v for k, v in two.items() if k != "seconds"
    }
    assert one["first"]["eta"] == one["last"]["eta"] == 0.5
    assert 0 < one["mAP"] <= 1
    for when in ("first", "last"):
        x = one[when]
        assert x["break_even"] == pytest.approx(0.5 * x["e_w"] - 0.5 * (1 - x["e_c"]))
    assert one["first"] != one["last"]
    other = train_cell(frozen, config.replace(method="dkdmpl", seed=2), "symmetric", 0.5)
    assert other["last"]["e_c"] != one["last"]["e_c"]


def test_training_on_right_labels_beats_wrong_ones_and_an_untrained_head(frozen, config):
    few, many = (config.replace(method="cluster_contrast", epochs=e) for e in (1, 8))
    right, wrong = (
        train_cell(frozen, many, kind, rate)["last"]["e_c"]
        for kind, rate in (("none", 0.0), ("symmetric", 0.7))
    )
    assert right > wrong
    assert right > train_cell(frozen, few, "none", 0.0)["last"]["e_c"]


def test_each_method_uses_its_own_distillations(frozen, config):
    def mass(**changes):
        return train_cell(frozen, config.replace(**changes), "symmetric", 0.3)["last"]["e_c"]

    plain = mass(method="cluster_contrast")
    assert mass(method="dkdmpl", gkd_weight=0, skd_weight=0) == plain
    assert len({plain, mass(method="gkd"), mass(method="skd"), mass(method="dkdmpl")}) == 4
    assert mass(method="gkd", skd_weight=9.0) == mass(method="gkd")
    assert mass(method="skd", gkd_weight=9.0) == mass(method="skd")


def test_identities_reach_the_head_through_the_noisy_labels_alone(
    frozen, config, monkeypatch
):
    """Labels held still, shuffled identities change what is measured and nothing of the
    trained head.
    """
    heads = []
    labels = robustness.noisy_labels(frozen, "symmetric", 0.3, 0)[0]
    made = robustness.Head
    module = "dkdmpl_kit.studies.label_noise.training"
    monkeypatch.setattr(f"{module}.Head", lambda *a: heads.append(made(*a)) or heads[-1])
    for order in (np.arange(36), np.random.default_rng(1).permutation(36)):
        monkeypatch.setattr(f"{module}.noisy_labels", lambda f, *a: (labels, f.pids - 10))
        train_cell(
            dataclasses.replace(frozen, pids=frozen.pids[order]),
            config.replace(method="dkdmpl"),
            "symmetric",
            0.3,
        )
    assert torch.equal(heads[0].linear.weight, heads[1].linear.weight)


def test_features_are_kept_for_the_same_data_and_settings_only(
    tiny_config, tiny_dataset, tmp_path
):
    path = tmp_path / "features.npz"
    made = robustness.frozen_features(tiny_config, tiny_dataset, path=path)
    assert made.views.shape == (robustness.VIEWS, *made.plain.shape)
    assert len(made.plain) == len(tiny_dataset.train)
    np.testing.assert_allclose(np.linalg.norm(made.views, axis=2), 1, atol=1e-5)
    assert np.abs(made.views[0] - made.views[1]).max() > 0.01
    assert np.abs(made.views[0] - made.plain).max() > 0.01
    with np.load(path) as kept:
        changed = dict(kept) | {"train": kept["train"][::-1]}
    np.savez(path, **changed)
    np.testing.assert_array_equal(
        robustness.frozen_features(tiny_config, tiny_dataset, path=path).plain,
        made.plain[::-1],
    )
    again = robustness.frozen_features(tiny_config.replace(flip=0.1), tiny_dataset, path=path)
    np.testing.assert_array_equal(again.plain, made.plain)


def test_data_without_identities_or_test_split_are_one_sentence(tiny_config, tiny_dataset):
    nameless = dataclasses.replace(
        tiny_dataset,
        train=tuple(dataclasses.replace(i, pid=None) for i in tiny_dataset.train),
    )
    for lacking in (nameless, dataclasses.replace(tiny_dataset, query=())):
        with pytest.raises(
            KitError,
            match="needs the identity of every training picture, a query and a gallery",
        ):
            robustness.frozen_features(tiny_config, lacking)


def test_the_experiment_goes_on_where_it_stopped_and_refuses_other_settings(
    tiny_config, tiny_dataset, tmp_path
):
    names = (
        "data_root",
        "n_train_ids",
        "n_test_ids",
        "n_cameras",
        "images_per_camera",
        "difficulty",
        "height",
        "width",
    )
    small = {name: getattr(tiny_config, name) for name in names} | {
        "epochs": 1,
        "iterations": 1,
        "batch_clusters": 4,
    }
    records = robustness.run(tmp_path, seeds=(0,), progress=False, **small)
    assert len(records) == len(list((tmp_path / "cells").iterdir())) == 52
    kept, gone = (
        tmp_path / "cells" / f"{name}-seed0.json"
        for name in ("none-0.00-gkd", "symmetric-0.15-skd")
    )
    marked = read_json(kept) | {"mAP": -1.0}
    write_json(kept, marked)
    gone.unlink()
    again = robustness.run(tmp_path, seeds=(0,), progress=False, **small)
    assert [r["mAP"] for r in again] == [
        -1.0 if r == read_json(kept) | {"mAP": r["mAP"]} else r["mAP"] for r in records
    ]
    assert marked in again
    assert gone.exists()
    with pytest.raises(KitError, match="other settings or data: choose another --out"):
        robustness.run(tmp_path, seeds=(0,), progress=False, **small | {"iterations": 2})
    about = read_json(tmp_path / "robustness.json")
    assert about["data_fingerprint"] == tiny_dataset.fingerprint()
    assert "data_root" not in about["settings"]


def test_gains_are_paired_by_seed_with_a_t_interval_worked_by_hand():
    records = pair("symmetric", 0.3, 0.5, (0.02, 0.04)) + pair(
        "symmetric", 0.6, 0.3, (0.020, 0.021, 0.022)
    )
    records += pair("none", 0.0, 0.9, (-0.020, -0.021, -0.022)) + pair(
        "look_alike", 0.3, 0.5, (0.1,)
    )
    # a seed without its partner does not count
    records.append(record("symmetric", 0.3, "gkd", 7, 0.9))
    rows = {(r["kind"], r["rate"]): r for r in gains(records[::-1])}
    wide = rows["symmetric", 0.3]
    narrow = rows["symmetric", 0.6]
    assert wide["values"] == pytest.approx([0.02, 0.04])
    assert wide["mean"] == pytest.approx(0.03)
    assert wide["half"] == pytest.approx(
        12.7062 * np.std([0.02, 0.04], ddof=1) / np.sqrt(2), rel=1e-4
    )
    assert narrow["half"] == pytest.approx(t.ppf(0.975, 2) * 0.001 / np.sqrt(3))
    verdicts = {kind: row["verdict"] for (kind, rate), row in rows.items() if rate != 0.6}
    assert verdicts == {"symmetric": "unclear", "none": "hurts", "look_alike": "unclear"}
    assert narrow["verdict"] == "helps"
    assert rows["look_alike", 0.3]["half"] is None
    assert {r["method"] for r in rows.values()} == {"gkd"}


def test_the_margin_is_that_of_the_run_without_gkd_and_the_gain_that_of_gkd():
    records = [
        record("symmetric", 0.3, "cluster_contrast", 0, 0.5, first=-0.1, last=0.2),
        record("symmetric", 0.3, "gkd", 0, 0.53, first=9, last=9),
        record("symmetric", 0.3, "skd", 0, 0.9),
        record("none", 0.0, "cluster_contrast", 0, 0.5),
    ]
    assert margins_and_gains(records) == [("symmetric", -0.1, pytest.approx(0.03))]
    assert margins_and_gains(records, "last") == [("symmetric", 0.2, pytest.approx(0.03))]


def test_agreement_tells_signs_from_order_and_the_whole_from_its_kinds():
    points = [
        ("a", 0.1, 0.3),
        ("a", 0.2, 0.2),
        ("a", 0.3, 0.1),
        ("b", -0.3, -0.1),
        ("b", -0.2, -0.2),
        ("b", -0.1, -0.3),
    ]
    found = agreement(points)
    assert found["n"] == 6
    assert found["same_sign"] == 6
    assert found["above"] == 3
    assert found["rho"] == pytest.approx(1 - 6 * 16 / (6 * 35))
    assert found["rho_by_kind"] == {
        "a": pytest.approx(-1),
        "b": pytest.approx(-1),
    }
    assert (
        agreement([("a", 0.1, -0.1), ("a", -0.1, 0.1), ("a", -0.2, -0.3)])["same_sign"] == 1
    )
    assert agreement(points[:2])["rho"] is None
    assert agreement([("a", 0.1, x) for x in (1, 2, 3)])["rho"] is None


def test_the_sentences_turn_round_with_the_numbers():
    clear = (0.020, 0.021, 0.022)
    open_ = (-0.02, 0.0, 0.03)

    def told(sign):
        return findings(
            pair("symmetric", 0.3, 0.5, [sign * g for g in clear], first=0.1)
            + pair("none", 0.0, 0.9, open_)
        )

    assert (
        "GKD helps in 1 of 2 conditions (symmetric 0.30 +2.10 ± 0.25) and hurts in 0 "
        "of 2 conditions." in told(1)
    )
    assert (
        "helps in 0 of 2 conditions and hurts in 1 of 2 conditions (symmetric 0.30 "
        "-2.10 ± 0.25)." in told(-1)
    )
    assert "Mean gain in mAP points: symmetric +2.10, no noise +0.33." in told(1)
    assert "Above break-even: 3; margin and gain of one sign: 5 of 6." in told(1)
    assert "margin and gain of one sign: 2 of 6." in told(-1)
    assert "Of 2 intervals about 0" in told(1)
    assert "One seed has no interval" in findings(pair("symmetric", 0.3, 0.5, (0.1,)))


def test_no_noise_is_rate_zero_of_every_kind_and_gaps_stay_open():
    table = by_rate(
        [
            record("none", 0.0, "gkd", 0, 0.9),
            record("none", 0.0, "gkd", 3, 0.8),
            record("symmetric", 0.3, "gkd", 3, 0.5),
            record("look_alike", 0.6, "gkd", 0, 0.4),
        ]
    )
    assert list(table) == ["symmetric", "look_alike"]
    rates, values = table["symmetric"]["gkd"]
    assert rates.tolist() == [0, 0.3]
    np.testing.assert_array_equal(values, [[0.9, np.nan], [0.8, 0.5]])
    assert table["look_alike"]["gkd"][0].tolist() == [0, 0.6]


def test_one_command_publishes_records_figures_and_what_they_say(
    tmp_path, monkeypatch, capsys
):
    records = pair("none", 0.0, 0.6, (0.01, 0.02)) + pair(
        "symmetric", 0.3, 0.5, (0.01, 0.02), first=0.1, last=-0.1
    )
    out = tmp_path / "out"
    folder = tmp_path / "exhibits"
    write_json(
        out / "robustness.json", {"data_fingerprint": "f", "settings": {"n_train_ids": 9}}
    )
    asked = {}
    monkeypatch.setattr(
        robustness,
        "run",
        lambda where, seeds: asked.update(where=where, seeds=list(seeds)) or records,
    )
    assert (
        cli.main(["robustness", "--out", str(out), "--seeds", "2", "--publish", str(folder)])
        == 0
    )
    assert asked == {"where": str(out), "seeds": [0, 1]}
    assert sorted(p.name for p in folder.iterdir()) == [
        "break_even.json",
        "break_even.png",
        "findings.txt",
        "records.json",
        "robustness.json",
        "robustness.png",
    ]
    kept = read_json(folder / "records.json")
    beside = read_json(folder / "robustness.json")
    assert kept["records"] == records
    assert beside["data_fingerprint"] == "f"
    assert beside["seeds"] == [0, 1]
    assert "not a training of the whole encoder" in beside["caption"]
    assert "GKD helps in" in beside["caption"]
    assert "GKD helps in" in capsys.readouterr().out
    assert str(tmp_path) not in (folder / "robustness.json").read_text()
