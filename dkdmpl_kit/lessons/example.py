"""The one picture that the course follows through notebooks 03, 04, 07 and 08."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from dkdmpl_kit.errors import KitError


def running_example(
    soft: csr_array, labels: np.ndarray, true_clusters: np.ndarray | None = None
) -> int:
    """Index of the picture of which the clustering's soft label knows the most that its hard
    label does not.

    soft (N, K): `stage.cluster(features, gkd_teacher="vote").soft`. labels (N,), -1 for
    outliers. true_clusters (N,), -1 where unknown (`noise.true_clusters`): the picture is
    then the wrongly labelled one with the most mass on its true cluster. Without them, or
    where no mass lies on any true cluster, it is the clustered picture with the most mass on
    one other cluster. Of equal ones the first. KitError: no picture is clustered.
    """
    labels = np.asarray(labels)
    clustered = np.flatnonzero(labels >= 0)
    if not len(clustered):
        raise KitError("No picture is in a cluster, so none can be followed.")
    if true_clusters is not None:
        star = np.asarray(true_clusters)
        wrong = clustered[(star[clustered] >= 0) & (star[clustered] != labels[clustered])]
        if len(wrong):
            mass = soft[wrong, star[wrong]]
            mass = np.asarray(mass.todense() if hasattr(mass, "todense") else mass).ravel()
            if mass.max() > 0:
                return int(wrong[mass.argmax()])
    others = soft[clustered].tolil()
    others[np.arange(len(clustered)), labels[clustered]] = 0
    most = np.asarray(others.tocsr().max(axis=1).todense()).ravel()
    return int(clustered[most.argmax()])
