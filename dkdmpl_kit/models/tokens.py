"""Vision transformers: a class token in place of a pooled map, at any size of picture.

timm's networks as they are, and two that re-ID pre-trains: with a convolutional stem
(ICS of TransReID-SSL; Luo et al. 2021) and with three part tokens beside the class token
(PASS; Zhu et al., ECCV 2022).
"""

from __future__ import annotations

import contextlib
import math

import torch
from torch import Tensor, nn

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.models.ibn import InstanceBatchNorm

# {name: (timm's plain model, what is different)}
REID_TRANSFORMERS = {
    "vit_small_ics": ("vit_small_patch16_224", "ics"),
    "vit_base_ics": ("vit_base_patch16_224", "ics"),
    "vit_small_pass": ("vit_small_patch16_224", "pass"),
    "vit_base_pass": ("vit_base_patch16_224", "pass"),
}
PARTS = 3  # part tokens of PASS: the upper, the middle and the lower third of a person
STEM_CHANNELS = 64


class ConvStem(nn.Module):
    """Patches by four convolutions: (B, 3, H, W) -> (B, H/16 W/16, dim), as `PatchEmbed`.

    The submodules are named as in the published checkpoints.
    """

    def __init__(self, patches: nn.Module) -> None:
        super().__init__()
        dim = patches.proj.out_channels
        inner = STEM_CHANNELS
        self.img_size = patches.img_size
        self.grid_size = patches.grid_size
        self.num_patches = patches.num_patches
        self.conv = nn.Sequential(
            nn.Conv2d(3, inner, 7, stride=2, padding=3, bias=False),
            InstanceBatchNorm(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            InstanceBatchNorm(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
        )
        half = patches.proj.kernel_size[0] // 2
        self.proj = nn.Conv2d(inner, dim, half, stride=half)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.conv(x)).flatten(2).transpose(1, 2)


def reid_transformer(backbone: str, **options: object) -> nn.Module:
    """A network of `REID_TRANSFORMERS` with random weights; options: for
    `timm.create_model`.
    """
    import timm

    plain, kind = REID_TRANSFORMERS[backbone]
    tokens = PARTS if kind == "pass" else 0
    return timm.create_model(plain, reg_tokens=tokens, **options)


def has_tokens(net: nn.Module) -> bool:
    """Whether a network is a vision transformer of timm's plain family."""
    from timm.models.vision_transformer import VisionTransformer

    return isinstance(net, VisionTransformer)


def fit_size(net: nn.Module, name: str, size: tuple[int, int] | None) -> nn.Module:
    """Bring a transformer to pictures of `size` (height, width), in place.

    Its position embeddings are resampled (bicubic). None keeps the size that it has.
    KitError without a class token, and for pictures smaller than a patch.
    """
    if net.cls_token is None:
        raise KitError(
            f'backbone={name!r} has no class token for pooling="token": choose another '
            "transformer, such as vit_small_patch16_224."
        )
    patch = net.patch_embed.patch_size
    if size and min(size[0] // patch[0], size[1] // patch[1]) < 1:
        raise KitError(
            f"backbone={name!r} takes pictures of at least {patch[0]} x {patch[1]} pixels, "
            f"got {size[0]} x {size[1]}."
        )
    if size and tuple(net.patch_embed.img_size) != tuple(size):
        net.set_input_size(img_size=tuple(size))
    if name in REID_TRANSFORMERS and REID_TRANSFORMERS[name][1] == "ics":
        net.patch_embed = ConvStem(net.patch_embed)
        net.dynamic_img_size = False  # the stem gives patches in a row
    return net


def stages(net: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Names of submodules in forward order: the patches and the first block, then a block
    each, and the last norm.
    """
    first = ("patch_embed", "pos_drop", "patch_drop", "norm_pre", "blocks.0")
    blocks = [(f"blocks.{i}",) for i in range(1, len(net.blocks))]
    return (first, *blocks, ("norm",))


def embeddings(net: nn.Module) -> list[nn.Parameter]:
    """The tokens and positions that a transformer learns: part of its first stage."""
    found = (net.cls_token, net.reg_token, net.pos_embed)
    return [parameter for parameter in found if parameter is not None]


def features(net: nn.Module, x: Tensor, frozen: int) -> Tensor:
    """The class token behind the last norm: (B, 3, H, W) -> (B, dim).

    With part tokens (PASS) the class token and the mean of the parts, side by side:
    (B, 2 dim), as PASS' code fuses them for unsupervised re-ID. frozen: the first stages
    that need no graph. KitError for pictures of another size than the network's.
    """
    size = tuple(net.patch_embed.img_size)
    if tuple(x.shape[2:]) != size:
        raise KitError(
            f"this transformer takes pictures of {size[0]} x {size[1]} pixels, got "
            f"{x.shape[2]} x {x.shape[3]}: give height and width as they were."
        )
    with _graph(frozen == 0):
        x = net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(x))))
    for i, block in enumerate(net.blocks):
        with _graph(i >= frozen):
            x = block(x)
    x = net.norm(x)
    parts = x[:, 1 : net.num_prefix_tokens]
    if parts.shape[1] != PARTS:
        return x[:, 0]
    return torch.cat([x[:, 0], parts.mean(dim=1)], dim=1)


def _graph(wanted: bool) -> contextlib.AbstractContextManager:
    """Whether autograd follows; exporters want no switch where it does."""
    return contextlib.nullcontext() if wanted else torch.no_grad()


def dim_of(net: nn.Module) -> int:
    """Numbers of `features`."""
    return net.num_features * (2 if net.num_prefix_tokens == 1 + PARTS else 1)


def resized_positions(positions: Tensor, net: nn.Module) -> Tensor:
    """Position embeddings of a file, (1, tokens + places, dim), for the grid of `net`.

    Their own grid is not in the file: it is taken to be square, or two or three times as
    high as wide, as pre-training on 224 x 224, 256 x 128 and 384 x 128 leaves it. KitError
    where it is none of these.
    """
    from timm.layers import resample_abs_pos_embed

    before = 0 if net.no_embed_class else net.num_prefix_tokens
    places = positions.shape[1] - before
    grid = tuple(net.patch_embed.grid_size)
    if places == math.prod(grid):
        return positions
    for ratio in (1, 2, 3):
        width = math.isqrt(max(0, places) // ratio)
        if width and ratio * width**2 == places:
            old = (ratio * width, width)
            return resample_abs_pos_embed(
                positions, new_size=list(grid), old_size=list(old), num_prefix_tokens=before
            )
    raise KitError(
        f"its position embeddings have {places} places, which are no grid of 1:1, 2:1 or "
        "3:1: give height and width of its training."
    )
