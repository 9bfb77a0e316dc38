"""Where an encoder looks: which places of a picture make it similar to another one."""

from __future__ import annotations

import torch
from torch import Tensor

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.models.encoder import Encoder

COVERED_AT_ONCE = 64  # pictures in a forward pass of `occlusion_map`


def similarity_map(encoder: Encoder, pictures: Tensor, towards: Tensor) -> Tensor:
    """What each place of the last map adds to a picture's similarity, (B, h, w).

    pictures (B, 3, H, W), float in [0, 1] or uint8; towards: unit features (B, d). The
    last map F (d, h, w) is pooled and passes the BNNeck: f = g (GeM(F) - mu) / sigma +
    b. The map is the gradient of <f, towards> times F, summed over channels (HiResCAM;
    Draelos and Carin 2020). GeM is homogeneous of degree 1, so by Euler's theorem the
    places of a picture sum to <g GeM(F) / sigma, towards> exactly: all of the inner
    product before L2 normalisation, but for the constant shift of the batch norm (and of
    the embedding layer, where the encoder has one: it is linear in pieces).
    Negative places speak against the match. Eval mode; the encoder's mode is restored,
    its gradients are untouched. KitError where the shapes do not fit.
    """
    pictures = _to_unit_range(pictures)
    if towards.shape != (len(pictures), encoder.dim):
        raise KitError(
            f"towards has shape {tuple(towards.shape)}; give one feature of "
            f"{encoder.dim} numbers a picture, ({len(pictures)}, {encoder.dim})."
        )
    training = encoder.training
    device = next(encoder.parameters()).device
    encoder.eval()
    try:
        with torch.no_grad():
            places = encoder.feature_map(pictures.to(device)).float()
        with torch.enable_grad():
            places.requires_grad_()
            features = encoder.bnneck(encoder.from_map(places))
            similarity = (features * towards.to(features)).sum()
            (gradient,) = torch.autograd.grad(similarity, places)
    finally:
        encoder.train(training)
    return (gradient * places).sum(1).detach().cpu()


def occlusion_map(
    encoder: Encoder, picture: Tensor, towards: Tensor, *, patch: int = 0
) -> Tensor:
    """How much a picture's similarity falls where a grey square covers it, (H, W).

    picture (3, H, W) float in [0, 1] or uint8; towards a unit feature (d,). The square
    is `patch` pixels a side (0: a quarter of the shorter side) and moves by half of
    that; a place's value is the mean over the squares that cover it (Zeiler and Fergus
    2014). Finer than `similarity_map` where the encoder's last map is small, and
    dearer: one forward pass a square. Negative: covering it makes the two more alike.
    KitError for a square larger than the picture.
    """
    picture = _to_unit_range(picture)
    height, width = picture.shape[1:]
    patch = patch or max(2, min(height, width) // 4)
    if not 1 <= patch <= min(height, width):
        raise KitError(f"patch={patch} does not fit a picture of {height} x {width} pixels.")
    step = max(1, patch // 2)
    device = next(encoder.parameters()).device
    rows = _starts(height, patch, step)
    columns = _starts(width, patch, step)
    corners = [(y, x) for y in rows for x in columns]
    covered = picture.repeat(len(corners) + 1, 1, 1, 1)
    for row, (y, x) in enumerate(corners):
        covered[row, :, y : y + patch, x : x + patch] = 0.5
    wanted = towards.float().cpu()
    training = encoder.training
    encoder.eval()
    try:
        with torch.inference_mode():
            scores = torch.cat(
                [
                    encoder(part.to(device)).cpu() @ wanted
                    for part in covered.split(COVERED_AT_ONCE)
                ]
            )
    finally:
        encoder.train(training)
    total = torch.zeros(height, width)
    times = torch.zeros(height, width)
    whole = scores[-1]  # nothing is covered
    for (y, x), score in zip(corners, scores):
        total[y : y + patch, x : x + patch] += whole - score
        times[y : y + patch, x : x + patch] += 1
    return total / times


def _to_unit_range(pictures: Tensor) -> Tensor:
    return pictures.float().div(255) if pictures.dtype == torch.uint8 else pictures


def _starts(length: int, patch: int, step: int) -> list[int]:
    """Where squares of `patch` begin, a step apart; the last one ends at the edge."""
    return [*range(0, length - patch, step), length - patch]
