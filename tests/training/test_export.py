"""Exported encoders: the features of every file, the card, and nothing left behind
where something fails.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dkdmpl_kit import __version__
from dkdmpl_kit.data import ImageStore, arrays_of
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import Config, read_json, write_json
from dkdmpl_kit.models import build_encoder, ibn
from dkdmpl_kit.models.batch_norm import set_samples_per_bn
from dkdmpl_kit.training import export, fit, load_encoder
from dkdmpl_kit.training.export import (
    TOLERANCE,
    check_pictures,
    export_encoder,
    export_run,
    feature_difference,
    portable,
)
from dkdmpl_kit.training.features import encoder_record
from dkdmpl_kit.training.model_card import about_training, model_card


@pytest.fixture(scope="module")
def run(tiny_config, tiny_dataset, tmp_path_factory):
    """A ResNet-18 trained for one batch, its first stage frozen."""
    config = tiny_config.replace(
        backbone="resnet18",
        weights="random",
        freeze_stages=1,
        epochs=1,
        iterations=1,
        samples_per_bn=4,
        out_dir=str(tmp_path_factory.mktemp("runs")),
        run_name="exported",
    )
    return fit(config, tiny_dataset, progress=False)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "model"
    return out, export_run(run.run_dir, out)


def test_all_files_appear_readable_and_nothing_else(exported):
    out, paths = exported
    assert [p.name for p in paths] == [
        "README.md",
        "config.json",
        "model.json",
        "model.onnx",
        "model.pt2",
        "model.safetensors",
    ]
    assert all(p.stat().st_mode & 0o044 for p in paths) and list(out.parent.iterdir()) == [
        out
    ]


def test_onnx_and_torch_export_give_the_runs_features_of_real_pictures_in_batches_of_any_size(
    run, exported, tiny_dataset
):
    import onnxruntime

    config, encoder = load_encoder(run.run_dir)
    store = ImageStore(
        arrays_of(tiny_dataset.query)[0], config.height, config.width, progress=False
    )
    session = onnxruntime.InferenceSession(exported[0] / "model.onnx")
    program = torch.export.load(exported[0] / "model.pt2").module()
    for size in (1, 2, 9):
        pictures = store.batch(range(size)).float() / 255
        with torch.no_grad():
            wanted = encoder.eval()(pictures).numpy()
            np.testing.assert_allclose(program(pictures).numpy(), wanted, atol=TOLERANCE)
        found = session.run(None, {"pictures": pictures.numpy()})[0]
        assert found.shape == (size, 512)
        np.testing.assert_allclose(found, wanted, atol=TOLERANCE)
    # the pictures do differ
    assert np.abs(wanted[0] - wanted[1]).max() > 10 * TOLERANCE


def test_the_safetensors_are_the_encoders_own_and_load_by_name(run, exported):
    _, encoder = load_encoder(run.run_dir)
    state = load_file(exported[0] / "model.safetensors")
    assert state.keys() == encoder.state_dict().keys()
    assert all(
        torch.equal(state[name], tensor) for name, tensor in encoder.state_dict().items()
    )
    loaded = build_encoder("resnet18", weights=exported[0] / "model.safetensors")
    assert (
        feature_difference(encoder.eval(), loaded.eval(), Config(height=64, width=32)) < 1e-6
    )


def test_a_run_is_read_after_the_file_that_it_started_from_is_gone(run, tmp_path):
    folder = shutil.copytree(run.run_dir, tmp_path / "run")
    settings = read_json(folder / "config.json")
    settings["settings"]["weights"] = "gone.pth"
    write_json(folder / "config.json", settings)
    encoder = load_encoder(folder)[1]
    assert encoder.describe()["weights"] == "gone.pth"
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            encoder.state_dict().values(), run.encoder.state_dict().values(), strict=True
        )
    )


def test_the_json_beside_the_model_has_all_that_a_caller_needs(run, exported):
    import onnxruntime

    told = read_json(exported[0] / "model.json")
    model = (exported[0] / told["model"]).read_bytes()
    assert told["sha256"] == hashlib.sha256(model).hexdigest()
    session = onnxruntime.InferenceSession(model)
    (pictures,), (features,) = session.get_inputs(), session.get_outputs()
    assert (told["input"], told["output"]) == (pictures.name, features.name)
    assert pictures.shape[1:] == [3, told["height"], told["width"]] == [3, 64, 32]
    assert isinstance(pictures.shape[0], str)  # any number of pictures
    assert features.shape[1] == told["dim"] == 512
    assert told["mean"] == [0.485, 0.456, 0.406] and told["std"] == [0.229, 0.224, 0.225]
    assert (told["colour"], told["range"], told["normalisation"], told["metric"]) == (
        "RGB",
        [0, 1],
        "inside",
        "cosine",
    )
    assert told["threshold"] is None and told["kit"] == __version__
    assert (
        told["fingerprint"] == encoder_record(*load_encoder(run.run_dir)[::-1])["fingerprint"]
    )


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """(config, encoder, folder) of an encoder that the kit did not train, exported for a
    caller who normalises, with a threshold.
    """
    config = Config(backbone="test_resnet", weights="random", height=64, width=32)
    torch.manual_seed(3)
    encoder = build_encoder("test_resnet", weights="random").eval()
    out = tmp_path_factory.mktemp("start")
    record = {
        "threshold": 0.61,
        "fpr": 1e-4,
        "labels": "pseudo labels",
        "encoder": encoder_record(encoder, config),
    }
    threshold = write_json(out / "threshold.json", record)
    export_encoder(config, encoder, out / "encoder", normalise="outside", threshold=threshold)
    return config, encoder, out / "encoder"


def test_with_normalisation_outside_the_caller_subtracts_the_mean(start):
    import onnxruntime

    config, encoder, out = start
    told = read_json(out / "model.json")
    assert told["normalisation"] == "outside" and told["threshold"] == 0.61
    session = onnxruntime.InferenceSession(out / "model.onnx")
    pictures = check_pictures(7, config)
    mean, std = (torch.tensor(told[name]).reshape(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        wanted = encoder(pictures).numpy()
    ready = ((pictures - mean) / std).numpy()
    np.testing.assert_allclose(
        session.run(None, {told["input"]: ready})[0], wanted, atol=TOLERANCE
    )
    program = torch.export.load(out / "model.pt2").module()
    found = program(torch.from_numpy(ready)).detach().numpy()
    np.testing.assert_allclose(found, wanted, atol=TOLERANCE)
    # and to leave it out, or to do it twice, is another feature
    plain = session.run(None, {told["input"]: pictures.numpy()})[0]
    assert np.abs(plain - wanted).max() > 10 * TOLERANCE
    # the safetensors keep the encoder as it is, its mean included
    loaded = build_encoder("test_resnet", weights=out / "model.safetensors").eval()
    assert feature_difference(encoder, loaded, config) < 1e-6


def test_weights_that_the_kit_did_not_train_say_so_and_have_no_settings_of_a_run(start):
    _, _, out = start
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "model.json",
        "model.onnx",
        "model.pt2",
        "model.safetensors",
    ]
    card = " ".join((out / "README.md").read_text().split())
    for words in (
        "which did **not** train it",
        "not trained or measured by the kit",
        "0.6100, at a false-positive rate of 0.0001, from pseudo labels",
        "minus the mean, divided by the deviation",
        "applied by the caller",
        "must not be used to identify, track or profile",
    ):
        assert words in card
    assert "Results of the run" not in card


def test_the_card_opens_with_front_matter_that_yaml_reads(exported, start):
    import yaml

    for out, backbone in ((exported[0], "resnet18"), (start[2], "test_resnet")):
        opening, front, text = (out / "README.md").read_text().split("---\n", 2)
        found = yaml.safe_load(front)
        assert opening == "" and text.lstrip().startswith("# ")
        assert found["license"] == "other" and found["library_name"] == "dkdmpl-kit"
        assert found["pipeline_tag"] == "image-feature-extraction"
        assert {"re-identification", "onnx", backbone} <= set(found["tags"])


def test_names_of_a_run_stand_for_themselves_in_the_card(run, tmp_path):
    folder = shutil.copytree(run.run_dir, tmp_path / "run")
    settings = read_json(folder / "config.json")
    settings["settings"] |= {"run_name": "a|b *c* <i>", "weights": "/secret/place/w|.pth"}
    write_json(folder / "config.json", settings)
    config, encoder = load_encoder(folder)
    handover = dict.fromkeys(("threshold", "mean", "std", "normalisation"))
    about = about_training(config, encoder, folder)
    card = model_card(config, encoder, handover, {"onnx": 1e-6}, about)
    assert "# a\\|b \\*c\\* \\<i>: a re-identification" in card
    assert "| weights | w\\|.pth |" in card and "/secret" not in card


def test_a_damaged_record_of_a_run_is_told_before_the_work(run, tmp_path):
    folder = shutil.copytree(run.run_dir, tmp_path / "run")
    for damage in ("null", '{"final": 3}', "{"):
        (folder / "result.json").write_text(damage)
        with pytest.raises(KitError, match=r"result\.json"):
            export_run(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_settings_that_are_handed_over_name_no_folder_of_this_machine(exported):
    settings = read_json(exported[0] / "config.json")
    assert not [value for value in settings.values() if str(value).startswith("/")]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"encoder": {"fingerprint": "0" * 16}}, "belongs to the encoder test_resnet"),
        ({"encoder": {"height": 128}}, "on 128 x 32 pixels"),
        ({"threshold": 2}, "is not a similarity from -1 to 1"),
        ({"threshold": float("nan")}, "is not a similarity from -1 to 1"),
        ({"threshold": "0.5"}, "its 'threshold' is \"0.5\""),
        ({"encoder": None}, "its 'encoder' is null"),
    ],
)
def test_a_threshold_of_another_encoder_or_none_is_refused(start, tmp_path, change, sentence):
    config, encoder, _ = start
    record = {"threshold": 0.5, "fpr": 1e-4, "labels": "true identities"}
    record |= {"encoder": encoder_record(encoder, config)}
    for name, value in change.items():
        record[name] = record[name] | value if isinstance(value, dict) else value
    path = tmp_path / "threshold.json"
    path.write_text(json.dumps(record))
    with pytest.raises(KitError, match=sentence):
        export_encoder(config, encoder, tmp_path / "out", threshold=path)
    assert not (tmp_path / "out").exists()


def test_a_start_is_exported_by_the_command_and_all_that_is_wrong_is_said_first(
    tmp_path, capsys, monkeypatch
):
    from dkdmpl_kit.cli import main

    asked = []
    monkeypatch.setattr(
        export, "export_encoder", lambda *args, **options: asked.append((args, options)) or []
    )
    argv = ["export", "--backbone", "resnet18", "--weights", "random", "--height", "64"]
    out = str(tmp_path / "out")
    assert main([*argv, "--out", out, "--normalise", "outside"]) == 0
    ((config, encoder, place), options) = asked[0]
    assert (config.height, encoder.name, place) == (64, "resnet18", out)
    assert options == {"normalise": "outside", "threshold": None, "run": None}
    for wrong, sentence in (
        (("--threshold", str(tmp_path / "none.json")), "There is no"),
        (("--out", str(Path(__file__))), "is not an empty folder"),
        (("--weights", str(tmp_path / "none.pth")), "none.pth"),
    ):
        assert main([*argv, "--out", out, *wrong]) == 2
        error = capsys.readouterr().err
        assert sentence in error and error.count("\n") == 1
    assert len(asked) == 1 and not list(tmp_path.iterdir())


PAGE = Path(__file__).resolve().parents[2] / "docs" / "tracker.md"


@pytest.mark.parametrize("which", ["exported", "start"])
def test_the_code_of_the_page_about_trackers_gives_the_kits_own_features(
    which, exported, start, tmp_path, monkeypatch, capsys, tiny_dataset
):
    folder = exported[0] if which == "exported" else start[2]
    shutil.copytree(folder, tmp_path / "encoder")
    (tmp_path / "crops").mkdir()
    for path in arrays_of(tiny_dataset.query)[0][:3]:
        shutil.copy(path, tmp_path / "crops")
    monkeypatch.chdir(tmp_path)
    given = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), given)
    said = re.search(r"largest difference: ([0-9.e-]+)", capsys.readouterr().out)
    assert len(blocks) == 2 and float(said.group(1)) < TOLERANCE
    assert given["found"].shape == (3, given["model"]["dim"])


def test_the_card_tells_settings_data_results_input_use_and_licence(run, exported):
    card = " ".join((exported[0] / "README.md").read_text().split())
    fingerprint = read_json(run.run_dir / "config.json")["data_fingerprint"]
    for words in (
        fingerprint,
        f"| mAP | {run.final['mAP']:.4g} |",
        "| samples_per_bn | 4 |",
        "| backbone | resnet18 |",
        "float32 (B, 3, 64, 32), RGB in [0, 1]",
        "must not be used to identify, track or profile",
        "## Licence",
    ):
        assert words in card
    assert Config().replace(**read_json(exported[0] / "config.json")).backbone == "resnet18"


def test_a_file_whose_features_differ_is_an_error_and_leaves_nothing(
    run, tmp_path, monkeypatch
):
    # BGR for RGB
    monkeypatch.setattr(
        export, "_read_pt2", lambda path, encoder: lambda x: encoder(x.flip(1))
    )
    with pytest.raises(
        KitError, match="model.pt2 gives features that differ by .* nothing was written"
    ):
        export_run(run.run_dir, tmp_path / "deep" / "model")
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.parametrize(
    "spoil",
    [lambda x: x.flip(1), lambda x: x.flip(3), lambda x: x * 255, lambda x: x * 0.999],
)
def test_the_check_notices_wrong_channels_mirrors_and_ranges(spoil):
    encoder, config = portable(build_encoder(freeze_stages=1)), Config(height=64, width=32)
    assert feature_difference(encoder, encoder, config) == 0
    assert feature_difference(encoder, lambda x: encoder(spoil(x)), config) > TOLERANCE


@pytest.mark.parametrize("pooling", ["gem", "avg"])
def test_ibn_and_groups_of_batch_norm_survive_the_tracing_with_a_free_batch_size(
    monkeypatch, pooling
):
    # the same blocks, smaller
    monkeypatch.setitem(ibn.IBN_BACKBONES, "resnet50_ibn_a", ("resnet18", ""))
    encoder = set_samples_per_bn(
        build_encoder("resnet50_ibn_a", weights="random", pooling=pooling, freeze_stages=2), 2
    )
    encoder(torch.rand(4, 3, 64, 32))
    plain, config = portable(encoder), Config(height=64, width=32)
    assert feature_difference(encoder.eval(), plain, config) < 1e-6
    batch = {0: torch.export.Dim("batch", min=1)}
    program = torch.export.export(
        plain, (check_pictures(2, config),), dynamic_shapes={"x": batch}
    )
    assert feature_difference(plain, program.module(), config) < TOLERANCE


def test_folders_in_use_runs_without_weights_and_missing_packages_are_told(
    run, tmp_path, monkeypatch
):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    with pytest.raises(KitError, match="not an empty folder"):
        export_run(run.run_dir, tmp_path / "used")
    with pytest.raises(KitError, match="config.json"):
        export_run(tmp_path / "used", tmp_path / "new")
    monkeypatch.setattr(
        export.importlib.util,
        "find_spec",
        lambda name: None if name == "onnxruntime" else name,
    )
    with pytest.raises(
        KitError, match=r"needs onnxruntime: pip install 'dkdmpl-kit\[runs\]'"
    ):
        export_run(run.run_dir, tmp_path / "new")
    assert not (tmp_path / "new").exists()
