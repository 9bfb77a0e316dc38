"""A run replayed epoch by epoch: its labels, maps and flows, read from its folder while
it grows.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dkdmpl_kit import viz
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import write_atomic
from dkdmpl_kit.losses import teacher_logits, theory
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.neighbors import knn_graph, next_layout, umap_layout
from dkdmpl_kit.noise import error_kinds, label_change, label_quality, true_clusters
from dkdmpl_kit.noise.flows import choose_tracks, label_tracks, track_bands, track_changes
from dkdmpl_kit.training.checkpoint import load_epoch, load_history
from dkdmpl_kit.viz.epochs import (
    NO_MAP,
    epoch_frame,
    epoch_strip,
    fixed_png,
    map_limits,
)
from dkdmpl_kit.viz.flows import alluvial
from dkdmpl_kit.viz.style import count, known

NEIGHBOURS = 15  # of a picture, in the maps
BETWEEN_MS = 80  # each picture on the way from one map to the next
COLOURS = {
    "chosen": "chosen clusters",
    "error": "kind of error",
    "identity": "true identity",
    "camera": "camera",
}


class RunReplay:
    """What the epochs of a run show. `refresh` reads those that a training run has
    added since; nothing is written.

    run_dir       a run's folder, with epochs/ and history.jsonl
    pids, camids  (N,) true identities and cameras, None or -1 where unknown: only for
                  colours
    max_points    a map shows at most that many pictures, drawn by `seed`; the flows and
                  the records count all

    Read back: `.labels`, a list of (N,), one an epoch; `.bands` (E, N) and `.n_chosen`
    as `viz.alluvial` takes them, set by `choose_clusters`; `.map_images` (n,), the
    images that the maps show, None for all.
    """

    def __init__(
        self,
        run_dir: str | Path,
        *,
        pids=None,
        camids=None,
        seed: int = 0,
        max_points: int = 20_000,
    ) -> None:
        self.run_dir = Path(run_dir)
        self.seed = seed
        self.max_points = max_points
        self.pids = known(pids)
        self.camids = known(camids)
        self.labels: list[np.ndarray] = []
        self.history: list[dict] = []
        self.tracks = self.bands = np.zeros((0, 0), np.int64)
        self.changes: dict[str, Sequence[int]] = {}  # in the order of the table
        self.map_images: np.ndarray | None = None
        self.choice = (7, "change")
        self.n_chosen = 0
        self._maps: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self.labels)

    def refresh(self) -> int:
        """Read the epochs that came since the last call; how many. KitError where there
        is none at all, or one is damaged.
        """
        folder = self.run_dir / "epochs"
        if not self.run_dir.is_dir():
            raise KitError(
                f"There is no run folder {self.run_dir}: train first, or give the "
                "folder that holds epochs/."
            )
        files = sorted(folder.glob("epoch_*.npz"))
        if not files:
            raise KitError(
                f"No epoch of {self.run_dir.name} is done yet: refresh when the first one is."
            )
        new = [load_epoch(path, with_features=False)[0] for path in files[len(self) :]]
        for path, labels in zip(files[len(self) :], new):
            self._check_length(path.stem, labels, (self.labels or new)[0])
        self.history = load_history(self.run_dir)
        if new:
            self.labels += new
            self._thin_map(len(new[0]))
            self.tracks = label_tracks(self.labels)
            steps = [label_change(a, b) for a, b in zip(self.labels[:-1], self.labels[1:])]
            self.changes = {
                **track_changes(self.tracks),
                "split": [len(s.splits) for s in steps],
                "merged": [len(s.merges) for s in steps],
            }
            self.choose_clusters(*self.choice)
        return len(new)

    def _check_length(self, name: str, labels: np.ndarray, first: np.ndarray) -> None:
        others = {"the run's first epoch": first, "pids": self.pids, "camids": self.camids}
        for other, values in others.items():
            if values is not None and len(values) != len(labels):
                raise KitError(
                    f"{name} of {self.run_dir.name} labels {len(labels)} pictures, and "
                    f"{other} {len(values)}: epochs of one run and one data set belong "
                    "together."
                )

    def _thin_map(self, total: int) -> None:
        if self.map_images is None and total > self.max_points:
            rng = np.random.default_rng(self.seed)
            self.map_images = np.sort(rng.choice(total, self.max_points, replace=False))

    def choose_clusters(self, top: int = 7, by: str = "change") -> None:
        """Choose the clusters that flows and maps show (`noise.flows.choose_tracks`)."""
        self.choice = (top, by)
        chosen = choose_tracks(self.tracks, top, by=by)
        self.bands = track_bands(self.tracks, chosen)
        self.n_chosen = len(chosen)

    @property
    def colours(self) -> list[str]:
        """The keys of `COLOURS` that these data allow."""
        names = ["chosen"]
        if self.pids is not None:
            names += ["error", "identity"]
        if self.camids is not None:
            names += ["camera"]
        return names

    def features(self, epoch: int) -> np.ndarray | None:
        """(N, d) the features that an epoch began with, rows of norm 1; None where the
        run kept none.
        """
        return load_epoch(self.run_dir / "epochs" / f"epoch_{epoch:03d}.npz")[1]

    def records(self, temperature: float) -> list[dict]:
        """The history, with `teacher_line` at that temperature where features were kept
        and identities are known.
        """
        found = []
        for record in self.history[: len(self)]:
            features = self.features(record["epoch"])
            blind = features is None or self.pids is None or (self.pids < 0).any()
            if not blind:
                labels = self.labels[record["epoch"]]
                record = record | teacher_line(labels, features, self.pids, temperature)
            found.append(record)
        return found

    def layout(self, epoch: int) -> np.ndarray | None:
        """(n, 2) the map of an epoch, each started from the one before; None where the
        run kept no features.

        The first call for an epoch makes every earlier map that is still missing; they
        are kept.
        """
        while len(self._maps) <= epoch:
            features = self.features(len(self._maps))
            if features is None:
                return None
            features = features if self.map_images is None else features[self.map_images]
            graph = knn_graph(features, min(NEIGHBOURS, len(features)))
            if self._maps:
                self._maps.append(next_layout(graph, self._maps[-1], seed=self.seed))
            else:
                self._maps.append(umap_layout(graph, seed=self.seed))
        return self._maps[epoch]

    def title(self, epoch: int) -> str:
        """One line of what is known about an epoch."""
        record = next((r for r in self.history if r["epoch"] == epoch), None)
        return f"Epoch {epoch}: {_record_line(record, self.labels[epoch])}"

    def remark(self) -> str:
        """What a reader should know beside the picture; "" where there is nothing."""
        if self.map_images is None:
            return ""
        return (
            f" The map shows {len(self.map_images):,} of {len(self.labels[0]):,} pictures, "
            "drawn at random; flows and records count all."
        )

    def frame(
        self, epoch: int, colour: str = "chosen", *, xy: np.ndarray | None = None, **options
    ) -> viz.KitFigure:
        """The map of an epoch, or `xy` (n, 2), beside the flows; colour: one of
        `colours`; options as `viz.epoch_frame`'s.
        """
        if not 0 <= epoch < len(self):
            raise KitError(
                f"There is no epoch {epoch} in {self.run_dir.name}: it has {len(self)}."
            )
        if colour not in self.colours:
            raise KitError(
                f"colour={colour!r} cannot be shown here; there are: "
                f"{', '.join(self.colours)}."
            )
        values = {"identity": self.pids, "camera": self.camids}.get(colour)
        if colour == "error":
            values = error_kinds(self.labels[epoch], self.pids)
        if values is not None and self.map_images is not None:
            values = values[self.map_images]
        xy = self.layout(epoch) if xy is None else xy
        return epoch_frame(
            xy,
            self.bands,
            self.n_chosen,
            epoch,
            colour_by=values,
            kind=colour,
            map_images=self.map_images,
            limits=map_limits(self._maps) if xy is not None else None,
            **{"title": self.title(epoch), **options},
        )

    def flows(self, now: int | None = None) -> viz.KitFigure:
        """The alluvial picture of the whole run."""
        return alluvial(self.bands, self.n_chosen, now=now)

    def strip(self, n_stills: int = 4) -> viz.KitFigure:
        """Maps of `n_stills` epochs, the first and the last among them. KitError where
        the run kept no features.
        """
        places = np.linspace(0, len(self) - 1, n_stills).round().astype(int)
        stills = np.unique(places).tolist()
        maps = [self.layout(epoch) for epoch in stills]
        if any(xy is None for xy in maps):
            raise KitError(NO_MAP)
        bands = self.bands[stills]
        if self.map_images is not None:
            bands = bands[:, self.map_images]
        titles = [
            self.title(epoch).replace(": ", "\n").replace("outliers, ", "outliers\n")
            for epoch in stills
        ]
        return epoch_strip(maps, bands, self.n_chosen, titles=titles)

    def table(self, now: int | None = None) -> str:
        """The records as an HTML table, one row an epoch, with what happened to the
        clusters since the one before.
        """
        heads = (
            "epoch",
            "loss",
            "mAP %",
            "ARI",
            "clusters",
            "outliers %",
            "born",
            "died",
            "moved pictures",
            "split",
            "merged",
        )
        rows = []
        for k, labels in enumerate(self.labels):
            record = next((r for r in self.history if r["epoch"] == k), {})
            cells = [
                _text(record.get("loss")),
                _text(record.get("mAP"), 100, 1),
                _text(record.get("ari")),
                str(int(labels.max()) + 1),
                _text(float((labels < 0).mean()), 100, 1),
            ]
            cells += [str(int(steps[k - 1])) if k else "–" for steps in self.changes.values()]
            rows.append(
                _row([f"▶ {k}" if k == now else str(k), *cells], "b" if k == now else "")
            )
        return (
            '<table style="text-align:right">' + _row(heads, "b") + "".join(rows) + "</table>"
        )


def _record_line(record: dict | None, labels: np.ndarray) -> str:
    """ "61 clusters, 12% outliers, ARI 0.71, mAP 45.3%": what is known of an epoch; what
    is not measured is left out.
    """
    parts = [count(int(labels.max()) + 1, "cluster"), f"{(labels < 0).mean():.0%} outliers"]
    record = record or {}
    if record.get("ari") is not None:
        parts.append(f"ARI {record['ari']:.2f}")
    if record.get("mAP") is not None:
        parts.append(f"mAP {record['mAP']:.1%}")
    return ", ".join(parts)


def _text(value: float | None, factor: float = 1.0, digits: int = 3) -> str:
    return "–" if value is None else f"{factor * value:.{digits}f}"


def _row(cells: Iterable[str], tag: str = "") -> str:
    inside = (f"<{tag}>{cell}</{tag}>" if tag else cell for cell in cells)
    return (
        "<tr>"
        + "".join(f'<td style="padding:1px 8px">{cell}</td>' for cell in inside)
        + "</tr>"
    )


def save_gif(
    replay: RunReplay,
    path: str | Path,
    *,
    width: int = 600,
    seconds: float = 1.0,
    between: int = 3,
) -> Path:
    """Write the run as an animated GIF of `width` pixels that repeats. Each epoch stands
    for `seconds`, the last one three times as long.

    between: pictures on the way from one map to the next. The labels change where the
    way ends. KitError: the run has no epoch yet.
    """
    if not len(replay):
        raise KitError(
            f"There is no epoch in {replay.run_dir} to show: refresh when one is done."
        )
    last = len(replay) - 1
    replay.layout(last)  # all maps first: the frames share one set of limits
    pictures = []
    durations = []
    for epoch in range(len(replay)):
        here = replay.layout(epoch)
        there = replay.layout(min(epoch + 1, last))
        moves = between if here is not None and epoch < last else 0
        for step in range(moves + 1):
            xy = None if here is None else here + (there - here) * step / (between + 1)
            pictures.append(_gif_picture(replay, epoch, xy, width))
            durations.append(BETWEEN_MS if step else int(1000 * seconds))
    durations[-1] *= 3
    # one palette for all: with a palette each the file is four times as large
    every_epoch = np.concatenate(pictures[:: between + 1])
    palette = Image.fromarray(every_epoch).quantize(method=Image.Quantize.FASTOCTREE)
    frames = [
        Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE)
        for picture in pictures
    ]
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        loop=0,
        optimize=True,
    )
    return write_atomic(path, buffer.getvalue())


def _gif_picture(
    replay: RunReplay, epoch: int, xy: np.ndarray | None, width: int
) -> np.ndarray:
    """(H, width, 3) uint8: one frame."""
    dpi = 96
    size = (width / dpi, 0.62 * width / dpi)
    png = fixed_png(replay.frame(epoch, xy=xy, size=size), dpi)
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"))


def teacher_line(
    labels: np.ndarray, features: np.ndarray, pids: np.ndarray, temperature: float
) -> dict[str, float]:
    """{"hard_accuracy": 1 - eta, "teacher_mass": E e[y*]} of an epoch's teacher; {}
    where P2 has nothing to say.

    labels (N,), features (N, d) rows of norm 1, pids (N,). The teacher's label is
    nearer to the truth than the hard one where its mass exceeds the accuracy (method:
    P2). Over the clustered pictures that have a true cluster.
    """
    truth = true_clusters(labels, pids)
    seen = np.flatnonzero((labels >= 0) & (truth >= 0))
    if not len(seen) or labels.max() < 1:
        return {}
    v = torch.from_numpy(features)
    y = torch.from_numpy(labels)
    e = (
        teacher_logits(
            "sample",
            centroids=ClusterMemory(v, y).centroids,
            features=v[seen],
            temperature=temperature,
        )
        .double()
        .softmax(1)
    )
    eta, e_c, e_w = theory.teacher_quality(e, y[seen], torch.from_numpy(truth[seen]))
    return {
        "hard_accuracy": 1 - eta,
        "teacher_mass": theory.break_even(eta, e_c, e_w) + 1 - eta,
    }


def hardest(
    labels: np.ndarray, features: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """(indices, scores), each (at most count,), of the clustered pictures that lie
    nearest to another cluster, worst first.

    The score is the centroid silhouette of `noise.label_quality`, from -1 (in the wrong
    place) to 1.
    """
    silhouette = 2 * label_quality(labels, features=features).silhouette - 1
    order: Sequence[int] = np.argsort(silhouette, kind="stable")[
        : min(count, int((np.asarray(labels) >= 0).sum()))
    ]
    return np.asarray(order), silhouette[order]
