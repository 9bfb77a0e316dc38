"""Activation maps: they add up to the similarity, and point at what is alike."""

from __future__ import annotations

import pytest
import torch

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.models import build_encoder
from dkdmpl_kit.models.activation import occlusion_map, similarity_map


@pytest.fixture(scope="module", params=["gem", "avg"])
def encoder(request):
    torch.manual_seed(0)
    encoder = build_encoder(pooling=request.param).eval()
    encoder.bnneck.running_mean.uniform_(0, 1)
    encoder.bnneck.running_var.uniform_(0.5, 2)
    encoder.bnneck.weight.data.uniform_(0.5, 2)
    return encoder


def test_the_places_of_a_picture_sum_to_its_inner_product_without_the_batch_norms_shift(
    encoder,
):
    pictures = torch.rand(3, 3, 64, 32)
    towards = torch.nn.functional.normalize(torch.randn(3, encoder.dim), dim=1)
    found = similarity_map(encoder, pictures, towards)
    with torch.no_grad():
        neck = encoder.bnneck
        scale = neck.weight / (neck.running_var + neck.eps).sqrt()
        expected = (scale * encoder.pooled(pictures) * towards).sum(1)
    assert found.ndim == 3 and found.shape[1] >= 2
    torch.testing.assert_close(found.sum((1, 2)), expected, rtol=1e-3, atol=1e-4)


def test_what_lies_where_the_other_picture_has_nothing_is_not_where_the_map_is_high(encoder):
    grey = torch.full((1, 3, 128, 64), 0.5)
    patch = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(1))
    upper = grey.clone()
    other = grey.clone()
    upper[0, :, :48] = patch
    other[0, :, :48] = patch
    with torch.no_grad():
        towards = encoder(other)
    rows = similarity_map(encoder, upper, towards)[0].clamp(min=0).sum(1)
    assert rows[: len(rows) // 2].sum() > rows[len(rows) // 2 :].sum()


def test_pictures_may_be_bytes_and_the_encoder_is_left_as_it_was(encoder):
    encoder.train()
    pictures = torch.randint(0, 255, (2, 3, 64, 32), dtype=torch.uint8)
    towards = torch.nn.functional.normalize(torch.randn(2, encoder.dim), dim=1)
    before = encoder.bnneck.running_mean.clone()
    found = similarity_map(encoder, pictures, towards)
    assert encoder.training and torch.equal(before, encoder.bnneck.running_mean)
    assert all(p.grad is None for p in encoder.parameters())
    torch.testing.assert_close(
        found, similarity_map(encoder, pictures.float() / 255, towards)
    )
    encoder.eval()


def test_a_feature_too_few_is_one_sentence(encoder):
    with pytest.raises(KitError, match="one feature of"):
        similarity_map(encoder, torch.rand(2, 3, 64, 32), torch.zeros(1, encoder.dim))


class Corner(torch.nn.Module):
    """A stand-in whose feature is the mean of the upper left 8 x 8 pixels, as an angle."""

    def __init__(self):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x):
        angle = x[:, :, :8, :8].mean((1, 2, 3))
        return torch.stack([angle.cos(), angle.sin()], 1)


def test_covering_matters_exactly_where_the_encoder_looks():
    picture = torch.ones(3, 32, 16)
    towards = Corner()(picture[None])[0].detach()
    found = occlusion_map(Corner(), picture, towards, patch=8)
    assert found.shape == (32, 16)
    fall = 1 - torch.cos(torch.tensor(0.5))  # the square goes from mean 1 to mean 0.5
    torch.testing.assert_close(found[:4, :4], fall.expand(4, 4))
    assert found[12:].abs().max() < 1e-6 and found[:4, 12:].abs().max() < 1e-6


def test_a_square_larger_than_the_picture_is_one_sentence():
    with pytest.raises(KitError, match="patch=40 does not fit"):
        occlusion_map(Corner(), torch.ones(3, 32, 16), torch.ones(2), patch=40)
