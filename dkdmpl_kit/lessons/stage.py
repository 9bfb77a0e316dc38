"""What the notebooks hand to one another through out_dir: features, runs, figures and
metrics; made where they are missing.
"""

from __future__ import annotations

import ast
import dataclasses
import io
from pathlib import Path

import numpy as np

from dkdmpl_kit.clustering import PseudoLabels
from dkdmpl_kit.data import ImageStore, ReIDDataset, arrays_of, load_factors
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import (
    PLACE,
    Config,
    environment,
    open_dataset,
    pick_device,
    preset,
    started,
    write_atomic,
    write_json,
)
from dkdmpl_kit.studies.files import portable
from dkdmpl_kit.training import (
    FitResult,
    Monitor,
    cluster_epoch,
    constraints_of,
    extract,
    fit,
    load_encoder,
    new_state,
    reference_labels,
)
from dkdmpl_kit.training.checkpoint import load_epoch

# what `Stage.require` asks for, and what to say where it is missing
NEEDS = {
    "clusters": "the clustering of the untrained features finds fewer than 2 clusters, so "
    "nothing can be trained: raise eps or lower min_samples in `settings`",
    "truth": "these pictures have no identities, and the rest compares with identities",
    "cameras": "the camera of some pictures is unknown, and the rest compares cameras",
    "test": "no query has a gallery picture of its identity from another camera, and the "
    "rest ranks galleries",
}


class _RestSkipped(ast.NodeTransformer):
    """Lets IPython run no cell, until one builds a `Stage` again."""

    def visit(self, cell: ast.AST) -> ast.AST:
        if any(getattr(node, "id", "") == Stage.__name__ for node in ast.walk(cell)):
            return cell
        return ast.parse("print('(skipped)')")


class Stage:
    """One notebook's view of an experiment: its configuration, its pictures, and what
    other notebooks left in out_dir.

    Parameters are those of every notebook's parameters cell. `settings` overrides
    fields of `Config` as text, such as "min_samples=2 eps=0.5". Every method that has
    to make an artefact prints a line that says so.
    """

    def __init__(
        self,
        notebook: str,
        *,
        preset_name: str,
        seed: int,
        device: str,
        data: str,
        data_root: str,
        pattern: str,
        out_dir: str,
        settings: str,
        table: str = "",
    ) -> None:
        base = preset(
            preset_name,
            seed=seed,
            device=device,
            data=data,
            data_root=data_root,
            table=table,
            pattern=pattern,
            out_dir=out_dir,
        )
        self.notebook = notebook
        self.config = base.with_settings(settings)
        self.out_dir = Path(base.out_dir)
        self.dataset: ReIDDataset = open_dataset(self.config)
        self.paths, self.pids, self.camids = arrays_of(self.dataset.train)
        self._stores: dict[str, ImageStore] = {}
        self._shown: list[str] = []  # names of the figures, in order
        self._said: dict[str, dict] = {}  # claims about this run: their words and numbers
        self._read: set[str] = set()  # names of the runs that something was taken from
        _run_all_cells()

    @property
    def has_truth(self) -> bool:
        """Whether every training picture's identity is known, so that labels can be
        compared with it.
        """
        return bool((self.pids >= 0).all())

    @property
    def has_cameras(self) -> bool:
        return bool((self.camids >= 0).all())

    @property
    def has_test(self) -> bool:
        """Whether a ranking can be measured: some query has a gallery picture of its
        identity from another camera.
        """
        return Monitor(self.config, self.dataset).blind is None

    def pictures(self, split: str = "train") -> ImageStore:
        """The decoded pictures of a split, in memory, or many of them in a mapped file."""
        if split not in self._stores:
            paths = arrays_of(getattr(self.dataset, split))[0]
            self._stores[split] = ImageStore(
                paths,
                self.config.height,
                self.config.width,
                progress=False,
                cache_dir=self.out_dir / "cache",
            )
        return self._stores[split]

    def factors(self) -> list[dict] | None:
        """What made each rendered training picture (clothes, view, occluder ...); None
        for photographs.
        """
        root = self.dataset.root
        found = load_factors(root) if self.config.data == "synthetic" else None
        if not found:
            return None
        return [found[path.relative_to(root).as_posix()] for path in self.paths]

    def encoder(self, run: str | None = None):
        """The encoder of a run (a method's name or a run's), or the untrained one."""
        if run is None:
            return new_state(self.config, pick_device(self.config.device)).encoder
        return load_encoder(self.out_dir / "runs" / self._run_name(run))[1]

    def features(self, run: str | None = None, split: str = "train") -> np.ndarray:
        """Features (N, d) of a split by the untrained encoder or a run's, from
        out_dir/artefacts or made now.
        """
        tag = "untrained" if run is None else self._run_name(run)
        stamp = f"{self.dataset.fingerprint()}-{self._config_of(run).fingerprint()}"
        path = self.out_dir / "artefacts" / f"features-{tag}-{split}.npz"
        if path.exists():
            with np.load(path) as kept:
                if str(kept["stamp"]) == stamp:
                    return kept["features"]
        print(
            f"Extracting the features of the {split} split with the "
            f"{'untrained encoder' if run is None else tag} ..."
        )
        features = extract(self.config, self.encoder(run), self.pictures(split))
        buffer = io.BytesIO()
        np.savez(buffer, features=features, stamp=stamp)
        write_atomic(path, buffer.getvalue())
        return features

    def cluster(self, features: np.ndarray, **changes):
        """Pseudo labels of features (N, d) under this configuration, with `changes` to
        its settings.
        """
        config = self.config.replace(**changes)
        known = constraints_of(config, self.dataset.root, self.dataset.unlabelled())
        return cluster_epoch(config, features, self.camids, known)

    def run(
        self, method: str, *, name: str = "", progress: bool = True, on_epoch=None, **changes
    ) -> FitResult:
        """The finished run of a method from out_dir/runs, or train it now; a cut one is
        continued.
        """
        config = self.config.replace(method=method, run_name=name, **changes)
        if not (config.run_dir / "result.json").exists():
            print(
                f"Training {config.name}: {config.epochs} epochs of "
                f"{config.iterations} batches of "
                f"{config.batch_clusters * config.batch_images} pictures ..."
            )
        return fit(
            config,
            self.dataset,
            reference_labels=reference_labels(config, self.dataset),
            resume=True,
            wait=True,
            progress=progress,
            on_epoch=on_epoch,
        )

    def warm_run(self) -> FitResult:
        """A few epochs of cluster contrast: clusters that are neither hopeless nor
        clean, for the lessons on the losses.
        """
        epochs = min(4, self.config.epochs)
        return self.run(
            "cluster_contrast",
            name=f"warm-seed{self.config.seed}",
            progress=False,
            epochs=epochs,
            evaluate_every=epochs,
        )

    def warm_start(self):
        """(encoder, features (N, d), PseudoLabels) after the warm run: where the
        lessons on the losses begin.

        Where clustering finds fewer than 2 clusters a line says so, and k-means stands
        in so that the lesson can go on.
        """
        run = None
        if self.cluster(self.features()).n_clusters >= 2:
            run = self.warm_run().run_dir.name
        features = self.features(run)
        pseudo = self.cluster(features)
        if pseudo.n_clusters < 2:
            from sklearn.cluster import KMeans

            print(
                f"The clustering finds {pseudo.n_clusters} cluster(s), and a lesson on losses "
                "needs 2: raise eps or lower min_samples. Until then k-means stands in, so "
                "that the lesson can go on."
            )
            n_groups = max(2, len(features) // 8)
            kmeans = KMeans(n_groups, random_state=self.config.seed, n_init=1)
            groups = kmeans.fit_predict(features)
            groups = np.unique(groups, return_inverse=True)[1].astype(np.int64)
            pseudo = PseudoLabels(groups, int(groups.max()) + 1, 0.0, method="kmeans")
        return self.encoder(run), features, pseudo

    def epoch_labels(self, run: str) -> list[np.ndarray]:
        """The pseudo labels (N,) of every epoch of a run, in order."""
        folder = self.out_dir / "runs" / self._run_name(run) / "epochs"
        files = sorted(folder.glob("epoch_*.npz"))
        return [load_epoch(path, with_features=False)[0] for path in files]

    def save_figure(self, figure, name: str, **metadata) -> Path:
        """Write out_dir/figures/<name>.png and, beside it, the JSON of what made it."""
        from dkdmpl_kit.viz import save_figure

        path = self.out_dir / "figures" / f"{name}.png"
        save_figure(figure, path, metadata={**self._provenance(), **metadata})
        return path

    def show(self, figure, name: str, caption: str = "", **metadata) -> None:
        """Write a figure as `save_figure` does, and show it with its caption: the sentence
        that reads the result, in Markdown.
        """
        from IPython.display import Markdown, display

        self.save_figure(figure, name, caption=caption, **metadata)
        if name not in self._shown:
            self._shown.append(name)
        display(figure)
        if caption:
            display(Markdown(caption))

    def say(self, name: str, sentence: str, **numbers) -> None:
        """Show a sentence (Markdown) about the result of this run, made from `numbers`,
        and keep both under "claims" in metrics.json, where a test compares them.
        """
        from IPython.display import Markdown, display

        self._said[name] = {"sentence": sentence, **numbers}
        display(Markdown(sentence))

    def require(self, *needs: str) -> None:
        """End the notebook here, without an error, where these pictures lack one of
        `needs` (of `NEEDS`): say why, write the metrics, and let later cells be skipped
        until a `Stage` is built again. In a cell of its own.
        """
        for need in needs:
            if need not in NEEDS:
                raise KitError(f"need {need!r} is unknown; there are: {', '.join(NEEDS)}.")
        missing = [need for need in needs if not self._has(need)]
        if missing:
            print(f"The notebook ends here: {'; '.join(NEEDS[need] for need in missing)}.")
            self.write_metrics({"ends_without": ", ".join(missing)})
            _skip_the_rest()

    def _has(self, need: str) -> bool:
        if need == "clusters":
            return self.cluster(self.features()).n_clusters >= 2
        return getattr(self, f"has_{need}")

    def write_metrics(
        self, metrics: dict, *, table: dict | None = None, figures: list[str] | None = None
    ) -> Path:
        """Write out_dir/metrics/<notebook>/metrics.json, what the report reads: the
        last act of every notebook. figures: those that were shown, if not given.
        """
        names = self._shown if figures is None else figures
        content = {
            "notebook": self.notebook,
            "metrics": metrics,
            "figures": [f"figures/{name}.png" for name in names],
            "claims": self._said,
            **self._provenance(),
        }
        if table is not None:
            content["table"] = table
        return write_json(self.out_dir / "metrics" / self.notebook / "metrics.json", content)

    def _provenance(self) -> dict:
        """Where figures and numbers come from. Runs that an earlier notebook trained may
        have had other settings: those stand under "runs", and not among the notebook's.
        """
        settings = portable(dataclasses.asdict(self.config))
        runs = {name: self._other_settings(name) for name in sorted(self._read)}
        differing = set().union(*runs.values())
        found = {
            "notebook": self.notebook,
            "seed": self.config.seed,
            "settings": {n: value for n, value in settings.items() if n not in differing},
            "data_fingerprint": self.dataset.fingerprint(),
            "environment": environment(),
        }
        return found | ({"runs": runs} if differing else {})

    def _other_settings(self, run: str) -> dict:
        """The settings of a run that differ from this notebook's, apart from its method
        and its place.
        """
        own = dataclasses.asdict(self._config_of(run))
        mine = dataclasses.asdict(self.config)
        apart = {*PLACE, "data_root", "table", "method"}
        return {n: v for n, v in own.items() if v != mine[n] and n not in apart}

    def _run_name(self, run: str) -> str:
        for name in (run, f"{run}-seed{self.config.seed}"):
            if (self.out_dir / "runs" / name).is_dir():
                self._read.add(name)
                return name
        raise KitError(
            f"There is no run {run!r} below {self.out_dir / 'runs'}: train it first, "
            f"with Stage.run({run!r})."
        )

    def _config_of(self, run: str | None) -> Config:
        if run is None:
            return self.config.replace(method="cluster_contrast")
        return started(self.out_dir / "runs" / self._run_name(run))["config"]


def _skip_the_rest() -> None:
    from IPython import get_ipython

    if shell := get_ipython():
        shell.ast_transformers.append(_RestSkipped())


def _run_all_cells() -> None:
    """Take back what `_skip_the_rest` did."""
    import sys

    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()):
        kept = [t for t in shell.ast_transformers if not isinstance(t, _RestSkipped)]
        shell.ast_transformers[:] = kept
