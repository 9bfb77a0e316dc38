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
from dkdmpl_kit.models import tokens
from dkdmpl_kit.models.backbones import (
    headless,
    not_convolutional,
    refuse_pooling,
    set_last_stride,
    stage_names,
)
from dkdmpl_kit.models.normalisation import CHOICES, NORMALISATIONS, channels, name_of
from dkdmpl_kit.models.osnet import EMBEDDING
from dkdmpl_kit.models.weights import BUNDLED_BACKBONE, load_bundled, load_file

POOLINGS = ("gem", "avg", "embedding", "token")
PRECISIONS = ("fp32", "bf16")
MOST_AT_ONCE = 256  # pictures of a batch whose features are extracted
PIXELS_AT_ONCE = 2**18  # of them together, on a CPU
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

    The features are float32 under autocast too. The mean and standard deviation of its
    weights are applied inside, and saved with it. The first `freeze_stages` stages (the
    stem belongs to the first) take no gradient, keep their batch norm in eval mode, and
    run without an autograd graph. KitError for more stages than there are, other input,
    and a training batch of one picture.
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
        self.dim = _dim_of(backbone, pooling)
        self._stages = stage_names(backbone)
        most = max(0, len(self._stages) - 1)
        if not 0 <= freeze_stages <= most:
            raise KitError(
                f"freeze_stages={freeze_stages} does not fit {name}: give a number "
                f"from 0 to {most}."
            )
        pools = {"gem": GeM, "token": nn.Identity}
        self.pool = pools[pooling]() if pooling in pools else nn.AdaptiveAvgPool2d(1)
        self.embedding = (
            embedding_layer(backbone.num_features, self.dim)
            if pooling == "embedding"
            else nn.Identity()
        )
        self.bnneck = nn.BatchNorm1d(self.dim)
        # stays 0: the cosine needs features centred on the origin
        self.bnneck.bias.requires_grad_(False)
        for statistic in ("mean", "std"):
            self.register_buffer(statistic, channels(backbone.default_cfg[statistic]))
        for module in self._modules_of(self._stages[:freeze_stages]):
            module.requires_grad_(False)
        if freeze_stages and pooling == "token":
            for parameter in tokens.embeddings(backbone):
                parameter.requires_grad_(False)
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
        if self.pooling == "token":
            raise KitError(
                f"backbone {self.name} has tokens and no map of places: choose a "
                "convolutional one."
            )
        x = self._normalised(x)
        with torch.no_grad():
            for module in self._modules_of(self._stages[: self.freeze_stages]):
                x = module(x)
        for module in self._modules_of(self._stages[self.freeze_stages :]):
            x = module(x)
        x = x if self._stages else self._whole(x)
        channels_out = self.backbone.num_features
        if x.ndim != 4 or x.shape[1] != channels_out:
            raise KitError(
                f"backbone {self.name} gives no (B, {channels_out}, h, w) map; choose a "
                "convolutional one."
            )
        return x

    def _normalised(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
            raise KitError(
                f"the encoder takes float pictures (B, 3, H, W) in [0, 1], got "
                f"{x.dtype} {tuple(x.shape)}."
            )
        return (x - self.mean) / self.std

    def _whole(self, x: Tensor) -> Tensor:
        """The map of a family that is run as a whole; KitError where it takes no pictures
        of this size, as vision transformers and others do.
        """
        try:
            return self.backbone.forward_features(x)
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            if is_shortage(error):
                raise
            raise not_convolutional(self.name, error, tuple(x.shape[2:])) from error

    def pooled(self, x: Tensor) -> Tensor:
        """Features before the BNNeck, not normalised: (B, 3, H, W) -> (B, dim) float32."""
        if self.pooling == "token":
            x = self._normalised(x)
            return tokens.features(self.backbone, x, self.freeze_stages).float()
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

    @property
    def normalisation(self) -> str:
        """The name of the mean and standard deviation that are applied, or the numbers."""
        return name_of(self.mean, self.std)

    def normalise_by(self, mean: object, std: object) -> None:
        """Apply another mean and standard deviation, three numbers each."""
        self.mean.copy_(channels(mean))
        self.std.copy_(channels(std))

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of pictures, which a transformer is built for; None: any."""
        if self.pooling != "token":
            return None
        return tuple(self.backbone.patch_embed.img_size)

    @property
    def remark(self) -> str:
        """What to say of a weights file of which parts were left out, or nothing."""
        if not self.left_out:
            return ""
        return (
            f"weights {self.weights}: {', '.join(self.left_out)} left out; pictures are "
            f"normalised by {self.normalisation}"
        )

    def describe(self) -> dict[str, str | int]:
        """The settings that made this encoder, for config.json and captions.

        left_out: which parts of a weights file the encoder has no place for.
        """
        return {
            "backbone": self.name,
            "weights": self.weights,
            "left_out": ", ".join(self.left_out),
            "normalisation": self.normalisation,
            "pooling": self.pooling,
            "dim": self.dim,
            "last_stride": self.last_stride,
            "freeze_stages": self.freeze_stages,
        }


def _dim_of(backbone: nn.Module, pooling: str) -> int:
    if pooling == "token":
        return tokens.dim_of(backbone)
    return EMBEDDING if pooling == "embedding" else int(backbone.num_features)


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
    normalisation: str = "auto",
    size: tuple[int, int] | None = None,
) -> Encoder:
    """Build an `Encoder` on the CPU, in train mode.

    Its memory format is channels_last, twice as fast in training as the default layout.

    backbone: a convolutional timm model, a plain vision transformer of timm's,
    "hf-hub:owner/model", or a name of `backbones.OWN` (IBN-ResNets, OSNets, re-ID
    transformers). weights: "bundled" (EfficientNet-Lite0, ImageNet, from an installed
    package), "imagenet" (timm's hub), "random", or a file (.safetensors, .pth, .pt,
    .pth.tar) with a whole encoder or a backbone, of ours or of any family in `layouts`;
    what has no place in the encoder is left out, and `describe()` names it.
    pooling: "gem", "avg", "embedding", the average through the linear layer that the file
    has behind it (torchreid's `fc`), or "token", a transformer's class token.
    last_stride: 1 or 2, of the last stage of a ResNet (1 doubles the map, as usual in
    re-ID); other backbones keep their own stride, and `describe()` then says 2.
    freeze_stages: stages kept fixed; EfficientNets have 7, ResNets 4, OSNets 3,
    transformers one a block (the stem belongs to the first). normalisation: "auto", the
    mean and standard deviation of the weights' family, or "imagenet", "half" (0.5 each)
    or "luperson". size: (height, width) of pictures, which transformers need to know;
    None: as they were trained. KitError on anything that does not fit.
    """
    check_option("pooling", pooling, POOLINGS)
    check_option("last_stride", last_stride, (1, 2))
    check_option("normalisation", normalisation, CHOICES)
    weights = str(weights)
    if pooling == "embedding" and weights in ("bundled", "imagenet"):
        raise KitError(
            f'pooling="embedding" needs a weights file with an embedding layer, which '
            f'weights="{weights}" has not: choose gem or avg, or give a file.'
        )
    net = headless(backbone, hub=weights == "imagenet", size=size)
    refuse_pooling(net, backbone, pooling)
    if weights == "bundled":
        load_bundled(net, backbone)
    last_stride = set_last_stride(net, last_stride)
    encoder = Encoder(
        net,
        name=backbone,
        pooling=pooling,
        last_stride=last_stride,
        freeze_stages=freeze_stages,
    )
    if weights not in ("bundled", "imagenet", "random"):
        load_file(encoder, Path(weights), normalisation)
    elif normalisation != "auto":
        encoder.normalise_by(*NORMALISATIONS[normalisation])
    encoder.weights = weights
    return encoder.to(memory_format=torch.channels_last)


def autocast(precision: str, device: str | torch.device) -> torch.autocast:
    """The context in which an encoder runs: bf16 autocast for "bf16", nothing for "fp32".

    Losses stay outside, in fp32. KitError for another precision.
    """
    check_option("precision", precision, PRECISIONS)
    enabled = precision == "bf16"
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=enabled)


def _batch_for(device: str | torch.device, pictures: object) -> int:
    """Pictures of a batch. On a CPU 2^18 pixels together: OSNet on 256 x 128 was three
    times as fast so as with 256 of them, EfficientNet-Lite0 on 128 x 64 1.4 times.
    """
    shape = getattr(pictures, "shape", None)
    if torch.device(device).type != "cpu" or shape is None:
        return MOST_AT_ONCE
    return max(8, min(MOST_AT_ONCE, PIXELS_AT_ONCE // max(1, shape[-1] * shape[-2])))


def extract_features(
    encoder: nn.Module,
    store_or_pixels: object,
    *,
    batch_size: int | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
    precision: str = "fp32",
) -> np.ndarray:
    """(N, dim) float32 features in eval mode, without a graph.

    store_or_pixels: an object with `.batch(indices)` and `len()` (an ImageStore), or
    (N, 3, H, W) pictures, array or tensor, uint8 in 0..255 or float in [0, 1].
    precision: "fp32" or "bf16" (autocast). batch_size: None takes what suits the device:
    256, and on a CPU fewer, so that the maps of a batch stay in its caches. The encoder's
    mode is restored; it stays on `device`. KitError without pictures.
    """
    from tqdm.auto import tqdm

    n = len(store_or_pixels)
    if n == 0:
        raise KitError("there are no pictures to extract features from.")
    if hasattr(store_or_pixels, "batch"):
        fetch = store_or_pixels.batch
    else:
        fetch = torch.as_tensor(store_or_pixels).__getitem__
    batch_size = batch_size or _batch_for(device, store_or_pixels)
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
