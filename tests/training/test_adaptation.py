"""Crops in, a better encoder out, or the start; without identities, and resumable."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from dkdmpl_kit.data.survey import Survey
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import preset
from dkdmpl_kit.models import extract_features
from dkdmpl_kit.noise.evidence import Evidence
from dkdmpl_kit.training import adaptation, load_encoder
from dkdmpl_kit.training.adaptation import (
    adapt,
    chosen_neighbours,
    chosen_settings,
    picture_size,
)
from dkdmpl_kit.training.seeds import seed_everything

GIVEN = {
    "backbone": "test_efficientnet",
    "weights": "random",
    "height": 64,
    "width": 32,
    "epochs": 2,
    "iterations": 2,
    "k1": 8,
    "min_samples": 2,
}


@pytest.fixture
def config(tiny_dataset, tmp_path):
    return preset(
        "demo",
        data="folder",
        data_root=str(tiny_dataset.root),
        out_dir=str(tmp_path),
        **GIVEN,
    )


@pytest.fixture
def guarded(monkeypatch):
    """Hand the guard made-up evidence: a list of (mixing, across), a state each."""

    def by(*states):
        left = list(states)

        def made(features, camids, groups):
            mixing, across = left.pop(0)
            spread = np.linspace(-0.1, 0.1, 200)
            return Evidence(mixing + spread, 0.5 + spread, across + spread, 0.5 + spread)

        monkeypatch.setattr(adaptation, "evidence", made)

    return by


def run(config, dataset, **options):
    return adapt(config, dataset, given=GIVEN, progress=False, **options)


def weights(encoder):
    return {name: value.clone() for name, value in encoder.state_dict().items()}


def equal(one, two):
    return all((one[name] == two[name]).all() for name in one)


def test_the_better_state_is_kept_as_a_run_of_its_own(config, tiny_dataset, guarded):
    guarded((0.3, 0.3), (0.5, 0.5), (0.4, 0.4))
    found = run(config, tiny_dataset)
    assert found.verdict.epoch == 1
    kept, encoder = load_encoder(found.run_dir)
    assert kept.name == "adapted" and equal(weights(encoder), weights(found.encoder))
    state = load_encoder(found.run_dir.parent / "training")[1]
    assert not equal(weights(encoder), weights(state))  # the last epoch's is another one
    store = adaptation.ImageStore(tiny_dataset.unlabelled().paths, 64, 32)
    assert found.features == pytest.approx(extract_features(encoder, store), abs=1e-5)
    record = json.loads((found.run_dir.parents[1] / "adapt.json").read_text())
    assert record["chosen_epoch"] == 1 and len(record["states"]) == 3
    assert record["choices"]["eps"]["value"] == "auto"
    assert "height" not in record["choices"]  # it was given
    result = json.loads((found.run_dir / "result.json").read_text())
    assert result["final"]["n_clusters"] == found.pseudo.n_clusters


def test_the_start_is_kept_to_the_bit_where_nothing_is_better(config, tiny_dataset, guarded):
    guarded((0.3, 0.3), (0.2, 0.5), (0.5, 0.2))
    found = run(config, tiny_dataset)
    seed_everything(found.config.seed)
    start = adaptation.new_state(found.config, "cpu").encoder
    assert found.verdict.epoch == 0
    assert equal(weights(load_encoder(found.run_dir)[1]), weights(start))


def test_training_ends_where_it_makes_things_worse(config, tiny_dataset, guarded):
    guarded(*[(0.3, 0.3)] + [(0.2, 0.2)] * 3)
    told = []
    longer = config.replace(epochs=6)
    found = adapt(longer, tiny_dataset, given={*GIVEN}, progress=False, tell=told.append)
    assert found.verdict.epoch == 0 and len(found.verdict.judged) == 4
    assert any("stopped" in line for line in told)


def test_without_cameras_the_start_is_kept_and_told_before_the_training(config, tiny_dataset):
    unknown = tuple(dataclasses.replace(image, camid=-1) for image in tiny_dataset.train)
    told = []
    blind = dataclasses.replace(tiny_dataset, train=unknown)
    found = adapt(config, blind, given=GIVEN, progress=False, tell=told.append)
    assert found.verdict.epoch == 0 and "cameras are known" in found.verdict.sentence
    before = told[: next(i for i, line in enumerate(told) if line.startswith("before:"))]
    assert any("will keep the start" in line and "--pattern" in line for line in before)


def test_an_interrupted_adaptation_goes_on_to_the_same_end(
    config, tiny_dataset, tmp_path, monkeypatch
):
    whole = run(config.replace(out_dir=str(tmp_path / "whole")), tiny_dataset)
    again = config.replace(out_dir=str(tmp_path / "again"))

    class Killed(Exception):
        pass

    def killed(self, record):
        raise Killed

    with monkeypatch.context() as patch:
        # between an epoch's checkpoint and what follows
        patch.setattr(adaptation._States, "_epoch", killed)
        with pytest.raises(Killed):
            run(again, tiny_dataset)
    with pytest.raises(KitError, match="resume"):
        run(again, tiny_dataset)
    found = run(again, tiny_dataset, resume=True)
    assert found.verdict == whole.verdict
    assert equal(weights(found.encoder), weights(whole.encoder))
    assert (found.pseudo.labels == whole.pseudo.labels).all()
    # and a finished one, asked again, says the same
    assert run(again, tiny_dataset, resume=True).verdict == whole.verdict


def test_identities_reach_nothing(config, tiny_dataset, tmp_path):
    rng = np.random.default_rng(0)
    others = rng.permutation([image.pid for image in tiny_dataset.train]).tolist()
    shuffled = dataclasses.replace(
        tiny_dataset,
        train=tuple(
            dataclasses.replace(image, pid=pid)
            for image, pid in zip(tiny_dataset.train, others)
        ),
    )
    one, two = (
        run(config.replace(out_dir=str(tmp_path / name)), dataset)
        for name, dataset in (("one", tiny_dataset), ("two", shuffled))
    )
    assert one.verdict == two.verdict and equal(weights(one.encoder), weights(two.encoder))
    assert adaptation.without_identities(tiny_dataset).unlabelled().camids.tolist() == (
        tiny_dataset.unlabelled().camids.tolist()
    )
    assert {image.pid for image in adaptation.without_identities(tiny_dataset).images()} == {
        None
    }


def test_pictures_that_do_not_cluster_leave_the_start(config, tiny_dataset):
    few = dataclasses.replace(tiny_dataset, train=tiny_dataset.train[:6])
    found = adapt(config.replace(min_samples=5), few, given={*GIVEN}, progress=False)
    assert found.verdict.sentence.startswith("Kept the start: nothing was trained")
    assert not (found.run_dir.parent / "training").exists()


def seen(n, height=128, width=64, cameras=2, unknown=0, burst=None):
    none = np.zeros(n, bool)
    burst = np.full(n, -1) if burst is None else burst
    return Survey(height, width, 20, cameras, unknown, none, none, none, none, burst)


def values(found, config, given=()):
    return {choice.name: choice.value for choice in chosen_settings(found, config, given)}


def test_choices_follow_from_what_was_seen():
    config = preset("demo")
    small = values(seen(800), config)
    assert (small["height"], small["width"], small["iterations"]) == (128, 64, 20)
    assert small["sampler"] == "camera" and small["learning_rate"] == 1e-3
    large = values(seen(12_936, cameras=2, unknown=1), config)
    assert large["iterations"] == 100
    assert large["sampler"] == "random"
    bursts = np.repeat(np.arange(80), 10)
    assert lists(seen(800, burst=bursts), config, 0.9)["k1"] == 30  # three bursts
    reid = config.replace(backbone="osnet_x0_25", weights="some.pth")
    assert values(seen(800), reid)["learning_rate"] == 3.5e-4
    assert values(seen(800), reid)["pooling"] == "embedding" and "pooling" not in small
    assert values(seen(800), reid, {"learning_rate"}).get("learning_rate") is None
    tall = values(seen(800), config.replace(height=256), {"height"})
    assert tall["padding"] == 19 and "height" not in tall


def lists(found, config, mixing, given=()):
    chosen = chosen_neighbours(found, config, given, mixing)
    return {choice.name: choice.value for choice in chosen}


def test_cameras_that_keep_apart_get_their_own_lists_unless_others_are_asked_for():
    config = preset("demo")
    known, partly = seen(800), seen(800, unknown=1)
    assert lists(known, config, 0.69) == {"distance": "camera_jaccard"}
    assert lists(known, config, 0.7) == {"distance": "jaccard", "k1": 15, "k2": 4}
    assert lists(partly, config, 0.3)["distance"] == "jaccard"
    large = lists(seen(12_936, cameras=1), config, None)
    assert large == {"distance": "jaccard", "k1": 30, "k2": 6}
    assert lists(known, config, 0.3, {"k2"}) == {"distance": "jaccard", "k1": 15}
    assert lists(known, config, 0.3, {"distance"}) == {"k1": 15, "k2": 4}
    asked = config.replace(distance="camera_jaccard")
    assert lists(known, asked, 0.9, {"distance"}) == {}


def test_the_size_of_pictures_follows_their_shape():
    lite, osnet = "tf_efficientnet_lite0", "osnet_x0_25"
    assert picture_size(2.6, lite) == (128, 64) and picture_size(2.0, osnet) == (256, 128)
    assert picture_size(1.0, lite) == (96, 96) and picture_size(1.2, osnet) == (176, 176)
    assert picture_size(0.5, osnet) == (128, 256)


def test_what_the_guard_looks_at_is_never_trained_on(config, tiny_dataset, monkeypatch):
    trained = []

    def stop(config, dataset, **options):
        trained.extend(dataset.unlabelled().paths)
        raise adaptation.RunStopped

    monkeypatch.setattr(adaptation, "fit", stop)
    looked = []
    real = adaptation._features

    def features(config, encoder, images, progress):
        looked.append(set(images.paths))
        return real(config, encoder, images, progress)

    monkeypatch.setattr(adaptation, "_features", features)
    run(config, tiny_dataset)
    every, judges = looked[0], looked[1]
    assert every == set(tiny_dataset.unlabelled().paths) and len(judges) >= 4
    assert set(trained) == every - judges
