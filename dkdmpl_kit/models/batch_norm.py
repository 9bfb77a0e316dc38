"""Batch norm whose statistics do not depend on how a batch is spread over processes.

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
    """Takes the place of a batch norm; (B, C) or (B, C, H, W) in and out.

    It has the same parameters, buffers and state-dict keys. samples > 0: training
    statistics come from groups of so many consecutive samples, and the running ones
    wait for `update_running_statistics`. samples = 0: from the whole batch over all
    processes, and the running ones follow in the forward pass, as a plain batch norm's
    do. In eval mode it is a plain batch norm.
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
        extras = [getattr(source, name) for name in ("drop", "act") if hasattr(source, name)]
        self.tail = nn.Sequential(*extras)
        self.train(source.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            y = F.batch_norm(
                x,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                eps=self.eps,
            )
        elif self.samples:
            y = self._by_groups(x)
        else:
            y = self._over_processes(x)
        return self.tail(y)

    def _by_groups(self, x: Tensor) -> Tensor:
        if len(x) % self.samples:
            raise KitError(
                f"samples_per_bn={self.samples} does not divide a batch of {len(x)} "
                "pictures (fewer clusters than batch_clusters make it smaller): choose a "
                "divisor of it, such as batch_images, or 0."
            )
        parts = []
        for part in x.split(self.samples):
            mean = torch.zeros_like(self.running_mean)
            var = torch.ones_like(self.running_var)
            # momentum 1: mean and var become the group's own
            y = F.batch_norm(
                part,
                mean,
                var,
                self.weight,
                self.bias,
                training=True,
                momentum=1.0,
                eps=self.eps,
            )
            parts.append(y)
            self.pending.append(torch.stack([mean, var]))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _over_processes(self, x: Tensor) -> Tensor:
        y, mean, var = _GlobalBatchNorm.apply(x, self.weight, self.bias, self.eps)
        self.move_running_statistics(mean, var)
        return y

    def move_running_statistics(self, mean: Tensor, var: Tensor) -> None:
        """One step of the running statistics towards mean (C,) and variance (C,)."""
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(var.to(self.running_var.dtype), self.momentum)
            self.num_batches_tracked += 1


class _GlobalBatchNorm(torch.autograd.Function):
    """Batch norm over the batches of all processes.

    -> (y, mean (C,), unbiased variance (C,)). The gradient is that of the sum of the
    processes' losses (Ioffe and Szegedy 2015, section 3). torch's own SyncBatchNorm
    needs GPUs.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float):
        axes = [0, *range(2, x.ndim)]
        var, mean = torch.var_mean(x.float(), dim=axes, correction=0)
        own_count = mean.new_tensor([x.numel() / x.shape[1]])
        everyones = _gathered(torch.cat([own_count, mean, var]))
        counts, means, variances = everyones.split([1, len(mean), len(mean)], dim=1)
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
        if weight is None:
            return dx.to(x.dtype), None, None, None
        d_bias, d_weight = own
        return (dx * weight.view(shape)).to(x.dtype), d_weight, d_bias, None


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _gathered(value: Tensor) -> Tensor:
    """Every process' `value`, stacked in the order of ranks: (world, *shape).

    The order is the same everywhere, so all of them add up alike.
    """
    if _processes() == 1:
        return value[None]
    rows = [torch.empty_like(value) for _ in range(_processes())]
    dist.all_gather(rows, value.contiguous())
    return torch.stack(rows)


def set_samples_per_bn(encoder: nn.Module, samples: int) -> nn.Module:
    """Make every batch norm of `encoder` take its statistics from `samples` pictures.

    Returns the encoder. 0: from the whole batch, as in any batch norm. In place, once,
    before the optimiser is made or after: parameters, buffers and state-dict keys stay
    the same objects. 0 in a single process leaves the modules untouched; 0 in several
    makes the statistics those of the global batch. With samples > 0 call
    `update_running_statistics(encoder)` once after each optimiser step. Each batch that
    the encoder sees must be a multiple of `samples`, in each process and each
    accumulated part; else KitError.
    """
    if samples < 0 or samples == 1:
        raise KitError(
            f"samples_per_bn={samples} leaves no variance to normalise by: give 0 (the "
            "whole batch), or 2 or more."
        )
    if samples == 0 and _processes() == 1:
        return encoder
    for module in list(encoder.modules()):
        for name, child in module.named_children():
            if isinstance(child, SharedBatchNorm):
                child.samples = samples
            elif isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(module, name, SharedBatchNorm(child, samples))
    return encoder


@torch.no_grad()
def update_running_statistics(encoder: nn.Module) -> None:
    """Move all running statistics by the mean over the groups since the last call.

    The groups are those of all processes; without any, nothing happens. Every process
    must call it equally often. The order of groups and who computed them does not
    matter (up to rounding).
    """
    norms = [
        module
        for module in encoder.modules()
        if isinstance(module, SharedBatchNorm) and module.pending
    ]
    if not norms:
        return
    own_sums = [torch.stack(norm.pending).double().sum(0).flatten() for norm in norms]
    own_counts = own_sums[0].new_tensor([len(norm.pending) for norm in norms])
    # one message for all layers
    total = _gathered(torch.cat([own_counts, *own_sums])).sum(0)
    lengths = [len(norms), *map(len, own_sums)]
    counts, *sums = total.split(lengths)
    for norm, count, value in zip(norms, counts, sums):
        mean, var = (value / count).view(2, -1)
        norm.move_running_statistics(mean, var)
        norm.pending.clear()
