"""Settings and results: one frozen `Config` for the command line, the notebooks and the
tests; results are files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

from dkdmpl_kit.data.files import expanded
from dkdmpl_kit.errors import KitError, check_option

# the last six: rivals, other papers' methods
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
)
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
    "pooling": ("gem", "avg", "embedding", "token"),
    "normalisation": ("auto", "imagenet", "half", "luperson"),
    "knn": ("exact", "approximate"),
    "distance": ("jaccard", "camera_jaccard"),
    "cluster_method": ("dbscan", "hdbscan", "agglomerative"),
    "memory_update": ("instance", "mean", "hardest"),
    "gkd_teacher": ("sample", "cluster", "consensus", "vote", "neighbourhood"),
    "teacher_cameras": ("all", "other"),
    "outliers": ("leave", "teach"),
    "skd_anchor": ("hardest", "camera", "random", "mean", "augmentation", "ema"),
    "skd_divergence": ("kl", "symmetric_kl", "js"),
    "sampler": ("camera", "random"),
    "schedule": ("cosine", "step", "constant"),
    "precision": ("auto", "fp32", "bf16"),
    "memory_format": ("auto", "contiguous", "channels_last"),
    "extraction_precision": ("same", "auto", "fp32", "bf16"),
}

LARGEST = 2**31 - 1  # of a whole number: what counts and seeds everywhere may be
GKD_METHODS = ("gkd", "dkdmpl")
SKD_METHODS = ("skd", "dkdmpl")
SPARSE_TEACHERS = ("vote", "neighbourhood")  # soft labels of the clustering itself

# settings that decide which pictures a run is made on
PICTURES = (
    "data",
    "data_root",
    "table",
    "pattern",
    "kind",
    "difficulty",
    "data_seed",
    "n_train_ids",
    "n_test_ids",
    "n_cameras",
    "images_per_camera",
)
# settings that change no result
PLACE = (
    "out_dir",
    "run_name",
    "preset",
    "evaluate_every",
    "keep_features",
    "device",
)


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
    table: str = ""  # for data="table": the file that names the pictures, below data_root
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
    normalisation: str = "auto"  # of pictures: "auto" is that of the weights' family
    pooling: str = "gem"
    last_stride: int = 1
    freeze_stages: int = 0
    # pseudo labels: k-reciprocal Jaccard and DBSCAN
    distance: str = "jaccard"  # "camera_jaccard": lists within and across cameras
    k1: int = 30
    k2: int = 6
    k1_intra: int = 5  # the four of distance="camera_jaccard", as published
    k1_inter: int = 20
    k2_intra: int = 2
    k2_inter: int = 4
    max_distance: float = 0.8
    knn: str = "exact"  # "approximate" pays above several hundred thousand pictures
    cluster_method: str = "dbscan"
    eps: float | str = 0.6  # "auto": each epoch's by `clustering.sweep_eps`
    min_samples: int = 4
    centre_cameras: bool = False
    corrections: str = ""  # a table of a person's: every clustering keeps to it
    # memory and losses (method: the table of options)
    method: str = "dkdmpl"
    temperature: float = 0.05
    memory_momentum: float = 0.1
    memory_update: str = "instance"
    gkd_weight: float = 0.5
    gkd_teacher: str = "sample"
    teacher_temperature: float = 0.05
    teacher_cameras: str = "all"  # whose neighbours vote: "other" leaves out the own camera
    teacher_clusters: int = 0  # a soft label's strongest clusters; 0: all
    outliers: str = "leave"  # "teach": outliers enter batches, with L_GKD alone
    distillation_temperature: float = 1.0
    skd_weight: float = 0.5
    skd_anchor: str = "hardest"
    skd_divergence: str = "symmetric_kl"
    ema_momentum: float = 0.999
    warmup_epochs: int = 0
    loss_scale: float = 1.0  # of the whole loss: the control of a louder loss
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
        for name in ("data_root", "table", "out_dir", "weights", "corrections"):
            if str(getattr(self, name)).startswith("~"):
                # a frozen dataclass is set so, once
                object.__setattr__(self, name, str(expanded(getattr(self, name))))
        self._check_numbers()
        self._check_place()
        for name, valid in OPTIONS.items():
            check_option(name, getattr(self, name), valid)
        for name in (
            "height",
            "width",
            "k1",
            "k2",
            "k1_intra",
            "k1_inter",
            "k2_intra",
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
            "loss_scale",
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
            "teacher_clusters",
            "k2_inter",
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
        if not 0 < self.max_distance < 1:
            raise KitError(
                f"max_distance={self.max_distance} must lie strictly between 0 and 1: at 1 "
                "every pair is near."
            )
        self._check_distance()
        self._check_eps()
        self._check_teacher()

    def _check_numbers(self) -> None:
        """No infinity, nothing that is no number, no seed that generators refuse."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise KitError(f"{field.name}={value} must be a finite number.")
            if isinstance(value, int) and abs(value) > LARGEST:
                raise KitError(
                    f"{field.name}={value} is too large: whole numbers go up to {LARGEST}."
                )
        for name in ("seed", "data_seed"):
            if getattr(self, name) < 0:
                raise KitError(f"{name}={getattr(self, name)} must not be negative.")

    def _check_place(self) -> None:
        """The run's folder lies below out_dir/runs, and nowhere else."""
        if self.run_name and not plain_name(self.run_name):
            raise KitError(
                f"run_name={self.run_name!r} must be the plain name of a folder below "
                "out_dir/runs, without / and other than . and ..; out_dir says where."
            )
        for name in ("out_dir", "data_root", "table", "weights", "corrections"):
            if "\0" in getattr(self, name):
                raise KitError(f"{name}={getattr(self, name)!r} cannot be a path.")

    def _check_distance(self) -> None:
        if self.distance == "jaccard":
            return
        for expansion, lists in (("k2_intra", "k1_intra"), ("k2_inter", "k1_inter")):
            most = getattr(self, lists) + 1
            if getattr(self, expansion) > most:
                raise KitError(
                    f"{expansion}={getattr(self, expansion)} must be at most {lists} + 1 = "
                    f"{most}, the length of its list."
                )
        if self.knn != "exact":
            raise KitError(
                f"distance=camera_jaccard searches exactly: use knn=exact, not {self.knn}."
            )

    def _check_eps(self) -> None:
        if self.eps == "auto":
            if self.cluster_method != "dbscan":
                raise KitError(
                    'eps="auto" chooses a radius for DBSCAN: use cluster_method=dbscan, or '
                    f"a number with cluster_method={self.cluster_method}."
                )
            return
        if isinstance(self.eps, str) or not self.eps > 0:
            raise KitError(f'eps={self.eps!r} must be a number above 0, or "auto".')
        if self.eps > self.max_distance:
            raise KitError(
                f"eps={self.eps} is above max_distance={self.max_distance}: raise "
                "max_distance, "
                "as longer distances are not stored."
            )

    def _check_teacher(self) -> None:
        if self.gkd_teacher in SPARSE_TEACHERS:
            return
        for name, unused in (("teacher_cameras", "all"), ("teacher_clusters", 0)):
            if getattr(self, name) != unused:
                raise KitError(
                    f"{name}={getattr(self, name)} belongs to gkd_teacher="
                    f"{' or '.join(SPARSE_TEACHERS)}; gkd_teacher={self.gkd_teacher} has no "
                    f"voters: set {name}={unused}."
                )
        if self.outliers == "teach":
            raise KitError(
                "outliers=teach needs a teacher that knows outliers: gkd_teacher="
                f"{' or '.join(SPARSE_TEACHERS)}, not {self.gkd_teacher}."
            )

    @property
    def teaches_sparsely(self) -> bool:
        """Whether the epoch's clustering hands its soft labels to GKD."""
        return self.gkd_teacher in SPARSE_TEACHERS and self.loss_weights(0)[0] > 0

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
            ramp * self.gkd_weight * (self.method in GKD_METHODS),
            ramp * self.skd_weight * (self.method in SKD_METHODS),
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
        """Hash of everything that decides the result (not where it is written).

        Where corrections lie does not count either: what they say is told beside it in a
        run's config.json.
        """
        settings = dataclasses.asdict(self)
        for name in (*PLACE, "data_root", "table", "corrections"):
            settings.pop(name)
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def plain_name(name: str) -> bool:
    """Whether `name` is the name of one folder or file, and leads nowhere else."""
    return (
        name not in ("", ".", "..")
        and not set(name) & set("/\\\0")
        and len(name.encode(errors="surrogateescape")) <= 200
    )


def _convert(field: dataclasses.Field, value: object) -> object:
    """Bring text from a command line, or a whole number where a fraction is meant, to
    the field's type.
    """
    kind = type(field.default)
    if field.name == "eps" and value == "auto":
        return value
    true_or_false = isinstance(value, bool)  # an int, too, for Python alone
    if isinstance(value, kind) and true_or_false == (kind is bool):
        return value
    try:
        if kind is not bool and true_or_false:
            raise TypeError
        if kind is str and not isinstance(value, (int, float, Path)):
            raise TypeError  # null is not a folder called None
        if kind is int and str(value).strip().lstrip("+-").isdecimal():
            return int(value)
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
    except (ValueError, KeyError, TypeError, OverflowError):
        raise KitError(
            f"{field.name}={value!r} should be a {kind.__name__}, such as {field.default!r}."
        ) from None
