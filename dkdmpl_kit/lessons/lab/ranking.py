"""RankingBrowser: one query after another, its list before and after training, and
where the encoders look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets
import numpy as np

from dkdmpl_kit import viz
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.evaluation import distance_groups, evaluate_ranking, ranked_gallery
from dkdmpl_kit.lessons.lab.panel import FigureView, Panel, task_line

ORDERS = ("as listed", "lowest AP first", "most changed first")
TASK = (
    "Task: what do the wrong pictures at the top of a list share with the query: clothes, view "
    "or camera?"
)
NO_TRUTH = "Task: which pictures at the top of a list would you doubt, and why?"
# queries whose distances make the curves; all of them would be hundreds of millions of
# pairs
PAIRS_OF = 400


class RankingBrowser(Panel):
    """Browse rankings of queries (Q) in a gallery (G) under one or more views.

    views: {name: (query features (Q, d), gallery features (G, d))}, rows of norm 1; the
    first counts as "before", the last as "after". query_pictures, gallery_pictures:
    stores with `.batch(indices)` -> uint8 (B, 3, H, W). pids and camids: (Q,), (G,), -1
    or None where unknown. look: (view, query picture, gallery feature, gallery picture,
    query feature) -> (map of the query, map of the gallery picture), or None: then no
    activation maps are offered. order: of `ORDERS`, how the queries are arranged at first;
    by default the worst one opens, where identities are known. top: places of a list.
    """

    def __init__(
        self,
        views: Mapping[str, tuple[np.ndarray, np.ndarray]],
        query_pictures: Any,
        gallery_pictures: Any,
        *,
        query_pids: Any = None,
        gallery_pids: Any = None,
        query_camids: Any = None,
        gallery_camids: Any = None,
        look: Callable[..., tuple[Any, Any]] | None = None,
        order: str = "",
        top: int = 10,
    ) -> None:
        super().__init__()
        if order and order not in ORDERS:
            raise KitError(
                f"RankingBrowser: order {order!r} is unknown; there are: {', '.join(ORDERS)}."
            )
        if not views or not len(next(iter(views.values()))[0]):
            raise KitError(
                "RankingBrowser: nothing to rank; give at least one view with a query "
                "and a gallery."
            )
        self.rankings = dict(views)
        self.pictures = (query_pictures, gallery_pictures)
        self.look = look
        self.top = top
        query_features, gallery_features = next(iter(views.values()))
        n_queries = len(query_features)
        n_gallery = len(gallery_features)
        self.query_ids = _ids(n_queries, query_pids), _ids(n_queries, query_camids)
        self.gallery_ids = _ids(n_gallery, gallery_pids), _ids(n_gallery, gallery_camids)
        self.has_truth = bool(
            (self.query_ids[0] >= 0).any() and (self.gallery_ids[0] >= 0).any()
        )
        self.precision = {
            name: self._precision(*pair) for name, pair in self.rankings.items()
        }
        self._groups = {
            name: self._distance_groups(*pair) for name, pair in self.rankings.items()
        }
        self.lists: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._build(n_queries, order)
        self._choose_order()
        self.draw()

    def _build(self, n_queries: int, order: str) -> None:
        wide = ipywidgets.Layout(width="24rem")
        options = ORDERS if self.has_truth else ORDERS[:1]
        first = order if order in options else options[min(1, len(options) - 1)]
        self.order = ipywidgets.Dropdown(options=options, value=first, description="order")
        self.place = ipywidgets.IntSlider(
            0, 0, n_queries - 1, description="query", continuous_update=False, layout=wide
        )
        self.other = ipywidgets.IntSlider(
            1, 1, self.top, description="place", continuous_update=False, layout=wide
        )
        self.maps = ipywidgets.ToggleButton(
            False, description="where does it look?", disabled=self.look is None
        )
        self.ranking = FigureView()
        self.distances = FigureView()
        self.activation = FigureView()
        self.views = (self.ranking, self.distances, self.activation)
        self.note = ipywidgets.HTML()
        self.on(self.order, self._choose_order)
        self.on(self.place, self.draw)
        self.on(self.other, self._draw_maps)
        self.on(self.maps, self._draw_maps)
        self.children = [
            task_line(TASK if self.has_truth else NO_TRUTH),
            ipywidgets.HBox([self.order, self.place]),
            self.status,
            self.ranking,
            self.distances,
            ipywidgets.HBox([self.maps, self.other]),
            self.note,
            self.activation,
        ]
        self.add_class("dkdmpl-ranking")

    @property
    def query(self) -> int:
        """The index of the query that is shown."""
        return int(self.sequence[self.place.value])

    def _choose_order(self) -> None:
        """Arrange the queries; those that cannot be scored come last."""
        first, *_ = self.precision.values()
        *_, last = self.precision.values()
        keys = {
            "as listed": np.arange(len(first)),
            "lowest AP first": last,
            "most changed first": -np.abs(last - first),
        }
        self.sequence = np.argsort(keys[self.order.value], kind="stable")
        if self.lists:
            self.draw()

    def draw(self) -> None:
        """The query's list under every view, its distances, and its sentence."""
        j = self.query
        pid = self.query_ids[0][j]
        camid = self.query_ids[1][j]
        self.lists = {
            name: ranked_gallery(
                q[j],
                g,
                int(pid),
                self.gallery_ids[0],
                int(camid),
                self.gallery_ids[1],
                top=self.top,
            )
            for name, (q, g) in self.rankings.items()
        }
        width = min(len(indices) for indices, _ in self.lists.values())
        kinds = np.stack([kinds[:width] for _, kinds in self.lists.values()])
        known = bool((kinds != "unknown").all())
        titles = []
        for name in self.lists:
            score = self.precision[name][j]
            titles.append(f"{name}\nAP {score:.2f}" if np.isfinite(score) else name)
        self.ranking.show(
            viz.ranking_grid(
                self.pictures[0].batch([j] * len(self.lists)),
                [self.pictures[1].batch(i[:width]) for i, _ in self.lists.values()],
                kinds == "right" if known else None,
                kinds == "junk" if known else None,
                titles=titles,
                title=f"Query {j}: its {width} nearest gallery pictures",
            )
        )
        distances = {}
        for name, (indices, kind) in self.lists.items():
            queries, gallery = self.rankings[name]
            distances[name] = (self._groups[name], 1 - gallery[indices] @ queries[j], kind)
        self.distances.show(viz.query_distances(distances))
        self.say(self._sentence(j))
        self._draw_maps()

    def _sentence(self, j: int) -> str:
        if not self.has_truth:
            return (
                f"Query {j}. The identities are unknown: nothing is marked right or wrong, and "
                "AP cannot be computed."
            )
        scores = [
            f"{name} {self.precision[name][j]:.2f}"
            for name in self.lists
            if np.isfinite(self.precision[name][j])
        ]
        found = ", ".join(scores) or "not defined, as nothing can be matched"
        sentence = f"Query {j}: AP {found}."
        if not (self.query_ids[1] >= 0).any():
            sentence += " The cameras are unknown: nothing is left out as junk."
        return sentence

    def _draw_maps(self) -> None:
        """Activation maps of the query and the picture at the chosen rank of the last
        view, under every view.
        """
        if self.look is None:
            self.note.value = (
                "Activation maps need the encoders of these features; none were given."
            )
            return
        if not self.maps.value:
            return
        j = self.query
        *_, (indices, kinds) = self.lists.values()
        rank = min(self.other.value, len(indices))
        k = int(indices[rank - 1])
        query = self.pictures[0].batch([j])[0]
        other = self.pictures[1].batch([k])[0]
        found = {
            name: self.look(name, query, g[k], other, q[j])
            for name, (q, g) in self.rankings.items()
        }
        scores = {name: float(q[j] @ g[k]) for name, (q, g) in self.rankings.items()}
        kind = "" if kinds[rank - 1] == "unknown" else f" ({kinds[rank - 1]})"
        self.activation.show(
            viz.activation_pairs(
                query.numpy(),
                other.numpy(),
                found,
                scores=scores,
                title=f"Query {j} and the picture at place {rank}{kind} of the last list",
            )
        )

    def _precision(self, query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        """AP of every query (Q,), NaN where nothing can be matched."""
        try:
            return evaluate_ranking(
                query,
                gallery,
                self.query_ids[0],
                self.gallery_ids[0],
                self.query_ids[1],
                self.gallery_ids[1],
            ).average_precision
        except KitError:  # no query has a match: the browser still shows the lists
            return np.full(len(query), np.nan)

    def _distance_groups(self, query: np.ndarray, gallery: np.ndarray) -> tuple | None:
        if not self.has_truth:
            return None
        rows = np.linspace(0, len(query) - 1, min(len(query), PAIRS_OF)).astype(int)
        counted = self.gallery_ids[0] >= 0
        return distance_groups(
            1 - query[rows] @ gallery[counted].T,
            self.query_ids[0][rows],
            self.gallery_ids[0][counted],
            self.query_ids[1][rows],
            self.gallery_ids[1][counted],
        )


def _ids(count: int, values: Any) -> np.ndarray:
    found = np.full(count, -1) if values is None else np.asarray(values)
    if found.shape != (count,):
        raise KitError(f"RankingBrowser: {found.shape} ids do not fit {count} pictures.")
    return found.astype(np.int64)
