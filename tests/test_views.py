"""The views that the loop makes for a batch: what each objective is handed, and where it comes from."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from dkdmpl_kit.data import ImageStore, arrays_of, to_float
from dkdmpl_kit.experiment import METHODS
from dkdmpl_kit.losses import carry_posterior
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.objectives import NEEDS, refined_labels
from dkdmpl_kit.training import fit, new_state
from dkdmpl_kit.views import carried_labels, needs_ema, neighbour_views, with_outliers


def test_every_neighbour_is_a_method_and_every_new_method_a_neighbour():
    assert set(METHODS) - set(NEEDS) == {"cluster_contrast", "gkd", "skd", "dkdmpl", "supervised"}
    assert set(NEEDS) < set(METHODS)


@pytest.mark.parametrize("method", sorted(NEEDS))
def test_each_neighbour_trains_and_changes_the_encoder_in_its_own_way(method, tiny_config, tiny_dataset, tmp_path):
    config = tiny_config.replace(method=method, out_dir=str(tmp_path), epochs=2)
    result = fit(config, tiny_dataset, progress=False)
    assert all(np.isfinite(r["loss"]) and r["loss_gkd"] == r["loss_skd"] == 0 for r in result.history)
    plain = fit(config.replace(method="cluster_contrast"), tiny_dataset, progress=False)
    weight = next(p for p in result.encoder.parameters() if p.requires_grad)
    other = next(p for p in plain.encoder.parameters() if p.requires_grad)
    assert not torch.equal(weight, other)


def test_the_views_are_those_of_the_ema_encoder_without_gradient(tiny_config, tiny_dataset):
    config = tiny_config.replace(method="ice")
    state, store = new_state(config, "cpu"), ImageStore(arrays_of(tiny_dataset.train)[0], config.height, config.width,
                                                        progress=False)
    batch, draws = np.arange(4), torch.Generator().manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(4, state.encoder.dim, generator=draws), dim=1)
    memory = ClusterMemory(z, torch.tensor([0, 0, 1, 1]))
    views = neighbour_views(config, state, memory, store, batch, z, draws)
    assert set(views) == {"z", "ema_z", "plain_z"} and views["z"] is z
    with torch.no_grad():
        torch.testing.assert_close(views["plain_z"], state.ema(to_float(store.batch(batch))))
    assert not views["ema_z"].requires_grad and not torch.equal(views["ema_z"], views["plain_z"])
    views = neighbour_views(config.replace(method="mmt"), state, memory, store, batch, z, draws)
    torch.testing.assert_close(views["ema_logits"], views["ema_z"] @ memory.features.T / config.temperature)
    assert set(neighbour_views(config.replace(method="rlcc"), state, memory, store, batch, z, draws)) == {"z"}


@pytest.mark.parametrize("method, anchor, expected", [
    ("mmt", "hardest", True), ("hdcpd", "hardest", True), ("ice", "hardest", True), ("rlcc", "hardest", False),
    ("spcl", "ema", False), ("dkdmpl", "ema", True), ("dkdmpl", "hardest", False), ("cluster_contrast", "ema", False)])
def test_the_ema_encoder_exists_only_where_a_method_asks_for_it(method, anchor, expected, tiny_config):
    assert needs_ema(tiny_config.replace(method=method, skd_anchor=anchor)) is expected


def test_consensus_labels_are_last_epochs_refined_and_carried_over(tiny_config):
    state = new_state(tiny_config.replace(method="rlcc"), "cpu")
    v = torch.nn.functional.normalize(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    first, second = np.array([0, 0, 0, 1, 1, -1]), np.array([1, 1, 0, 0, 0, 0])
    memory = ClusterMemory(v, first)
    assert carried_labels(tiny_config, state, memory, v, first) is None
    own = torch.softmax(v @ memory.centroids.T / tiny_config.teacher_temperature, dim=1)
    torch.testing.assert_close(torch.from_numpy(state.previous[1]), own)
    carried = carried_labels(tiny_config, state, ClusterMemory(v, second), v, second)
    torch.testing.assert_close(carried, carry_posterior(refined_labels(torch.from_numpy(first), own), first, second))
    assert state.previous[0] is second


def test_outliers_take_their_share_of_a_batch_in_whole_clusters_and_at_most_half():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, -1, -1, -1, -1])  # a third
    batch = np.array([0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3])
    (mixed,) = with_outliers([batch], labels, 2, torch.Generator().manual_seed(0))
    assert mixed[:8].tolist() == batch[:8].tolist() and sorted(mixed[8:].tolist()) == [8, 9, 10, 11]
    (half,) = with_outliers([np.arange(4)], np.array([0, 0] + [-1] * 10), 2, torch.Generator().manual_seed(0))
    assert (half[:2] == [0, 1]).all() and (half[2:] >= 2).all() and len(half) == 4
    (none,) = with_outliers([batch], np.zeros(12, int), 2, torch.Generator())
    assert none.tolist() == batch.tolist()
