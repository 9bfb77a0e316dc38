"""Settings and results: one frozen `Config` for the command line, the notebooks and the
tests; results are files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dkdmpl_kit.errors import KitError, check_option

METHODS = (
    "cluster_contrast",
    "gkd",
    "skd",
    "dkdmpl",
    "supervised",
    "label_smoothing",
    "mmt",
    "rlcc",
    "hdcpd",
    "ice",
    "spcl",
)  # the last six: the neighbours, objectives.py
METHOD_LABELS = {  # what tables and pictures call a method, or a row that is not one
    "untrained": "untrained",
    "cluster_contrast": "cluster contrast",
    "gkd": "+ GKD",
    "skd": "+ SKD",
    "dkdmpl": "DKD-MPL",
    "supervised": "true identities",
    "cluster_contrast_mean": "cluster contrast, mean update",
    "cluster_contrast_hardest": "cluster contrast, hardest update",
    "label_smoothing": "label smoothing",
    "mmt": "mean teacher (MMT)",
    "rlcc": "consensus (RLCC)",
    "hdcpd": "two views' probabilities (HDCPD)",
    "ice": "instance consistency (ICE)",
    "spcl": "hybrid memory (SpCL)",
}
OPTIONS = {  # every setting that is a name, with its valid names
    "method": METHODS,
    "kind": ("person", "vehicle"),
    "difficulty": ("easy", "medium", "hard"),
    "pooling": ("gem", "avg"),
    "knn": ("exact", "approximate"),
    "cluster_method": ("dbscan", "hdbscan", "agglomerative"),
    "memory_update": ("instance", "mean", "hardest"),
    "gkd_teacher": ("sample", "cluster", "consensus"),
    "skd_anchor": ("hardest", "random", "mean", "augmentation", "ema"),
    "skd_divergence": ("kl", "symmetric_kl", "js"),
    "sampler": ("camera", "random"),
    "schedule": ("cosine", "step", "constant"),
    "precision": ("auto", "fp32", "bf16"),
    "memory_format": ("auto", "contiguous", "channels_last"),
    "extraction_precision": ("same", "auto", "fp32", "bf16"),
}

PICTURES = (
    "data",
    "data_root",
    "pattern",
    "kind",
    "difficulty",
    "data_seed",
    "n_train_ids",
    "n_test_ids",
    "n_cameras",
    "images_per_camera",
)  # settings that decide which pictures a run is made on
PLACE = (
    "out_dir",
    "run_name",
    "preset",
    "evaluate_every",
    "keep_features",
    "device",
)  # settings that change no result


@dataclass(frozen=True)
class Config:
    """All settings of a run: flat scalars, so that each is a command-line flag, a
    notebook parameter and a JSON field.

    The defaults are the recipe of Cluster Contrast (METHOD.md, "The recipe around it")
    on the embedded data; `preset(name)` returns complete configurations. Lengths are
    pixels, times are epochs or iterations.
    """

    preset: str = "demo"
    # the pictures
    data: str = "synthetic"
    data_root: str = ""  # empty: the embedded data, rendered under out_dir
    pattern: str = ""  # for data="folder": regex with the named groups pid and camid
    n_train_ids: int = 64
    n_test_ids: int = 64
    n_cameras: int = 6
    images_per_camera: int = 3
    kind: str = "person"
    difficulty: str = "medium"
    data_seed: int = 0
    height: int = 128
    width: int = 64
    flip: float = 0.5
    padding: int = 10
    erasing: float = 0.5
    # the encoder
    backbone: str = "tf_efficientnet_lite0"
    weights: str = "bundled"
    pooling: str = "gem"
    last_stride: int = 1
    freeze_stages: int = 0
    # pseudo labels: k-reciprocal Jaccard and DBSCAN
    k1: int = 30
    k2: int = 6
    max_distance: float = 0.8
    knn: str = "exact"  # "approximate" pays above several hundred thousand pictures
    cluster_method: str = "dbscan"
    eps: float = 0.6
    min_samples: int = 4
    centre_cameras: bool = False
    # memory and losses (method: the table of options)
    method: str = "dkdmpl"
    temperature: float = 0.05
    memory_momentum: float = 0.1
    memory_update: str = "instance"
    gkd_weight: float = 0.5
    gkd_teacher: str = "sample"
    teacher_temperature: float = 0.05
    distillation_temperature: float = 1.0
    skd_weight: float = 0.5
    skd_anchor: str = "hardest"
    skd_divergence: str = "symmetric_kl"
    ema_momentum: float = 0.999
    warmup_epochs: int = 0
    # optimisation
    epochs: int = 12
    iterations: int = 15
    batch_clusters: int = 16
    batch_images: int = 4
    accumulation: int = (
        # parts that a batch passes the encoder in, one after the other, to save memory
        1
    )
    samples_per_bn: int = (
        0  # pictures that share batch-norm statistics in training; 0: the whole batch
    )
    sampler: str = "camera"
    learning_rate: float = 3.5e-4
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    step_epochs: int = 20
    # "auto": the run's first act measures what is fastest here, and environment.json
    # keeps it
    precision: str = "fp32"
    memory_format: str = "channels_last"  # of the encoder's weights; "auto" as above
    extraction_precision: str = (
        "same"  # as `precision` says ("auto" is measured apart), or one of its values
    )
    # the run
    seed: int = 0
    device: str = "cpu"
    evaluate_every: int = 5
    keep_features: bool = True
    out_dir: str = "runs"
    run_name: str = ""

    def __post_init__(self) -> None:
        for name, valid in OPTIONS.items():
            check_option(name, getattr(self, name), valid)
        for name in (
            "height",
            "width",
            "k1",
            "k2",
            "min_samples",
            "epochs",
            "iterations",
            "batch_clusters",
            "batch_images",
            "step_epochs",
            "evaluate_every",
            "accumulation",
        ):
            if getattr(self, name) < 1:
                raise KitError(f"{name}={getattr(self, name)} must be at least 1.")
        for name in (
            "temperature",
            "teacher_temperature",
            "distillation_temperature",
            "learning_rate",
            "eps",
        ):
            if not getattr(self, name) > 0:
                raise KitError(f"{name}={getattr(self, name)} must be above 0.")
        for name in (
            "gkd_weight",
            "skd_weight",
            "weight_decay",
            "warmup_epochs",
            "padding",
            "samples_per_bn",
        ):
            if getattr(self, name) < 0:
                raise KitError(f"{name}={getattr(self, name)} must not be negative.")
        if self.samples_per_bn and (
            self.samples_per_bn == 1
            or self.batch_clusters * self.batch_images % self.samples_per_bn
        ):
            raise KitError(
                f"samples_per_bn={self.samples_per_bn} must be 2 or more and divide "
                "batch_clusters x batch_images = "
                f"{self.batch_clusters * self.batch_images}; 0 takes the whole batch."
            )
        for name in ("flip", "erasing", "memory_momentum", "ema_momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise KitError(f"{name}={getattr(self, name)} must lie between 0 and 1.")
        if self.eps > self.max_distance:
            raise KitError(
                f"eps={self.eps} is above max_distance={self.max_distance}: raise "
                "max_distance, "
                "as longer distances are not stored."
            )

    @property
    def name(self) -> str:
        """The run's folder below `out_dir`/runs."""
        return self.run_name or f"{self.method}-seed{self.seed}"

    @property
    def run_dir(self) -> Path:
        return Path(self.out_dir) / "runs" / self.name

    def loss_weights(self, epoch: int) -> tuple[float, float]:
        """(lambda_g, lambda_s) of eq. 4 in `epoch` (from 0): this method's, growing
        linearly over `warmup_epochs`.
        """
        ramp = min(1.0, (epoch + 1) / (self.warmup_epochs + 1))
        return (
            ramp * self.gkd_weight * (self.method in ("gkd", "dkdmpl")),
            ramp * self.skd_weight * (self.method in ("skd", "dkdmpl")),
        )

    def replace(self, **changes: object) -> Config:
        """A copy with other values; an unknown name is an error that lists the close
        ones.
        """
        import difflib

        fields = {f.name: f for f in dataclasses.fields(self)}
        for name in changes:
            if name not in fields:
                close = difflib.get_close_matches(name, fields, 3) or sorted(fields)
                raise KitError(
                    f"There is no setting {name!r}; did you mean: {', '.join(close)}?"
                )
        return dataclasses.replace(
            self, **{k: _convert(fields[k], v) for k, v in changes.items()}
        )

    def with_settings(self, text: str) -> Config:
        """Apply `"eps=0.5 min_samples=2"`: how a notebook's parameters cell or a grid
        states its overrides.
        """
        pairs = [item.partition("=") for item in text.split()]
        if any(not equals for _, equals, _ in pairs):
            raise KitError(f"settings={text!r} is not of the form 'name=value name=value'.")
        return self.replace(**{name: value for name, _, value in pairs})

    def fingerprint(self) -> str:
        """Hash of everything that decides the result (not where it is written)."""
        settings = dataclasses.asdict(self)
        for name in (*PLACE, "data_root"):
            settings.pop(name)
        # as older records have it; a run may go on elsewhere
        settings["device"] = "cpu"
        for name, value in _LATER.items():  # fingerprints of older records stay valid
            if settings[name] == value:
                settings.pop(name)
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _convert(field: dataclasses.Field, value: object) -> object:
    """Bring text from a command line, or a whole number where a fraction is meant, to
    the field's type.
    """
    kind = type(field.default)
    if isinstance(value, kind):
        return value
    try:
        if kind is bool:
            return {
                "true": True,
                "1": True,
                "yes": True,
                "false": False,
                "0": False,
                "no": False,
            }[str(value).lower()]
        if kind is int and float(value) != int(float(value)):
            raise ValueError
        return int(float(value)) if kind is int else kind(value)
    except (ValueError, KeyError, TypeError):
        raise KitError(
            f"{field.name}={value!r} should be a {kind.__name__}, such as {field.default!r}."
        ) from None


_LATER = {
    "memory_format": "channels_last",
    "extraction_precision": "same",
    "knn": "exact",
    "accumulation": 1,
    "samples_per_bn": 0,
}  # settings added later, as it was without them
# method: "The recipe around it" (Cluster Contrast's, see `recipe`); the presets differ
# in what a data set needs
_PAPER = {
    "backbone": "resnet50.tv_in1k",
    "weights": "imagenet",
    "height": 256,
    "width": 128,  # torchvision's first weights
    "batch_clusters": 16,
    "batch_images": 16,
    "samples_per_bn": 64,  # theirs: 256 pictures over four GPUs
    "epochs": 50,
    "iterations": 200,
    "schedule": "step",
    "step_epochs": 20,
    "keep_features": False,
    "precision": "auto",
    "memory_format": "auto",
    "evaluate_every": 10,
    "device": "auto",
}
# the embedded pictures on two CPU cores: a plateau within minutes (see
# grids/reproduce.yml)
_SMALL = {
    "height": 96,
    "width": 48,
    "padding": 8,
    "freeze_stages": 2,
    "learning_rate": 1e-3,
    "k1": 15,
    "k2": 4,
    "eps": 0.5,
    "gkd_weight": 0.3,
    "skd_weight": 0.5,
    "teacher_temperature": 0.03,
    "warmup_epochs": 8,
}
PRESETS: dict[str, dict[str, object]] = {
    "smoke": {
        "n_train_ids": 10,
        "n_test_ids": 6,
        "n_cameras": 3,
        "images_per_camera": 3,
        "height": 64,
        "width": 32,
        "padding": 4,
        "k1": 8,
        "k2": 3,
        "min_samples": 2,
        "epochs": 2,
        "iterations": 3,
        "batch_clusters": 4,
        "evaluate_every": 1,
        "difficulty": "easy",
    },
    "demo": {**_SMALL, "epochs": 10, "warmup_epochs": 4},
    "teach": {**_SMALL, "epochs": 20, "evaluate_every": 2, "keep_features": False},
    "paper-market1501": {**_PAPER, "data": "market1501"},
    "paper-dukemtmcreid": {**_PAPER, "data": "dukemtmcreid"},
    "paper-msmt17": {**_PAPER, "data": "msmt17", "iterations": 400},
    "paper-veri776": {
        **_PAPER,
        "data": "veri776",
        "iterations": 400,
        "height": 224,
        "width": 224,
    },
}


def preset(name: str, **changes: object) -> Config:
    """A complete configuration by name, with `changes` applied; an unknown name lists
    the valid ones.
    """
    check_option("preset", name, PRESETS)
    return Config(preset=name).replace(**PRESETS[name]).replace(**changes)


def smoke(config: Config) -> Config:
    """`config` cut down to a dry run: one epoch of two batches of 16 small pictures,
    and a name that says so.
    """
    return config.replace(
        epochs=1,
        iterations=2,
        height=64,
        width=64 if config.width == config.height else 32,
        padding=4,
        batch_clusters=4,
        batch_images=4,
        samples_per_bn=4 if config.samples_per_bn else 0,
        accumulation=min(config.accumulation, 4),
        k1=min(config.k1, 8),
        k2=min(config.k2, 3),
        min_samples=2,
        evaluate_every=1,
        run_name=f"smoke-{config.name.removeprefix('smoke-')}",
    )


def open_dataset(config: Config, *, allow_withdrawn: bool = False):
    """The `ReIDDataset` that the configuration names; the embedded one is rendered on
    first use.
    """
    from dkdmpl_kit.data import read_dataset, synthetic_dataset

    if config.data == "synthetic":
        shape = {
            f: getattr(config, f)
            for f in (
                "n_train_ids",
                "n_test_ids",
                "n_cameras",
                "images_per_camera",
                "kind",
                "difficulty",
            )
        }
        tag = hashlib.sha256(json.dumps([shape, config.data_seed]).encode()).hexdigest()[:8]
        root = (
            config.data_root
            or Path(config.out_dir)
            / "data"
            / f"synthetic-{config.kind}-{config.difficulty}-{tag}"
        )
        return synthetic_dataset(root, seed=config.data_seed, **shape)
    if not config.data_root:
        raise KitError(
            f"data={config.data!r} needs data_root: the folder in which the data set lies."
        )
    return read_dataset(
        config.data,
        config.data_root,
        pattern=config.pattern or None,
        allow_withdrawn=allow_withdrawn,
    )


def pick_device(name: str) -> str:
    """`"auto"` is CUDA where there is one, else the CPU; other names are passed on to
    torch after a check.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise KitError(
            f"device={name!r}, but torch sees no CUDA device here: use device=cpu or auto."
        )
    try:
        return str(torch.device(name))
    except RuntimeError:
        raise KitError(
            f"device={name!r} is no torch device; use cpu, cuda, cuda:1 or auto."
        ) from None


def environment() -> dict[str, object]:
    """Versions and machine facts that go beside every result."""
    from importlib.metadata import PackageNotFoundError, version

    def of(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    import torch

    from dkdmpl_kit import __version__

    packages = (
        "torch",
        "torchvision",
        "timm",
        "numpy",
        "scipy",
        "scikit-learn",
        "umap-learn",
    )
    return {
        "python": platform.python_version(),
        "platform": sys.platform,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "packages": {"dkdmpl-kit": __version__} | {p: of(p) for p in packages},
    }


def write_atomic(path: str | os.PathLike, content: str | bytes) -> Path:
    """Write a file so that it exists whole or not at all; an unwritable folder is one
    clear sentence.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(
            dir=path.parent, prefix=path.name + ".", suffix=".part"
        )
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(part, 0o644)
        os.replace(part, path)
    except OSError as error:
        raise KitError(
            f"Cannot write {path}: {error.strerror}; choose another out_dir."
        ) from error
    return path


def write_json(path: str | os.PathLike, value: object) -> Path:
    """`write_atomic` for JSON."""
    return write_atomic(path, json.dumps(value, indent=1, default=str) + "\n")


def read_json(path: str | os.PathLike) -> object:
    """Read JSON that the kit wrote; missing or damaged files are one clear sentence."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise KitError(
            f"There is no {path}: was this run written by the kit, and is the path right?"
        ) from None
    except ValueError as error:
        raise KitError(
            f"{path} is not valid JSON ({error}): restore it or start the run anew."
        ) from error


def open_run(config: Config, data_fingerprint: str, *, resume: bool) -> Path:
    """Create the run's folder with config.json and environment.json, or check that an
    existing one is the same run.

    Nothing is overwritten: a folder that holds a run needs `resume`, and the same
    settings and data. Where not one epoch became whole there is nothing to lose, and
    the folder is free for other settings.
    """
    run_dir = config.run_dir
    marker = config.run_dir / "config.json"
    if marker.exists():
        found = read_json(marker)
        begun = (run_dir / "checkpoint.json").exists()
        same = (
            found["fingerprint"] == config.fingerprint()
            and found["data_fingerprint"] == data_fingerprint
        )
        if begun and not same:
            now = dataclasses.asdict(config)
            changed = [
                f"{k}={v!r} (now {now.get(k)!r})"
                for k, v in found["settings"].items()
                if now.get(k) != v
            ]
            raise KitError(
                f"{run_dir} already holds a run that was started with other settings "
                "or data "
                f"({', '.join(changed) or 'other pictures'}): choose another run_name, "
                "or the same settings."
            )
        if begun and not resume:
            raise KitError(
                f"{run_dir} already holds a run: resume it (--resume), or choose "
                "another out_dir or run_name."
            )
        if same:
            return run_dir
    write_json(run_dir / "environment.json", environment())
    write_json(
        marker,
        {
            "settings": dataclasses.asdict(config),
            "fingerprint": config.fingerprint(),
            "data_fingerprint": data_fingerprint,
        },
    )
    return run_dir
