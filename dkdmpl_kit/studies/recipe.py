"""Each `paper-*` preset beside the settings that Cluster Contrast's authors published,
and a reason for every difference.
"""

from __future__ import annotations

from dkdmpl_kit.errors import check_option
from dkdmpl_kit.experiment import PRESETS, Config, preset

SOURCE = (
    "Cluster Contrast's settings: the DBSCAN commands of README.md and run_code.sh, "
    "the defaults of "
    "examples/cluster_contrast_train_usl.py and the code they call, "
    "github.com/alibaba/cluster-contrast-reid at 57b62e9."
)
PAPER = tuple(name for name in PRESETS if name.startswith("paper-"))
_LARGE = {
    "paper-msmt17": {"iterations": 400},
    "paper-veri776": {"iterations": 400, "height": 224, "width": 224},
}
# as settings of ours; `_LARGE` has what their commands change for a data set
_PUBLISHED = {
    "method": "cluster_contrast",
    "backbone": "resnet50.tv_in1k",
    "weights": "imagenet",
    "pooling": "gem",
    "last_stride": 1,
    "height": 256,
    "width": 128,
    "flip": 0.5,
    "padding": 10,
    "erasing": 0.5,
    "batch_clusters": 16,
    "batch_images": 16,
    "samples_per_bn": 64,
    "sampler": "camera",
    "k1": 30,
    "k2": 6,
    "cluster_method": "dbscan",
    "eps": 0.6,
    "min_samples": 4,
    "temperature": 0.05,
    "memory_momentum": 0.1,
    "memory_update": "instance",
    "learning_rate": 3.5e-4,
    "weight_decay": 5e-4,
    "schedule": "step",
    "step_epochs": 20,
    "epochs": 50,
    "iterations": 200,
    "precision": "fp32",
    "evaluate_every": 10,
    "seed": 1,
}
_REASONS = {  # setting: why the preset differs
    "method": "theirs is the baseline (`--method cluster_contrast`); DKD-MPL adds GKD "
    "and SKD to its loss",
    "precision": "bf16 where a short measurement at the start finds it faster (kept in "
    "environment.json); `--precision fp32`",
    "seed": "one seed is no result: run several",
}
_NOTES = {
    "weights": "torchvision's first ResNet-50 in both; its file resnet50-0676ba61.pth "
    "serves too: `--weights FILE`",
    "learning_rate": "Adam over all parameters in both",
    "samples_per_bn": "theirs: a batch of 256 over four GPUs, each normalising its own "
    "consecutive 64",
    "sampler": "prefers a cluster's other cameras, so it reads camera ids; `--sampler "
    "random` (their --no-cam) does not",
}
_BEYOND = (  # (what, theirs, ours, why): differences that are no setting
    (
        "running statistics of batch norm",
        "of the first GPU's 64 pictures",
        "mean over all groups of 64",
        "so that one process and several get the same",
    ),
    (
        "resizing",
        "bicubic",
        "bilinear",
        "the kit has one way to read a picture; effect not measured",
    ),
    (
        "erased box",
        "0.485, 0.456, 0.406 after normalisation; height / width uniform in 0.3 to 3.33",
        "ImageNet's mean colour; height / width uniform in its logarithm",
        "the colour that was meant; tall as likely as wide",
    ),
    (
        "a cluster with few pictures",
        "drawn with repetition when fewer than 16 others may be taken",
        "each once before any twice",
        "no picture is repeated while another is left",
    ),
    (
        "clusters left over by the batches of a pass",
        "dropped, all are shuffled anew",
        "first in the next pass",
        "every cluster is seen equally often",
    ),
    (
        "memory update",
        "inside the backward pass",
        "after the optimiser's step, from the same features",
        "same values, visible in the loop",
    ),
    (
        "reported epoch",
        "the best on the test set",
        "the last; the best stands beside it, under that name",
        "choosing on the test set is optimistic",
    ),
)


def published(name: str) -> dict[str, object]:
    """Cluster Contrast's settings for the data set of preset `name`, {name of a setting
    of ours: value}.
    """
    check_option("preset", name, PAPER)
    return _PUBLISHED | _LARGE.get(name, {})


def recipe_rows(name: str, config: Config | None = None) -> list[tuple[str, str, str, str]]:
    """[(setting, published, the preset's, why they differ or a note)]; config: another
    one to compare instead.

    A setting that differs without a known reason says "changed": a preset never does, a
    test holds that.
    """
    config = config or preset(name)
    rows = []
    for setting, value in published(name).items():
        own = getattr(config, setting)
        reason = _NOTES.get(setting, "") if own == value else _REASONS.get(setting, "changed")
        rows.append((setting, _text(value), _text(own), reason))
    return rows + list(_BEYOND)


def recipe_table(name: str, config: Config | None = None) -> str:
    """`recipe_rows` as markdown, under a line that names preset, data and sampler, with
    the source below.
    """
    config = config or preset(name)
    head = (
        f"{name}: data {config.data}, sampler {config.sampler} (both stand in the result)\n"
    )
    rows = [
        ("setting", "Cluster Contrast", name, "why they differ, or a note"),
        ("---",) * 4,
        *recipe_rows(name, config),
    ]
    return "\n".join([head, *(f"| {' | '.join(row)} |" for row in rows), "", SOURCE])


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
