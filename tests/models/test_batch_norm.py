"""Batch norm over groups and processes: as one process with a plain one computes it."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.models import BUNDLED_BACKBONE, build_encoder
from dkdmpl_kit.models.batch_norm import set_samples_per_bn, update_running_statistics

WORKER = """
import sys
import torch
import torch.distributed as dist
sys.path.insert(0, sys.argv[1])
from test_batch_norm import inputs, net, step
from dkdmpl_kit.models.batch_norm import set_samples_per_bn
rank, place, out = int(sys.argv[2]), sys.argv[3], sys.argv[4]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
own = {"uneven": inputs()[:10] if rank == 0 else inputs()[10:], "groups": inputs().chunk(2)[rank]}
torch.save({"sync": step(set_samples_per_bn(net(), 0), [own["uneven"]]),
            "groups": step(set_samples_per_bn(net(), 4), [own["groups"]])}, f"{out}/{rank}.pt")
dist.destroy_process_group()
"""


def net():
    """Two kinds of batch norm; no two channels share weights; statistics have moved."""
    generator = torch.Generator().manual_seed(1)
    made = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
        nn.BatchNorm1d(5),
    )
    with torch.no_grad():
        for tensor in [*made.parameters(), made[1].running_mean, made[1].running_var]:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    return made


def inputs(count=16):
    scale = torch.arange(1.0, count + 1)[:, None, None, None]
    return torch.rand(count, 3, 7, 5, generator=torch.Generator().manual_seed(2)) * scale


def step(model, batches):
    """Outputs, gradients and the state after one step's forward and backward passes."""
    leaves = [batch.clone().requires_grad_() for batch in batches]
    outputs = [model(leaf) for leaf in leaves]
    weights = torch.arange(1.0, 6)
    for output in outputs:
        (output.sigmoid() * weights).square().sum().backward()
    update_running_statistics(model)
    return {
        "y": torch.cat(outputs).detach(),
        "dx": torch.cat([leaf.grad for leaf in leaves]),
        "dp": {name: p.grad for name, p in model.named_parameters()},
        "state": dict(model.state_dict()),
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes computed: [rank 0, rank 1], each {"sync": step, "groups": step}."""
    folder = tmp_path_factory.mktemp("gloo")
    command = [sys.executable, "-c", WORKER, str(Path(__file__).parent)]
    workers = [
        subprocess.Popen(
            [*command, str(rank), str(folder / "meeting"), str(folder)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def assert_equal_steps(ranks, whole):
    """Rows joined, gradients added, and each one's state, against one process."""
    for key in ("y", "dx"):
        torch.testing.assert_close(
            torch.cat([rank[key] for rank in ranks]), whole[key], rtol=1e-5, atol=1e-5
        )
    for name, gradient in whole["dp"].items():
        torch.testing.assert_close(
            sum(rank["dp"][name] for rank in ranks), gradient, rtol=1e-4, atol=1e-4, msg=name
        )
    for rank in ranks:
        assert list(rank["state"]) == list(whole["state"])
        for name, tensor in whole["state"].items():
            torch.testing.assert_close(
                rank["state"][name], tensor, rtol=1e-5, atol=1e-5, msg=name
            )


def naive_groups(module, x, samples):
    """Each group's own normalisation, and the running statistics after one step."""
    out = torch.empty_like(x)
    means = []
    variances = []
    for start in range(0, len(x), samples):
        group = x[start : start + samples]
        columns = group.transpose(0, 1).flatten(1)  # (C, n h w)
        mean = torch.stack([column.sum() / len(column) for column in columns])
        centred = columns - mean[:, None]
        variance = (centred**2).sum(1) / columns.shape[1]
        shape = (1, -1) + (1,) * (x.ndim - 2)
        out[start : start + samples] = (group - mean.view(shape)) / (
            variance.view(shape) + module.eps
        ).sqrt() * module.weight.view(shape) + module.bias.view(shape)
        means.append(mean)
        variances.append((centred**2).sum(1) / (columns.shape[1] - 1))
    m = module.momentum
    return (
        out,
        (1 - m) * module.running_mean + m * torch.stack(means).mean(0),
        (1 - m) * module.running_var + m * torch.stack(variances).mean(0),
    )


@pytest.mark.parametrize(
    "plain", [nn.BatchNorm2d(4, momentum=0.3), nn.BatchNorm1d(4, momentum=0.3, eps=1e-3)]
)
def test_groups_are_normalised_one_by_one_and_a_step_moves_the_statistics_by_their_mean(
    plain,
):
    shape = (12, 4, 3, 2) if isinstance(plain, nn.BatchNorm2d) else (12, 4)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * torch.arange(
        1.0, 13
    ).view(-1, *[1] * (len(shape) - 1))
    nn.init.uniform_(plain.weight), nn.init.uniform_(plain.bias)
    expected, mean, var = naive_groups(plain, x, 3)
    grouped = set_samples_per_bn(nn.Sequential(copy.deepcopy(plain)), 3)
    y = grouped(x)
    torch.testing.assert_close(y, expected)
    # they wait for the step
    torch.testing.assert_close(grouped[0].running_mean, plain.running_mean)
    update_running_statistics(grouped)
    torch.testing.assert_close(grouped[0].running_mean, mean)
    torch.testing.assert_close(grouped[0].running_var, var)
    assert grouped[0].num_batches_tracked == 1
    update_running_statistics(grouped)  # nothing new: nothing moves
    torch.testing.assert_close(grouped[0].running_mean, mean)


def test_a_group_as_large_as_the_batch_is_a_plain_batch_norm_in_value_gradient_and_statistics():
    plain = net()
    grouped = set_samples_per_bn(net(), 16)
    assert_equal_steps([step(grouped, [inputs()])], step(plain, [inputs()]))


def test_accumulated_parts_give_what_one_forward_pass_gives():
    whole = step(set_samples_per_bn(net(), 4), [inputs()])
    assert_equal_steps([step(set_samples_per_bn(net(), 4), inputs().chunk(2))], whole)
    unequal = step(set_samples_per_bn(net(), 4), inputs().split([4, 12]))
    assert_equal_steps([unequal], whole)
    # and the setting matters
    assert not torch.allclose(whole["y"], step(net(), [inputs()])["y"], atol=1e-2)


def test_two_processes_with_groups_give_what_one_gives(two):
    whole = step(set_samples_per_bn(net(), 4), [inputs()])
    assert_equal_steps([rank["groups"] for rank in two], whole)
    for name, tensor in two[0]["groups"]["state"].items():
        # bit for bit: ranks must not drift apart
        assert torch.equal(tensor, two[1]["groups"]["state"][name])


def test_two_processes_with_unequal_shares_give_a_plain_batch_norm_over_the_global_batch(two):
    assert_equal_steps([rank["sync"] for rank in two], step(net(), [inputs()]))
    for name, tensor in two[0]["sync"]["state"].items():
        assert torch.equal(tensor, two[1]["sync"]["state"][name])


def test_zero_in_one_process_leaves_every_module_as_it_is():
    model = net()
    before = list(model.modules())
    assert set_samples_per_bn(model, 0) is model and all(
        a is b for a, b in zip(before, model.modules(), strict=True)
    )


@pytest.mark.parametrize("backbone", ["resnet18", BUNDLED_BACKBONE])
def test_an_encoder_keeps_its_keys_its_parameters_its_activations_and_its_features_in_eval_mode(
    backbone,
):
    plain = build_encoder(backbone, weights="random", freeze_stages=1)
    grouped = set_samples_per_bn(copy.deepcopy(plain), 2)
    assert list(grouped.state_dict()) == list(plain.state_dict())
    x = torch.rand(4, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    before = copy.deepcopy(plain.state_dict())
    halves = torch.cat([copy.deepcopy(plain)(x[:2]), copy.deepcopy(plain)(x[2:])])
    torch.testing.assert_close(grouped(x), halves, rtol=1e-4, atol=1e-5)
    update_running_statistics(grouped)
    moved = [
        name
        for name, tensor in grouped.state_dict().items()
        if not torch.equal(tensor, before[name])
    ]
    frozen = {
        f"backbone.{name}"
        for name in (
            "bn1.running_mean",
            "layer1.0.bn1.running_mean",
            "blocks.0.0.bn1.running_mean",
        )
    }
    assert "bnneck.running_var" in moved and not frozen & set(moved)
    grouped.load_state_dict(plain.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(grouped.eval()(x), plain.eval()(x))


def test_a_second_call_changes_the_number_and_keeps_the_activation():
    encoder = build_encoder(BUNDLED_BACKBONE, weights="random")
    x = torch.rand(4, 3, 32, 32)
    expected = copy.deepcopy(encoder)(x)
    torch.testing.assert_close(
        set_samples_per_bn(set_samples_per_bn(encoder, 2), 4)(x), expected
    )


def test_half_precision_passes_through():
    x = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        y = set_samples_per_bn(net(), 4)(x)
    torch.testing.assert_close(y.float(), set_samples_per_bn(net(), 4)(x), atol=0.2, rtol=0.2)
    assert (
        F.cosine_similarity(
            y.float().flatten(), set_samples_per_bn(net(), 4)(x).flatten(), dim=0
        )
        > 0.99
    )


def test_a_batch_that_is_no_multiple_and_groups_of_one_are_refused():
    with pytest.raises(
        KitError, match="samples_per_bn=6 does not divide a batch of 16 pictures"
    ):
        set_samples_per_bn(net(), 6)(inputs())
    for samples in (1, -2):
        with pytest.raises(KitError, match="2 or more"):
            set_samples_per_bn(net(), samples)
