"""Mean and standard deviation of the pictures that weights were trained on."""

from __future__ import annotations

import torch
from torch import Tensor

# channels R, G, B of pictures in [0, 1]
NORMALISATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    # configs/CMDM/mgn_R50_moco.yml of DengpanFu/LUPerson, divided by 255
    "luperson": (
        (89.896 / 255, 79.200 / 255, 80.073 / 255),
        (63.872 / 255, 64.305 / 255, 63.839 / 255),
    ),
}
CHOICES = ("auto", *NORMALISATIONS)
CLOSE = 1e-3  # of published numbers, which are rounded


def channels(values: object) -> Tensor:
    """Three numbers as a buffer of an encoder, (1, 3, 1, 1) float32."""
    return torch.as_tensor(values, dtype=torch.float32).reshape(1, 3, 1, 1).clone()


def name_of(mean: Tensor, std: Tensor) -> str:
    """The name of a mean and a standard deviation (1, 3, 1, 1), or the numbers."""
    found = torch.stack([mean.detach().flatten().cpu(), std.detach().flatten().cpu()])
    for name, known in NORMALISATIONS.items():
        if torch.allclose(found, torch.tensor(known), rtol=0, atol=CLOSE):
            return name
    means, stds = ([round(float(x), 4) for x in row] for row in found)
    return f"mean {means} std {stds}"
