"""Where randomness comes from: one seed, and generators made of the seed, the epoch and
a purpose alone.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, and ask cuDNN for deterministic kernels (so never
    for its benchmark mode).
    """
    random.seed(seed)
    # third-party code (umap, timm) reads the legacy state
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def generator_for(seed: int, epoch: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose of one epoch.

    Because nothing of it carries over from epoch to epoch, a resumed run draws exactly
    what the uninterrupted one drew.
    """
    digest = hashlib.sha256(f"{seed}/{epoch}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
