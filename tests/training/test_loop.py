"""The loop: blind to identities, exact on resume, honest when it cannot go on."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from dkdmpl_kit.data import ReIDImage
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.training import (
    extract,
    extraction,
    fit,
    identity_labels,
    learning_rate,
    load_encoder,
    new_state,
    objective,
    resolve_auto,
)

TIMES = ("seconds", "peak_memory_mb")
TRUTH = (
    *("ari", "nmi", "purity", "mAP", "rank1", "mINP"),
    *("teacher_truth", "teacher_siblings", "teacher_strangers", "teacher_sibling_lift"),
    *("l1_gain", "brier_gain", "log_gain"),
)


def without(record: dict, *names: str) -> dict:
    return {k: v for k, v in record.items() if k not in names}


@pytest.fixture(scope="module")
def run(tiny_config, tiny_dataset, tmp_path_factory):
    """One uninterrupted DKD-MPL run of two epochs."""
    config = tiny_config.replace(out_dir=str(tmp_path_factory.mktemp("run")))
    return config, fit(config, tiny_dataset, progress=False)


def test_every_epoch_leaves_a_complete_record(run):
    config, result = run
    assert [r["epoch"] for r in result.history] == [0, 1]
    for record in result.history:
        assert record["loss"] == pytest.approx(
            record["loss_cc"]
            + config.gkd_weight * record["loss_gkd"]
            + config.skd_weight * record["loss_skd"],
            rel=1e-5,
        )
        assert (
            record["n_clusters"] >= 2
            and 0 <= record["mAP"] <= 1
            and set(record["seconds"]) == {"extract", "cluster", "load", "train", "evaluate"}
        )
        assert 0 < record["seconds"]["load"] < record["seconds"]["train"]
    lines = (result.run_dir / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == list(result.history)
    assert json.loads((result.run_dir / "result.json").read_text())["final"] == result.final


def test_training_changes_the_encoder_and_the_checkpoint_gives_it_back(run):
    config, result = run
    untrained = new_state(config, "cpu").encoder.state_dict()
    trained = result.encoder.state_dict()
    assert any(
        not torch.equal(untrained[k], trained[k]) for k in trained if k.endswith("weight")
    )
    loaded = load_encoder(result.run_dir)[1].state_dict()
    assert all(torch.equal(loaded[k], trained[k]) for k in trained)


def test_shuffled_identities_give_the_identical_run(run, tiny_config, tiny_dataset, tmp_path):
    config, result = run
    order = np.random.default_rng(0).permutation(len(tiny_dataset.train))
    pids = [tiny_dataset.train[i].pid for i in order]
    liar = dataclasses.replace(
        tiny_dataset,
        train=tuple(
            ReIDImage(image.path, pid, image.camid)
            for image, pid in zip(tiny_dataset.train, pids)
        ),
    )
    other = fit(config.replace(out_dir=str(tmp_path)), liar, progress=False)
    for mine, theirs in zip(result.history, other.history):
        assert without(mine, *TIMES, *TRUTH) == without(theirs, *TIMES, *TRUTH)
    # the measure did see the lie
    assert result.history[-1]["ari"] != other.history[-1]["ari"]
    mine, theirs = result.encoder.state_dict(), other.encoder.state_dict()
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_what_trains_has_no_way_to_the_identities(tiny_dataset):
    images = tiny_dataset.unlabelled()
    # tracks are what a tracker says, never who it is
    assert {f.name for f in dataclasses.fields(images)} == {"paths", "camids", "tracks"}
    assert images.tracks is None


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gkd_teacher": "consensus", "skd_anchor": "ema"},
        {"method": "rlcc"},
        {"method": "ice"},
        {"method": "spcl"},
    ],
)
def test_a_run_resumed_after_any_epoch_ends_bit_for_bit_the_same(
    settings, tiny_config, tiny_dataset, tmp_path
):
    config = tiny_config.replace(epochs=3, out_dir=str(tmp_path / "whole"), **settings)
    whole = fit(config, tiny_dataset, progress=False)
    cut = config.replace(out_dir=str(tmp_path / "cut"))

    def interrupt(record):
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fit(cut, tiny_dataset, resume=True, progress=False, on_epoch=interrupt)
    resumed = fit(cut, tiny_dataset, resume=True, progress=False)
    assert [without(r, *TIMES) for r in resumed.history] == [
        without(r, *TIMES) for r in whole.history
    ]
    assert resumed.final == whole.final
    mine, theirs = resumed.encoder.state_dict(), whole.encoder.state_dict()
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_a_run_killed_inside_an_epoch_resumes_to_the_same_end(run, tmp_path):
    config, result = run
    config = config.replace(out_dir=str(tmp_path))
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps(dataclasses.asdict(config)))
    command = [
        sys.executable,
        "-m",
        "dkdmpl_kit.cli",
        "train",
        "--config",
        str(settings),
        "--quiet",
        "--resume",
    ]
    env = dict(
        os.environ,
        OMP_NUM_THREADS=str(torch.get_num_threads()),
        MKL_NUM_THREADS=str(torch.get_num_threads()),
    )
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (
        config.run_dir / "checkpoint.json"
    ).exists():  # the first epoch is whole: the second one is under way
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert (
        len(
            (config.run_dir / "history.jsonl").read_text().splitlines()
            if (config.run_dir / "history.jsonl").exists()
            else []
        )
        <= 1
    )
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    records = [
        json.loads(line)
        for line in (config.run_dir / "history.jsonl").read_text().splitlines()
    ]
    assert [without(r, *TIMES) for r in records] == [
        without(r, *TIMES) for r in result.history
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {
            "gkd_teacher": "cluster",
            "skd_anchor": "random",
            "skd_divergence": "kl",
            "memory_update": "mean",
        },
        {
            "gkd_teacher": "consensus",
            "skd_anchor": "mean",
            "skd_divergence": "js",
            "memory_update": "hardest",
        },
        {
            "skd_anchor": "augmentation",
            "sampler": "random",
            "warmup_epochs": 2,
            "schedule": "step",
        },
        {
            "skd_anchor": "ema",
            "precision": "bf16",
            "centre_cameras": True,
            "freeze_stages": 2,
        },
        {"memory_format": "contiguous", "extraction_precision": "bf16"},
        {"knn": "approximate", "cluster_method": "hdbscan"},
        {"gkd_teacher": "vote", "outliers": "teach", "eps": "auto", "skd_anchor": "camera"},
        {
            "gkd_teacher": "neighbourhood",
            "teacher_cameras": "other",
            "teacher_clusters": 2,
            "loss_scale": 1.5,
        },
    ],
)
def test_every_option_trains(settings, tiny_config, tiny_dataset, tmp_path):
    result = fit(
        tiny_config.replace(out_dir=str(tmp_path), **settings), tiny_dataset, progress=False
    )
    assert all(
        np.isfinite(r["loss"]) and r["loss_gkd"] >= 0 and r["loss_skd"] >= 0
        for r in result.history
    )


def test_an_eps_of_auto_is_each_epochs_own_and_its_sweep_is_kept(
    tiny_config, tiny_dataset, tmp_path
):
    config = tiny_config.replace(out_dir=str(tmp_path), eps="auto", gkd_teacher="vote")
    result = fit(config, tiny_dataset, progress=False)
    for record in result.history:
        sweep = record["eps_sweep"]
        assert record["eps"] == sweep["chosen"]
        at = sweep["eps"].index(sweep["chosen"])
        assert record["n_clusters"] == sweep["n_clusters"][at]
        assert record["largest_share"] == pytest.approx(sweep["largest_share"][at], abs=1e-4)
        assert -1 <= record["gkd_cosine"] <= 1 and 0 <= record["teacher_truth"] <= 1
    again = fit(config, tiny_dataset, progress=False, resume=True)
    assert again.history == result.history


def as_chosen(precision, memory_format, extraction_precision):
    return lambda *_, **__: {
        "precision": precision,
        "memory_format": memory_format,
        "tried": [{"stage": "training"}],
        "extraction_precision": extraction_precision,
    }


def test_auto_is_settled_once_written_down_and_kept_by_a_resumed_run(
    tiny_config, tiny_dataset, tmp_path, monkeypatch
):
    auto = tiny_config.replace(
        precision="auto", memory_format="auto", out_dir=str(tmp_path / "auto")
    )
    forced = tiny_config.replace(
        precision="bf16",
        memory_format="contiguous",
        extraction_precision="fp32",
        out_dir=str(tmp_path / "forced"),
    )
    whole = fit(forced, tiny_dataset, progress=False)

    def interrupt(record):
        raise KeyboardInterrupt

    monkeypatch.setattr(
        extraction, "choose_precision", as_chosen("bf16", "contiguous", "fp32")
    )
    with pytest.raises(KeyboardInterrupt):
        fit(auto, tiny_dataset, progress=False, on_epoch=interrupt)
    monkeypatch.setattr(extraction, "choose_precision", lambda *_, **k: training_choice(k))
    resumed = fit(auto, tiny_dataset, resume=True, progress=False)
    kept = json.loads((auto.run_dir / "environment.json").read_text())
    assert (
        kept["compute"]["tried"] == [{"stage": "training"}]
        and kept["compute"]["precision"] == "bf16"
        and kept["threads"]
    )
    assert [without(r, *TIMES) for r in resumed.history] == [
        without(r, *TIMES) for r in whole.history
    ]
    mine, theirs = resumed.encoder.state_dict(), whole.encoder.state_dict()
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)
    config, _ = load_encoder(auto.run_dir)
    assert (config.precision, config.memory_format, config.extraction_precision) == (
        "bf16",
        "contiguous",
        "fp32",
    )


def training_choice(settings: dict) -> dict:
    """What the second machine would choose: only the settled settings may reach it,
    never "auto".
    """
    asked = {
        name: settings[name]
        for name in ("precision", "memory_format", "extraction_precision")
    }
    assert "auto" not in asked.values(), "a resumed run measured anew"
    return {**asked, "tried": []}


def test_forced_settings_are_written_down_as_well_and_nothing_is_tried(run):
    config, result = run
    compute = json.loads((result.run_dir / "environment.json").read_text())["compute"]
    assert compute == {
        "precision": "fp32",
        "memory_format": "channels_last",
        "extraction_precision": "fp32",
        "device": "cpu",
        "probe_batch": None,
        "tried": [],
    }


@pytest.mark.parametrize(("asked_for", "expected"), [("same", "auto"), ("fp32", "fp32")])
def test_extraction_is_asked_for_apart_from_training(
    asked_for, expected, tiny_config, monkeypatch
):
    asked = {}

    def choose(shape, **settings):
        asked.update(settings, shape=shape)
        return as_chosen("bf16", "contiguous", "fp32")()

    monkeypatch.setattr(extraction, "choose_precision", choose)
    resolve_auto(
        tiny_config.replace(precision="auto", extraction_precision=asked_for, freeze_stages=1)
    )
    assert asked["extraction_precision"] == expected and asked["precision"] == "auto"
    assert (
        asked["shape"] == (16, 3, 64, 32)
        and asked["freeze_stages"] == 1
        and asked["memory_format"] == "channels_last"
    )


def test_the_encoder_and_its_extraction_follow_the_settings(tiny_config, monkeypatch):
    weight = {
        name: new_state(
            tiny_config.replace(memory_format=name), "cpu"
        ).encoder.backbone.conv_stem.weight
        for name in ("contiguous", "channels_last")
    }
    assert (
        weight["contiguous"].is_contiguous() and not weight["channels_last"].is_contiguous()
    )
    monkeypatch.setattr(
        extraction, "extract_features", lambda *_, **options: options["precision"]
    )
    assert extract(tiny_config.replace(precision="bf16"), None, None) == "bf16"
    assert extract(tiny_config.replace(extraction_precision="bf16"), None, None) == "bf16"
    assert extract(tiny_config, None, None) == "fp32"


def test_the_supervised_row_says_what_it_trained_on(tiny_config, tiny_dataset, tmp_path):
    result = fit(
        tiny_config.replace(method="supervised", out_dir=str(tmp_path)),
        tiny_dataset,
        reference_labels=identity_labels(tiny_dataset),
        progress=False,
    )
    assert (
        json.loads((result.run_dir / "result.json").read_text())["labels"]
        == "true identities"
    )
    assert (
        result.history[0]["ari"] == pytest.approx(1.0)
        and result.history[0]["outlier_fraction"] == 0
    )


def test_the_best_measured_epoch_is_reported_beside_the_last_one_and_named_as_chosen_on_the_test_split(
    run, tiny_dataset
):
    config, result = run
    best = max(result.history, key=lambda r: r["mAP"])
    written = json.loads((result.run_dir / "result.json").read_text())
    assert (
        written["best"]
        == result.best
        == {
            "epoch": best["epoch"],
            "mAP": best["mAP"],
            "rank1": best["rank1"],
            "mINP": best["mINP"],
            "chosen_on": "the test split",
        }
    )
    assert written["final"]["best_epoch_mAP"] == best["mAP"]
    # the last epoch's, whatever was best
    assert written["final"]["mAP"] == result.history[-1]["mAP"]
    assert (written["samples_per_bn"], written["processes"]) == (16, [1])
    assert fit(config, tiny_dataset, resume=True, progress=False).best == result.best


SMALL = {
    "backbone": "test_resnet",
    "weights": "random",
    "height": 32,
    "width": 16,
    "padding": 2,
    "samples_per_bn": 4,
}


@pytest.mark.parametrize(
    "settings",
    [
        {"accumulation": 2},
        {"accumulation": 3, "method": "mmt"},
        {"accumulation": 4, "skd_anchor": "augmentation"},
    ],
)
def test_a_batch_in_parts_gives_the_result_of_the_whole_batch(
    settings, tiny_config, tiny_dataset, tmp_path
):
    config = tiny_config.replace(
        **SMALL, **settings, evaluate_every=2, out_dir=str(tmp_path / "parts")
    )
    parts = fit(config, tiny_dataset, progress=False)
    whole = fit(
        config.replace(accumulation=1, out_dir=str(tmp_path / "whole")),
        tiny_dataset,
        progress=False,
    )
    assert parts.history[0]["loss"] == pytest.approx(whole.history[0]["loss"], rel=1e-5)
    assert parts.history[1]["loss"] == pytest.approx(whole.history[1]["loss"], rel=1e-4)
    mine, theirs = parts.encoder.state_dict(), whole.encoder.state_dict()
    for name in (
        n for n in mine if n.endswith(("running_mean", "running_var", "num_batches_tracked"))
    ):
        # one step a batch, not a part
        torch.testing.assert_close(mine[name], theirs[name], rtol=1e-3, atol=1e-4, msg=name)


def test_parts_without_a_setting_for_batch_norm_are_refused_before_a_folder_is_made(
    tiny_config, tiny_dataset, tmp_path
):
    with pytest.raises(KitError, match="samples_per_bn=4"):
        fit(
            tiny_config.replace(accumulation=2, out_dir=str(tmp_path)),
            tiny_dataset,
            progress=False,
        )
    assert not (tmp_path / "runs").exists()


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(
    tiny_config, tiny_dataset, tmp_path, monkeypatch
):
    config = tiny_config.replace(out_dir=str(tmp_path))
    real, calls = objective.dkdmpl_loss, []

    def spoiled(*args, **kwargs):
        calls.append(1)
        loss = real(*args, **kwargs)
        return (
            dataclasses.replace(loss, total=loss.total * float("nan"))
            if len(calls) > config.iterations
            else loss
        )

    monkeypatch.setattr(objective, "dkdmpl_loss", spoiled)
    with pytest.raises(KitError, match="not finite; the last good checkpoint is kept"):
        fit(config, tiny_dataset, progress=False)
    assert json.loads((config.run_dir / "checkpoint.json").read_text())["epoch"] == 1
    monkeypatch.setattr(objective, "dkdmpl_loss", real)
    assert len(fit(config, tiny_dataset, resume=True, progress=False).history) == 2


def test_no_clusters_is_a_sentence_about_the_knob_to_turn(
    tiny_config, tiny_dataset, tmp_path
):
    with pytest.raises(KitError, match="eps"):
        fit(
            tiny_config.replace(out_dir=str(tmp_path), min_samples=60),
            tiny_dataset,
            progress=False,
        )


def test_without_a_test_split_rankings_are_absent_and_training_goes_on(
    tiny_config, tiny_dataset, tmp_path
):
    blind = dataclasses.replace(tiny_dataset, query=(), gallery=())
    result = fit(tiny_config.replace(out_dir=str(tmp_path)), blind, progress=False)
    assert result.final["mAP"] is None and len(result.history) == 2
    assert "not measured" in json.loads((result.run_dir / "result.json").read_text())["note"]


def test_features_that_are_not_finite_stop_before_the_step(
    tiny_config, tiny_dataset, tmp_path
):
    config = tiny_config.replace(
        out_dir=str(tmp_path), learning_rate=1e30, weight_decay=0.0, epochs=3
    )
    with pytest.raises(KitError, match="the last good checkpoint is kept|NaN or infinity"):
        fit(config, tiny_dataset, progress=False)


def test_one_camera_trains_and_says_that_nothing_can_be_matched(
    tiny_config, tiny_dataset, tmp_path
):
    def alone(split):
        return tuple(ReIDImage(image.path, image.pid, 0) for image in split)

    one = dataclasses.replace(
        tiny_dataset,
        train=alone(tiny_dataset.train),
        query=alone(tiny_dataset.query),
        gallery=alone(tiny_dataset.gallery),
    )
    result = fit(tiny_config.replace(out_dir=str(tmp_path)), one, progress=False)
    assert result.final["mAP"] is None
    assert (
        "nothing can be matched"
        in json.loads((result.run_dir / "result.json").read_text())["note"]
    )


def test_schedules_follow_their_formulas(tiny_config):
    cosine = tiny_config.replace(schedule="cosine", epochs=10, learning_rate=1.0)
    assert learning_rate(cosine, 0) == 1 and learning_rate(cosine, 5) == pytest.approx(0.5)
    step = cosine.replace(schedule="step", step_epochs=4)
    assert [round(learning_rate(step, e), 6) for e in (3, 4, 8)] == [1, 0.1, 0.01]
    assert learning_rate(cosine.replace(schedule="constant"), 9) == 1
