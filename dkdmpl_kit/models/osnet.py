"""OSNet, the small network that many person trackers carry.

Omni-scale residual blocks: streams of one to four light 3x3 convolutions see one to four
sizes of detail, and one gate, shared by all streams, weighs their channels in each
picture (Zhou et al., ICCV 2019). OSNet-AIN adds instance norm inside of chosen blocks,
for cameras that were never seen (Zhou et al., TPAMI 2021).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STREAMS = 4  # the paper's T: the deepest stream has so many light convolutions
BOTTLENECK = 4  # a block works on a quarter of its channels
GATE = 16  # and its gate on a sixteenth of those
EMBEDDING = 512  # of the linear layer that the published weights have behind the pooling
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
# channels of the stem and of the three stages
WIDTHS = {
    "x0_25": (16, 64, 96, 128),
    "x0_5": (32, 128, 192, 256),
    "x0_75": (48, 192, 288, 384),
    "x1_0": (64, 256, 384, 512),
}
# where the six blocks have an instance norm: nowhere, inside of the residual branch (the
# architecture that the search of OSNet-AIN found), or after the sum (OSNet-IBN)
NORMS = {
    "osnet": ("none",) * 6,
    "osnet_ain": ("inside", "inside", "none", "inside", "inside", "none"),
    "osnet_ibn": ("after", "after", "none", "none", "none", "none"),
}
# {name: (family, width)}
OSNET_BACKBONES = {
    **{f"osnet_{width}": ("osnet", width) for width in WIDTHS},
    **{f"osnet_ain_{width}": ("osnet_ain", width) for width in WIDTHS},
    "osnet_ibn_x1_0": ("osnet_ibn", "x1_0"),
}


def _instance_norm(channels: int) -> nn.GroupNorm:
    """Instance norm as one group a channel: that kernel keeps channels_last."""
    return nn.GroupNorm(channels, channels)


class ConvNorm(nn.Module):
    """Convolution without bias, norm, ReLU: (B, in, H, W) -> (B, out, H', W')."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        size: int = 1,
        stride: int = 1,
        *,
        norm: str = "batch",
        active: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels_in, channels_out, size, stride, padding=size // 2, bias=False
        )
        norms = {"batch": nn.BatchNorm2d, "instance": _instance_norm, "none": nn.Identity}
        kind = norms[norm]
        self.bn = kind() if norm == "none" else kind(channels_out)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return F.relu(x) if self.active else x


class LightConv(nn.Module):
    """A 3x3 convolution as 1x1, then 3x3 of each channel alone; (B, C, h, w) in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv2(self.conv1(x))))


class Gate(nn.Module):
    """Weights in (0, 1) for the channels of a map, from its means; (B, C, h, w) in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // GATE, 1)
        self.fc2 = nn.Conv2d(channels // GATE, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.fc2(F.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True))))
        return x * torch.sigmoid(weights)


class OmniScaleBlock(nn.Module):
    """A residual block of `STREAMS` depths: (B, in, h, w) -> (B, out, h, w).

    norm: of `NORMS`, where its instance norm stands.
    """

    def __init__(self, channels_in: int, channels_out: int, norm: str) -> None:
        super().__init__()
        inner = channels_out // BOTTLENECK
        self.conv1 = ConvNorm(channels_in, inner)
        self.streams = nn.ModuleList(
            nn.Sequential(*(LightConv(inner) for _ in range(depth)))
            for depth in range(1, STREAMS + 1)
        )
        self.gate = Gate(inner)
        # an instance norm inside takes the batch norm's place
        last = "none" if norm == "inside" else "batch"
        self.conv3 = ConvNorm(inner, channels_out, norm=last, active=False)
        self.downsample = (
            nn.Identity()
            if channels_in == channels_out
            else ConvNorm(channels_in, channels_out, active=False)
        )
        self.norm = norm
        self.IN = nn.Identity() if norm == "none" else _instance_norm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.conv1(x)
        residual = self.conv3(sum(self.gate(stream(narrow)) for stream in self.streams))
        if self.norm == "inside":
            return F.relu(self.IN(residual) + self.downsample(x))
        return F.relu(self.IN(residual + self.downsample(x)))


class OSNet(nn.Module):
    """(B, 3, H, W) normalised pictures -> the last map, (B, num_features, H/16, W/16).

    The pooling and what follows it belong to the encoder. Random weights, He et al.'s.
    """

    def __init__(self, channels: tuple[int, ...], norms: tuple[str, ...]) -> None:
        super().__init__()
        stem = "batch" if norms[0] == "none" else "instance"
        self.conv1 = ConvNorm(3, channels[0], 7, 2, norm=stem)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = self._stage(channels[0], channels[1], norms[:2])
        self.pool2 = nn.Sequential(ConvNorm(channels[1], channels[1]), nn.AvgPool2d(2))
        self.conv3 = self._stage(channels[1], channels[2], norms[2:4])
        self.pool3 = nn.Sequential(ConvNorm(channels[2], channels[2]), nn.AvgPool2d(2))
        self.conv4 = self._stage(channels[2], channels[3], norms[4:])
        self.conv5 = ConvNorm(channels[3], channels[3])
        self.num_features = channels[3]
        self.default_cfg = dict(IMAGENET)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @staticmethod
    def _stage(channels_in: int, channels_out: int, norms: tuple[str, ...]) -> nn.Sequential:
        first, second = norms
        return nn.Sequential(
            OmniScaleBlock(channels_in, channels_out, first),
            OmniScaleBlock(channels_out, channels_out, second),
        )

    @property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """Names of submodules in forward order, a tuple for each stage."""
        first = ("conv1", "maxpool", "conv2", "pool2")
        return (first, ("conv3", "pool3"), ("conv4",), ("conv5",))

    def forward_features(self, x: Tensor) -> Tensor:
        for names in self.stages:
            for name in names:
                x = self.get_submodule(name)(x)
        return x


def osnet(backbone: str) -> OSNet:
    """An `OSNet` with random weights; backbone: a name of `OSNET_BACKBONES`."""
    family, width = OSNET_BACKBONES[backbone]
    return OSNet(WIDTHS[width], NORMS[family])


# torchreid has a class for each family, which name the same parts differently
_RENAMED = (
    # the streams a to d, of which the first is not a list
    (re.compile(r"\.conv2a\."), ".streams.0.0."),
    (re.compile(r"\.conv2b\."), ".streams.1."),
    (re.compile(r"\.conv2c\."), ".streams.2."),
    (re.compile(r"\.conv2d\."), ".streams.3."),
    (re.compile(r"\.conv2\.(\d)\.layers\."), r".streams.\1."),
    # what shrinks the map is the third part of a stage
    (re.compile(r"^conv([23])\.2\.0\."), r"pool\1.0."),
)


def is_torchreids(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict names its tensors as torchreid's OSNets do."""
    return "conv5.conv.weight" in state and "conv2.0.gate.fc1.weight" in state


def from_torchreid(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of torchreid's OSNet under the names of ours; others keep theirs."""
    own = {}
    for key, value in state.items():
        for pattern, name in _RENAMED:
            key = pattern.sub(name, key)
        own[key] = value
    return own
