"""What stands around the one picture of the lessons: soft labels for given hard ones, and
a batch that holds it.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dkdmpl_kit.clustering import PseudoLabels
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.lessons.views import (
    batch_with,
    follow,
    followed_sheet,
    more_teachers,
    soft_labels_of,
    student_views,
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    return Stage(
        "03_gkd",
        preset_name="smoke",
        seed=0,
        device="cpu",
        data="synthetic",
        data_root="",
        pattern="",
        out_dir=str(tmp_path_factory.mktemp("views")),
        settings="n_train_ids=6 n_test_ids=2 epochs=1 iterations=1",
    )


@pytest.mark.parametrize("teacher", ["vote", "neighbourhood"])
def test_soft_labels_are_the_clusterings_own_and_follow_labels_that_somebody_else_made(
    stage, teacher
):
    features = stage.features()
    own = stage.cluster(features, method="gkd", gkd_weight=0.5, gkd_teacher=teacher)
    found = soft_labels_of(stage, features, own.labels, teacher)
    np.testing.assert_allclose(found.toarray(), own.soft.toarray())
    halves = (np.arange(len(features)) % 2).astype(np.int64)
    other = soft_labels_of(stage, features, halves, teacher)
    assert other.shape == (len(features), 2)
    voted = np.diff(other.indptr) > 0
    np.testing.assert_allclose(other.toarray().sum(axis=1)[voted], 1.0)


def test_a_batch_holds_the_picture_and_is_one_that_training_could_draw(stage):
    labels = np.repeat(np.arange(6), len(stage.pids) // 6)
    labels[0] = -1
    for picture in (1, len(labels) - 1):
        batch = batch_with(picture, stage, labels, torch.Generator().manual_seed(0))
        assert picture in batch and 0 not in batch
        assert len(batch) == stage.config.batch_clusters * stage.config.batch_images
        again = batch_with(picture, stage, labels, torch.Generator().manual_seed(0))
        np.testing.assert_array_equal(batch, again)
    with pytest.raises(KitError, match="in none of"):
        batch_with(0, stage, labels, torch.Generator().manual_seed(0))


def test_the_students_views_are_augmented_pictures_and_another_draw_gives_others(stage):
    draws = torch.Generator().manual_seed(0)
    one, two = (student_views(stage, np.array([3, 4]), draws) for _ in range(2))
    assert one.shape == (2, 3, stage.config.height, stage.config.width)
    assert one.is_floating_point() and 0 <= one.min() and one.max() <= 1
    assert not torch.equal(one, two)


def test_the_followed_picture_is_the_running_example_and_its_second_cluster_the_true_one(
    stage,
):
    features = stage.features()
    labels = np.repeat(np.arange(6), len(stage.pids) // 6)  # each identity its cluster
    labels[0] = 1  # but one picture, which is wrong
    found = follow(stage, features, labels)
    wrong = np.flatnonzero((found.star != labels) & (found.star >= 0))
    assert wrong.tolist() == [0]
    knows = found.votes[[0]].toarray()[0, 0] > 0
    assert (found.index == 0) == knows
    assert found.hard == labels[found.index] != found.other
    assert (found.true == found.hard) == (found.index != 0)
    assert f"picture {found.index}" in found.sentence
    assert ("wrong" in found.sentence) == (found.index == 0)
    figure, said = followed_sheet(stage, found, labels)
    assert figure.axes
    assert f"Row 2 shows cluster {found.hard}, row 3 cluster {found.other}." in said
    mates = np.flatnonzero((labels == found.hard) & (np.arange(len(labels)) != found.index))[
        :8
    ]
    same = int((stage.pids[mates] == stage.pids[found.index]).sum())
    assert f"{same} of {len(mates)} in row 2" in said


def test_without_identities_the_sentence_says_so_and_nothing_is_framed(stage, monkeypatch):
    monkeypatch.setattr(stage, "pids", np.full(len(stage.pids), -1))
    labels = (np.arange(len(stage.pids)) % 3).astype(np.int64)
    found = follow(stage, stage.features(), labels)
    assert (found.true, found.star) == (-1, None)
    assert found.sentence.endswith("Its true cluster is not known.")
    assert "Green" not in followed_sheet(stage, found, labels)[1]


def test_more_teachers_are_probabilities_for_the_clustered_pictures(stage):
    features = stage.features()
    labels = np.repeat(np.arange(6), len(stage.pids) // 6)
    labels[:2] = -1
    pseudo = PseudoLabels(labels, 6, 2 / len(labels))
    teachers = more_teachers(stage, features, pseudo, 0.05)
    assert list(teachers) == ["cluster", "consensus", "neighbourhood"]
    for e in teachers.values():
        assert e.shape == (len(labels) - 2, 6)
        torch.testing.assert_close(e.sum(1), torch.ones(len(e)), check_dtype=False)
    assert (teachers["cluster"].argmax(1).numpy() == labels[2:]).all()
