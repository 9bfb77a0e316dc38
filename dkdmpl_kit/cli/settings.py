"""Which settings a command makes use of: the others are not its flags, and a flag that
could change nothing is refused.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from dataclasses import fields

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import PICTURES, Config
from dkdmpl_kit.experiment.config import GKD_METHODS, SKD_METHODS

EVERY = frozenset(field.name for field in fields(Config)) - {"preset"}
SIZE = {"height", "width"}
ENCODER = {"backbone", "weights", "normalisation", "pooling", "last_stride"}
COMPUTE = {"precision", "memory_format", "extraction_precision", "device"}
LOOK = SIZE | ENCODER | COMPUTE  # what features of pictures depend on
DATA = {*PICTURES, "out_dir"}  # rendered pictures lie below out_dir
CLUSTERING = {
    "distance",
    "k1",
    "k2",
    "k1_intra",
    "k1_inter",
    "k2_intra",
    "k2_inter",
    "max_distance",
    "knn",
    "cluster_method",
    "min_samples",
    "centre_cameras",
    "corrections",
}
# what a trained encoder brings with it, so that a flag beside --run could not change it
OF_THE_RUN = ENCODER | {"precision", "memory_format"}

RENDERED = tuple(
    name for name in PICTURES if name not in ("data", "data_root", "table", "pattern")
)
DISTILLING = tuple(dict.fromkeys((*GKD_METHODS, *SKD_METHODS)))


def _needs_ema(config: Config) -> bool:
    from dkdmpl_kit.training.optimisation import needs_ema

    return needs_ema(config)


# {setting: (whether it means anything under these settings, what it belongs to)}
MEANT: dict[str, tuple[Callable[[Config], bool], str]] = {
    **dict.fromkeys(
        RENDERED, (lambda c: c.data == "synthetic", "data=synthetic (rendered pictures)")
    ),
    "pattern": (lambda c: c.data == "folder", "data=folder"),
    "table": (lambda c: c.data == "table", "data=table"),
    "step_epochs": (lambda c: c.schedule == "step", "schedule=step"),
    **dict.fromkeys(("k1", "k2"), (lambda c: c.distance == "jaccard", "distance=jaccard")),
    **dict.fromkeys(
        ("k1_intra", "k1_inter", "k2_intra", "k2_inter"),
        (lambda c: c.distance == "camera_jaccard", "distance=camera_jaccard"),
    ),
    "eps": (
        lambda c: c.cluster_method != "hdbscan",
        "cluster_method=dbscan or agglomerative",
    ),
    **dict.fromkeys(
        (
            "gkd_weight",
            "gkd_teacher",
            "teacher_cameras",
            "teacher_clusters",
            "outliers",
            "distillation_temperature",  # T is that of L_GKD alone
        ),
        (lambda c: c.method in GKD_METHODS, f"method={' or '.join(GKD_METHODS)}"),
    ),
    **dict.fromkeys(
        ("skd_weight", "skd_anchor", "skd_divergence"),
        (lambda c: c.method in SKD_METHODS, f"method={' or '.join(SKD_METHODS)}"),
    ),
    "teacher_temperature": (
        lambda c: c.method == "rlcc" or (c.method in GKD_METHODS and not c.teaches_sparsely),
        f"method={', '.join(GKD_METHODS)} or rlcc with a teacher of logits",
    ),
    "warmup_epochs": (lambda c: c.method in DISTILLING, f"method={', '.join(DISTILLING)}"),
    "ema_momentum": (_needs_ema, "skd_anchor=ema or a method with a mean teacher"),
    "memory_update": (lambda c: c.method != "spcl", "every method but spcl"),
    "memory_momentum": (lambda c: c.method != "spcl", "every method but spcl"),
}


def flag_of(name: str) -> str:
    """A setting as a flag: "batch_images" is --batch-images."""
    return "--" + name.replace("_", "-")


def refuse_meaningless(config: Config, given: Collection[str]) -> None:
    """KitError for a setting that was asked for, and that `config` gives no meaning."""
    for name in given:
        means, belongs = MEANT.get(name, (lambda config: True, ""))
        if not means(config):
            raise KitError(
                f"{flag_of(name)} would change nothing here: it belongs to {belongs}; "
                "leave it out, or set that too."
            )


def refuse_of_the_run(args: argparse.Namespace, run: Config, given: dict) -> None:
    """KitError for a setting beside --run that differs from what the run's encoder is."""
    if args.preset and args.preset != run.preset:
        raise KitError(
            f"--run {args.run_folder} brings the settings of its run, and --preset "
            f"{args.preset} has others: give one of the two."
        )
    if getattr(args, "smoke", False) and not run.name.startswith("smoke-"):
        raise KitError(
            f"--smoke belongs to the untrained encoder: --run {args.run_folder} brings the "
            "settings of its run."
        )
    for name in given:
        if name not in OF_THE_RUN:
            continue
        own = getattr(run, name)
        if getattr(run.replace(**{name: given[name]}), name) != own:
            raise KitError(
                f"{flag_of(name)} {given[name]} does not fit --run {args.run_folder}, whose "
                f"encoder has {name}={own}: leave it out"
                + (", or use --extraction-precision." if name == "precision" else ".")
            )
