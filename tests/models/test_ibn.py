"""IBN-a ResNets: equal to a plain writing of the published architecture."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet50

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.models import build_encoder
from dkdmpl_kit.models.ibn import IBN_BACKBONES, InstanceBatchNorm, ibn_resnet


def published_state(seed=0):
    """As the authors' file: ResNet-50, bn1 of layers 1-3 split into IN and BN."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in resnet50().state_dict().items():
        ibn = name.startswith(("layer1", "layer2", "layer3")) and ".bn1." in name
        for part in ("IN", "BN") if ibn else ("",):
            key = name.replace(".bn1.", f".bn1.{part}.") if ibn else name
            if part == "IN" and not key.endswith(("weight", "bias")):
                continue  # instance norm keeps no running statistics
            shape = (len(tensor) // 2,) if ibn and tensor.ndim else tensor.shape
            if tensor.ndim == 4:
                state[key] = (
                    torch.randn(shape, generator=generator) * (2 / tensor[0].numel()) ** 0.5
                )
            else:
                state[key] = (
                    torch.rand(shape, generator=generator) + 0.1 if tensor.ndim else tensor
                )
    return state


def naive_map(state, x, *, training):
    """The published forward pass in plain functions, last stride 1: (B, 2048, h, w)."""

    def norm(name, y):
        mean = state[f"{name}.running_mean"].clone()
        var = state[f"{name}.running_var"].clone()
        return F.batch_norm(
            y, mean, var, state[f"{name}.weight"], state[f"{name}.bias"], training
        )

    def own_norm(name, y):  # each channel of each picture by itself
        rows = []
        for picture in y:
            rows.append(
                torch.stack(
                    [
                        (channel - channel.mean())
                        / (channel.var(correction=0) + 1e-5).sqrt()
                        * w
                        + b
                        for channel, w, b in zip(
                            picture, state[f"{name}.weight"], state[f"{name}.bias"]
                        )
                    ]
                )
            )
        return torch.stack(rows)

    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    x = F.max_pool2d(
        norm("bn1", F.conv2d(x, state["conv1.weight"], stride=2, padding=3)).relu(), 3, 2, 1
    )
    for layer, blocks, stride in ((1, 3, 1), (2, 4, 2), (3, 6, 2), (4, 3, 1)):
        for block in range(blocks):
            at = f"layer{layer}.{block}"
            step = stride if block == 0 else 1
            y = F.conv2d(x, state[f"{at}.conv1.weight"])
            if layer < 4:
                half = y.shape[1] // 2
                y = torch.cat(
                    [
                        own_norm(f"{at}.bn1.IN", y[:, :half]),
                        norm(f"{at}.bn1.BN", y[:, half:]),
                    ],
                    1,
                )
            else:
                y = norm(f"{at}.bn1", y)
            y = norm(
                f"{at}.bn2",
                F.conv2d(y.relu(), state[f"{at}.conv2.weight"], stride=step, padding=1),
            ).relu()
            y = norm(f"{at}.bn3", F.conv2d(y, state[f"{at}.conv3.weight"]))
            if block == 0:
                x = norm(
                    f"{at}.downsample.1",
                    F.conv2d(x, state[f"{at}.downsample.0.weight"], stride=step),
                )
            x = (x + y).relu()
    return x


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(state, file, encoder) of the published format."""
    state = published_state()
    path = tmp_path_factory.mktemp("ibn") / "resnet50_ibn_a-d9d0bb7b.pth"
    torch.save(state, path)
    return state, path, build_encoder("resnet50_ibn_a", weights=path)


@pytest.mark.parametrize("training", [True, False])
def test_the_published_checkpoint_gives_the_published_architectures_map(published, training):
    state, _, encoder = published
    x = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with torch.no_grad():
        found = encoder.train(training).feature_map(x)
    encoder.load_state_dict(before)
    expected = naive_map(state, x, training=training)
    assert found.shape == (2, 2048, 4, 2) and expected.std() > 0.1
    torch.testing.assert_close(
        found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())
    )


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}, "epoch": 3},
        lambda s: {k: v for k, v in s.items() if "num_batches_tracked" not in k},
    ],
)
def test_checkpoints_wrapped_by_a_trainer_or_saved_by_an_old_torch_load_too(
    published, tmp_path, wrap
):
    state, _, encoder = published
    torch.save(wrap(state), tmp_path / "other.pth.tar", _use_new_zipfile_serialization=False)
    other = build_encoder("resnet50_ibn_a", weights=tmp_path / "other.pth.tar")
    for name in (
        "layer1.0.bn1.IN.weight",
        "layer3.5.bn1.BN.running_var",
        "layer4.2.bn1.weight",
    ):
        assert torch.equal(other.backbone.state_dict()[name], state[name])
        assert torch.equal(encoder.backbone.state_dict()[name], state[name])


def test_a_plain_resnets_checkpoint_is_refused(tmp_path):
    torch.save(resnet50().state_dict(), tmp_path / "plain.pth")
    with pytest.raises(
        KitError, match="plain.pth does not fit resnet50_ibn_a .*layer1.0.bn1"
    ):
        build_encoder("resnet50_ibn_a", weights=tmp_path / "plain.pth")


def test_half_of_the_channels_ignore_brightness_and_contrast_of_a_picture_and_half_see_them():
    norm = InstanceBatchNorm(6).eval()
    nn.init.uniform_(norm.IN.weight), nn.init.uniform_(norm.IN.bias)
    x = torch.rand(2, 6, 8, 4)
    other = norm(3 * x + 2)
    torch.testing.assert_close(other[:, :3], norm(x)[:, :3], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(other[:, 3:], (3 * x + 2)[:, 3:] / (1 + norm.BN.eps) ** 0.5)


def test_value_and_gradient_are_those_of_the_two_norms_side_by_side():
    torch.manual_seed(0)
    norm = InstanceBatchNorm(5)
    x = torch.rand(3, 5, 4, 2, requires_grad=True)
    instance = nn.InstanceNorm2d(2, affine=True)
    batch = nn.BatchNorm2d(3)
    nn.init.uniform_(norm.IN.weight), nn.init.uniform_(norm.BN.weight)
    (
        instance.load_state_dict(norm.IN.state_dict()),
        batch.load_state_dict(norm.BN.state_dict()),
    )
    weights = torch.rand(3, 5, 4, 2)
    expected = torch.cat([instance(x[:, :2]), batch(x[:, 2:])], 1)
    found = norm(x)
    torch.testing.assert_close(found, expected)
    wanted = torch.autograd.grad(
        (expected * weights).sum(), (x, instance.weight, instance.bias, batch.weight)
    )
    own = torch.autograd.grad(
        (found * weights).sum(), (x, norm.IN.weight, norm.IN.bias, norm.BN.weight)
    )
    torch.testing.assert_close(own, wanted)


@pytest.mark.parametrize(
    ("backbone", "blocks"), [("resnet50_ibn_a", 13), ("resnet101_ibn_a", 30)]
)
def test_every_block_of_layers_one_to_three_has_it_and_nothing_else(backbone, blocks):
    net = ibn_resnet(backbone, num_classes=0)
    found = [
        name for name, module in net.named_modules() if isinstance(module, InstanceBatchNorm)
    ]
    assert len(found) == blocks and all(
        name.startswith(("layer1.", "layer2.", "layer3.")) for name in found
    )
    assert all(name.endswith("bn1") for name in found)


def test_weights_that_no_hub_has_name_the_file_and_where_its_authors_publish_it():
    for backbone, (_, file) in IBN_BACKBONES.items():
        with pytest.raises(KitError, match=f"fetch {file} .*github.com/XingangPan/IBN-Net"):
            build_encoder(backbone, weights="imagenet")
