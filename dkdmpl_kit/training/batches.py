"""The views of a label that a batch needs: the teacher's, the anchor's, and those of
the neighbouring objectives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from dkdmpl_kit.data import ImageStore, augment, to_float
from dkdmpl_kit.experiment import Config
from dkdmpl_kit.losses import anchor_features, carry_posterior, teacher_logits
from dkdmpl_kit.losses.rivals import NEEDS, refined_labels
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.models import Encoder, autocast
from dkdmpl_kit.training import processes
from dkdmpl_kit.training.checkpoint import TrainingState


def needs_ema(config: Config) -> bool:
    """Whether a setting needs the EMA encoder."""
    distils = config.skd_anchor == "ema" and config.method in ("skd", "dkdmpl")
    return distils or bool(
        {"ema_z", "ema_logits", "plain_z"} & set(NEEDS.get(config.method, ()))
    )


def teacher(
    config: Config,
    state: TrainingState,
    memory: ClusterMemory,
    v: torch.Tensor,
    labels: np.ndarray,
) -> Callable[[np.ndarray], torch.Tensor]:
    """The epoch view e_i as logits, by `gkd_teacher`: a function from image indices
    (B,) to (B, K).
    """
    tau = config.teacher_temperature
    if config.gkd_teacher == "sample":  # e_i = softmax(C v_i / tau_t)
        return lambda i: memory.teacher_logits(v[i], tau)
    # every member of a cluster is taught by its centroid
    if config.gkd_teacher == "cluster":
        return lambda i: memory.teacher_logits(
            memory.centroids[torch.as_tensor(labels[i], device=v.device)], tau
        )
    carried, own = _carried(
        config, state, memory, v, labels, lambda old_labels, posterior: posterior
    )
    posterior = own if carried is None else carried
    return lambda i: teacher_logits("consensus", posterior=posterior[i])


def encode(config: Config, encoder: Encoder, view: torch.Tensor, count: int) -> torch.Tensor:
    """This process' augmented pictures -> features (count, d) of the whole batch, in
    train mode and with their gradient.

    With `accumulation` > 1 the pictures pass in so many parts, of whole groups of
    `samples_per_bn`, each without a graph and once more when its gradient is due (as in
    GradCache: Gao et al. 2021): the memory of one part, the loss of the whole batch.
    Parts of whole clusters, each with a loss of its own, would save the second forward
    pass, but objectives that compare clusters (MMT's triplets, ICE's negatives) would
    be others then.
    """
    unit = config.samples_per_bn or 1
    with autocast(config.precision, view.device):
        if config.accumulation == 1:
            z = encoder(view).float()
        # the second pass meets batch norm's groups again, all of them, which leaves
        # their mean as it is
        else:
            parts = [
                view[p]
                for p in processes.cut(len(view), config.accumulation, unit)
                if p.start < p.stop
            ]
            z = torch.cat(
                [checkpoint(encoder, part, use_reentrant=False).float() for part in parts]
            )
    return processes.gather(z, count, _share(config, count))


def anchors(
    config: Config,
    state: TrainingState,
    store: ImageStore,
    batch: np.ndarray,
    view: torch.Tensor,
    z: torch.Tensor,
    y: torch.Tensor,
    draws: torch.Generator,
) -> torch.Tensor:
    """Features (B, d) of the second view, by `skd_anchor`: batch mates, a second
    augmentation, or the EMA encoder.
    """
    if config.skd_anchor == "augmentation":
        return encode(
            config,
            state.encoder,
            augmented(config, store, batch, draws, z.device),
            len(batch),
        )
    if config.skd_anchor == "ema":
        return _slow(config, state, view, len(batch))
    return anchor_features(z, y, strategy=config.skd_anchor, generator=draws)


def _share(config: Config, count: int) -> slice:
    """The part of a batch whose pictures this process encodes: whole groups of
    `samples_per_bn`.
    """
    return processes.share(count, config.samples_per_bn or 1)


@torch.no_grad()
def _slow(
    config: Config, state: TrainingState, view: torch.Tensor, count: int
) -> torch.Tensor:
    """Features (count, d) of the whole batch by the EMA encoder, from this process'
    pictures.
    """
    with autocast(config.precision, view.device):
        return processes.gather(state.ema(view).float(), count, _share(config, count))


def augmented(
    config: Config, store: ImageStore, batch: np.ndarray, draws: torch.Generator, device
) -> torch.Tensor:
    """(B, 3, H, W) float in [0, 1]: one augmented look at the pictures of a batch, on
    `device`.

    Of several processes each gets its share, looking as it does in the whole batch.
    """
    part = _share(config, len(batch))
    pictures = store.batch(batch[part]).to(
        device
    )  # as bytes, a quarter of the transfer; the device then augments them
    return augment(
        pictures,
        draws,
        flip=config.flip,
        padding=config.padding,
        erasing=config.erasing,
        among=(part.start, len(batch)),
    )


@torch.no_grad()
def follow(state: TrainingState, momentum: float) -> None:
    """EMA encoder <- momentum * EMA + (1 - momentum) * encoder, buffers copied."""
    if state.ema is None:
        return
    for slow, fast in zip(state.ema.parameters(), state.encoder.parameters(), strict=True):
        slow.lerp_(fast, 1 - momentum)
    for slow, fast in zip(state.ema.buffers(), state.encoder.buffers(), strict=True):
        slow.copy_(fast)


def rival_views(
    config: Config,
    state: TrainingState,
    memory: ClusterMemory,
    store: ImageStore,
    batch: np.ndarray,
    z: torch.Tensor,
    draws: torch.Generator,
) -> dict[str, torch.Tensor]:
    """What `NEEDS[config.method]` names, except "carried": features of the batch by the
    EMA encoder, and their logits.
    """
    wanted = set(NEEDS[config.method])
    made = {"z": z}
    if wanted & {"ema_z", "ema_logits"}:
        made["ema_z"] = _slow(
            config, state, augmented(config, store, batch, draws, z.device), len(batch)
        )
    if "plain_z" in wanted:
        plain = to_float(store.batch(batch[_share(config, len(batch))]).to(z.device))
        made["plain_z"] = _slow(config, state, plain, len(batch))
    if "ema_logits" in wanted:
        made["ema_logits"] = memory.logits(made["ema_z"], config.temperature)
    return made


def carried_labels(
    config: Config,
    state: TrainingState,
    memory: ClusterMemory,
    v: torch.Tensor,
    labels: np.ndarray,
) -> torch.Tensor | None:
    """RLCC: last epoch's refined labels (N, K) in this epoch's clusters, None in the
    first; keeps this epoch's for later.
    """
    return _carried(config, state, memory, v, labels, refined_labels)[0]


def _carried(
    config: Config,
    state: TrainingState,
    memory: ClusterMemory,
    v: torch.Tensor,
    labels: np.ndarray,
    refine: Callable,
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """(refine(last epoch's labels, posterior) carried over by the overlap of the
    clusters, or None; this epoch's posterior).

    This epoch's is kept in `state` for the next one.
    """
    carried = None
    own = torch.softmax(memory.teacher_logits(v, config.teacher_temperature), dim=1)
    if state.previous is not None:
        before = state.previous[0]
        posterior = torch.from_numpy(state.previous[1]).to(v.device)
        carried = carry_posterior(
            refine(torch.from_numpy(before).to(v.device), posterior), before, labels
        )
    state.previous = (labels, own.cpu().numpy())
    return carried, own


def with_outliers(
    batches: Iterable[np.ndarray],
    labels: np.ndarray,
    group: int,
    generator: torch.Generator,
) -> Iterator[np.ndarray]:
    """SpCL: outliers (N,) of -1 take the places of whole clusters of `group` images,
    their share of N, at most half.
    """
    outliers = np.flatnonzero(labels < 0)
    for batch in batches:
        places = min(
            len(outliers),
            int(len(batch) * min(0.5, len(outliers) / len(labels))) // group * group,
        )
        drawn = torch.randperm(len(outliers), generator=generator)[:places].numpy()
        yield np.concatenate([batch[: len(batch) - places], outliers[drawn]])
