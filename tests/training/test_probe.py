"""What the distillations add: measured before the step, and told in one sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dkdmpl_kit.losses import dkdmpl_loss
from dkdmpl_kit.training.outcome import tell_news
from dkdmpl_kit.training.probe import BATCHES, Probe, repeats_the_label
from dkdmpl_kit.training.truth import Monitor


def looked(teacher, batches=1):
    """A probe that saw `batches` batches of 6 pictures, 4 clusters, of one teacher."""
    draws = torch.Generator().manual_seed(3)
    probe = Probe()
    labels = torch.tensor([0, 0, 1, 1, 2, 3])
    for batch in range(batches):
        z = F.normalize(torch.randn(6, 8, generator=draws), dim=1).requires_grad_()
        memory = F.normalize(torch.randn(4, 8, generator=draws), dim=1)
        loss = dkdmpl_loss(
            z @ memory.T / 0.05, labels, teacher_logits=teacher, gkd_weight=0.5, skd_weight=0
        )
        probe.look(np.arange(6) + 6 * batch, z, labels, loss, teacher)
    return probe


def test_a_teacher_that_repeats_the_label_has_the_gradient_of_cluster_contrast():
    sure = F.one_hot(torch.tensor([0, 0, 1, 1, 2, 3])).float().clamp_min(1e-8).log()
    record = looked(sure).record() | {"epoch": 4}
    assert record["gkd_cosine"] == pytest.approx(1.0, abs=1e-4)
    assert record["gkd_norm_ratio"] == pytest.approx(1.0, abs=1e-3)
    assert record["teacher_entropy"] == pytest.approx(0.0, abs=1e-5)
    assert record["teacher_own_mass"] == pytest.approx(1.0, abs=1e-5)
    assert record["skd_cosine"] is None
    assert "adds nothing" in repeats_the_label(record)


def test_a_teacher_that_doubts_pulls_elsewhere():
    record = looked(torch.zeros(6, 4)).record() | {"epoch": 0}
    assert record["gkd_cosine"] < 0.9
    assert record["teacher_entropy"] == pytest.approx(np.log(4))
    assert record["teacher_own_mass"] == pytest.approx(0.25)
    assert repeats_the_label(record) is None


def test_the_cosine_is_that_of_the_two_gradients():
    """By hand at the logits: (q - e) and (q - 1_y), both times M / tau."""
    teacher = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 2])
    z = F.normalize(torch.randn(2, 5, generator=torch.Generator().manual_seed(1)), dim=1)
    memory = F.normalize(torch.randn(3, 5, generator=torch.Generator().manual_seed(2)), dim=1)
    q = (z @ memory.T / 0.05).softmax(1)
    by_label = ((q - F.one_hot(labels, 3)) @ memory).flatten()
    by_teacher = ((q - teacher.softmax(1)) @ memory).flatten()
    z.requires_grad_()
    loss = dkdmpl_loss(
        z @ memory.T / 0.05, labels, teacher_logits=teacher, gkd_weight=1.0, skd_weight=0
    )
    probe = Probe()
    probe.look(np.arange(2), z, labels, loss, teacher)
    expected = torch.cosine_similarity(by_label, by_teacher, dim=0)
    assert probe.record()["gkd_cosine"] == pytest.approx(float(expected), abs=1e-4)


def test_the_probe_looks_at_the_first_batches_and_keeps_what_truth_is_held_against(
    tiny_config, tiny_dataset
):
    probe = looked(torch.zeros(6, 4), batches=BATCHES + 3)
    assert np.concatenate(probe.seen).tolist() == list(range(6 * BATCHES))
    monitor = Monitor(tiny_config, tiny_dataset)
    labels = np.arange(len(monitor.pids)) % 4
    mass = monitor.teacher(probe, labels)
    assert 0 < mass["teacher_truth"] < 1
    assert mass["l1_gain"] is not None and mass["brier_gain"] > mass["l1_gain"]
    assert set(monitor.teacher(Probe(), labels).values()) == {None}


def test_news_are_told_once_when_they_begin(monkeypatch):
    told = []
    monkeypatch.setattr("dkdmpl_kit.training.outcome.tqdm.write", told.append)
    calm = {"epoch": 0, "percolation": None, "gkd_cosine": 0.5}
    repeats = {"epoch": 1, "gkd_cosine": 0.999, "teacher_own_mass": 0.99}
    grown = repeats | {"epoch": 2, "percolation": "The largest cluster holds 40%."}
    for record, before in ((calm, {}), (repeats, calm), (repeats, repeats), (grown, repeats)):
        tell_news(record, before)
    assert len(told) == 2
    assert told[0].startswith("epoch 1: The teacher adds nothing")
    assert told[1] == "epoch 2: The largest cluster holds 40%."
