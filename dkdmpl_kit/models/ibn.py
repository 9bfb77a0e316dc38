"""IBN-a on timm's ResNets (Pan et al., ECCV 2018).

Half of the channels are instance-normalised, half batch-normalised. Instance norm takes
a picture's own contrast and tint out, which cameras differ in; batch norm keeps what
tells apart.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dkdmpl_kit.errors import KitError

RELEASE = "https://github.com/XingangPan/IBN-Net/releases/tag/v1.0"
# {name: (timm's plain model, the file of ImageNet weights under RELEASE)}
IBN_BACKBONES = {
    "resnet50_ibn_a": ("resnet50", "resnet50_ibn_a-d9d0bb7b.pth"),
    "resnet101_ibn_a": ("resnet101", "resnet101_ibn_a-59ea0ac6.pth"),
}


class InstanceBatchNorm(nn.Module):
    """The first half of the channels normalised in each picture, the rest over the batch.

    (B, C, H, W) in and out. The submodules are named IN and BN, as in the published
    checkpoints.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.IN = nn.InstanceNorm2d(channels // 2, affine=True)
        self.BN = nn.BatchNorm2d(channels - channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        own = x[:, : self.IN.num_features]
        shared = x[:, self.IN.num_features :]
        # one group a channel: instance norm by a kernel that keeps channels_last
        own = F.group_norm(
            own, self.IN.num_features, self.IN.weight, self.IN.bias, self.IN.eps
        )
        return torch.cat([own, self.BN(shared)], dim=1)


def ibn_resnet(backbone: str, **options: object) -> nn.Module:
    """timm's ResNet with IBN-a and random weights.

    IBN-a stands after the first convolution of every block of layers 1 to 3. Layer 4
    keeps its batch norm: it tells identities apart, and there style is content.
    backbone: a name of `IBN_BACKBONES`; options: for `timm.create_model`.
    """
    import timm

    net = timm.create_model(IBN_BACKBONES[backbone][0], **options)
    for layer in (net.layer1, net.layer2, net.layer3):
        for block in layer:
            block.bn1 = InstanceBatchNorm(block.bn1.num_features)
    return net


def no_hub_weights(backbone: str) -> KitError:
    """The error for weights="imagenet": it names the file to fetch, and the address."""
    file = IBN_BACKBONES[backbone][1]
    return KitError(
        f'timm\'s hub has no weights="imagenet" for {backbone}: fetch {file} from its '
        f"authors ({RELEASE}) and give weights={file}."
    )
