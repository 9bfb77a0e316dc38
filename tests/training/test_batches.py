"""Batches: which pictures, how they look, and their features with the gradient."""

from __future__ import annotations

import numpy as np
import torch

from dkdmpl_kit.data import ImageStore, arrays_of, augment
from dkdmpl_kit.training import Run, new_state, processes
from dkdmpl_kit.training.batches import augmented, features_of, with_outliers


def mixed(batch, labels):
    """One batch of images labelled (N,), with the outliers that take places in it."""
    labels = np.asarray(labels)
    draws = torch.Generator().manual_seed(0)
    outliers = np.flatnonzero(labels < 0)
    return next(with_outliers([np.asarray(batch)], outliers, len(labels), 2, draws))


def test_outliers_take_their_share_of_a_batch_in_whole_clusters_and_at_most_half():
    batch = [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3]
    third = mixed(batch, [0, 0, 0, 0, 1, 1, 1, 1, -1, -1, -1, -1])
    assert third[:8].tolist() == batch[:8] and sorted(third[8:].tolist()) == [8, 9, 10, 11]
    half = mixed(range(4), [0, 0] + [-1] * 10)
    assert half[:2].tolist() == [0, 1] and (half[2:] >= 2).all() and len(half) == 4
    assert mixed(batch, [0] * 12).tolist() == batch


def test_a_process_sees_its_share_of_a_batch_as_it_looks_in_the_whole(
    tiny_config, tiny_dataset, monkeypatch
):
    store = ImageStore(arrays_of(tiny_dataset.train)[0][:12], 32, 16, progress=False)
    run = Run(tiny_config.replace(padding=4), None, tiny_dataset.unlabelled(), store)
    whole_draws, draws = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    whole = augment(store.batch(np.arange(12)), whole_draws, flip=0.5, padding=4, erasing=0.5)
    monkeypatch.setattr(processes, "share", lambda count, unit: slice(4, 8))
    assert torch.equal(augmented(run, np.arange(12), draws), whole[4:8])
    # the next draw is the same in every process
    assert torch.equal(draws.get_state(), whole_draws.get_state())


def test_parts_pass_without_a_graph_and_once_more_for_their_gradient(tiny_config):
    config = tiny_config.replace(
        backbone="test_resnet", weights="random", samples_per_bn=4, accumulation=3
    )
    encoder, seen = new_state(config, "cpu").encoder, []
    encoder.pool.register_forward_hook(
        lambda module, inputs, output: seen.append((len(output), torch.is_grad_enabled()))
    )
    pictures = torch.rand(20, 3, 32, 16, generator=torch.Generator().manual_seed(0))
    weights = torch.rand(20, encoder.dim, generator=torch.Generator().manual_seed(1))
    whole = features_of(config.replace(accumulation=1), encoder, pictures, 20)
    (whole * weights).sum().backward()
    gradients = {name: p.grad for name, p in encoder.named_parameters()}
    expected = {name: g.clone() for name, g in gradients.items() if g is not None}
    encoder.zero_grad(set_to_none=True)
    seen.clear()
    z = features_of(config, encoder, pictures, 20)
    assert [n for n, _ in seen] == [4, 8, 8]  # whole groups
    torch.testing.assert_close(z, whole)
    (z * weights).sum().backward()
    assert sorted(n for n, _ in seen) == [4, 4, 8, 8, 8, 8]
    for name, p in encoder.named_parameters():
        if name in expected:
            torch.testing.assert_close(p.grad, expected[name], rtol=1e-4, atol=1e-4, msg=name)
