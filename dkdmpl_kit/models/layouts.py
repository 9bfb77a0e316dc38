"""State dicts of other codes under the names of our encoder.

Each family is known by its names alone: torchreid, TransReID and TransReID-SSL, PASS,
Cluster Contrast and its kin (SpCL, PPLR), fast-reid, OpenUnReID, and pre-training by MoCo
(LUPerson) and by DINO (TransReID-SSL, PASS, CION).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.models.normalisation import NORMALISATIONS
from dkdmpl_kit.models.osnet import OSNET_BACKBONES, WIDTHS, from_torchreid, is_torchreids
from dkdmpl_kit.models.tokens import PARTS, has_tokens, resized_positions

# where trainers keep a state dict; a teacher, the mean of its student, comes first
WRAPPERS = (
    "teacher",
    "state_dict",
    "model",
    "net",
    "student",
    "model_state_dict",
    "state_dict_1",
)
# first parts of names that an encoder has no place for: classifiers, projections, part
# branches, MoCo's second encoder and queue, the student beside its mean
HEADS = re.compile(
    r"fc|classifier\d*|heads?|\w*_head|head_\w+|pre_logits|projector|predictor|arcface|"
    r"bnneck\d+|bottleneck_\w+|encoder_k|queue|queue_ptr|net"
)
EMBEDDING_PARTS = ("fc.0.", "fc.1.")  # torchreid's linear layer and its batch norm
# Cluster Contrast's code (as SpCL's, PPLR's and others of that family) keeps its ResNet as
# a Sequential "base" of these parts.
BASE_PARTS = ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4")
# {theirs: ours}, at the beginning of a name; the first that fits
RENAMED = {
    **{f"base.{i}.": f"backbone.{part}." for i, part in enumerate(BASE_PARTS)},
    "base.": "backbone.",
    "encoder_q.": "backbone.",
    "gap.": "pool.",
    "global_pooling.": "pool.",
    "heads.pool_layer.": "pool.",
    "feat_bn.": "bnneck.",
    "head.feat_bn.": "bnneck.",
    "heads.bnneck.": "bnneck.",
    "heads.bottleneck.0.": "bnneck.",
    "bottleneck.": "bnneck.",
}
WITH_PREFIX = ("base.", "backbone.", "encoder_q.")


@dataclass(frozen=True)
class Layout:
    """A file's tensors under our names, and what else it tells.

    left_out: parts that an encoder has no place for. statistics: the mean and standard
    deviation of its family, None where its names do not tell. whole: it has a BNNeck.
    """

    state: dict[str, Tensor]
    left_out: tuple[str, ...] = ()
    statistics: tuple | None = None
    whole: bool = False


def unwrapped(content: object) -> tuple[object, tuple[str, ...]]:
    """The state dict in what a trainer saved, and the names of its wrappers."""
    inside = []
    while isinstance(content, Mapping):
        name = next((x for x in WRAPPERS if isinstance(content.get(x), Mapping)), None)
        if name is None:
            break
        content = content[name]
        inside.append(name)
    return content, tuple(inside)


def translated(
    state: Mapping[str, Tensor], encoder: nn.Module, wrappers: tuple[str, ...] = ()
) -> Layout:
    """A state dict of any known family for `encoder`; KitError for one that cannot be.

    Names that stay unknown are left in the state, for the caller to refuse.
    """
    state = {re.sub(r"^(module\.)+", "", key): value for key, value in state.items()}
    own = _of_a_checkpoint(state)
    if own is not None:
        return Layout(own, whole=True)
    statistics = _statistics(state, wrappers)
    state = {k: v for k, v in state.items() if k not in ("pixel_mean", "pixel_std")}
    lenient = any(key.startswith("heads.") for key in state)  # its GeM may have no weight
    if any(key.startswith("mean_net.") for key in state):
        state = {key.removeprefix("mean_net."): value for key, value in state.items()}
    if is_torchreids(state):
        state = from_torchreid(state)
    _refuse_non_local(state)
    prefixed = any(key.startswith(WITH_PREFIX) for key in state)
    renamed = {}
    for key, value in state.items():
        renamed[_renamed(key, prefixed, encoder)] = value
    if "pool.p" in renamed:
        renamed["pool.p"] = renamed["pool.p"].squeeze()  # theirs is (1,)
    if has_tokens(encoder.backbone):
        _fit_tokens(renamed, encoder.backbone)
    kept, left_out = _without_heads(renamed, encoder.state_dict())
    if lenient and any(key.startswith("backbone.layer4.") for key in kept):
        # the stem's pooling of its later versions (ceil_mode) stands half a cell aside
        left_out += ("the rounding of fast-reid's first pooling",)
    whole = "bnneck.weight" in kept and not lenient
    return Layout(kept, left_out, statistics, whole)


def _of_a_checkpoint(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The encoder out of our training checkpoint, which holds more; None elsewhere."""
    prefix = "encoder."
    if f"{prefix}bnneck.weight" not in state:
        return None
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _renamed(key: str, prefixed: bool, encoder: nn.Module) -> str:
    embedding = key.removeprefix("base.").startswith(EMBEDDING_PARTS)
    if embedding and encoder.pooling == "embedding":
        return key.removeprefix("base.").replace("fc.", "embedding.", 1)
    for theirs, ours in RENAMED.items():
        if key.startswith(theirs):
            return key.replace(theirs, ours, 1)
    if prefixed or key in ("mean", "std"):
        return key
    return f"backbone.{key}"


def _without_heads(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    embeds = any(key.endswith("fc.1.running_mean") for key in state)
    kept = {}
    left_out = []
    for key, value in state.items():
        bare = key.removeprefix("backbone.")
        part = bare.split(".")[0]
        if key in wanted or not HEADS.fullmatch(part):
            kept[key] = value
        else:
            left_out.append("fc (the embedding layer)" if embeds and part == "fc" else part)
    return kept, tuple(dict.fromkeys(left_out))


def _statistics(state: Mapping[str, Tensor], wrappers: tuple[str, ...]) -> tuple | None:
    """What a family normalises pictures with, where its names tell the family."""
    if "pixel_mean" in state and "pixel_std" in state:  # fast-reid's, of 0 to 255
        return tuple(
            tuple((state[name].float().flatten() / 255).tolist())
            for name in ("pixel_mean", "pixel_std")
        )
    tokens = any(key.endswith("cls_token") for key in state)
    if tokens and any(re.match(r"bottleneck(_\w+)?\.", key) for key in state):
        return NORMALISATIONS["half"]  # TransReID's training, and all that follow it
    if "teacher" in wrappers or any(key.endswith("part_token1") for key in state):
        return NORMALISATIONS["imagenet"]  # pre-training by DINO
    if tokens and "head.weight" not in state:
        return ()  # timm's, or a converted pre-training: nobody can tell
    return None


def _refuse_non_local(state: Mapping[str, Tensor]) -> None:
    found = [key for key in state if re.search(r"(^|\.)NL_\d", key)]
    if found:
        raise KitError(
            f"its ResNet has non-local blocks ({found[0]}), which the kit's has not: take a "
            "model without them (BoT, or MODEL.BACKBONE.WITH_NL False)."
        )


def _fit_tokens(state: dict[str, Tensor], net: nn.Module) -> None:
    """Part tokens in timm's places, and positions for the grid of `net`; in place."""
    name = "backbone.{}".format
    if (name("part_token1") in state) and net.num_prefix_tokens != 1 + PARTS:
        return  # the caller refuses it by its names
    if name("part_token1") in state:
        parts = range(1, PARTS + 1)
        tokens = [state.pop(name(f"part_token{i}")) for i in parts]
        positions = [state.pop(name("cls_pos"), None)]
        positions += [state.pop(name(f"part{i}_pos"), None) for i in parts]
        places = state.get(name("pos_embed"))
        if places is None or any(position is None for position in positions):
            raise KitError("its part tokens have no positions: give a file of PASS.")
        state[name("reg_token")] = torch.cat(tokens, dim=1)
        state[name("pos_embed")] = torch.cat([*positions, places], dim=1)
    if name("pos_embed") in state and state[name("pos_embed")].ndim == 3:
        state[name("pos_embed")] = resized_positions(state[name("pos_embed")], net)


# ---- what a file that does not fit is


def likely_backbone(state: Mapping[str, Tensor]) -> str | None:
    """The backbone that a state dict's names and shapes belong to, where they tell."""
    shapes = {
        re.sub(r"^(module\.|encoder\.|teacher\.|base\.|backbone\.|encoder_q\.)+", "", key): (
            tuple(value.shape)
        )
        for key, value in state.items()
    }
    if "conv5.conv.weight" in shapes:
        return _likely_osnet(shapes)
    if "cls_token" in shapes:
        size = {192: "tiny", 384: "small", 768: "base"}.get(shapes["cls_token"][-1])
        if size is None:
            return None
        if "part_token1" in shapes or "reg_token" in shapes:
            return f"vit_{size}_pass"
        if "patch_embed.conv.0.weight" in shapes:
            return f"vit_{size}_ics"
        return f"vit_{size}_patch16_224"
    if any(key.startswith("base.0.") for key in state) or "layer3.0.conv1.weight" in shapes:
        return _likely_resnet([key.replace("base.6.", "layer3.") for key in state])
    return "tf_efficientnet_lite0" if "conv_stem.weight" in shapes else None


def _likely_osnet(shapes: Mapping[str, tuple]) -> str | None:
    last = shapes["conv5.conv.weight"][0]
    width = next((name for name, numbers in WIDTHS.items() if numbers[-1] == last), None)
    if any("conv2.0.IN." in key for key in shapes):
        inside = any(re.match(r"conv3\.1\.IN\.", key) for key in shapes)
        name = f"osnet_{'ain' if inside else 'ibn'}_{width}"
    else:
        name = f"osnet_{width}"
    return name if name in OSNET_BACKBONES else None


def _likely_resnet(keys: list[str]) -> str | None:
    blocks = {int(m.group(1)) for key in keys if (m := re.search(r"layer3\.(\d+)\.", key))}
    deep = any(".conv3." in key for key in keys)
    depths = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101, (36, True): 152}
    depth = depths.get((len(blocks), deep))
    ibn = any(".bn1.IN." in key for key in keys)
    return depth and f"resnet{depth}{'_ibn_a' if ibn else ''}"
