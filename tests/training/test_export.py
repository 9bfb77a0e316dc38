"""Exported encoders: the features of every file, the card, and nothing left behind
where something fails.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dkdmpl_kit.data import ImageStore, arrays_of
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import Config, read_json, write_json
from dkdmpl_kit.models import build_encoder, ibn
from dkdmpl_kit.models.batch_norm import set_samples_per_bn
from dkdmpl_kit.training import export, fit, load_encoder
from dkdmpl_kit.training.export import (
    TOLERANCE,
    check_pictures,
    export_run,
    feature_difference,
    portable,
)


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
