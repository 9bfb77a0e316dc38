"""The encoder: a timm backbone, GeM pooling, BNNeck, L2; pictures in, rows of norm 1 out.

Weights are always named: nothing here falls back to random ones silently.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dkdmpl_kit.errors import KitError, check_option, is_shortage
from dkdmpl_kit.models.ibn import IBN_BACKBONES, ibn_resnet
from dkdmpl_kit.models.osnet import EMBEDDING, OSNET_BACKBONES, OSNet, osnet
from dkdmpl_kit.models.weights import (
    BUNDLED_BACKBONE,
    HEADLESS,
    hub_backbone,
    load_bundled,
    load_file,
)

POOLINGS = ("gem", "avg", "embedding")
PRECISIONS = ("fp32", "bf16")
POOLED_AT_ONCE = 2**21  # numbers of a map that GeM takes at a time: 8 MB of float32


class GeM(nn.Module):
    """Generalised mean over the map, (B, d, h, w) -> (B, d): mean(x^p)^(1/p).

    The exponent p is learnt (Radenovic et al. 2018).
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(float(p)))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # Large maps go in parts: the allocator reuses those, while every larger tensor
        # costs fresh pages.
        rows = max(1, POOLED_AT_ONCE // max(1, x[:1].numel()))
        means = [
            part.clamp(min=self.eps).pow(self.p).mean(dim=(2, 3)) for part in x.split(rows)
        ]
        return torch.cat(means).pow(1.0 / self.p)


class Encoder(nn.Module):
    """(B, 3, H, W) float in [0, 1] -> (B, dim) float32 rows of norm 1.

    The features are float32 under autocast too. The backbone's own mean and standard
    deviation are applied inside. The first `freeze_stages` stages (the stem belongs to
    the first) take no gradient, keep their batch norm in eval mode, and run without an
    autograd graph. KitError for more stages than there are, other input, and a training
    batch of one picture.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        name: str,
        pooling: str,
        last_stride: int,
        freeze_stages: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.name = name
        self.pooling = pooling
        self.weights = "random"
        self.last_stride = last_stride
        self.freeze_stages = freeze_stages
        self.left_out = ()
        self.dim = EMBEDDING if pooling == "embedding" else int(backbone.num_features)
        self._stages = _stage_names(backbone)
        most = max(0, len(self._stages) - 1)
        if not 0 <= freeze_stages <= most:
            raise KitError(
                f"freeze_stages={freeze_stages} does not fit {name}: give a number "
                f"from 0 to {most}."
            )
        self.pool = GeM() if pooling == "gem" else nn.AdaptiveAvgPool2d(1)
        self.embedding = (
            embedding_layer(backbone.num_features, self.dim)
            if pooling == "embedding"
            else nn.Identity()
        )
        self.bnneck = nn.BatchNorm1d(self.dim)
        # stays 0: the cosine needs features centred on the origin
        self.bnneck.bias.requires_grad_(False)
        for statistic in ("mean", "std"):
            channels = torch.tensor(backbone.default_cfg[statistic])
            self.register_buffer(statistic, channels.view(1, 3, 1, 1))
        for module in self._modules_of(self._stages[:freeze_stages]):
            module.requires_grad_(False)
        self.train()

    def _modules_of(self, stages: tuple[tuple[str, ...], ...]) -> list[nn.Module]:
        return [self.backbone.get_submodule(name) for names in stages for name in names]

    def train(self, mode: bool = True) -> Encoder:
        """As nn.Module.train, but frozen stages stay in eval mode.

        Their running statistics must not move.
        """
        super().train(mode)
        for module in self._modules_of(self._stages[: self.freeze_stages]):
            module.eval()
        return self

    def feature_map(self, x: Tensor) -> Tensor:
        """The backbone's last map before pooling: (B, 3, H, W) in [0, 1] -> (B, c, h, w).

        c is `dim`, but with pooling="embedding" the backbone's own number. KitError for
        anything else, and for a backbone without a map.
        """
        if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
            raise KitError(
                f"the encoder takes float pictures (B, 3, H, W) in [0, 1], got "
                f"{x.dtype} {tuple(x.shape)}."
            )
        x = (x - self.mean) / self.std
        with torch.no_grad():
            for module in self._modules_of(self._stages[: self.freeze_stages]):
                x = module(x)
        for module in self._modules_of(self._stages[self.freeze_stages :]):
            x = module(x)
        x = x if self._stages else self._whole(x)
        channels = self.backbone.num_features
        if x.ndim != 4 or x.shape[1] != channels:
            raise KitError(
                f"backbone {self.name} gives no (B, {channels}, h, w) map; choose a "
                "convolutional one."
            )
        return x

    def _whole(self, x: Tensor) -> Tensor:
        """The map of a family that is run as a whole; KitError where it takes no pictures
        of this size, as vision transformers and others do.
        """
        try:
            return self.backbone.forward_features(x)
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            if is_shortage(error):
                raise
            raise _not_convolutional(self.name, error, tuple(x.shape[2:])) from error

    def pooled(self, x: Tensor) -> Tensor:
        """Features before the BNNeck, not normalised: (B, 3, H, W) -> (B, dim) float32."""
        return self.from_map(self.feature_map(x).float())

    def from_map(self, x: Tensor) -> Tensor:
        """Features before the BNNeck of a last map: (B, c, h, w) -> (B, dim)."""
        return self.embedding(self.pool(x).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) < 2:
            raise KitError(
                "the BNNeck needs at least two pictures in a training batch; got one."
            )
        return F.normalize(self.bnneck(self.pooled(x)), dim=1)

    def describe(self) -> dict[str, str | int]:
        """The settings that made this encoder, for config.json and captions.

        left_out: which parts of a weights file the encoder has no place for.
        """
        return {
            "backbone": self.name,
            "weights": self.weights,
            "left_out": ", ".join(self.left_out),
            "pooling": self.pooling,
            "dim": self.dim,
            "last_stride": self.last_stride,
            "freeze_stages": self.freeze_stages,
        }


def embedding_layer(channels: int, dim: int) -> nn.Sequential:
    """The linear layer behind the pooling of torchreid's models: (B, channels) -> (B, dim),
    with batch norm and ReLU.
    """
    linear = nn.Linear(channels, dim)
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(linear, nn.BatchNorm1d(dim), nn.ReLU())


def build_encoder(
    backbone: str = BUNDLED_BACKBONE,
    *,
    weights: str | Path = "bundled",
    pooling: str = "gem",
    last_stride: int = 1,
    freeze_stages: int = 0,
) -> Encoder:
    """Build an `Encoder` on the CPU, in train mode.

    Its memory format is channels_last, twice as fast in training as the default layout.

    backbone: any convolutional timm model, or one of `IBN_BACKBONES` or
    `OSNET_BACKBONES`. weights:
    "bundled" (EfficientNet-Lite0, ImageNet, from an installed package), "imagenet"
    (timm's hub), "random", or a file (.safetensors, .pth, .pt, .pth.tar) with a whole
    encoder (also as Cluster Contrast's code saves it) or a backbone's state dict.
    pooling: "gem", "avg", or "embedding", the average through the linear layer that the
    file has behind it (torchreid's `fc`); without it the layer is left out, and
    `describe()` says so. last_stride: 1 or 2, of the last stage of a ResNet (1
    doubles the map, as usual in re-ID); other backbones keep their own stride, and
    `describe()` then says 2. freeze_stages: stages kept fixed; EfficientNets have 7,
    ResNets 4, OSNets 3 (the stem belongs to the first). KitError on anything that does not fit.
    """
    check_option("pooling", pooling, POOLINGS)
    check_option("last_stride", last_stride, (1, 2))
    weights = str(weights)
    if pooling == "embedding" and weights in ("bundled", "imagenet"):
        raise KitError(
            f'pooling="embedding" needs a weights file with an embedding layer, which '
            f'weights="{weights}" has not: choose gem or avg, or give a file.'
        )
    net = _backbone(backbone, hub=weights == "imagenet")
    if weights == "bundled":
        load_bundled(net, backbone)
    last_stride = _set_last_stride(net, last_stride)
    encoder = Encoder(
        net,
        name=backbone,
        pooling=pooling,
        last_stride=last_stride,
        freeze_stages=freeze_stages,
    )
    if weights not in ("bundled", "imagenet", "random"):
        load_file(encoder, Path(weights))
    encoder.weights = weights
    return encoder.to(memory_format=torch.channels_last)


def _backbone(name: str, *, hub: bool) -> nn.Module:
    """A backbone without its head, with the hub's ImageNet weights or random ones."""
    import timm

    own = (*IBN_BACKBONES, *OSNET_BACKBONES)
    if name not in own and not timm.is_model(name):
        near = [x for x in own if name in x] + timm.list_models(f"*{name}*")[:4]
        examples = near or [BUNDLED_BACKBONE, "resnet50", *IBN_BACKBONES, "osnet_x0_25"]
        raise KitError(
            f"backbone={name!r} is not a timm model; for instance: {', '.join(examples)}."
        )
    if hub:
        return hub_backbone(name)
    if name in IBN_BACKBONES:
        return ibn_resnet(name, **HEADLESS)
    if name in OSNET_BACKBONES:
        return osnet(name)
    try:
        return timm.create_model(name, **HEADLESS)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise _not_convolutional(name, error) from error


def _not_convolutional(name: str, error: Exception, size: tuple = ()) -> KitError:
    pictures = (
        f" takes no pictures of {size[0]} x {size[1]} pixels" if size else " has no map"
    )
    return KitError(
        f"backbone={name!r}{pictures} ({' '.join(str(error).split())[:120].rstrip('.')}): choose a "
        f"convolutional one, such as {BUNDLED_BACKBONE}, resnet50 or convnext_tiny."
    )


def _stage_names(net: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Names of submodules in forward order, a tuple for each stage.

    The last stage is never frozen. () for families that are run as a whole.
    """
    from timm.models.efficientnet import EfficientNet
    from timm.models.resnet import ResNet

    if isinstance(net, EfficientNet):
        blocks = [(f"blocks.{i}",) for i in range(len(net.blocks))]
        first = ("conv_stem", "bn1", *blocks[0])
        return (first, *blocks[1:], ("conv_head", "bn2"))
    if isinstance(net, ResNet):
        first = ("conv1", "bn1", "act1", "maxpool", "layer1")
        after_stages = ()  # a ResNet has no head there
        return (first, ("layer2",), ("layer3",), ("layer4",), after_stages)
    if isinstance(net, OSNet):
        return net.stages
    return ()


def _set_last_stride(net: nn.Module, last_stride: int) -> int:
    """Set the stride of a ResNet's layer4, and return the stride that now holds."""
    if last_stride == 2 or not hasattr(net, "layer4"):
        return 2
    for module in net.layer4[0].modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
        elif isinstance(module, nn.AvgPool2d):
            # the "d" variants average before the shortcut: over one cell now
            module.kernel_size = 1
            module.stride = 1
    return 1


def autocast(precision: str, device: str | torch.device) -> torch.autocast:
    """The context in which an encoder runs: bf16 autocast for "bf16", nothing for "fp32".

    Losses stay outside, in fp32. KitError for another precision.
    """
    check_option("precision", precision, PRECISIONS)
    enabled = precision == "bf16"
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=enabled)


def extract_features(
    encoder: nn.Module,
    store_or_pixels: object,
    *,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
    progress: bool = False,
    precision: str = "fp32",
) -> np.ndarray:
    """(N, dim) float32 features in eval mode, without a graph.

    store_or_pixels: an object with `.batch(indices)` and `len()` (an ImageStore), or
    (N, 3, H, W) pictures, array or tensor, uint8 in 0..255 or float in [0, 1].
    precision: "fp32" or "bf16" (autocast). The encoder's mode is restored; it stays on
    `device`. KitError without pictures.
    """
    from tqdm.auto import tqdm

    n = len(store_or_pixels)
    if n == 0:
        raise KitError("there are no pictures to extract features from.")
    if hasattr(store_or_pixels, "batch"):
        fetch = store_or_pixels.batch
    else:
        fetch = torch.as_tensor(store_or_pixels).__getitem__
    context = autocast(precision, device)
    was_training = encoder.training
    features = None
    starts = tqdm(
        range(0, n, batch_size),
        desc="extract",
        unit="batch",
        leave=False,
        disable=not progress,
    )
    encoder.to(device).eval()
    try:
        with torch.inference_mode(), context:
            for start in starts:
                indices = np.arange(start, min(start + batch_size, n))
                pictures = fetch(indices).to(device)
                if pictures.dtype == torch.uint8:
                    pictures = pictures.float().div(255)
                rows = encoder(pictures.float()).float().cpu().numpy()
                # made once: a list of parts, put together, would take twice the memory
                if features is None:
                    features = np.empty((n, rows.shape[1]), np.float32)
                features[indices] = rows
    finally:
        encoder.train(was_training)
    return features
