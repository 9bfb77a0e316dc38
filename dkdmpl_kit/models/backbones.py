"""Backbones without a head: timm's, IBN-ResNets, OSNets, and vision transformers."""

from __future__ import annotations

from torch import nn

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.models.ibn import IBN_BACKBONES, ibn_resnet
from dkdmpl_kit.models.osnet import OSNET_BACKBONES, OSNet, osnet
from dkdmpl_kit.models.tokens import (
    REID_TRANSFORMERS,
    fit_size,
    has_tokens,
    reid_transformer,
    stages,
)
from dkdmpl_kit.models.weights import BUNDLED_BACKBONE, HEADLESS, HUB, from_hub, hub_backbone

OWN = (*IBN_BACKBONES, *OSNET_BACKBONES, *REID_TRANSFORMERS)


def headless(name: str, *, hub: bool, size: tuple[int, int] | None = None) -> nn.Module:
    """A backbone without its head, with the hub's ImageNet weights or random ones.

    name: timm's, or of `OWN`, or "hf-hub:owner/model". size: (height, width) of pictures,
    for transformers. KitError for an unknown name.
    """
    net = _created(name, hub=hub)
    return fit_size(net, name, size) if has_tokens(net) else net


def _created(name: str, *, hub: bool) -> nn.Module:
    import timm

    if not name.startswith(HUB) and name not in OWN and not timm.is_model(name):
        near = [x for x in OWN if name in x] + timm.list_models(f"*{name}*")[:4]
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
    if name in REID_TRANSFORMERS:
        return reid_transformer(name, **HEADLESS)
    if name.startswith(HUB):
        return from_hub(name, pretrained=False)
    try:
        return timm.create_model(name, **HEADLESS)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise not_convolutional(name, error) from error


def not_convolutional(name: str, error: Exception, size: tuple = ()) -> KitError:
    """The error for a backbone that gives no map."""
    pictures = (
        f" takes no pictures of {size[0]} x {size[1]} pixels" if size else " has no map"
    )
    return KitError(
        f"backbone={name!r}{pictures} "
        f"({' '.join(str(error).split())[:120].rstrip('.')}): choose a convolutional one, "
        f"such as {BUNDLED_BACKBONE}, resnet50 or convnext_tiny."
    )


def refuse_pooling(net: nn.Module, name: str, pooling: str) -> None:
    """KitError unless a backbone has what `pooling` needs: a class token or a map."""
    if has_tokens(net) and pooling != "token":
        raise KitError(
            f"backbone={name!r} has tokens and no map for pooling={pooling!r}: use "
            'pooling="token", or choose a convolutional one, such as resnet50.'
        )
    if pooling == "token" and not has_tokens(net):
        raise KitError(
            f'pooling="token" belongs to vision transformers, such as '
            f"vit_small_patch16_224; backbone={name!r} is none: choose gem or avg."
        )


def stage_names(net: nn.Module) -> tuple[tuple[str, ...], ...]:
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
    return stages(net) if has_tokens(net) else ()


def set_last_stride(net: nn.Module, last_stride: int) -> int:
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
