"""Complete configurations by name."""

from __future__ import annotations

from collections.abc import Mapping

from dkdmpl_kit.errors import KitError, check_option
from dkdmpl_kit.experiment.config import Config

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
    # the paper's data on two processor cores: a start, not tuned yet (docs/results.md)
    "market1501-cpu": {
        "data": "market1501",
        "height": 128,
        "width": 64,
        "freeze_stages": 2,
        "learning_rate": 1e-3,
        "eps": "auto",
        "gkd_teacher": "vote",
        "gkd_weight": 0.3,
        "skd_weight": 0.5,
        "epochs": 24,
        "iterations": 200,
        "extraction_precision": "bf16",
        "evaluate_every": 6,
        "keep_features": False,
    },
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


def as_config(settings: Mapping[str, object], source: object) -> Config:
    """The `Config` of settings that a file holds, {name: value}: those of its preset, with
    its own applied.

    KitError for an unknown preset or setting, or a value that does not fit, names
    `source`.
    """
    own = dict(settings)
    try:
        return preset(str(own.pop("preset", Config.preset)), **own)
    except KitError as error:
        raise KitError(f"In {source}: {error}") from error


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
