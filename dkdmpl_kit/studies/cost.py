"""What a full run of a `paper-*` preset costs, in pictures and floating-point
operations: counted, not timed.
"""

from __future__ import annotations

from functools import cache

import torch

from dkdmpl_kit.data.checking import PUBLISHED
from dkdmpl_kit.experiment import Config, preset
from dkdmpl_kit.models import build_encoder

BACKBONES = ("resnet50", "resnet50_ibn_a")


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
            backbone, weights="random", pooling=pooling, last_stride=last_stride
        )
    # the BNNeck trains on two at least
    pictures = torch.empty(2, 3, height, width, device="meta")
    counts = []
    for training in (False, True):
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(training):
            features = encoder.train(training)(pictures)
            if training:
                features.sum().backward()
        counts.append(counter.get_total_flops() // 2)
    return tuple(counts)


def run_cost(config: Config, sizes: tuple[int, int, int]) -> dict[str, float]:
    """Pictures and FLOPs of one run on a data set of `sizes` (train, query, gallery).

    trained: pictures in batches; extracted: those of each epoch's clustering, of the
    evaluations and of the last measure. Losses, clustering and ranking are left out; so
    is the EMA encoder of some options.
    """
    train, query, gallery = sizes
    evaluations = (
        sum(
            (e + 1) % config.evaluate_every == 0 or e + 1 == config.epochs
            for e in range(config.epochs)
        )
        + 1
    )
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
    sets of the published size.
    """
    rows = [
        "| preset | backbone | picture | trained pictures | extracted pictures | "
        "GFLOPs a picture, forward | and backward "
        "| PFLOP a run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        for backbone in BACKBONES:
            config = preset(name, backbone=backbone)
            cost = run_cost(config, PUBLISHED[config.data].images)
            rows.append(
                f"| {name} | {backbone} | {config.height}x{config.width} | "
                f"{cost['trained']:,} | {cost['extracted']:,} "
                f"| {cost['flops_forward'] / 1e9:.2f} | {cost['flops_step'] / 1e9:.2f} "
                f"| {cost['flops'] / 1e15:.1f} |"
            )
    return "\n".join(rows)
