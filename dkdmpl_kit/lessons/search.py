"""Queries and the gallery that they search, as the first notebook shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dkdmpl_kit.data import arrays_of
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.evaluation import RankingResult, evaluate_ranking
from dkdmpl_kit.lessons.stage import Stage


@dataclass(frozen=True)
class Search:
    """Features of queries (Q, d) and of the gallery (G, d) that they search, rows of norm 1.

    query_split, gallery_split   where the pictures lie: both "train" where the training
                pictures search among themselves
    query_pids, query_camids (Q,), gallery_pids, gallery_camids (G,), negative where unknown
    result      the score over all queries, or None where it cannot be measured
    """

    query_split: str
    gallery_split: str
    query: np.ndarray
    gallery: np.ndarray
    query_pids: np.ndarray
    query_camids: np.ndarray
    gallery_pids: np.ndarray
    gallery_camids: np.ndarray
    result: RankingResult | None = None

    def typical(self) -> int:
        """Row of the query of middle average precision, the lower of two; 0 where nothing
        is measured.
        """
        if self.result is None:
            return 0
        ap = self.result.average_precision
        measured = np.flatnonzero(~np.isnan(ap))
        return int(
            measured[np.argsort(ap[measured], kind="stable")][(len(measured) - 1) // 2]
        )

    def nearest(
        self, row: int, count: int = 10
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """(indices, same, junk) of the gallery pictures most similar to query `row`, best
        first.

        same (count,) bool: the query's person, None where that is unknown. junk (count,)
        bool: of them, those of the query's camera, which the protocol leaves out.
        """
        similarity = self.gallery @ self.query[row]
        if self.query_split == self.gallery_split:
            similarity[row] = -np.inf  # not itself
        order = np.argsort(-similarity, kind="stable")[: min(count, len(similarity) - 1)]
        pid, camera = self.query_pids[row], self.query_camids[row]
        same = (self.gallery_pids[order] == pid) & (pid >= 0)
        junk = same & (self.gallery_camids[order] == camera) & (camera >= 0)
        return order, same if pid >= 0 else None, junk


def first_search(stage: Stage) -> Search:
    """The stage's queries and gallery under the untrained encoder, with their score; or its
    training pictures among themselves, and a printed line that says why.
    """
    names = ("query", "gallery")
    if stage.has_test:
        features = [stage.features(split=name) for name in names]
        known = [arrays_of(getattr(stage.dataset, name))[1:] for name in names]
        given = (*features, *known[0], *known[1])
        (query_pids, query_camids), (gallery_pids, gallery_camids) = known
        try:
            result = evaluate_ranking(
                *features, query_pids, gallery_pids, query_camids, gallery_camids
            )
            return Search(*names, *given, result)
        except KitError as error:
            print(error)
    print(
        "No ranking can be scored on these pictures, so one training picture searches among "
        "the others."
    )
    features = stage.features()
    known = (stage.pids, stage.camids)
    return Search("train", "train", features, features, *known, *known)
