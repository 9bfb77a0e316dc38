"""Augmentation: every picture by itself, from a generator, within the recipe's limits."""

from __future__ import annotations

import pytest
import torch

from dkdmpl_kit.data import augment, to_float
from dkdmpl_kit.data.augmentation import IMAGENET_MEAN
from dkdmpl_kit.errors import KitError

FILL = torch.tensor(IMAGENET_MEAN)[:, None, None] / 255


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch() -> torch.Tensor:
    """(200, 3, 32, 16): no black, no erasing colour, no picture its own mirror image."""
    return torch.randint(1, 100, (200, 3, 32, 16), generator=seeded(7), dtype=torch.uint8)


def changed(out: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    return (out != to_float(batch)).any(dim=1)


def test_to_float_scales_bytes_to_the_unit_interval():
    out = to_float(torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 3, 1, 1))
    assert out.dtype == torch.float32 and torch.allclose(
        out.flatten(), torch.tensor([0, 0.2, 1.0])
    )


def test_with_everything_off_only_the_type_changes(batch):
    assert torch.equal(
        augment(batch, seeded(), flip=0, padding=0, erasing=0), to_float(batch)
    )


def test_augment_is_determined_by_the_generator_and_leaves_its_input_alone(batch):
    original = batch.clone()
    one = augment(batch, seeded(1))
    two = augment(batch, seeded(1))
    other = augment(batch, seeded(2))
    assert (
        torch.equal(one, two) and not torch.equal(one, other) and torch.equal(batch, original)
    )
    assert (
        one.dtype == torch.float32
        and one.shape == batch.shape
        and 0 <= one.min()
        and one.max() <= 1
    )


def test_the_generator_can_be_saved_and_restored_between_batches(batch):
    generator = seeded()
    augment(batch, generator)
    state = generator.get_state()
    expected = augment(batch, generator)
    assert torch.equal(augment(batch, torch.Generator().set_state(state)), expected)


def test_the_generator_moves_by_the_same_amount_whatever_the_settings(batch):
    one = seeded()
    two = seeded()
    augment(batch, one)
    augment(batch, two, flip=0, padding=0, erasing=0)
    assert torch.equal(one.get_state(), two.get_state())


def test_flip_mirrors_whole_pictures_about_half_of_them(batch):
    out = augment(batch, seeded(), padding=0, erasing=0)
    plain = to_float(batch)
    mirrored = (out == plain.flip(-1)).flatten(1).all(dim=1)
    untouched = (out == plain).flatten(1).all(dim=1)
    assert torch.all(mirrored ^ untouched) and 60 < int(mirrored.sum()) < 140
    assert torch.equal(augment(batch, seeded(), flip=1, padding=0, erasing=0), plain.flip(-1))


def test_crop_moves_each_picture_by_at_most_the_padding_and_fills_with_black(batch):
    out = augment(batch, seeded(), flip=0, padding=4, erasing=0)
    padded = torch.nn.functional.pad(to_float(batch), (4, 4, 4, 4))
    shifts = [
        next(
            (top, left)
            for top in range(9)
            for left in range(9)
            if torch.equal(padded[i, :, top : top + 32, left : left + 16], out[i])
        )
        for i in range(len(out))
    ]
    assert {top for top, _ in shifts} == {left for _, left in shifts} == set(range(9))
    assert len(set(shifts)) > 50, "rows and columns are drawn apart, and by the picture"


def test_erasing_fills_one_box_with_the_mean_colour_within_its_limits(batch):
    out = augment(batch, seeded(), flip=0, padding=0, erasing=1)
    boxes = changed(out, batch)
    erased = boxes.flatten(1).any(dim=1)
    assert int(erased.sum()) > 190, (
        "with ten attempts nearly every picture gets a box that fits"
    )
    for index in torch.nonzero(erased)[:, 0].tolist():
        rows = boxes[index].any(dim=1).sum().item()
        columns = boxes[index].any(dim=0).sum().item()
        top = boxes[index].any(dim=1).long().argmax()
        left = boxes[index].any(dim=0).long().argmax()
        box = out[index, :, top : top + rows, left : left + columns]
        assert int(boxes[index].sum()) == rows * columns and torch.allclose(
            box, FILL.expand_as(box)
        )
        assert 0.5 * 0.02 * 512 <= rows * columns <= 1.1 * 0.4 * 512, (
            "up to rounding of the sides to pixels"
        )
        assert (rows - 0.5) / (columns + 0.5) <= 3.33 and (rows + 0.5) / (
            columns - 0.5
        ) >= 0.3


def test_erasing_happens_with_its_probability_at_places_all_over_the_picture(batch):
    boxes = changed(augment(batch, seeded(), flip=0, padding=0), batch)
    assert 60 < int(boxes.flatten(1).any(dim=1).sum()) < 140
    for direction in (1, 2):
        assert boxes.any(dim=direction).any(dim=0).all(), (
            "every row and every column is reached, the edges too"
        )
    assert len({tuple(box.flatten().tolist()) for box in boxes if box.any()}) > 50


def test_a_picture_in_which_no_box_fits_stays_whole():
    thin = torch.ones((20, 3, 400, 1), dtype=torch.uint8)
    assert torch.equal(augment(thin, seeded(), flip=0, padding=0, erasing=1), to_float(thin))


def test_the_smallest_pictures_and_the_empty_batch_pass(batch):
    assert augment(batch[:3, :, :1, :1], seeded(), erasing=1).shape == (3, 3, 1, 1)
    assert augment(batch[:0], seeded()).shape == (0, 3, 32, 16)


def test_augment_refuses_floats_and_single_pictures(batch):
    for wrong in (batch.float(), batch[0], batch[:, :1]):
        with pytest.raises(KitError, match="uint8 batch"):
            augment(wrong, seeded())
