"""Centring by camera: what a camera adds to all of its pictures, taken off."""

from __future__ import annotations

import numpy as np
import torch

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.neighbors import as_features


def centre_by_camera(
    features: np.ndarray | torch.Tensor, camids: np.ndarray
) -> np.ndarray | torch.Tensor:
    """Features (N, d) without the mean of their camera (N,), rows of norm 1 again; same
    kind and device as given.

    An option before clustering, not in the paper: it removes what all pictures of one
    camera have in common (its cast, its background), at the price of using camera ids.
    KitError: unknown cameras (-1), or a camera whose images are all alike, such as a
    single one, of which nothing is left.
    """
    tensor = as_features(features)
    cameras = np.asarray(camids)
    if cameras.shape != (len(tensor),):
        raise KitError(
            f"camids has shape {cameras.shape}, but there are {len(tensor)} features."
        )
    if (cameras < 0).any():
        raise KitError(
            f"{int((cameras < 0).sum())} images have no known camera: centring by "
            "camera needs all of them."
        )
    centred = tensor.clone()
    for camera in np.unique(cameras):
        rows = torch.as_tensor(np.flatnonzero(cameras == camera), device=tensor.device)
        centred[rows] -= tensor[rows].mean(dim=0)
        if bool((torch.linalg.vector_norm(centred[rows], dim=1) < 1e-6).any()):
            raise KitError(
                f"Camera {camera} ({len(rows)} images) has nothing left after "
                "centring: switch the centring "
                "by camera off, or leave this camera out."
            )
    centred = torch.nn.functional.normalize(centred, dim=1)
    return centred if isinstance(features, torch.Tensor) else centred.numpy()
