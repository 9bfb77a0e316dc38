from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from dkdmpl_kit import __version__
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import preset
from dkdmpl_kit.models import build_encoder
from dkdmpl_kit.training.features import (
    Features,
    embed,
    encoder_fingerprint,
    encoder_record,
    read_features,
    require_same_encoder,
    save_features,
)

SMALL = {"height": 64, "width": 32, "device": "cpu", "extraction_precision": "fp32"}


def some_features(**changes) -> Features:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3, 5)).astype(np.float32)
    found = Features(
        rows / np.linalg.norm(rows, axis=1, keepdims=True),
        ("a/1.png", "b ü/2.png", "3.png"),
        np.array([0, -1, 2]),
        np.array([4, 4, -1]),
        ("query", "gallery", ""),
        {"fingerprint": "f" * 16, "backbone": "x", "height": 64, "width": 32},
        "/pictures",
    )
    return dataclasses.replace(found, **changes)


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(weights="bundled").eval()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(3):
        Image.new("RGB", (32, 64), (80 * i, 200 - 60 * i, 90)).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_a_file_is_read_as_it_was_written(tmp_path, ending):
    written = some_features()
    path = save_features(tmp_path / f"f.{ending}", written)
    found = read_features(path)
    for field in dataclasses.fields(Features):
        mine, other = getattr(written, field.name), getattr(found, field.name)
        assert type(mine) is type(other)
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, other)
            assert mine.dtype == other.dtype
        else:
            assert mine == other
    assert found.kit == __version__
    assert found.of_split("gallery").tolist() == [1]
    assert str(found.files()[0]) == "/pictures/a/1.png"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_table_is_one_for_pandas(tmp_path):
    pandas = pytest.importorskip("pandas")
    table = pandas.read_parquet(save_features(tmp_path / "f.parquet", some_features()))
    assert list(table.columns) == ["path", "camid", "pid", "split", "feature"]
    assert table["camid"].tolist() == [0, -1, 2]
    np.testing.assert_array_equal(np.stack(table["feature"]), some_features().features)


def test_embed_is_one_line(pictures, encoder):
    found = embed(pictures, weights="bundled", **SMALL)
    assert found.features.shape == (3, encoder.dim) and found.camids.tolist() == [-1] * 3
    batch = [np.asarray(Image.open(p)).transpose(2, 0, 1) for p in pictures]
    with torch.no_grad():
        expected = encoder(torch.tensor(np.stack(batch)).float().div(255)).numpy()
    np.testing.assert_allclose(found.features, expected, atol=2e-3)
    assert [p.name for p in found.files()] == [p.name for p in pictures]
    config = preset("demo").replace(**SMALL)
    require_same_encoder(found.encoder, encoder_record(encoder, config), "f.npz")
    with pytest.raises(KitError, match="f.npz belongs to .* 64 x 32 .* 128 x 32"):
        other = encoder_record(encoder, config.replace(height=128))
        require_same_encoder(found.encoder, other, "f.npz")


def test_embed_refuses_what_it_cannot_do(pictures, tmp_path):
    with pytest.raises(KitError, match="no pictures"):
        embed([])
    with pytest.raises(KitError, match="brings its own weights"):
        embed(pictures, run=tmp_path, height=64)
    with pytest.raises(KitError, match="nowhere.png"):
        embed([tmp_path / "nowhere.png"], **SMALL)


def test_a_fingerprint_is_of_what_the_encoder_computes(encoder):
    name = encoder_fingerprint(encoder)
    assert name == encoder_fingerprint(encoder.to(memory_format=torch.contiguous_format))
    other = build_encoder(weights="bundled")
    assert encoder_fingerprint(other) == name
    other.bnneck.num_batches_tracked += 1
    assert encoder_fingerprint(other) == name
    other.bnneck.running_mean[0] += 1e-3
    assert encoder_fingerprint(other) != name
    assert encoder_fingerprint(build_encoder(weights="bundled", pooling="avg")) != name


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def other_bytes(path):
    path.write_bytes(bytes(range(256)) * 4)


def empty(path):
    path.write_bytes(b"")


def changed(path, **arrays):
    with np.load(path) as file:
        own = dict(file) | arrays
    np.savez(path, **{name: array for name, array in own.items() if array is not None})


def with_record(path, **values):
    with np.load(path) as file:
        record = json.loads(str(file["record"])) | values
    changed(path, record=np.array(json.dumps(record)))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "damaged"),
        (other_bytes, "damaged"),
        (empty, "damaged"),
        (lambda path: np.save(path.open("wb"), np.ones(3)), "a single array"),
        (lambda path: changed(path, features=None), "features"),
        (lambda path: changed(path, record=None), "record"),
        (lambda path: changed(path, record=np.array("{")), "damaged"),
        (lambda path: changed(path, record=np.array("[1]")), "holds no object"),
        (lambda path: changed(path, paths=np.array(["x"])), "do not fit together"),
        (lambda path: changed(path, features=np.ones(3)), "do not fit together"),
        (lambda path: changed(path, features=np.array("x")), "do not fit together"),
        (lambda path: changed(path, features=np.zeros((3, 5))), "rows of norm 1"),
        (lambda path: changed(path, features=np.full((3, 5), np.nan)), "rows of norm 1"),
        (lambda path: changed(path, camids=np.array(["a", "b", "c"])), "whole numbers"),
        (lambda path: changed(path, paths=np.array([{}] * 3, dtype=object)), "damaged"),
        (lambda path: with_record(path, schema=2), "schema 2"),
        (lambda path: with_record(path, encoder={}), "fingerprint"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path, damage, words):
    path = save_features(tmp_path / "f.npz", some_features())
    damage(path)
    with pytest.raises(KitError, match=words) as found:
        read_features(path)
    assert "f.npz" in str(found.value) and "\n" not in str(found.value)


@pytest.mark.parametrize("damage", [cut, other_bytes, empty])
def test_a_damaged_table_is_one_sentence(tmp_path, damage):
    path = save_features(tmp_path / "f.parquet", some_features())
    damage(path)
    with pytest.raises(KitError, match="f.parquet was not written by the kit, or is damaged"):
        read_features(path)


def test_a_table_of_others_is_one_sentence(tmp_path):
    pandas = pytest.importorskip("pandas")
    for table in ({"path": ["x"]}, {"path": ["x"], "feature": [3]}):
        pandas.DataFrame(table).to_parquet(tmp_path / "f.parquet")
        with pytest.raises(KitError, match="not written by the kit"):
            read_features(tmp_path / "f.parquet")


def test_names_that_no_file_of_features_can_have(tmp_path, monkeypatch):
    with pytest.raises(KitError, match=r"must end in .npz or .parquet"):
        save_features(tmp_path / "f.csv", some_features())
    with pytest.raises(KitError, match="no such file"):
        read_features(tmp_path / "f.npz")
    with pytest.raises(KitError, match="a folder"):
        (tmp_path / "d.npz").mkdir()
        read_features(tmp_path / "d.npz")
    undecodable = some_features(paths=("a", "b\udcff", "c"))
    assert read_features(save_features(tmp_path / "f.npz", undecodable)).paths[1] == "b\udcff"
    with pytest.raises(KitError, match="not text"):
        save_features(tmp_path / "f.parquet", undecodable)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(KitError, match="pip install pyarrow"):
        save_features(tmp_path / "f.parquet", some_features())
    assert not (tmp_path / "f.parquet").exists()
