"""The views that the loop makes for a batch: what each objective is handed, and where
it comes from.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dkdmpl_kit.data import ImageStore, arrays_of, augment, to_float
from dkdmpl_kit.experiment import METHODS
from dkdmpl_kit.losses import carry_posterior
from dkdmpl_kit.losses.rivals import NEEDS, refined_labels
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.training import fit, new_state, processes
from dkdmpl_kit.training.batches import (
    augmented,
    carried_labels,
    encode,
    needs_ema,
    rival_views,
    with_outliers,
)


def test_every_neighbour_is_a_method_and_every_new_method_a_neighbour():
    assert set(METHODS) - set(NEEDS) == {
        "cluster_contrast",
        "gkd",
        "skd",
        "dkdmpl",
        "supervised",
    }
    assert set(NEEDS) < set(METHODS)


@pytest.mark.parametrize("method", sorted(NEEDS))
def test_each_neighbour_trains_and_changes_the_encoder_in_its_own_way(
    method, tiny_config, tiny_dataset, tmp_path
):
    config = tiny_config.replace(method=method, out_dir=str(tmp_path), epochs=2)
    result = fit(config, tiny_dataset, progress=False)
    assert all(
        np.isfinite(r["loss"]) and r["loss_gkd"] == r["loss_skd"] == 0 for r in result.history
    )
    plain = fit(config.replace(method="cluster_contrast"), tiny_dataset, progress=False)
    weight = next(p for p in result.encoder.parameters() if p.requires_grad)
    other = next(p for p in plain.encoder.parameters() if p.requires_grad)
    assert not torch.equal(weight, other)


def test_the_views_are_those_of_the_ema_encoder_without_gradient(tiny_config, tiny_dataset):
    config = tiny_config.replace(method="ice")
    state, store = (
        new_state(config, "cpu"),
        ImageStore(
            arrays_of(tiny_dataset.train)[0], config.height, config.width, progress=False
        ),
    )
    batch, draws = np.arange(4), torch.Generator().manual_seed(0)
    z = torch.nn.functional.normalize(
        torch.randn(4, state.encoder.dim, generator=draws), dim=1
    )
    memory = ClusterMemory(z, torch.tensor([0, 0, 1, 1]))
    views = rival_views(config, state, memory, store, batch, z, draws)
    assert set(views) == {"z", "ema_z", "plain_z"} and views["z"] is z
    with torch.no_grad():
        torch.testing.assert_close(views["plain_z"], state.ema(to_float(store.batch(batch))))
    assert not views["ema_z"].requires_grad and not torch.equal(
        views["ema_z"], views["plain_z"]
    )
    views = rival_views(config.replace(method="mmt"), state, memory, store, batch, z, draws)
    torch.testing.assert_close(
        views["ema_logits"], views["ema_z"] @ memory.features.T / config.temperature
    )
    assert set(
        rival_views(config.replace(method="rlcc"), state, memory, store, batch, z, draws)
    ) == {"z"}


@pytest.mark.parametrize(
    "method, anchor, expected",
    [
        ("mmt", "hardest", True),
        ("hdcpd", "hardest", True),
        ("ice", "hardest", True),
        ("rlcc", "hardest", False),
        ("spcl", "ema", False),
        ("dkdmpl", "ema", True),
        ("dkdmpl", "hardest", False),
        ("cluster_contrast", "ema", False),
    ],
)
def test_the_ema_encoder_exists_only_where_a_method_asks_for_it(
    method, anchor, expected, tiny_config
):
    assert needs_ema(tiny_config.replace(method=method, skd_anchor=anchor)) is expected


def test_consensus_labels_are_last_epochs_refined_and_carried_over(tiny_config):
    state = new_state(tiny_config.replace(method="rlcc"), "cpu")
    v = torch.nn.functional.normalize(
        torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), dim=1
    )
    first, second = np.array([0, 0, 0, 1, 1, -1]), np.array([1, 1, 0, 0, 0, 0])
    memory = ClusterMemory(v, first)
    assert carried_labels(tiny_config, state, memory, v, first) is None
    own = torch.softmax(v @ memory.centroids.T / tiny_config.teacher_temperature, dim=1)
    torch.testing.assert_close(torch.from_numpy(state.previous[1]), own)
    carried = carried_labels(tiny_config, state, ClusterMemory(v, second), v, second)
    torch.testing.assert_close(
        carried, carry_posterior(refined_labels(torch.from_numpy(first), own), first, second)
    )
    assert state.previous[0] is second


def test_outliers_take_their_share_of_a_batch_in_whole_clusters_and_at_most_half():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, -1, -1, -1, -1])  # a third
    batch = np.array([0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3])
    (mixed,) = with_outliers([batch], labels, 2, torch.Generator().manual_seed(0))
    assert mixed[:8].tolist() == batch[:8].tolist() and sorted(mixed[8:].tolist()) == [
        8,
        9,
        10,
        11,
    ]
    (half,) = with_outliers(
        [np.arange(4)], np.array([0, 0] + [-1] * 10), 2, torch.Generator().manual_seed(0)
    )
    assert (half[:2] == [0, 1]).all() and (half[2:] >= 2).all() and len(half) == 4
    (none,) = with_outliers([batch], np.zeros(12, int), 2, torch.Generator())
    assert none.tolist() == batch.tolist()


def test_a_process_sees_its_share_of_a_batch_as_it_looks_in_the_whole(
    tiny_config, tiny_dataset, monkeypatch
):
    store = ImageStore(arrays_of(tiny_dataset.train)[0][:12], 32, 16, progress=False)
    whole_draws, draws = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    whole = augment(store.batch(np.arange(12)), whole_draws, flip=0.5, padding=4, erasing=0.5)
    monkeypatch.setattr(processes, "share", lambda count, unit: slice(4, 8))
    assert torch.equal(
        augmented(tiny_config.replace(padding=4), store, np.arange(12), draws, "cpu"),
        whole[4:8],
    )
    assert torch.equal(
        draws.get_state(), whole_draws.get_state()
    )  # the next draw is the same in every process


def test_parts_pass_without_a_graph_and_once_more_for_their_gradient(tiny_config):
    config = tiny_config.replace(
        backbone="test_resnet", weights="random", samples_per_bn=4, accumulation=3
    )
    encoder, seen = new_state(config, "cpu").encoder, []
    encoder.pool.register_forward_hook(
        lambda module, inputs, output: seen.append((len(output), torch.is_grad_enabled()))
    )
    view = torch.rand(20, 3, 32, 16, generator=torch.Generator().manual_seed(0))
    weights = torch.rand(20, encoder.dim, generator=torch.Generator().manual_seed(1))
    whole = encode(config.replace(accumulation=1), encoder, view, 20)
    (whole * weights).sum().backward()
    expected = {
        name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None
    }
    encoder.zero_grad(set_to_none=True)
    seen.clear()
    z = encode(config, encoder, view, 20)
    assert [n for n, _ in seen] == [4, 8, 8]  # whole groups
    torch.testing.assert_close(z, whole)
    (z * weights).sum().backward()
    assert sorted(n for n, _ in seen) == [4, 4, 8, 8, 8, 8]
    for name, p in encoder.named_parameters():
        if name in expected:
            torch.testing.assert_close(p.grad, expected[name], rtol=1e-4, atol=1e-4, msg=name)
