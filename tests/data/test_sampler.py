"""P x K sampling: which clusters and which of their images make a batch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dkdmpl_kit.data import pk_batches
from dkdmpl_kit.errors import KitError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batches(
    labels, camids=None, *, p=4, k=4, iterations=12, sampler="random", seed=0
) -> list[np.ndarray]:
    camids = np.zeros(len(labels), dtype=int) if camids is None else camids
    return list(
        pk_batches(
            np.asarray(labels),
            np.asarray(camids),
            clusters_per_batch=p,
            images_per_cluster=k,
            iterations=iterations,
            sampler=sampler,
            generator=seeded(seed),
        )
    )


@st.composite
def clusterings(draw):
    """Labels of two clusters or more, with gaps and outliers, and their cameras."""
    labels = draw(st.lists(st.sampled_from([-1, 0, 1, 2, 5, 6, 9]), min_size=2, max_size=60))
    labels += [0, 9]
    camids = draw(st.lists(st.integers(0, 3), min_size=len(labels), max_size=len(labels)))
    return np.array(labels), np.array(camids)


shapes = {"p": st.integers(1, 6), "k": st.integers(1, 6), "seed": st.integers(0, 9)}


@settings(max_examples=60, deadline=None)
@given(data=clusterings(), sampler=st.sampled_from(["camera", "random"]), **shapes)
def test_a_batch_is_p_different_clusters_times_k_images_without_outliers(
    data, sampler, p, k, seed
):
    labels, camids = data
    present = set(labels[labels >= 0].tolist())
    for batch in batches(labels, camids, p=p, k=k, sampler=sampler, seed=seed):
        rows = labels[batch].reshape(-1, k)
        assert batch.dtype == np.int64 and len(rows) == min(p, len(present))
        assert (
            (rows >= 0).all()
            and (rows == rows[:, :1]).all()
            and len(set(rows[:, 0])) == len(rows)
        )


@settings(max_examples=60, deadline=None)
@given(data=clusterings(), **shapes)
def test_all_clusters_pass_before_any_returns(data, p, k, seed):
    labels, camids = data
    present = sorted(set(labels[labels >= 0].tolist()))
    stream = [
        label
        for batch in batches(labels, camids, p=p, k=k, iterations=20, seed=seed)
        for label in labels[batch][::k].tolist()
    ]
    for start in range(0, len(stream) - len(present) + 1, len(present)):
        assert sorted(stream[start : start + len(present)]) == present


@settings(max_examples=60, deadline=None)
@given(data=clusterings(), **shapes)
def test_the_camera_sampler_takes_other_cameras_of_the_anchor_where_there_are_any(
    data, p, k, seed
):
    labels, camids = data
    for batch in batches(labels, camids, p=p, k=k, sampler="camera", seed=seed):
        for anchor, *others in batch.reshape(-1, k).tolist():
            elsewhere = np.flatnonzero(
                (labels == labels[anchor]) & (camids != camids[anchor])
            )
            if len(elsewhere):
                assert all(camids[other] != camids[anchor] for other in others)
                assert len(set(others)) == min(len(elsewhere), k - 1)
            elif (labels == labels[anchor]).sum() > 1:
                assert anchor not in others


@settings(max_examples=60, deadline=None)
@given(data=clusterings(), **shapes)
def test_the_random_sampler_repeats_an_image_only_when_the_cluster_is_used_up(
    data, p, k, seed
):
    labels, camids = data
    for batch in batches(labels, camids, p=p, k=k, seed=seed):
        for row in batch.reshape(-1, k):
            assert len(set(row.tolist())) == min(k, int((labels == labels[row[0]]).sum()))


def test_every_image_is_drawn_in_time_and_about_equally_often():
    labels = np.repeat([0, 1, 2], 8)
    for sampler in ("random", "camera"):
        counts = Counter(
            np.concatenate(
                batches(labels, np.tile([0, 1], 12), p=3, iterations=200, sampler=sampler)
            )
        )
        assert len(counts) == 24 and min(counts.values()) > 60 and max(counts.values()) < 140


def test_the_order_of_clusters_is_fresh_each_time_round():
    labels = np.arange(10)
    orders = {tuple(batch.tolist()) for batch in batches(labels, p=10, k=1, iterations=6)}
    assert len(orders) == 6


def test_batches_depend_on_the_generator_and_draw_from_it_once_at_the_call():
    labels = np.repeat(np.arange(8), 5)
    one = batches(labels)
    two = batches(labels)
    other = batches(labels, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    generator = seeded()
    drawn = pk_batches(
        labels,
        labels,
        clusters_per_batch=4,
        images_per_cluster=4,
        iterations=12,
        sampler="random",
        generator=generator,
    )
    state = generator.get_state()
    torch.rand(5, generator=generator)  # what augment does between batches
    assert all(np.array_equal(a, b) for a, b in zip(one, drawn, strict=True))
    assert not torch.equal(state, seeded().get_state()), "the next call gives other batches"


@pytest.mark.parametrize("labels", [[-1, -1, -1], [0, 0, -1], []])
def test_fewer_than_two_clusters_is_an_error_at_the_call_that_says_what_to_turn(labels):
    with pytest.raises(KitError, match="eps.*min_samples.*k1"):
        pk_batches(
            np.array(labels, dtype=int),
            np.zeros(len(labels)),
            clusters_per_batch=2,
            images_per_cluster=2,
            iterations=1,
            generator=seeded(),
        )


def test_the_camera_sampler_needs_cameras_of_all_but_outliers():
    with pytest.raises(KitError, match='sampler="random"'):
        batches([0, 0, 1, 1], [0, 1, -1, 0], sampler="camera")
    assert len(batches([0, 0, 1, 1, -1], [0, 1, 1, 0, -1], sampler="camera")) == 12
    assert len(batches([0, 0, 1, 1], [-1] * 4, sampler="random")) == 12


def test_unknown_samplers_empty_batches_and_unequal_lengths_are_errors():
    with pytest.raises(KitError, match="camera, random"):
        batches([0, 1], sampler="pk")
    for wrong in ({"p": 0}, {"k": 0}, {"iterations": 0}):
        with pytest.raises(KitError, match="at least 1"):
            batches([0, 1], **wrong)
    with pytest.raises(KitError, match=r"\(2,\) and \(3,\)"):
        batches([0, 1], [0, 0, 0])
