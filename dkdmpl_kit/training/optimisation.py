"""Encoder and optimiser: how they start, the learning rate, one step, the EMA encoder."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from dkdmpl_kit.experiment import Config
from dkdmpl_kit.losses.rivals import NEEDS
from dkdmpl_kit.models import Encoder, build_encoder
from dkdmpl_kit.models.batch_norm import set_samples_per_bn, update_running_statistics
from dkdmpl_kit.training import processes
from dkdmpl_kit.training.checkpoint import TrainingState
from dkdmpl_kit.training.extraction import resolve_auto
from dkdmpl_kit.training.precision import FORMATS


def new_state(config: Config, device: str) -> TrainingState:
    """Encoder, its EMA where a setting needs one, and Adam over the parameters that train."""
    config, _ = resolve_auto(config)
    encoder = encoder_by(config).to(device, memory_format=FORMATS[config.memory_format])
    set_samples_per_bn(encoder, config.samples_per_bn)
    ema = None
    if needs_ema(config):
        ema = copy.deepcopy(encoder).requires_grad_(False).eval()
    trained = [p for p in encoder.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(
        trained, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    return TrainingState(encoder, optimiser, ema)


def encoder_by(config: Config) -> Encoder:
    """The untrained encoder of a run, on the CPU; KitError where its settings do not fit."""
    return build_encoder(
        config.backbone,
        weights=config.weights,
        pooling=config.pooling,
        last_stride=config.last_stride,
        freeze_stages=config.freeze_stages,
        normalisation=config.normalisation,
        size=(config.height, config.width),
    )


def needs_ema(config: Config) -> bool:
    """Whether a setting needs the EMA encoder."""
    if config.method in ("skd", "dkdmpl") and config.skd_anchor == "ema":
        return True
    return not {"ema_z", "ema_logits", "plain_z"}.isdisjoint(NEEDS.get(config.method, ()))


def learning_rate(config: Config, epoch: int) -> float:
    """The rate of `epoch` (from 0): cosine to zero over the run, or x0.1 every
    `step_epochs`, or constant.
    """
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / config.epochs))
    if config.schedule == "step":
        return config.learning_rate * 0.1 ** (epoch // config.step_epochs)
    return config.learning_rate


def start_epoch(config: Config, state: TrainingState) -> None:
    """The epoch's learning rate, and the encoder in train mode."""
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(config, state.epoch)
    state.encoder.train()


def step(config: Config, state: TrainingState, loss: Tensor) -> None:
    """One step of the optimiser on a batch's loss, and of all that follows the encoder.

    Gradients are summed over the processes. The running statistics of `samples_per_bn`
    move here: a plain batch norm has moved its own. The EMA encoder moves last.
    """
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    processes.add_gradients(p for g in state.optimiser.param_groups for p in g["params"])
    state.optimiser.step()
    update_running_statistics(state.encoder)
    update_ema(state, config.ema_momentum)


@torch.no_grad()
def update_ema(state: TrainingState, momentum: float) -> None:
    """EMA encoder <- momentum * EMA + (1 - momentum) * encoder, buffers copied."""
    if state.ema is None:
        return
    for slow, fast in zip(state.ema.parameters(), state.encoder.parameters(), strict=True):
        slow.lerp_(fast, 1 - momentum)
    for slow, fast in zip(state.ema.buffers(), state.encoder.buffers(), strict=True):
        slow.copy_(fast)
