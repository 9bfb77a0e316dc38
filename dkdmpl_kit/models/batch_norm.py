"""Batch norm whose statistics do not depend on how a batch is spread: over groups,
forward passes or processes.

Results of this field move with the number of pictures that share a mean and a variance
(several GPUs each normalise their own part). Here that number is a setting,
`samples_per_bn`: consecutive pictures of a batch form groups of it, each is normalised
by itself, and one step moves the running statistics once, by the mean over all its
groups.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from dkdmpl_kit.errors import KitError


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Takes the place of a batch norm, with its parameters, buffers and state-dict
    keys; (B, C) or (B, C, H, W) in and out.

    samples > 0: training statistics come from groups of so many consecutive samples,
    and the running ones wait for `update_running_statistics`. samples = 0: from the
    whole batch over all processes, and the running ones follow in the forward pass, as
    a plain batch norm's do. In eval mode it is a plain batch norm.
    """

    def __init__(self, source: nn.modules.batchnorm._BatchNorm, samples: int) -> None:
        super().__init__(source.num_features, source.eps, source.momentum, affine=False)
        self.affine = source.affine
        self.samples = samples
        self.pending = []
        self.weight = source.weight
        self.bias = source.bias
        self.running_mean = source.running_mean
        self.running_var = source.running_var
        self.num_batches_tracked = source.num_batches_tracked
        # timm's EfficientNets keep the activation in their norm
        self.tail = nn.Sequential(
            *(getattr(source, name) for name in ("drop", "act") if hasattr(source, name))
        )
        self.train(source.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.tail(
                F.batch_norm(
                    x,
                    self.running_mean,
                    self.running_var,
                    self.weight,
                    self.bias,
                    eps=self.eps,
                )
            )
        return self.tail(self._by_groups(x) if self.samples else self._over_processes(x))

    def _by_groups(self, x: Tensor) -> Tensor:
        if len(x) % self.samples:
            raise KitError(
                f"samples_per_bn={self.samples} does not divide a batch of {len(x)} "
                "pictures (fewer clusters than "
                "batch_clusters make it smaller): choose a divisor of it, such as "
                "batch_images, or 0."
            )
        parts = []
        for part in x.split(self.samples):
            mean = torch.zeros_like(self.running_mean)
            var = torch.ones_like(self.running_var)
            parts.append(
                F.batch_norm(part, mean, var, self.weight, self.bias, True, 1.0, self.eps)
            )  # 1.0: its own
            self.pending.append(torch.stack([mean, var]))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _over_processes(self, x: Tensor) -> Tensor:
        y, mean, var = _GlobalBatchNorm.apply(x, self.weight, self.bias, self.eps)
        self._follow(mean, var)
        return y

    def _follow(self, mean: Tensor, var: Tensor) -> None:
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(var.to(self.running_var.dtype), self.momentum)
            self.num_batches_tracked += 1


class _GlobalBatchNorm(torch.autograd.Function):
    """Batch norm over the batches of all processes -> (y, mean (C,), unbiased variance
    (C,)); the gradient of the sum of the processes' losses (Ioffe and Szegedy 2015,
    section 3). torch's own SyncBatchNorm wants GPUs.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float):
        axes = [0, *range(2, x.ndim)]
        var, mean = torch.var_mean(x.float(), dim=axes, correction=0)
        counts, means, variances = _gathered(
            torch.cat([mean.new_tensor([x.numel() / x.shape[1]]), mean, var])
        ).split([1, len(mean), len(mean)], dim=1)
        count = counts.sum()
        mean = (counts * means).sum(0) / count
        var = (counts * (variances + (means - mean).square())).sum(0) / count
        ctx.save_for_backward(x, weight, mean, (var + eps).rsqrt(), count)
        unbiased = var * count / (count - 1)
        ctx.mark_non_differentiable(mean, unbiased)
        return F.batch_norm(x, mean, var, weight, bias, eps=eps), mean, unbiased

    @staticmethod
    def backward(ctx, dy: Tensor, *_):
        x, weight, mean, scale, count = ctx.saved_tensors
        axes = [0, *range(2, x.ndim)]
        shape = (1, -1) + (1,) * (x.ndim - 2)
        normal = (x.float() - mean.view(shape)) * scale.view(shape)
        dy32 = dy.float()
        own = torch.stack([dy32.sum(axes), (dy32 * normal).sum(axes)])
        total = _gathered(own).sum(0) / count
        dx = (dy32 - total[0].view(shape) - normal * total[1].view(shape)) * scale.view(shape)
        if weight is not None:
            dx = dx * weight.view(shape)
        return (
            dx.to(x.dtype),
            None if weight is None else own[1],
            None if weight is None else own[0],
            None,
        )


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _gathered(value: Tensor) -> Tensor:
    """Every process' `value`, stacked in the order of ranks, so that all of them add up
    alike: (world, *shape).
    """
    if _processes() == 1:
        return value[None]
    rows = [torch.empty_like(value) for _ in range(_processes())]
    dist.all_gather(rows, value.contiguous())
    return torch.stack(rows)


def set_samples_per_bn(encoder: nn.Module, samples: int) -> nn.Module:
    """Make every batch norm of `encoder` take its training statistics from `samples`
    pictures, 0: from all; returns it.

    In place, once, before the optimiser is made or after: parameters, buffers and
    state-dict keys stay the same objects. 0 in a single process leaves the modules
    untouched; 0 in several makes the statistics those of the global batch. With samples
    > 0 call `update_running_statistics(encoder)` once after each optimiser step. Each
    batch that the encoder sees must be a multiple of `samples`, in each process and
    each accumulated part; else KitError.
    """
    if samples < 0 or samples == 1:
        raise KitError(
            f"samples_per_bn={samples} leaves no variance to normalise by: give 0 (the "
            "whole batch), or 2 or more."
        )
    if samples or _processes() > 1:
        for module in list(encoder.modules()):
            for name, child in module.named_children():
                if isinstance(child, SharedBatchNorm):
                    child.samples = samples
                elif isinstance(child, nn.modules.batchnorm._BatchNorm):
                    setattr(module, name, SharedBatchNorm(child, samples))
    return encoder


@torch.no_grad()
def update_running_statistics(encoder: nn.Module) -> None:
    """One step of all running statistics by the mean over the groups since the last
    call, in all processes; else nothing.

    Every process must call it equally often. The order of groups and who computed them
    does not matter (up to rounding).
    """
    norms = [m for m in encoder.modules() if isinstance(m, SharedBatchNorm) and m.pending]
    if not norms:
        return
    counts = [len(m.pending) for m in norms]
    sums = [torch.stack(m.pending).double().sum(0).flatten() for m in norms]
    total = _gathered(torch.cat([sums[0].new_tensor(counts), *sums])).sum(
        0
    )  # one message for all layers
    counts, *sums = total.split([len(norms), *map(len, sums)])
    for module, count, value in zip(norms, counts, sums):
        module._follow(*(value / count).view(2, -1))
        module.pending.clear()
