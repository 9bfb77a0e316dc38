"""Encoder: shapes, settings that fit or say why not, frozen stages, feature extraction."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.models import BUNDLED_BACKBONE, GeM, build_encoder, extract_features


def pictures(n=4, height=64, width=32, seed=0):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


def small(**options):
    """A ResNet-18 with random weights: the cheapest encoder that has every part."""
    torch.manual_seed(0)
    return build_encoder("resnet18", weights="random", **options)


@pytest.fixture(scope="module")
def bundled():
    return build_encoder().eval()


# --- architecture


def test_the_bundled_encoder_gives_rows_of_norm_one(bundled):
    with torch.no_grad():
        features = bundled(pictures())
    assert features.shape == (4, bundled.dim) == (4, 1280) and features.dtype == torch.float32
    torch.testing.assert_close(features.norm(dim=1), torch.ones(4))


def test_by_hand_gem_of_two_cells_is_the_cube_root_of_the_mean_cube():
    cells = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)
    assert GeM()(cells).item() == pytest.approx((9 / 2) ** (1 / 3))
    assert GeM(p=1.0)(cells).item() == pytest.approx(1.5)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_gem_of_a_large_map_taken_in_parts_is_that_of_the_whole_in_value_and_gradient(rows):
    x = torch.rand(
        rows, 1024, 32, 32, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()  # 2 rows a part
    gem = GeM()
    pooled = gem(x)
    weights = torch.arange(1.0, rows + 1)[:, None]  # each row's gradient differs
    mine = torch.autograd.grad((pooled * weights).sum(), (x, gem.p))
    whole = x.clamp(min=gem.eps).pow(gem.p).mean(dim=(2, 3)).pow(1 / gem.p)
    torch.testing.assert_close(pooled, whole)
    torch.testing.assert_close(mine, torch.autograd.grad((whole * weights).sum(), (x, gem.p)))


def test_gem_learns_its_exponent_and_average_pooling_is_the_plain_mean():
    encoder = small()
    encoder.pooled(pictures()).sum().backward()
    assert encoder.pool.p.item() == 3.0 and encoder.pool.p.grad is not None
    plain = small(pooling="avg").eval()
    with torch.no_grad():
        torch.testing.assert_close(
            plain.pooled(pictures()), plain.feature_map(pictures()).mean(dim=(2, 3))
        )


def test_the_picture_is_normalised_inside_by_the_backbones_own_mean_and_deviation():
    encoder = small().eval()
    x = pictures()
    mean = torch.tensor([0.485, 0.456, 0.406])
    std = torch.tensor([0.229, 0.224, 0.225])
    expected = encoder.backbone.forward_features((x - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    torch.testing.assert_close(encoder.feature_map(x), expected)


def test_the_forward_pass_is_the_normalised_bnneck_of_the_pooled_features_and_its_bias_stays_zero():
    encoder = small().eval()
    x = pictures()
    torch.testing.assert_close(
        encoder(x), torch.nn.functional.normalize(encoder.bnneck(encoder.pooled(x)), dim=1)
    )
    assert not encoder.bnneck.bias.requires_grad and encoder.bnneck.weight.requires_grad
    assert not encoder.bnneck.bias.any()


@pytest.mark.parametrize("backbone", ["resnet18", "resnet26", "resnet26d"])
def test_last_stride_one_doubles_the_map_of_a_resnet_and_keeps_its_parameters(backbone):
    one, two = (
        build_encoder(backbone, weights="random", last_stride=stride).eval()
        for stride in (1, 2)
    )
    two.load_state_dict(one.state_dict())
    x = pictures(1)
    with torch.no_grad():
        assert one.feature_map(x).shape[2:] == (4, 2) and two.feature_map(x).shape[2:] == (
            2,
            1,
        )
    assert one.describe()["last_stride"] == 1 and two.describe()["last_stride"] == 2


def test_describe_tells_the_settings_as_they_hold(bundled):
    assert bundled.describe() == {
        "backbone": BUNDLED_BACKBONE,
        "weights": "bundled",
        "left_out": "",
        "normalisation": "half",
        "pooling": "gem",
        "dim": 1280,
        "last_stride": 2,
        "freeze_stages": 0,
    }


def test_features_are_float32_also_under_bf16_autocast():
    encoder = small().eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features = encoder(pictures())
    assert features.dtype == torch.float32
    torch.testing.assert_close(features.norm(dim=1), torch.ones(4))


# --- frozen stages


@pytest.mark.parametrize(
    ("options", "first_free"),
    [
        ({"backbone": "resnet18", "weights": "random", "freeze_stages": 2}, "layer3"),
        ({"backbone": BUNDLED_BACKBONE, "freeze_stages": 5}, "blocks.5"),
    ],
)
def test_a_training_step_moves_neither_weights_nor_statistics_of_frozen_stages_and_moves_the_rest(
    options, first_free
):
    encoder = build_encoder(**options)
    before = copy.deepcopy(encoder.state_dict())
    trained = [p for p in encoder.parameters() if p.requires_grad]
    (
        encoder(pictures())
        * pictures(4, 1, encoder.dim // 3 + 1).flatten(1)[:, : encoder.dim]
    ).sum().backward()
    assert all(p.grad is not None for p in trained)
    torch.optim.SGD(trained, lr=1.0).step()
    names = list(before)
    border = next(
        i for i, name in enumerate(names) if name.startswith(f"backbone.{first_free}")
    )
    changed = [
        i
        for i, name in enumerate(names)
        if not torch.equal(before[name], encoder.state_dict()[name])
    ]
    assert changed and border <= min(i for i in changed if names[i].startswith("backbone."))
    assert names.index("bnneck.running_mean") in changed
    assert any(
        names[i].startswith(f"backbone.{first_free}") and "running_mean" in names[i]
        for i in changed
    )


def test_freezing_changes_no_feature_in_eval_mode_and_is_kept_through_train_and_eval():
    free = small().eval()
    frozen = small(freeze_stages=3).eval()
    frozen.load_state_dict(free.state_dict())
    torch.testing.assert_close(frozen(pictures()), free(pictures()))
    frozen.train()
    assert not frozen.backbone.bn1.training and not frozen.backbone.layer3.training
    assert frozen.backbone.layer4.training and frozen.bnneck.training


@pytest.mark.parametrize(("backbone", "most"), [(BUNDLED_BACKBONE, 7), ("resnet18", 4)])
def test_all_stages_can_be_frozen_and_not_one_more(backbone, most):
    encoder = build_encoder(backbone, weights="random", freeze_stages=most)
    encoder(pictures()).sum().backward()
    assert encoder.pool.p.grad is not None
    for wrong in (most + 1, -1):
        with pytest.raises(KitError, match=f"from 0 to {most}"):
            build_encoder(backbone, weights="random", freeze_stages=wrong)


# --- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet18"}, f"only fits {BUNDLED_BACKBONE}"),
        ({"backbone": "resnet99x"}, "not a timm model"),
        ({"pooling": "max"}, "gem, avg, embedding, token"),
        ({"last_stride": 4}, "1, 2"),
        ({"weights": "imagnet"}, "is not a file"),
        (
            {"backbone": "mobilenetv3_small_050", "weights": "random", "freeze_stages": 9},
            "does not fit",
        ),
    ],
)
def test_settings_that_do_not_fit_are_told_in_one_sentence(options, message):
    with pytest.raises(KitError, match=message):
        build_encoder(**options)


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(2, 64, 32, 3),
        torch.zeros(3, 64, 32),
        torch.zeros(2, 3, 64, 32, dtype=torch.uint8),
    ],
)
def test_input_that_is_no_batch_of_float_pictures_is_refused(x):
    with pytest.raises(KitError, match="float pictures"):
        small()(x)


def test_a_training_batch_of_one_picture_is_refused():
    with pytest.raises(KitError, match="at least two pictures"):
        small()(pictures(1))


def test_a_backbone_without_a_map_is_refused():
    encoder = build_encoder("levit_128s", weights="random")
    with pytest.raises(KitError, match="choose a convolutional one"):
        encoder(pictures(2))


# --- extraction


class Store:
    """What extraction asks of an image store: a length, and batches by index."""

    def __init__(self, pixels):
        self.pixels = pixels

    def __len__(self):
        return len(self.pixels)

    def batch(self, indices):
        return self.pixels[torch.as_tensor(np.asarray(indices))]


def test_extraction_is_the_same_for_every_kind_of_source_and_every_batch_size():
    encoder = small()
    pixels = (pictures(5) * 255).to(torch.uint8)
    with torch.no_grad():
        expected = encoder.eval()(pixels.float() / 255).numpy()
    for source in (
        Store(pixels),
        pixels,
        pixels.numpy(),
        pixels.float() / 255,
        (pixels.float() / 255).numpy(),
    ):
        for batch_size in (1, 2, 5, 64):
            features = extract_features(encoder, source, batch_size=batch_size)
            assert features.dtype == np.float32 and features.shape == (5, 512)
            np.testing.assert_allclose(features, expected, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_extraction_restores_the_mode_leaves_the_statistics_and_keeps_no_graph(training):
    encoder = small(freeze_stages=1).train(training)
    before = copy.deepcopy(encoder.state_dict())
    extract_features(encoder, pictures())
    assert (
        encoder.training is training
        and encoder.bnneck.training is training
        and not encoder.backbone.bn1.training
    )
    assert all(
        torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items()
    )


def test_extraction_restores_the_mode_also_when_a_picture_cannot_be_read():
    class Broken(Store):
        def batch(self, indices):
            raise KitError("picture 3 is corrupt")

    encoder = small()
    with pytest.raises(KitError, match="picture 3"):
        extract_features(encoder, Broken(pictures()))
    assert encoder.training


def test_bf16_extraction_points_the_same_way_as_fp32(bundled):
    full, half = (
        extract_features(bundled, pictures(), precision=p) for p in ("fp32", "bf16")
    )
    assert half.dtype == np.float32 and not np.array_equal(full, half)
    assert (full * half).sum(1).min() > 0.99


def test_extraction_of_nothing_or_in_an_unknown_precision_is_refused():
    with pytest.raises(KitError, match="no pictures"):
        extract_features(small(), torch.zeros(0, 3, 64, 32))
    with pytest.raises(KitError, match="fp32, bf16"):
        extract_features(small(), pictures(), precision="fp8")
