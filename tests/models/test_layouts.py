"""Every layout of weights that people start from: made files, and the features of the same
tensors under our own names.
"""

from __future__ import annotations

import argparse
import re

import pytest
import torch

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.models import backbones, build_encoder, tokens
from dkdmpl_kit.models import weights as loading
from dkdmpl_kit.models.activation import occlusion_map, similarity_map
from dkdmpl_kit.models.layouts import likely_backbone
from dkdmpl_kit.models.normalisation import NORMALISATIONS
from dkdmpl_kit.training import fit

X = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
BASE = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}


def made(backbone="test_resnet", pooling="avg", **options):
    """An encoder of ours with norms that are no identity, in eval mode."""
    torch.manual_seed(0)
    encoder = build_encoder(backbone, weights="random", pooling=pooling, **options)
    generator = torch.Generator().manual_seed(1)
    for name, tensor in encoder.state_dict().items():
        if name.endswith(("running_var", "bnneck.weight")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith("running_mean") or "token" in name:
            tensor.normal_(0, 0.1, generator=generator)
    return encoder.eval()


@pytest.fixture(scope="module")
def resnet():
    return made()


@pytest.fixture(scope="module")
def transformer():
    return made("test_vit", "token", size=(64, 32))


def parts_of(encoder):
    """(the backbone's tensors by their bare names, the BNNeck's)."""
    state = encoder.state_dict()
    parts = []
    for prefix in ("backbone.", "bnneck."):
        parts.append({k.removeprefix(prefix): v for k, v in state.items() if prefix in k})
    return parts


def under(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def head(name, dim, rows=7):
    return {name: torch.rand(rows, dim)}


def saved(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def same_features(loaded, expected, *, neck):
    with torch.no_grad():
        own = loaded.eval()(X) if neck else loaded.eval().pooled(X)
        torch.testing.assert_close(own, expected(X) if neck else expected.pooled(X))


def in_base(state):
    """A backbone's names in an nn.Sequential called base."""
    parts = ((name, *name.partition(".")[::2]) for name in state)
    return {f"base.{BASE[part]}.{rest}": state[name] for name, part, rest in parts}


# --- ResNets


def moco(net, neck):
    return {
        "epoch": 200,
        "arch": "resnet18",
        "state_dict": under("module.encoder_q.", net)
        | head("module.encoder_q.fc.0.weight", 96)
        | under("module.encoder_k.", net)
        | {"module.queue": torch.rand(8, 16), "module.queue_ptr": torch.zeros(1)},
    }


def cion(net, neck):
    teacher = under("module.backbone.", net) | head("module.head.mlp.0.weight", 96)
    return {"student": {}, "teacher": teacher, "args": argparse.Namespace(arch="resnet18")}


def transreid(net, neck):
    return under("base.", net) | under("bottleneck.", neck) | head("classifier.weight", 96)


def pplr(net, neck):
    parts = under("bnneck0.", neck) | head("classifier0.weight", 96)
    state = in_base(net) | under("bnneck.", neck) | head("classifier.weight", 96) | parts
    return {"state_dict": under("module.", state), "best_mAP": 0.5}


def openunreid(net, neck):
    state = under("backbone.", net) | under("head.feat_bn.", neck)
    state |= head("classifier.weight", 96)
    other = {name: tensor + 1 for name, tensor in state.items()}
    return {"state_dict": under("module.net.", other) | under("module.mean_net.", state)}


def fastreid(net, neck):
    state = under("backbone.", net) | under("heads.bottleneck.0.", neck)
    return {"model": state | head("heads.weight", 96), "iteration": 100}


def fastreid_of_old(net, neck):
    state = under("backbone.", net) | under("heads.bnneck.", neck)
    mean = torch.tensor(NORMALISATIONS["luperson"][0]).view(1, 3, 1, 1) * 255
    std = torch.tensor(NORMALISATIONS["luperson"][1]).view(1, 3, 1, 1) * 255
    state |= {"pixel_mean": mean, "pixel_std": std}
    return {"model": state | head("heads.classifier.weight", 96)}


def torchreid(net, neck):
    return {"state_dict": under("module.", net) | head("module.classifier.weight", 96)}


def converted(net, neck):
    return net


ROUNDING = "the rounding of fast-reid's first pooling"


@pytest.mark.parametrize(
    ("layout", "neck", "left_out", "normalisation"),
    [
        (moco, False, {"fc", "encoder_k", "queue", "queue_ptr"}, "half"),
        (cion, False, {"head"}, "imagenet"),
        (converted, False, set(), "half"),  # LUPerson's published file, for one
        (torchreid, False, {"classifier"}, "half"),
        (transreid, True, {"classifier"}, "half"),
        (pplr, True, {"classifier", "bnneck0", "classifier0"}, "half"),
        (openunreid, True, {"net", "classifier"}, "half"),
        (fastreid, True, {"heads", ROUNDING}, "half"),
        (fastreid_of_old, True, {"heads", ROUNDING}, "luperson"),
    ],
)
def test_a_resnet_of_each_family_gives_the_features_of_its_tensors_and_names_what_is_left_out(
    tmp_path, resnet, layout, neck, left_out, normalisation
):
    path = saved(tmp_path, layout(*parts_of(resnet)))
    loaded = build_encoder("test_resnet", weights=path, pooling="avg")
    assert loaded.normalisation == normalisation and set(loaded.left_out) == left_out
    assert ", ".join(loaded.left_out) == loaded.describe()["left_out"]
    assert bool(loaded.remark) == bool(left_out) and all(x in loaded.remark for x in left_out)
    loaded.normalise_by(resnet.mean, resnet.std)
    same_features(loaded, resnet, neck=neck)


def test_torchreids_resnet_with_an_embedding_layer_gives_its_512_numbers(tmp_path, resnet):
    net, _ = parts_of(resnet)
    names = ("weight", "bias", "running_mean", "running_var")
    embedding = {f"fc.1.{name}": torch.rand(512) + 0.5 for name in names}
    embedding |= {"fc.0.weight": torch.rand(512, 96), "fc.0.bias": torch.rand(512)}
    path = saved(tmp_path, net | embedding | head("classifier.weight", 96))
    loaded = build_encoder("test_resnet", weights=path, pooling="embedding").eval()
    with torch.no_grad():
        linear = resnet.pooled(X) @ embedding["fc.0.weight"].T + embedding["fc.0.bias"]
        numbers = [embedding[f"fc.1.{name}"] for name in (*names[2:], *names[:2])]
        expected = torch.nn.functional.batch_norm(linear, *numbers).relu()
        torch.testing.assert_close(loaded.pooled(X), expected, rtol=1e-4, atol=1e-3)
    assert loaded.left_out == ("classifier",) and loaded.dim == 512


def test_a_file_with_gem_and_one_without_are_told_apart_and_the_right_pooling_is_named(
    tmp_path,
):
    gem = made(pooling="gem")
    net, neck = parts_of(gem)
    averaged = in_base(net) | under("feat_bn.", neck)
    path = saved(tmp_path, averaged | {"gap.p": torch.tensor([2.5])})
    assert build_encoder("test_resnet", weights=path).pool.p.item() == 2.5
    with pytest.raises(KitError, match='it was trained with GeM: give pooling="gem"'):
        build_encoder("test_resnet", weights=path, pooling="avg")
    path = saved(tmp_path, averaged)
    with pytest.raises(KitError, match='average pooling: give pooling="avg"'):
        build_encoder("test_resnet", weights=path)


def test_a_resnet_with_non_local_blocks_is_refused_by_name(tmp_path, resnet):
    state = fastreid(*parts_of(resnet))
    state["model"]["backbone.NL_2.0.g.weight"] = torch.rand(2, 2)
    path = saved(tmp_path, state)
    with pytest.raises(KitError, match=r"weights.pth does not fit .*non-local.*NL_2.0.g"):
        build_encoder("test_resnet", weights=path, pooling="avg")


# --- transformers


def dino(net, neck):
    return {"teacher": under("backbone.", net) | head("head.mlp.0.weight", 64), "epoch": 99}


def transreid_ssl(net, neck):
    return {"state_dict": under("module.", net) | under("module.bottleneck.", neck)}


def transreid_supervised(net, neck):
    return under("base.", net) | under("bottleneck.", neck) | head("classifier.weight", 64)


def of_timm(net, neck):
    return net | head("head.weight", 64) | {"head.bias": torch.rand(7)}


@pytest.mark.parametrize(
    ("layout", "neck", "left_out", "normalisation"),
    [
        (dino, False, ("head",), "imagenet"),
        (transreid_ssl, True, (), "half"),
        (transreid_supervised, True, ("classifier",), "half"),
        (of_timm, False, ("head",), "half"),
    ],
)
def test_a_transformer_of_each_family_gives_the_features_of_its_tensors(
    tmp_path, transformer, layout, neck, left_out, normalisation
):
    path = saved(tmp_path, layout(*parts_of(transformer)))
    loaded = build_encoder(transformer.name, weights=path, pooling="token", size=(64, 32))
    assert loaded.normalisation == normalisation and loaded.left_out == left_out
    loaded.normalise_by(transformer.mean, transformer.std)
    same_features(loaded, transformer, neck=neck)


@pytest.mark.parametrize("kind", ["ics", "pass"])
def test_the_transformers_of_re_id_read_their_authors_names(tmp_path, monkeypatch, kind):
    """The values that TransReID-SSL's and PASS' own code gives were compared by hand: equal
    to 1e-7, with 256 x 128 pictures.
    """
    plain = ("test_vit", kind)
    monkeypatch.setitem(tokens.REID_TRANSFORMERS, f"small_{kind}", plain)
    monkeypatch.setattr(backbones, "OWN", (f"small_{kind}",))
    expected = made(f"small_{kind}", "token", size=(64, 32))
    net, neck = parts_of(expected)
    if kind == "pass":
        parts = net.pop("reg_token").split(1, dim=1)
        positions = net["pos_embed"].split([1, 1, 1, 1, 8], dim=1)
        net["cls_pos"], *beside, net["pos_embed"] = positions
        net |= {f"part_token{i}": token for i, token in enumerate(parts, 1)}
        net |= {f"part{i}_pos": position for i, position in enumerate(beside, 1)}
    path = saved(tmp_path, under("module.", net | under("bottleneck.", neck)))
    loaded = build_encoder(expected.name, weights=path, pooling="token", size=(64, 32))
    assert loaded.dim == expected.dim == (128 if kind == "pass" else 64)
    same_features(loaded, expected, neck=True)
    with pytest.raises(KitError, match="weights.pth does not fit test_vit "):
        build_encoder("test_vit", weights=path, pooling="token", size=(64, 32))


def test_a_transformers_file_that_does_not_tell_its_mean_needs_the_setting(
    tmp_path, transformer
):
    path = saved(tmp_path, parts_of(transformer)[0])
    options = {"weights": path, "pooling": "token", "size": (64, 32)}
    with pytest.raises(KitError, match="normalisation=imagenet .*or normalisation=half"):
        build_encoder(transformer.name, **options)
    for name in ("imagenet", "half", "luperson"):
        loaded = build_encoder(transformer.name, normalisation=name, **options)
        assert loaded.describe()["normalisation"] == name


@pytest.mark.parametrize(("old", "new"), [((64, 32), (128, 64)), ((96, 32), (64, 32))])
def test_position_embeddings_come_to_the_configured_size_and_a_constant_stays_constant(
    tmp_path, old, new
):
    source = made("test_vit", "token", size=old)
    with torch.no_grad():
        source.backbone.pos_embed[:, 1:] = torch.linspace(-1, 1, 64)  # in every place
    path = saved(tmp_path, source.state_dict())
    loaded = build_encoder(source.name, weights=path, pooling="token", size=new)
    places = (new[0] // 16) * (new[1] // 16)
    assert loaded.backbone.pos_embed.shape == (1, 1 + places, 64) and loaded.size == new
    torch.testing.assert_close(
        loaded.backbone.pos_embed[:, 1:].detach(),
        torch.linspace(-1, 1, 64).expand(1, places, 64),
    )
    assert torch.equal(loaded.backbone.pos_embed[:, 0], source.backbone.pos_embed[:, 0])


# --- mean and standard deviation


def test_a_whole_encoder_brings_its_own_mean_and_refuses_another(tmp_path):
    own = made(normalisation="luperson")
    path = saved(tmp_path, own.state_dict())
    for asked in ("auto", "luperson"):
        loaded = build_encoder(
            "test_resnet", weights=path, pooling="avg", normalisation=asked
        )
        assert loaded.normalisation == "luperson"
        same_features(loaded, own, neck=True)
    with pytest.raises(KitError, match="normalisation=half does not fit .*brings its own"):
        build_encoder("test_resnet", weights=path, pooling="avg", normalisation="half")


def test_a_setting_is_honoured_with_every_kind_of_weights(tmp_path, resnet):
    path = saved(tmp_path, parts_of(resnet)[0])
    for weights, backbone in (
        ("random", "test_resnet"),
        (path, "test_resnet"),
        ("bundled", None),
    ):
        name = backbone or "tf_efficientnet_lite0"
        loaded = build_encoder(name, weights=weights, normalisation="luperson").eval()
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in NORMALISATIONS["luperson"])
        expected = loaded.backbone.forward_features((X - mean) / std)
        torch.testing.assert_close(loaded.feature_map(X), expected)


def test_numbers_without_a_name_are_told_as_they_are(resnet):
    resnet.normalise_by((0.1, 0.2, 0.3), (1, 1, 1))
    assert resnet.normalisation == "mean [0.1, 0.2, 0.3] std [1.0, 1.0, 1.0]"
    resnet.normalise_by(*NORMALISATIONS["imagenet"])
    assert resnet.normalisation == "imagenet"


# --- what does not fit


@pytest.mark.parametrize(
    "backbone",
    [
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet50_ibn_a",
        "osnet_x0_25",
        "osnet_x1_0",
        "osnet_ain_x0_5",
        "osnet_ibn_x1_0",
        "vit_small_patch16_224",
        "vit_base_ics",
        "vit_small_pass",
        "tf_efficientnet_lite0",
    ],
)
def test_a_file_is_told_by_its_names_and_shapes(backbone):
    pooling = "token" if backbone.startswith("vit") else "gem"
    with torch.device("meta"):
        state = build_encoder(backbone, weights="random", pooling=pooling).state_dict()
    assert likely_backbone(state) == backbone
    bare = {k.removeprefix("backbone."): v for k, v in state.items()}
    assert likely_backbone(under("module.encoder_q.", bare)) == backbone


def test_weights_of_another_architecture_are_one_sentence_that_names_it(tmp_path):
    path = saved(tmp_path, build_encoder("osnet_x0_25", weights="random").state_dict())
    for asked in ("test_resnet", "osnet_ain_x0_25"):
        with pytest.raises(KitError) as refused:
            build_encoder(asked, weights=path)
        text = str(refused.value)
        assert re.match(rf".*weights.pth does not fit {asked} with pooling='gem': \d+", text)
        assert "it looks like osnet_x0_25: give backbone=osnet_x0_25." in text


@pytest.mark.parametrize(
    ("backbone", "pooling", "message"),
    [
        ("test_vit", "gem", 'has tokens and no map .*use pooling="token"'),
        ("resnet18", "token", "resnet18' is none: choose gem or avg"),
        ("test_vit2", "token", "no class token"),
    ],
)
def test_a_pooling_that_the_backbone_has_no_input_for_is_refused(backbone, pooling, message):
    with pytest.raises(KitError, match=message):
        build_encoder(backbone, weights="random", pooling=pooling)


def test_a_transformer_refuses_other_sizes_and_activation_maps_and_covers_by_occlusion(
    transformer,
):
    with pytest.raises(KitError, match="pictures of 64 x 32 pixels, got 32 x 32"):
        transformer(X[:, :, :32])
    with pytest.raises(KitError, match="tokens and no map of places"):
        similarity_map(transformer, X, torch.zeros(2, transformer.dim))
    with torch.no_grad():
        towards = transformer(X[:1])[0]
    assert occlusion_map(transformer, X[0], towards, patch=16).shape == (64, 32)


def test_frozen_blocks_take_no_gradient_with_their_tokens_and_the_rest_does():
    encoder = build_encoder(
        "test_vit", weights="random", pooling="token", size=(64, 32), freeze_stages=2
    )
    encoder(X)[:, 0].sum().backward()
    moved = {
        name.removeprefix("backbone.")
        for name, parameter in encoder.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }
    first = ("cls_token", "pos_embed", "patch_embed.", "blocks.0.", "blocks.1.")
    assert moved and not any(name.startswith(first) for name in moved)
    assert any(name.startswith("blocks.2.") for name in moved)
    most = len(encoder.backbone.blocks)
    with pytest.raises(KitError, match=f"from 0 to {most}"):
        build_encoder("test_vit", weights="random", pooling="token", freeze_stages=most + 1)


def test_a_name_of_the_hub_that_cannot_be_fetched_says_what_to_give(monkeypatch):
    def no_network(*args, **options):
        raise OSError("no network")

    monkeypatch.setattr(loading.urllib.request, "urlopen", no_network)
    for weights, message in (("imagenet", "could not be fetched"), ("random", "no network")):
        with pytest.raises(KitError, match=message):
            build_encoder("hf-hub:nobody/no-such-model", weights=weights)


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": "resnet18"},
        {"pooling": "embedding"},
        {"pooling": "token"},
        {"freeze_stages": 8},
        {"backbone": "osnet_x0_25", "weights": "file"},
    ],
)
def test_a_run_whose_encoder_cannot_be_built_leaves_no_folder(
    tmp_path, tiny_config, tiny_dataset, resnet, change
):
    if change.get("weights") == "file":
        change = change | {"weights": str(saved(tmp_path, parts_of(resnet)[0]))}
    config = tiny_config.replace(out_dir=str(tmp_path / "out"), **change)
    with pytest.raises(KitError):
        fit(config, tiny_dataset, progress=False)
    assert not (tmp_path / "out").exists()
