"""Distances of pairs of pictures, by whether they show one identity and one camera."""

from __future__ import annotations

import numpy as np

from dkdmpl_kit.errors import KitError


def distance_groups(
    distances: np.ndarray,
    row_pids: np.ndarray,
    column_pids: np.ndarray,
    row_camids: np.ndarray,
    column_camids: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split distances (n, m) into those of pairs of the same identity and camera, of the
    same identity under two cameras, and of two identities.

    pids and camids are (n,) of the rows and (m,) of the columns; a negative pid is
    nobody's. Set a pair to NaN to leave it out, say a picture with itself. Returns three
    1-d arrays. KitError: shapes that do not fit.
    """
    distances = np.asarray(distances, float)
    row_pids = np.asarray(row_pids)[:, None]
    same_identity = (row_pids == np.asarray(column_pids)) & (row_pids >= 0)
    same_camera = np.asarray(row_camids)[:, None] == np.asarray(column_camids)
    if same_identity.shape != distances.shape or same_camera.shape != distances.shape:
        raise KitError(
            f"distance_groups: distances {distances.shape} do not fit pids and camids "
            f"{same_identity.shape}."
        )
    valid = ~np.isnan(distances)
    return (
        distances[same_identity & same_camera & valid],
        distances[same_identity & ~same_camera & valid],
        distances[~same_identity & valid],
    )
