"""Each `paper-*` preset: its settings beside those that Cluster Contrast's authors used,
with a reason for every difference, and what a full run costs.
"""

from __future__ import annotations

from functools import cache

import torch

from dkdmpl_kit.data.checking import OFFICIAL_COUNTS
from dkdmpl_kit.errors import check_option
from dkdmpl_kit.experiment import PRESETS, Config, preset
from dkdmpl_kit.models import build_encoder
from dkdmpl_kit.studies.tables import markdown, table

PAPER = tuple(name for name in PRESETS if name.startswith("paper-"))
BACKBONES = ("resnet50", "resnet50_ibn_a")  # whose cost is counted
SOURCE = (
    "Cluster Contrast's settings: the DBSCAN commands of README.md and run_code.sh, the "
    "defaults of examples/cluster_contrast_train_usl.py and the code they call, "
    "github.com/alibaba/cluster-contrast-reid at 57b62e9."
)
# as settings of ours; `_CHANGED` has what their commands change for a data set
_THEIRS = {
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
_CHANGED = {
    "paper-msmt17": {"iterations": 400},
    "paper-veri776": {"iterations": 400, "height": 224, "width": 224},
}
_REASONS = {  # setting: why the preset differs
    "method": "theirs is the baseline (`--method cluster_contrast`); DKD-MPL adds GKD "
    "and SKD to its loss",
    "precision": "bf16 where a short measurement at the start finds it faster (kept in "
    "environment.json); `--precision fp32`",
    "seed": "one seed is not a result: run several",
}
_NOTES = {  # setting: what to know where both sides are the same
    "weights": "torchvision's first ResNet-50 in both; its file resnet50-0676ba61.pth "
    "serves too: `--weights FILE`",
    "learning_rate": "Adam over all parameters in both",
    "samples_per_bn": "theirs: a batch of 256 over four GPUs, each normalising its own "
    "consecutive 64",
    "sampler": "prefers a cluster's other cameras, so it reads camera ids; `--sampler "
    "random` (their --no-cam) does not",
}
_BEYOND = (  # (what, theirs, ours, why): differences that are not a setting
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


def cluster_contrast_settings(name: str) -> dict[str, object]:
    """Cluster Contrast's settings for the data set of preset `name`, {name of a setting
    of ours: value}. KitError for a preset that is not of `PAPER`.
    """
    check_option("preset", name, PAPER)
    return _THEIRS | _CHANGED.get(name, {})


def recipe_rows(name: str, config: Config | None = None) -> list[tuple[str, str, str, str]]:
    """[(setting, Cluster Contrast's, the preset's, why they differ or a note)]; config:
    another one to compare instead.

    A setting that differs without a known reason says "changed": a preset never does, a
    test holds that.
    """
    config = config or preset(name)
    rows = []
    for setting, theirs in cluster_contrast_settings(name).items():
        ours = getattr(config, setting)
        if ours == theirs:
            reason = _NOTES.get(setting, "")
        else:
            reason = _REASONS.get(setting, "changed")
        rows.append((setting, _text(theirs), _text(ours), reason))
    return rows + list(_BEYOND)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def recipe_table(name: str, config: Config | None = None) -> str:
    """`recipe_rows` as Markdown, under a line that names preset, data and sampler, with
    the source below.
    """
    config = config or preset(name)
    head = f"{name}: data {config.data}, sampler {config.sampler} (both stand in the result)"
    columns = ["setting", "Cluster Contrast", name, "why they differ, or a note"]
    shown = markdown(table(columns, recipe_rows(name, config)))
    return f"{head}\n\n{shown}\n\n{SOURCE}"


@cache
def picture_flops(
    backbone: str, height: int, width: int, *, pooling: str = "gem", last_stride: int = 1
) -> tuple[int, int]:
    """(forward, forward and backward) FLOPs of one picture: convolutions and matrix
    products, an addition and a multiplication each counted, as torch's FlopCounterMode
    does. On the meta device: nothing is computed.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        encoder = build_encoder(
            backbone,
            weights="random",
            pooling=pooling,
            last_stride=last_stride,
            size=(height, width),
        )
    n = 2  # the BNNeck trains on two pictures at least
    pictures = torch.empty(n, 3, height, width, device="meta")
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        encoder.eval()(pictures)
    with FlopCounterMode(display=False) as both:
        encoder.train()(pictures).sum().backward()
    return forward.get_total_flops() // n, both.get_total_flops() // n


def run_cost(config: Config, sizes: tuple[int, int, int]) -> dict[str, int]:
    """Pictures and FLOPs of one run on a data set of `sizes` (train, query, gallery).

    trained: pictures in batches; extracted: those of each epoch's clustering, of the
    evaluations and of the last measure. Losses, clustering and ranking are left out; so
    is the EMA encoder of some options.
    """
    train, query, gallery = sizes
    last = config.epochs
    measured = {e for e in range(1, last + 1) if e % config.evaluate_every == 0 or e == last}
    evaluations = len(measured) + 1
    trained = config.epochs * config.iterations * config.batch_clusters * config.batch_images
    extracted = (config.epochs + 1) * train + evaluations * (query + gallery)
    forward, both = picture_flops(
        config.backbone,
        config.height,
        config.width,
        pooling=config.pooling,
        last_stride=config.last_stride,
    )
    return {
        "trained": trained,
        "extracted": extracted,
        "flops_forward": forward,
        "flops_step": both,
        "flops": trained * both + extracted * forward,
    }


def cost_table(names: tuple[str, ...]) -> str:
    """Markdown: one row for each preset of `names` and backbone of `BACKBONES`, on data
    sets of the official size.
    """
    columns = [
        "preset",
        "backbone",
        "picture",
        "trained pictures",
        "extracted pictures",
        "GFLOPs a picture, forward",
        "and backward",
        "PFLOP a run",
    ]
    rows = []
    for name in names:
        for backbone in BACKBONES:
            config = preset(name, backbone=backbone)
            cost = run_cost(config, OFFICIAL_COUNTS[config.data].images)
            rows.append(
                [
                    name,
                    backbone,
                    f"{config.height}x{config.width}",
                    f"{cost['trained']:,}",
                    f"{cost['extracted']:,}",
                    f"{cost['flops_forward'] / 1e9:.2f}",
                    f"{cost['flops_step'] / 1e9:.2f}",
                    f"{cost['flops'] / 1e15:.1f}",
                ]
            )
    return markdown(table(columns, rows))
