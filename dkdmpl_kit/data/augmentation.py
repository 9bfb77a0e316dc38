"""Augmentation of a batch on tensors: flip, pad and crop, erase."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from dkdmpl_kit.errors import KitError

IMAGENET_MEAN = (124, 116, 104)  # fills erased boxes, as uint8 RGB
ERASED_AREA = (0.02, 0.4)  # of the picture
ERASED_ASPECT = (0.3, 3.33)  # height over width
ATTEMPTS = 10  # boxes drawn to erase, of which the first that fits is taken


def to_float(batch: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) uint8 -> float32 in [0, 1]."""
    return batch.to(torch.float32).div_(255)


def augment(
    batch: torch.Tensor,
    generator: torch.Generator,
    *,
    flip: float = 0.5,
    padding: int = 10,
    erasing: float = 0.5,
    among: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Flip, pad and crop, erase: (B, 3, H, W) uint8 -> float32 in [0, 1].

    The recipe is METHOD.md's, "The recipe around it". flip: probability of a mirror
    image. padding: black pixels a side, before a random crop to the old size. erasing:
    probability of a box (0.02-0.4 of the area, height/width 0.3-3.33) filled with
    ImageNet's mean colour. A picture's 26 numbers (flip 1, crop 2, erasing 3 + 10 x 2)
    come from `generator`, whatever the settings. among: (first, total) of a batch that
    is a stretch of a larger one: it is drawn as it would be there. KitError for
    anything but such a batch.
    """
    from torchvision.transforms.v2 import functional as transforms

    if batch.dtype != torch.uint8 or batch.ndim != 4 or batch.shape[1] != 3:
        raise KitError(
            f"augment takes a (B, 3, H, W) uint8 batch, not {tuple(batch.shape)} "
            f"{batch.dtype}."
        )
    count, _, height, width = batch.shape
    first, total = among or (0, count)
    all_draws = torch.rand(
        (total, 6 + 2 * ATTEMPTS),
        generator=generator,
        device=generator.device,
        dtype=torch.float64,
    )
    draws = all_draws[first : first + count].cpu()
    mirrored = (draws[:, 0] < flip).to(batch.device)[:, None, None, None]
    out = torch.where(mirrored, transforms.horizontal_flip(batch), batch)
    if padding > 0:
        padded = transforms.pad(out, [padding])
        corners = (draws[:, 1:3] * (2 * padding + 1)).long().tolist()
        for index, (top, left) in enumerate(corners):
            out[index] = transforms.crop(padded[index], top, left, height, width)
    fill = torch.tensor(IMAGENET_MEAN, dtype=torch.uint8, device=batch.device)[:, None, None]
    for index, box in _erasing_boxes(draws[:, 3:], erasing, height, width):
        transforms.erase(out[index], *box, v=fill, inplace=True)
    return to_float(out)


def _erasing_boxes(
    draws: torch.Tensor, probability: float, height: int, width: int
) -> Iterator[tuple[int, list[int]]]:
    """-> (picture, [top, left, height, width]) for the pictures that lose a box.

    draws: (B, 3 + 2 x ATTEMPTS) in [0, 1): whether, where down, where across, and the
    area and shape of each attempt. The first attempt that fits is taken.
    """
    attempts = draws[:, 3:].reshape(len(draws), ATTEMPTS, 2)
    smallest, largest = ERASED_AREA
    flattest, steepest = ERASED_ASPECT
    area = height * width * (smallest + attempts[..., 0] * (largest - smallest))
    # uniform in its logarithm
    aspect = flattest * (steepest / flattest) ** attempts[..., 1]
    heights = (area * aspect).sqrt().round().clamp(min=1)
    widths = (area / aspect).sqrt().round().clamp(min=1)
    fits = (heights <= height) & (widths <= width)
    first = fits.long().argmax(dim=1, keepdim=True)
    heights = heights.gather(1, first)[:, 0]
    widths = widths.gather(1, first)[:, 0]
    tops = draws[:, 1] * (height - heights + 1)
    lefts = draws[:, 2] * (width - widths + 1)
    chosen = torch.nonzero((draws[:, 0] < probability) & fits.any(dim=1))[:, 0]
    boxes = torch.stack([tops, lefts, heights, widths], dim=1).long()
    return zip(chosen.tolist(), boxes[chosen].tolist())
