"""OSNet: torchreid's features from torchreid's file, and the published sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.models import build_encoder
from dkdmpl_kit.models.activation import similarity_map
from dkdmpl_kit.models.osnet import OSNET_BACKBONES, osnet

SHARED = Path(__file__).parents[3] / "shared" / "data" / "weights"
WEIGHTS = SHARED / "osnet_x0_25_msmt17.pth"


def drawn():
    """One 256 x 128 picture in [0, 1] of waves and ramps, (1, 3, 256, 128)."""
    y = torch.linspace(0, 1, 256)[:, None]
    x = torch.linspace(0, 1, 128)[None, :]
    return torch.stack([((8 * y).sin() * (5 * x).cos() + 1) / 2, y * x, (x - y) ** 2])[None]


def pictures(n=4, height=64, width=32):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0))


def spoilt(net):
    """`net` with norms that are no identity, so that a missed one shows."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in net.state_dict().items():
        if name.endswith(("bn.weight", "IN.weight", "running_var", "1.weight")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("bias", "running_mean")):
            tensor.uniform_(-0.2, 0.2, generator=generator)
    return net


def torchreids(net, family):
    """The tensors of our net, with embedding and classifier, under torchreid's names."""
    state = {}
    for name, tensor in net.state_dict().items():
        parts = name.split(".")
        if "streams" in parts:
            at = parts.index("streams")
            stream, i = parts[at + 1 : at + 3]
            inner = [f"conv2{'abcd'[int(stream)]}"] + ([i] if stream != "0" else [])
            if family == "osnet_ain":
                inner = ["conv2", stream, "layers", i]
            parts[at : at + 3] = inner
        elif parts[0] in ("pool2", "pool3") and family != "osnet_ain":
            parts[:1] = [f"conv{parts[0][-1]}", "2"]
        state[".".join(parts)] = tensor
    generator = torch.Generator().manual_seed(2)
    dim = net.num_features
    shapes = {
        "fc.0.weight": (512, dim),
        "fc.0.bias": (512,),
        "fc.1.weight": (512,),
        "fc.1.bias": (512,),
        "fc.1.running_mean": (512,),
        "fc.1.running_var": (512,),
        "classifier.weight": (10, 512),
        "classifier.bias": (10,),
    }
    for name, shape in shapes.items():
        state[name] = torch.rand(shape, generator=generator)
    return state


def saved(tmp_path, backbone, change=lambda state: None):
    torch.manual_seed(0)
    net = spoilt(osnet(backbone)).eval()
    state = torchreids(net, OSNET_BACKBONES[backbone][0])
    change(state)
    path = tmp_path / f"{backbone}.pth.tar"
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 9}, path)
    return net, state, path


# --- the published network


@pytest.mark.parametrize(
    ("backbone", "millions", "parameters"),
    [  # the paper's, rounded; torchreid's, without its classifier
        ("osnet_x0_25", 0.2, 201_864),
        ("osnet_x0_5", 0.6, 630_034),
        ("osnet_x0_75", 1.3, 1_285_754),
        ("osnet_x1_0", 2.2, 2_169_508),
        ("osnet_ain_x1_0", 2.2, 2_169_508),
        ("osnet_ibn_x1_0", 2.2, 2_170_532),
    ],
)
def test_the_number_of_parameters_is_the_published_one(backbone, millions, parameters):
    with torch.device("meta"):
        encoder = build_encoder(backbone, weights="random", pooling="embedding")
    counted = sum(
        p.numel() for name, p in encoder.named_parameters() if not name.startswith("bnneck")
    )
    assert counted == parameters and round(counted / 1e6, 1) == millions


@pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"needs {WEIGHTS.name} in ../shared/data")
def test_the_shared_file_gives_the_features_that_torchreids_code_gives():
    """Reference values: torchreid f8cd150, `osnet_x0_25`, eval mode, of `drawn()`."""
    embedded = build_encoder("osnet_x0_25", weights=WEIGHTS, pooling="embedding").eval()
    plain = build_encoder("osnet_x0_25", weights=WEIGHTS, pooling="avg").eval()
    assert embedded.left_out == ("classifier",)
    assert plain.left_out == ("fc (the embedding layer)", "classifier")
    with torch.no_grad():
        vector = embedded.pooled(drawn())[0]
        means = plain.pooled(drawn())[0]
    expected = [0.0, 0.0, 1.24551, 0.0, 0.133, 0.33261, 0.39336, 0.76251]
    torch.testing.assert_close(vector[:8], torch.tensor(expected), rtol=0, atol=1e-4)
    assert vector.norm().item() == pytest.approx(22.504616, abs=1e-4)
    expected = [0.00555, 0.06102, 0.05263, 0.07733, 0.14341, 0.01454, 0.29665, 0.03787]
    torch.testing.assert_close(means[:8], torch.tensor(expected), rtol=0, atol=1e-4)
    assert means.norm().item() == pytest.approx(0.755527, abs=1e-4)


@pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"needs {WEIGHTS.name} in ../shared/data")
def test_the_fresh_bnneck_leaves_the_cosines_of_the_files_embedding_as_they_are():
    encoder = build_encoder("osnet_x0_25", weights=WEIGHTS, pooling="embedding").eval()
    x = pictures(8, 128, 64)
    with torch.no_grad():
        raw = torch.nn.functional.normalize(encoder.pooled(x), dim=1)
        torch.testing.assert_close(encoder(x) @ encoder(x).T, raw @ raw.T)


# --- files in torchreid's layouts


@pytest.mark.parametrize("backbone", ["osnet_x0_5", "osnet_ain_x0_25", "osnet_ibn_x1_0"])
def test_torchreids_names_bring_every_tensor_to_its_place(tmp_path, backbone):
    net, state, path = saved(tmp_path, backbone)
    encoder = build_encoder(backbone, weights=path, pooling="embedding").eval()
    x = pictures()
    with torch.no_grad():
        places = net.forward_features((x - encoder.mean) / encoder.std)
        means = places.mean(dim=(2, 3))
        linear = means @ state["fc.0.weight"].T + state["fc.0.bias"]
        norm = [state[f"fc.1.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        expected = torch.nn.functional.batch_norm(linear, *norm).relu()
        assert places.shape == (4, net.num_features, 4, 2) and encoder.dim == 512
        torch.testing.assert_close(encoder.pooled(x), expected, rtol=1e-3, atol=1e-4)
        plain = build_encoder(backbone, weights=path, pooling="avg").eval()
        torch.testing.assert_close(plain.pooled(x), means, rtol=1e-3, atol=1e-4)
    assert plain.dim == net.num_features
    assert plain.describe()["left_out"] == "fc (the embedding layer), classifier"
    assert encoder.describe()["left_out"] == "classifier"


def test_by_hand_a_gate_of_zeros_halves_every_channel_and_all_streams_share_it():
    block = osnet("osnet_x0_25").eval().conv3[1]
    for layer in (block.gate.fc1, block.gate.fc2):
        torch.nn.init.zeros_(layer.weight)
    x = pictures(2).repeat(1, 32, 1, 1)
    with torch.no_grad():
        streams = [stream(block.conv1(x)) for stream in block.streams]
        expected = torch.relu(block.conv3(sum(streams) / 2) + x)
        torch.testing.assert_close(block(x), expected)


def test_stages_freeze_from_the_stem_on_and_the_last_stage_stays_free():
    encoder = build_encoder("osnet_x0_25", weights="random", freeze_stages=2)
    encoder(pictures()).sum().backward()
    frozen = {
        name.split(".")[1]
        for name, p in encoder.backbone.named_parameters(prefix="x")
        if p.grad is None
    }
    assert frozen == {"conv1", "conv2", "pool2", "conv3", "pool3"}
    with pytest.raises(KitError, match="from 0 to 3"):
        build_encoder("osnet_x0_25", weights="random", freeze_stages=4)


def test_the_activation_map_of_an_embedding_sums_to_the_similarity_without_its_shifts(
    tmp_path,
):
    """Linear in pieces: with ReLU's side fixed, all but the biases comes from places."""
    _, state, path = saved(tmp_path, "osnet_x0_25")
    encoder = build_encoder("osnet_x0_25", weights=path, pooling="embedding").eval()
    x = pictures(3)
    towards = torch.nn.functional.normalize(torch.rand(3, 512), dim=1)
    with torch.no_grad():
        means = encoder.feature_map(x).mean(dim=(2, 3))
        slopes = state["fc.1.weight"] / (state["fc.1.running_var"] + 1e-5).sqrt()
        slopes = slopes * (encoder.pooled(x) > 0) / (1 + 1e-5) ** 0.5
        expected = (slopes * (means @ state["fc.0.weight"].T) * towards).sum(1)
    found = similarity_map(encoder, x, towards).sum((1, 2))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


# --- what does not fit


def test_a_file_without_an_embedding_layer_is_refused_where_one_was_asked_for(tmp_path):
    def headless(state):
        for name in [name for name in state if name.startswith("fc.")]:
            del state[name]

    _, _, path = saved(tmp_path, "osnet_x0_25", headless)
    with pytest.raises(KitError, match='no embedding layer.*choose pooling="avg" or "gem"'):
        build_encoder("osnet_x0_25", weights=path, pooling="embedding")
    assert build_encoder("osnet_x0_25", weights=path).left_out == ("classifier",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "bundled", "pooling": "embedding"}, "needs a weights file"),
        ({"weights": "bundled"}, "only fits tf_efficientnet_lite0"),
        ({"weights": "imagenet"}, 'no weights="imagenet" for osnet_x0_25.*MODEL_ZOO'),
        ({"backbone": "osnet"}, "not a timm model; for instance: osnet_x0_25"),
    ],
)
def test_settings_that_do_not_fit_say_what_to_give(options, message):
    with pytest.raises(KitError, match=message):
        build_encoder(**{"backbone": "osnet_x0_25"} | options)


def test_another_width_of_the_family_is_refused_by_its_shapes(tmp_path):
    _, _, path = saved(tmp_path, "osnet_x0_25")
    with pytest.raises(KitError, match="does not fit osnet_x1_0"):
        build_encoder("osnet_x1_0", weights=path)
