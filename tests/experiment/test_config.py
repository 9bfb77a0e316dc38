"""Settings: one frozen object, strict names and values, fingerprints, atomic files."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import (
    PRESETS,
    Config,
    open_dataset,
    open_run,
    pick_device,
    preset,
    read_json,
    smoke,
    write_atomic,
)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_is_a_complete_configuration_of_flat_scalars(name):
    config = preset(name)
    assert config.preset == name
    assert all(
        isinstance(v, (str, int, float, bool)) for v in dataclasses.asdict(config).values()
    )


def test_paper_presets_state_the_recipe_of_cluster_contrast():
    config = preset("paper-msmt17")
    assert (config.backbone, config.weights, config.height, config.width) == (
        "resnet50.tv_in1k",
        "imagenet",
        256,
        128,
    )
    assert (config.epochs, config.iterations, config.samples_per_bn, config.precision) == (
        50,
        400,
        64,
        "auto",
    )
    assert (
        config.batch_clusters * config.batch_images,
        config.learning_rate,
        config.weight_decay,
    ) == (256, 3.5e-4, 5e-4)
    assert (config.k1, config.k2, config.eps, config.min_samples) == (30, 6, 0.6, 4)
    assert preset("paper-veri776").height == preset("paper-veri776").width == 224


def test_a_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().eps = 0.1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"skd_divergence": "l2"}, "kl, symmetric_kl, js"),
        ({"precision": "fp16"}, "auto, fp32, bf16"),
        ({"memory_format": "nhwc"}, "auto, contiguous, channels_last"),
        ({"extraction_precision": "int8"}, "same, auto, fp32, bf16"),
        ({"epoch": 3}, "epochs"),
        ({"eps": 0.9}, "max_distance"),
        ({"eps": "automatic"}, "should be a float"),
        ({"eps": "auto", "cluster_method": "hdbscan"}, "use cluster_method=dbscan"),
        ({"distance": "euclidean"}, "jaccard, camera_jaccard"),
        ({"distance": "camera_jaccard", "k2_intra": 7}, "at most k1_intra \\+ 1 = 6"),
        ({"distance": "camera_jaccard", "k2_inter": 22}, "at most k1_inter \\+ 1 = 21"),
        ({"distance": "camera_jaccard", "knn": "approximate"}, "use knn=exact"),
        ({"teacher_cameras": "other"}, "teacher_cameras=all"),
        ({"teacher_clusters": 3}, "teacher_clusters=0"),
        ({"outliers": "teach"}, "gkd_teacher=vote or neighbourhood"),
        ({"loss_scale": 0.0}, "above 0"),
        ({"epochs": 0}, "at least 1"),
        ({"learning_rate": "fast"}, "should be a float"),
        ({"epochs": "2.5"}, "should be a int"),
        ({"epochs": True}, "should be a int"),
        ({"eps": True}, "should be a float"),
        ({"eps": float("nan")}, "eps=nan must be a finite number"),
        ({"temperature": "inf"}, "temperature=inf must be a finite number"),
        ({"seed": "9" * 20}, "seed=9{20} is too large"),
        ({"seed": -1}, "negative"),
        ({"data_root": None}, "should be a str"),
        ({"run_name": ["a"]}, "should be a str"),
        ({"run_name": "../x"}, "plain name of a folder"),
        ({"max_distance": 1.0}, "strictly between 0 and 1"),
        ({"max_distance": 2.0}, "strictly between 0 and 1"),
        ({"temperature": 0.0}, "above 0"),
        ({"flip": 1.5}, "between 0 and 1"),
        ({"gkd_weight": -1.0}, "negative"),
        ({"samples_per_bn": 1}, "must be 2 or more and divide"),
        ({"samples_per_bn": 24}, "divide batch_clusters x batch_images = 64"),
    ],
)
def test_bad_settings_are_one_sentence_that_names_the_remedy(change, sentence):
    with pytest.raises(KitError, match=sentence):
        Config().replace(**change)


def test_settings_given_as_text_reach_their_types():
    config = Config().with_settings(
        "eps=0.5 min_samples=2 centre_cameras=true sampler=random"
    )
    assert (config.eps, config.min_samples, config.centre_cameras, config.sampler) == (
        0.5,
        2,
        True,
        "random",
    )
    with pytest.raises(KitError, match="name=value"):
        Config().with_settings("eps 0.5")


def test_the_fingerprint_follows_what_decides_a_result_and_nothing_else():
    config = Config()
    assert (
        config.fingerprint()
        == config.replace(out_dir="elsewhere", run_name="other").fingerprint()
    )
    assert config.fingerprint() != config.replace(eps=0.55).fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        {"memory_format": "contiguous"},
        {"extraction_precision": "fp32"},
        {"precision": "auto"},
    ],
)
def test_how_a_run_computes_is_part_of_its_fingerprint_and_where_it_runs_is_not(change):
    assert Config().replace(**change).fingerprint() != Config().fingerprint()
    assert Config().replace(device="cuda").fingerprint() == Config().fingerprint()


def test_results_that_are_shown_come_from_fp32_and_long_runs_measure_what_is_fast():
    for name in ("smoke", "demo", "teach"):
        assert (
            preset(name).precision,
            preset(name).memory_format,
            preset(name).extraction_precision,
        ) == ("fp32", "channels_last", "same")
    assert (
        preset("paper-market1501").precision == preset("paper-msmt17").memory_format == "auto"
    )


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("paper-")])
def test_a_dry_run_is_short_and_small_keeps_the_recipe_and_bears_another_name(name):
    full, dry = preset(name), smoke(preset(name))
    assert (dry.epochs, dry.iterations, dry.batch_clusters * dry.batch_images) == (
        1,
        2,
        16,
    ) and dry.height == 64
    assert dry.width / dry.height == full.width / full.height
    kept = (
        "backbone",
        "method",
        "sampler",
        "learning_rate",
        "schedule",
        "eps",
        "temperature",
        "last_stride",
        "data",
    )
    assert all(getattr(dry, field) == getattr(full, field) for field in kept)
    assert (
        dry.samples_per_bn > 1
        and dry.name == "smoke-dkdmpl-seed0"
        and dry.fingerprint() != full.fingerprint()
    )
    assert smoke(dry).name == dry.name


def test_loss_weights_follow_the_method_and_the_warm_up():
    config = Config(gkd_weight=0.4, skd_weight=0.8, warmup_epochs=3)
    assert config.replace(method="cluster_contrast").loss_weights(9) == (0, 0)
    assert config.replace(method="gkd").loss_weights(9) == (0.4, 0)
    assert config.replace(method="skd").loss_weights(1) == (0, pytest.approx(0.4))
    assert config.loss_weights(0) == (pytest.approx(0.1), pytest.approx(0.2))


def test_a_run_folder_is_never_taken_over_by_another_run(tmp_path):
    config = preset("smoke", out_dir=str(tmp_path))
    # an epoch became whole
    (open_run(config, "data-a", resume=False) / "checkpoint.json").write_text("{}")
    with pytest.raises(KitError, match="--resume"):
        open_run(config, "data-a", resume=False)
    assert open_run(config, "data-a", resume=True) == config.run_dir
    with pytest.raises(KitError, match="eps=0.6 \\(now 0.5\\)"):
        open_run(config.replace(eps=0.5), "data-a", resume=True)
    with pytest.raises(KitError, match="other pictures"):
        open_run(config, "data-b", resume=True)
    # where the pictures lie is not what makes them others
    with pytest.raises(KitError, match=r"data \(other pictures\)"):
        open_run(config.replace(data_root="moved"), "data-b", resume=True)


def test_writing_leaves_the_old_file_or_the_new_one_and_no_rest(tmp_path, monkeypatch):
    path = write_atomic(tmp_path / "a" / "value.json", "old")

    def torn(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", torn)
        with pytest.raises(KitError, match="free some space .* --resume"):
            write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == ["value.json"]


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX")
def test_a_limit_of_file_sizes_is_named_and_keeps_the_place(tmp_path):
    program = """
import resource, sys
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import write_atomic
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomic(sys.argv[1], b"0" * 2000)
except KitError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "x")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ulimit -f" in done.stdout and "--resume" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_damaged_json_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(KitError, match="x.json is not valid JSON"):
        read_json(tmp_path / "x.json")
    with pytest.raises(KitError, match="There is no"):
        read_json(tmp_path / "y.json")


def test_unknown_devices_and_missing_data_roots_are_explained():
    with pytest.raises(KitError, match="use cpu, cuda"):
        pick_device("gpu9")
    with pytest.raises(KitError, match="needs data_root"):
        open_dataset(Config(data="market1501"))
    assert pick_device("auto") in ("cpu", "cuda")


def test_a_configuration_survives_json():
    config = preset("demo", eps=0.55)
    assert Config().replace(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_a_folder_in_which_no_epoch_became_whole_is_free_for_the_corrected_settings(tmp_path):
    config = preset("smoke", out_dir=str(tmp_path))
    open_run(config.replace(weights="imagenet"), "data-a", resume=False)
    run_dir = open_run(config, "data-a", resume=False)
    assert read_json(run_dir / "config.json")["settings"]["weights"] == "bundled"
    # the same run, cut before its first epoch was done
    assert open_run(config, "data-a", resume=False) == run_dir


def test_a_run_may_go_on_with_another_device(tmp_path):
    config = preset("smoke", out_dir=str(tmp_path))
    (open_run(config, "data", resume=False) / "checkpoint.json").write_text("{}")
    assert open_run(config.replace(device="auto"), "data", resume=True) == config.run_dir
