"""Views in batches as training draws them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dkdmpl_kit.lessons.batch_views import batch_views
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.lessons.views import lesson_batches


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    return Stage(
        "07_label_noise",
        preset_name="smoke",
        seed=0,
        device="cpu",
        data="synthetic",
        data_root="",
        pattern="",
        out_dir=str(tmp_path_factory.mktemp("views")),
        settings="n_train_ids=6 n_test_ids=2",
    )


def test_views_come_from_mixed_batches_and_leave_the_encoder_alone(stage, monkeypatch):
    drawn = []

    def recorded(*args):
        for batch in lesson_batches(*args):
            drawn.append(batch)
            yield batch

    monkeypatch.setattr("dkdmpl_kit.lessons.batch_views.lesson_batches", recorded)
    features, encoder = stage.features(), stage.encoder().eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    labels = np.unique(stage.pids, return_inverse=True)[1]
    labels[:2] = -1
    found = batch_views(stage, encoder, features, labels)
    clusters = [len(np.unique(labels[batch])) for batch in drawn]
    assert min(clusters) == stage.config.batch_clusters
    np.testing.assert_array_equal(found.images, np.unique(np.concatenate(drawn)))
    assert (labels[found.images] >= 0).all()
    assert len(found.images) > 0.8 * (labels >= 0).sum()
    for view in (found.q, found.a):
        assert view.shape == (len(found.images), 6)
        assert view.dtype == torch.float64
        torch.testing.assert_close(view.sum(1), torch.ones(len(view), dtype=torch.float64))
    assert not encoder.training
    after = encoder.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    again = batch_views(stage, encoder, features, labels)
    assert torch.equal(again.q, found.q)


def test_an_anchor_is_the_query_view_of_a_mate(stage):
    features = stage.features()
    labels = np.unique(stage.pids, return_inverse=True)[1]
    found = batch_views(stage, stage.encoder(), features, labels, looks=1)
    distances = torch.cdist(found.a, found.q)
    mates = distances.argmin(1).numpy()
    near = distances.min(1).values.numpy() < 1e-9
    assert near.any()
    assert (labels[found.images[mates[near]]] == labels[found.images[near]]).all()
