"""ClusterExplorer: a live map of pictures whose clustering is moved by sliders, and
looked into by hovering and selecting.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np
from ipywidgets import HTML, HBox, Layout
from matplotlib.figure import Figure

from dkdmpl_kit import viz
from dkdmpl_kit.clustering import (
    corrected,
    jaccard_distances,
    percolation_warning,
    pseudo_labels,
    sweep_eps,
)
from dkdmpl_kit.errors import KitError, check_option
from dkdmpl_kit.lessons.lab.correcting import SAYINGS, CorrectionFile
from dkdmpl_kit.lessons.lab.panel import FigureView, Panel, task_line
from dkdmpl_kit.lessons.lab.scatter import point_map, recolour
from dkdmpl_kit.neighbors import NeighborGraph, knn_graph
from dkdmpl_kit.noise import (
    ClusteringSummary,
    ClusterView,
    cluster_view,
    clustering_summary,
    error_kinds,
    kept_names,
    last_change,
)
from dkdmpl_kit.viz.clusters import (
    COLOURINGS,
    MAP_COLOURS,
    MAP_SENTENCE,
    label_rows,
    thinned,
)
from dkdmpl_kit.viz.maps import ERROR_LABELS
from dkdmpl_kit.viz.pictures import identity_marks
from dkdmpl_kit.viz.style import count, known, same_length

TASK = (
    "Task: move eps up slowly. Which clusters grow together, and would you have put their "
    "pictures together?"
)
TASK_WITH_TRUTH = (
    "Task: colour by kind of error, then move eps up slowly. Which errors grow fewer, and which "
    "take their place?"
)
START = {"eps": 0.6, "min_samples": 4, "k1": 30, "k2": 6}


class ClusterExplorer(Panel):
    """A map of N pictures to pan, zoom, hover, lasso and click; sliders re-cluster it
    on the sparse graph as they move.

    xy        (N, 2) positions, as of `neighbors.umap_layout`
    features  (N, d), rows of norm 1, or a `NeighborGraph` of them, whose columns then
              are the largest k1
    pids, camids  (N,) identities and cameras, negative where unknown, or None: for
                  measuring and pictures only
    pictures  a store with .batch(indices) -> uint8 (B, 3, H, W), or None
    epoch_labels  labels (N,) of a run's epochs, for the colouring by last change
    names     N paths as labels.csv has them, for corrections
    corrections  a .csv to which buttons write what the lasso says; the clustering keeps
              to it, and so do `dkdmpl cluster --corrections` and a training
    max_distance  the largest eps; more than `max_points` points are thinned on the map,
                  and a line says so
    start     where the sliders start: eps, min_samples, k1, k2

    Read back: `.labels` (N,) of now (a cluster keeps its number while it can be
    followed), `.kinds` (N,) of error or None, `.summary`, `.view` of the cluster looked
    at, `.selected` indices of the lasso, `.figure()` the static twin. What cannot be
    shown is said in the panel; `.check()` raises it.
    """

    def __init__(
        self,
        xy: Any,
        features: Any,
        *,
        pids: Any = None,
        camids: Any = None,
        pictures: Any = None,
        epoch_labels: Sequence[Any] = (),
        names: Sequence[str] | None = None,
        corrections: str = "",
        max_distance: float = 0.8,
        max_points: int = 50_000,
        **start: float,
    ) -> None:
        super().__init__()
        self.add_class("dkdmpl-explorer")
        self.labels: np.ndarray | None = None
        self.kinds: np.ndarray | None = None
        self.summary: ClusteringSummary | None = None
        self.view: ClusterView | None = None
        self.selected = np.array([], np.int64)
        self.said: CorrectionFile | None = None
        self._hovered = None
        self.pictures = pictures
        self.max_distance = max_distance
        self._sentence = ""
        self._quiet = False
        self.children = [self.status]
        epoch_labels = () if epoch_labels is None else epoch_labels
        self.attempt(lambda: self._open_corrections(corrections, names))
        if self.error is None:
            self.attempt(
                lambda: self._build(
                    xy, features, pids, camids, epoch_labels, start, max_points
                )
            )

    def attempt(self, action: Any) -> bool:
        """As every panel's; after an error that is over, the numbers of the clustering
        come back.
        """
        went_well = super().attempt(action)
        if went_well:
            self.say(self._sentence)
        return went_well

    def figure(self) -> Figure:
        """The static twin: this clustering on the map, by label and by kind of error."""
        if self.labels is None:
            raise KitError("ClusterExplorer: nothing is clustered yet; see the status line.")
        return viz.explorer_maps(self.xy, self.labels, self.kinds, summary=str(self.summary))

    def _open_corrections(self, path: str, names: Sequence[str] | None) -> None:
        if not path:
            return
        if names is None:
            raise KitError("ClusterExplorer: corrections need the names of the pictures.")
        self.said = CorrectionFile(path, names)

    def _build(
        self,
        xy: Any,
        features: Any,
        pids: Any,
        camids: Any,
        epoch_labels: Sequence[Any],
        start: dict,
        max_points: int,
    ) -> None:
        for name in start:
            check_option("ClusterExplorer: slider", name, START)
        start = START | start
        self.xy = np.asarray(xy, float)
        graph = features if isinstance(features, NeighborGraph) else None
        if self.xy.ndim != 2 or self.xy.shape[1:] != (2,) or not np.isfinite(self.xy).all():
            raise KitError(
                f"ClusterExplorer: xy must be finite positions (N, 2), not {self.xy.shape} "
                "or NaN; make them with neighbors.umap_layout."
            )
        same_length(
            xy=self.xy,
            features=features,
            names=None if self.said is None else self.said.names,
            pids=pids,
            camids=camids,
            pictures=self.pictures if hasattr(self.pictures, "__len__") else None,
            **{f"epoch {epoch}": labels for epoch, labels in enumerate(epoch_labels)},
        )
        self.graph = graph or knn_graph(features, min(2 * start["k1"], len(self.xy)))
        self.features = self.graph.features
        self.pids = known(pids)
        self.camids = known(camids)
        self.changed = last_change(epoch_labels) if len(epoch_labels) > 1 else None
        self.map_images = thinned(len(self.xy), max_points)
        self.map = point_map(self.xy[self.map_images])
        self._place = np.full(len(self.xy), -1)
        self._place[self.map_images] = np.arange(len(self.map_images))
        self._make_controls(start)
        panel = self._lay_out()
        self._measure()
        self._recluster()
        self.twin.show(self.figure())
        self._listen()
        self.children = panel

    def _make_controls(self, start: dict) -> None:
        def slider(name: str, low: float, high: float, live: bool) -> Any:
            kind = ipywidgets.FloatSlider if name == "eps" else ipywidgets.IntSlider
            width = "20em" if name == "min_samples" else "15em"  # room for its name
            layout = Layout(width=width, margin="2px 0.8em 2px 2px")
            made = kind(
                value=min(start[name], high),
                min=low,
                max=high,
                step=0.01 if name == "eps" else 1,
                description=name,
                continuous_update=live,
                style={"description_width": "initial"},
                layout=layout,
            )
            made.add_class(f"dkdmpl-{name.replace('_', '-')}")
            return made

        most = self.graph.k
        self.eps = slider("eps", min(0.1, start["eps"]), self.max_distance, True)
        self.auto = ipywidgets.Button(
            description="eps: auto",
            tooltip="the eps where the number of clusters peaks, without identities",
            layout=Layout(width="7em", margin="2px 0.8em 2px 2px"),
        )
        self.auto.add_class("dkdmpl-eps-auto")
        self.min_samples = slider("min_samples", 1, max(20, start["min_samples"]), True)
        self.k1 = slider("k1", min(2, most), most, False)
        self.k2 = slider("k2", 1, min(max(20, start["k2"]), most), False)
        there = {
            "identity": self.pids,
            "error": self.pids,
            "camera": self.camids,
            "change": self.changed,
        }
        options = [
            (text, name)
            for name, text in COLOURINGS.items()
            if name not in there or there[name] is not None
        ]
        self.colour = ipywidgets.Dropdown(options=options, description="colour by")
        self.cluster = ipywidgets.BoundedIntText(
            -1,
            min=-1,
            max=10**9,
            description="cluster",
            layout=Layout(width="14em"),
            tooltip="look at this cluster; -1: none",
        )
        self.sayings = {
            saying: ipywidgets.Button(description=text, layout=Layout(width="10em"))
            for saying, text in (SAYINGS | {"undo": "take back"}).items()
        }
        for saying, button in self.sayings.items():
            button.add_class(f"dkdmpl-say-{saying}")
        self.told = HTML(html.escape(str(self.said)))
        self.colour.add_class("dkdmpl-colour")
        self.cluster.add_class("dkdmpl-cluster")

    def _lay_out(self) -> list:
        """The panel from top to bottom, under class names that stay."""
        self.hover_picture = ipywidgets.Image(
            format="png",
            layout=Layout(
                height="256px",
                width="auto",
                display="none",
                object_fit="contain",
                align_self="flex-start",
            ),
        )
        self.hover_text = HTML(
            "Point at a picture to see it. Click it to see its cluster. Lasso to see many."
        )
        self.legend = HTML()
        self.gallery = FigureView()
        self.twin = FigureView()
        self.gallery.layout.display = "none"
        self.gallery.layout.align_self = "flex-start"  # never larger than it is
        self.views = (self.twin,)
        side = ipywidgets.VBox(
            [self.hover_picture, self.hover_text],
            layout=Layout(width="15em", flex="0 0 auto"),
        )
        canvas = ipywidgets.VBox([self.map], layout=Layout(flex="1 1 auto", width="30em"))
        parts = {
            "map": canvas,
            "side": side,
            "hover": self.hover_picture,
            "gallery": self.gallery,
            "legend": self.legend,
            "status": self.status,
        }
        for name, widget in parts.items():
            widget.add_class(f"dkdmpl-explorer-{name}")
        wrap = Layout(flex_flow="row wrap")
        self.notes = HTML(" ".join([f"<b>{MAP_SENTENCE}</b>", *self._unknown()]))
        return [
            task_line(TASK if self.pids is None else TASK_WITH_TRUTH),
            HBox([self.eps, self.auto, self.min_samples, self.k1, self.k2], layout=wrap),
            HBox([self.colour, self.cluster], layout=wrap),
            *(
                [HBox([*self.sayings.values(), self.told], layout=wrap)]
                if self.said is not None
                else []
            ),
            self.status,
            HBox([canvas, side]),
            self.legend,
            self.notes,
            self.gallery,
        ]

    def _unknown(self) -> list[str]:
        """What the panel cannot show, in sentences."""
        sentences = []
        if self.pids is None:
            sentences.append("Identities are unknown: no ARI, no purity, no kinds of error.")
        if self.camids is None:
            sentences.append("Cameras are unknown.")
        if self.pictures is None:
            sentences.append("There are no pictures to look at.")
        drawn = len(self.map_images)
        if drawn < len(self.xy):
            sentences.append(
                f"The map shows {drawn:,} of {len(self.xy):,} pictures; all are clustered."
            )
        return sentences

    def _choose_eps(self, _: Any = None) -> None:
        """Move the radius to where `sweep_eps` puts it."""
        sweep = sweep_eps(self.distances, min_samples=self.min_samples.value)
        self.eps.value = sweep.chosen

    def _listen(self) -> None:
        self.auto.on_click(self._choose_eps)
        self.on(self.eps, self._recluster)
        self.on(self.min_samples, self._recluster)
        self.on(self.k1, self._remeasure)
        self.on(self.k2, self._remeasure)
        self.on(self.colour, self._recolour)
        self.on(self.cluster, self._choose)
        for saying, button in self.sayings.items():
            self.on_click(button, lambda saying=saying: self._say(saying))
        self.on(self.map, self._hover, names="hovering")
        self.on(self.map, self._select, names="selection")

    def _say(self, saying: str) -> None:
        """A button: correct the clustering by what is selected, or take that back."""
        if self.said is None:
            raise KitError("ClusterExplorer: give corrections, the file to write to.")
        chosen = self.selected
        if saying == "undo":
            self.said.undo()
        else:
            if saying == "one" and len(chosen) < 2 and self.view is not None:
                chosen = self.view.members  # the cluster that is open
            self.said.say(saying, chosen, self.labels)
        self.told.value = html.escape(str(self.said))
        self._recluster()

    def _measure(self) -> None:
        """Distances for k1 and k2 (at most k1): what eps and min_samples then cut is
        computed only when these change.
        """
        k1 = self.k1.value
        self.distances = jaccard_distances(
            self.graph, k1=k1, k2=min(self.k2.value, k1), max_distance=self.max_distance
        )

    def _remeasure(self) -> None:
        self._measure()
        self._recluster()

    def _recluster(self) -> None:
        found = pseudo_labels(
            self.distances,
            eps=min(self.eps.value, self.max_distance),
            min_samples=self.min_samples.value,
        )
        constraints = None if self.said is None else self.said.constraints
        labels = corrected(found, constraints, self.features).labels
        if self.labels is None:
            self._names = labels.copy()
        else:
            labels = kept_names(self._names, labels)
            # an outlier remembers its last cluster, so that the way back finds the old
            # numbers, and colours
            self._names = np.where(labels >= 0, labels, self._names)
        self.summary = clustering_summary(labels, self.pids, self.labels)
        self.kinds = None if self.pids is None else error_kinds(labels, self.pids)
        self.labels = labels
        hint = ""
        if self.summary.n_clusters == 0:
            hint = "Every picture is an outlier: raise eps or lower min_samples. "
        elif self.summary.n_clusters == 1:
            hint = "Everything clustered is one cluster: lower eps. "
        elif warning := percolation_warning(labels, found.eps):
            hint = f"{warning} "
        self._sentence = f"{hint}{self.summary}"
        self.say(self._sentence)
        self._recolour()
        self._refresh()

    def _recolour(self) -> None:
        values = {
            "label": self.labels,
            "identity": self.pids,
            "camera": self.camids,
            "error": self.kinds,
            "outlier": self.labels,
            "change": self.changed,
        }[self.colour.value]
        self._codes, legend = viz.map_colours(self.colour.value, values)
        recolour(self.map, self._codes[self.map_images])
        self.legend.value = " &nbsp; ".join(
            f'<span style="color:{colour}">●</span> {text}' for colour, text in legend
        )
        if self._hovered is not None:
            self._show_hovered()

    def _hover(self) -> None:
        place = self.map.hovering
        if place is None or not 0 <= place < len(self.map_images):
            return
        self._hovered = int(self.map_images[place])
        self._show_hovered()

    def _show_hovered(self) -> None:
        """The picture pointed at last, framed in its point's colour, and what this
        clustering makes of it.
        """
        i = self._hovered
        lines = [f"<b>picture {i}</b>", *self._facts(i)]
        picture, problem = self._read([i])
        shown = picture[0] is not None
        if shown:
            self.hover_picture.value = viz.picture_png(picture[0])
            colour = MAP_COLOURS[self._codes[i]]  # as its point on the map
            self.hover_picture.layout.border = f"4px solid {colour}"
        self.hover_picture.layout.display = "" if shown else "none"
        self.hover_text.value = "<br>".join([*lines, html.escape(problem)])

    def _facts(self, i: int) -> list[str]:
        label = int(self.labels[i])
        facts = ["outlier"]
        if label >= 0:
            size = int((self.labels == label).sum())
            facts = [f"cluster {label}, {count(size, 'picture')}"]
        if self.pids is not None:
            pid = self.pids[i]
            facts.append("identity unknown" if pid < 0 else f"identity {pid}")
        if self.camids is not None:
            camid = self.camids[i]
            facts.append("camera unknown" if camid < 0 else f"camera {camid + 1}")
        if self.kinds is not None and label >= 0 and self.pids[i] >= 0:
            facts.append(ERROR_LABELS[str(self.kinds[i])])
        if self.changed is not None:
            epoch = self.changed[i]
            facts.append(f"last change: epoch {epoch}" if epoch else "never changed")
        return facts

    def _read(self, indices: Any) -> tuple[list, str]:
        """The pictures (None where one cannot be read) and a sentence about those."""
        if self.pictures is None:
            return [None] * len(indices), "There are no pictures to look at."
        try:
            return list(self.pictures.batch(indices)), ""
        except (KitError, OSError) as error:
            if len(indices) == 1:
                return [None], f"This picture cannot be read: {error}"
        pictures = [self._read([i])[0][0] for i in indices]
        gone = sum(picture is None for picture in pictures)
        return pictures, f"{gone} of these pictures cannot be read (gone)."

    def _select(self) -> None:
        """A lasso opens a gallery, a click on one picture its cluster, nothing closes
        both.
        """
        if self._quiet:
            return
        selection = self.map.selection
        places = np.asarray([] if selection is None else selection, np.int64)
        self.selected = self.map_images[places[places < len(self.map_images)]]
        one = int(self.labels[self.selected[0]]) if len(self.selected) == 1 else -1
        self._look_at(one)

    def _choose(self) -> None:
        """A cluster's number in the box."""
        if not self._quiet:
            self.selected = np.array([], np.int64)
            self._look_at(self.cluster.value)

    def _look_at(self, cluster: int) -> None:
        self._set(self.cluster, value=cluster)
        self.view = None
        if cluster < 0:
            if not len(self.selected):
                self._set(self.map, selection=np.array([], np.uint32))
            self._open(self._selection_gallery() if len(self.selected) else None)
            return
        self.view = cluster_view(
            self.features, self.labels, cluster, pids=self.pids, camids=self.camids
        )
        places = self._place[self.view.members]
        self._set(self.map, selection=np.sort(places[places >= 0]).astype(np.uint32))
        self._open(self._cluster_gallery(self.view))

    def _refresh(self) -> None:
        """After another clustering: the cluster or the selection that is open, as it is
        now.
        """
        cluster = self.cluster.value
        if cluster >= 0 and not (self.labels == cluster).any():
            self._sentence += f" · cluster {cluster} is no more"
            self.selected = np.array([], np.int64)
            cluster = -1
        if cluster >= 0 or len(self.selected) or self.gallery.figure is not None:
            self._look_at(cluster)

    def _set(self, widget: Any, **traits: Any) -> None:
        """Set traits without hearing of it."""
        self._quiet = True
        try:
            for name, value in traits.items():
                setattr(widget, name, value)
        finally:
            self._quiet = False

    def _open(self, figure: Figure | None) -> None:
        if figure is None:
            self.gallery.figure = None
            self.gallery.value = b""
            self.gallery.layout.display = "none"
        else:
            self.gallery.show(figure)
            self.gallery.layout.display = ""

    def _selection_gallery(self) -> Figure:
        rows, note = label_rows(self.selected, self.labels, self.kinds)
        selected = count(len(self.selected), "selected picture")
        return self._gallery(rows, f"{selected}, by pseudo label", note)

    def _cluster_gallery(self, view: ClusterView) -> Figure:
        members = [view.members]
        texts = ["nearest to its\ncentroid first"]
        for name, similarity in zip(view.nearest, view.similarities):
            members.append(np.flatnonzero(self.labels == name))
            texts.append(f"similarity {similarity:.2f}")
        groups = [group[:12] for group in members]
        marks = identity_marks(groups, self.pids)
        rows = []
        for k, name in enumerate([view.cluster, *view.nearest]):
            size = count(len(members[k]), "picture")
            colours, letters = marks[k]
            row = {
                "name": f"cluster {name}\n{texts[k]}\n{size}",
                "indices": groups[k],
                "colours": colours,
                "marks": letters,
            }
            rows.append(row)
        note = "There is no other cluster to compare it with."
        if len(view.nearest):
            note = "Below it the clusters with the most similar centroids, in feature space."
        if self.pids is not None:
            note += " Letters: true identities, A the most frequent; not the map's colours."
        return self._gallery(rows, str(view), note)

    def _gallery(self, rows: list[dict], title: str, note: str) -> Figure:
        read, problem = self._read(np.concatenate([row["indices"] for row in rows]))
        ends = np.cumsum([len(row["indices"]) for row in rows])
        for row, end in zip(rows, ends):
            row["pictures"] = read[end - len(row["indices"]) : end]
        return viz.picture_rows(rows, title=title, note=f"{note} {problem}".strip())
