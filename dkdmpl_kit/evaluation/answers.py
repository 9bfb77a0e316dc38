"""Who of the gallery a query shows, or nobody."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.evaluation.ranking import similarity_blocks
from dkdmpl_kit.evaluation.reranking import Reranking, fitting
from dkdmpl_kit.evaluation.thresholds import check_threshold


@dataclass(frozen=True, eq=False)
class Answers:
    """For each query the gallery pictures that are believed, best first.

    indices       (Q, top) int64, -1 where the list has ended
    similarities  (Q, top) float32 of these pictures, NaN there
    distances     (Q, top) float32, re-ranked, by which they are ordered; None without
    best          (Q,) float32, the highest similarity of the whole gallery, believed or not
    """

    indices: np.ndarray
    similarities: np.ndarray
    distances: np.ndarray | None
    best: np.ndarray

    @property
    def nobody(self) -> np.ndarray:
        """(Q,) bool: the queries that no gallery picture is similar enough to."""
        return self.indices[:, 0] < 0


def search(
    query_features: np.ndarray | torch.Tensor,
    gallery_features: np.ndarray | torch.Tensor,
    *,
    top: int = 10,
    threshold: float | None = None,
    rerank: Reranking | None = None,
    files: tuple[np.ndarray, np.ndarray] | None = None,
) -> Answers:
    """The first `top` gallery pictures (G, d) of each query (Q, d), rows of norm 1.

    threshold: pictures of a lower similarity are not believed, whatever their place.
    rerank: order by re-ranked distances. files (Q,) and (G,), integers: a gallery picture
    of the query's own number is the query itself, and no answer to it. Equal: the smaller
    index first.
    KitError: features that do not fit together, top below 1, threshold out of range.
    """
    query, gallery = fitting(query_features, gallery_features)
    if top < 1:
        raise KitError(f"top={top} must be at least 1.")
    if threshold is not None:
        check_threshold(threshold)
    width = min(top, len(gallery))
    indices = np.empty((len(query), width), np.int64)
    similarities, scores = np.empty((2, len(query), width), np.float32)
    best = np.empty(len(query), np.float32)
    for start, order_by in similarity_blocks(query, gallery, rerank):
        part = slice(start, start + len(order_by))
        plain = order_by
        if rerank is not None:
            plain = (query[part] @ gallery.T).cpu().numpy()
        believed = np.ones(plain.shape, bool)
        if files is not None:
            believed = np.asarray(files[0])[part, None] != np.asarray(files[1])
        best[part] = np.where(believed, plain, -np.inf).max(axis=1)
        if threshold is not None:
            believed &= plain >= np.float32(threshold)
        order = np.argsort(np.where(believed, -order_by, np.inf), axis=1, kind="stable")
        order = order[:, :width]
        listed = np.take_along_axis(believed, order, axis=1)
        indices[part] = np.where(listed, order, -1)
        for into, values in ((similarities, plain), (scores, -order_by)):
            chosen = np.take_along_axis(values, order, axis=1)
            into[part] = np.where(listed, chosen, np.nan)
    return Answers(indices, similarities, scores if rerank is not None else None, best)
