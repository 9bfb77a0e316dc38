"""The features that every head is trained and measured on: the encoder's, frozen."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from dkdmpl_kit.data import ImageStore, ReIDDataset, arrays_of, augment
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import Config, pick_device, write_atomic
from dkdmpl_kit.models import extract_features
from dkdmpl_kit.training import new_state
from dkdmpl_kit.training.seeds import generator_for

VIEWS = 2  # augmented copies of each training picture
CHUNK = 256  # pictures that are encoded at a time
DEPENDS_ON = (  # settings that change the features
    "backbone",
    "weights",
    "normalisation",
    "pooling",
    "last_stride",
    "height",
    "width",
    "flip",
    "padding",
    "erasing",
)


@dataclass(frozen=True, eq=False)
class FrozenFeatures:
    """Features of the untrained encoder, rows of norm 1: of the training pictures and
    of the test split's.

    plain (N, d); views (V, N, d): of augmented copies, drawn once; pids, camids (N,);
    query, gallery: each (features (M, d), pids (M,), camids (M,)); fingerprint: of the
    data.
    """

    plain: np.ndarray
    views: np.ndarray
    pids: np.ndarray
    camids: np.ndarray
    query: tuple[np.ndarray, np.ndarray, np.ndarray]
    gallery: tuple[np.ndarray, np.ndarray, np.ndarray]
    fingerprint: str


def frozen_features(
    config: Config, dataset: ReIDDataset, *, path: Path | None = None, progress: bool = False
) -> FrozenFeatures:
    """Extract them, or read them from `path` where they lie already. KitError without
    identities or a test split.
    """
    train = arrays_of(dataset.train)
    query = arrays_of(dataset.query)
    gallery = arrays_of(dataset.gallery)
    complete = all(len(paths) for paths, _, _ in (train, query, gallery))
    if not complete or (train[1] < 0).any():
        raise KitError(
            "The robustness experiment makes true labels wrong and ranks a test split: "
            "it needs the identity of every training picture, a query and a gallery, and "
            "this data set lacks some."
        )
    settings = [getattr(config, name) for name in DEPENDS_ON]
    stamp = f"{dataset.fingerprint()} {VIEWS} {settings}"
    found = _kept(path, stamp)
    if found is None:
        paths = {"train": train[0], "query": query[0], "gallery": gallery[0]}
        found = _extract(config, paths, progress)
        if path:
            buffer = io.BytesIO()
            np.savez(buffer, stamp=stamp, **found)
            write_atomic(path, buffer.getvalue())
    return FrozenFeatures(
        plain=found["train"],
        views=found["views"],
        pids=train[1],
        camids=train[2],
        query=(found["query"], query[1], query[2]),
        gallery=(found["gallery"], gallery[1], gallery[2]),
        fingerprint=dataset.fingerprint(),
    )


def _kept(path: Path | None, stamp: str) -> dict[str, np.ndarray] | None:
    """The features in the file, if they are of the same data and settings."""
    if not path or not path.exists():
        return None
    with np.load(path) as file:
        kept = dict(file)
    return kept if str(kept.pop("stamp")) == stamp else None


@torch.inference_mode()
def _extract(
    config: Config, paths: dict[str, tuple[Path, ...]], progress: bool
) -> dict[str, np.ndarray]:
    device = pick_device(config.device)
    encoder = new_state(config, device).encoder.eval()
    found = {}
    for name, files in paths.items():
        store = ImageStore(files, config.height, config.width, progress=False)
        found[name] = extract_features(encoder, store, device=device, progress=progress)
        if name == "train":
            draws = generator_for(config.data_seed, 0, "frozen views")
            copies = tqdm(
                range(VIEWS), desc="augmented copies", leave=False, disable=not progress
            )
            views = [_augmented_features(config, encoder, store, draws) for _ in copies]
            found["views"] = torch.stack(views).numpy()
    return found


def _augmented_features(
    config: Config, encoder: torch.nn.Module, store: ImageStore, draws: torch.Generator
) -> Tensor:
    """(N, d) features of one augmented copy of every picture, on the CPU."""
    device = next(encoder.parameters()).device
    parts = []
    for indices in np.array_split(np.arange(len(store)), -(-len(store) // CHUNK)):
        pictures = augment(
            store.batch(indices),
            draws,
            flip=config.flip,
            padding=config.padding,
            erasing=config.erasing,
        )
        parts.append(encoder(pictures.to(device)).float().cpu())
    return torch.cat(parts)
