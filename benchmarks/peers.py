"""The published codes to measure against, from checkouts of yours.

Nothing of them is part of the kit.

DKDMPL_CLUSTER_CONTRAST  a checkout of github.com/alibaba/cluster-contrast-reid
DKDMPL_TORCHREID         a checkout of github.com/KaiyangZhou/deep-person-reid
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import sys
from pathlib import Path

import numpy as np
import torch

from dkdmpl_kit.errors import KitError


def checkout(variable: str, file: str) -> Path | None:
    """The folder that an environment variable names, None where it is not set.

    KitError where `file` is not in it.
    """
    if not os.environ.get(variable):
        return None
    folder = Path(os.environ[variable])
    if not (folder / file).is_file():
        raise KitError(
            f"{variable}={folder} holds no {file}: give the top folder of the "
            "checkout, or unset it."
        )
    return folder


def cluster_contrast_labels(features: np.ndarray, eps: float = 0.6) -> np.ndarray | None:
    """Pseudo labels as cluster-contrast-reid's training script makes them on a CPU.

    None without a checkout.
    """
    folder = checkout("DKDMPL_CLUSTER_CONTRAST", "clustercontrast/utils/faiss_rerank.py")
    if folder is None:
        return None
    from sklearn.cluster import DBSCAN

    rerank = _module(folder, "clustercontrast.utils.faiss_rerank")
    with contextlib.redirect_stdout(io.StringIO()):
        distances = rerank.compute_jaccard_distance(
            torch.from_numpy(features), k1=30, k2=6, search_option=3
        )
    dbscan = DBSCAN(eps=eps, min_samples=4, metric="precomputed", n_jobs=-1)
    return dbscan.fit_predict(distances)


def cluster_contrast_ranking(
    query, gallery, query_pids, gallery_pids, query_cams, gallery_cams
) -> tuple[float, float] | None:
    """(mAP, Rank-1) by cluster-contrast-reid's evaluator, distances included.

    None without a checkout.
    """
    folder = checkout("DKDMPL_CLUSTER_CONTRAST", "clustercontrast/evaluators.py")
    if folder is None:
        return None
    evaluators = _module(folder, "clustercontrast.evaluators")
    names = [(i, None, None) for i in range(len(query) + len(gallery))]
    query_names = names[: len(query)]
    gallery_names = names[len(query) :]
    features = dict(enumerate(torch.from_numpy(np.concatenate([query, gallery]))))
    with contextlib.redirect_stdout(io.StringIO()):
        distances, _, _ = evaluators.pairwise_distance(features, query_names, gallery_names)
        cmc, mean_ap = evaluators.evaluate_all(
            None,
            None,
            distances,
            query_ids=query_pids,
            gallery_ids=gallery_pids,
            query_cams=query_cams,
            gallery_cams=gallery_cams,
            cmc_flag=True,
        )
    return float(mean_ap), float(cmc[0])


def torchreid_ranking(
    query, gallery, query_pids, gallery_pids, query_cams, gallery_cams
) -> tuple[float, float] | None:
    """(mAP, Rank-1) by torchreid's Python evaluator, distances included.

    None without a checkout.
    """
    folder = checkout("DKDMPL_TORCHREID", "torchreid/metrics/rank.py")
    if folder is None:
        return None
    spec = importlib.util.spec_from_file_location(
        "torchreid_rank", folder / "torchreid/metrics/rank.py"
    )
    rank = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rank)
    distances = (1 - torch.from_numpy(query) @ torch.from_numpy(gallery).T).numpy()
    cmc, mean_ap = rank.eval_market1501(
        distances, query_pids, gallery_pids, query_cams, gallery_cams, 50
    )
    return float(mean_ap), float(cmc[0])


def _module(folder: Path, name: str):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise KitError(
            f"{name} of {folder} cannot be imported ({error}): install what it needs, "
            "or unset the variable."
        ) from error
