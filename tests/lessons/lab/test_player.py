"""The epoch player: every control moved, and what it then shows."""

from __future__ import annotations

import numpy as np
import pytest
from run_folders import PIDS, add_epoch, flat_maps, small_run

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.lab import EpochPlayer
from dkdmpl_kit.lessons.replay import RunReplay


@pytest.fixture
def flat(monkeypatch):
    return flat_maps(monkeypatch)


def title(player):
    return player.figure.get_suptitle().replace("\n", " ")


def test_moving_the_slider_or_playing_shows_the_epoch_its_row_and_its_line(tmp_path, flat):
    player = EpochPlayer(small_run(tmp_path))
    assert player.epoch.max == player.play.max == 2
    assert title(player).startswith("Epoch 0: 3 clusters")
    player.epoch.value = 2
    player.check()
    assert (
        title(player)
        == "Epoch 2: 4 clusters, 0% outliers, ARI 1.00, mAP 50.0%"
        == player.status.value
    )
    assert "▶ 2" in player.table.value
    assert player.play.value == 2
    player.play.value = 1
    player.check()
    assert player.epoch.value == 1
    assert title(player).startswith("Epoch 1:")
    assert "▶ 1" in player.table.value


def test_a_frame_is_drawn_once_and_comes_back_the_same(tmp_path, flat, monkeypatch):
    drawn = []
    frame = RunReplay.frame
    monkeypatch.setattr(
        RunReplay, "frame", lambda replay, *args: drawn.append(args) or frame(replay, *args)
    )
    player = EpochPlayer(small_run(tmp_path))
    first = bytes(player.view.value)
    for epoch in (1, 0, 1, 0):
        player.epoch.value = epoch
    player.check()
    assert drawn == [(0, "chosen"), (1, "chosen")]
    assert bytes(player.view.value) == first
    assert flat == [("first", (24, 15)), ("next", (24, 15))]


def test_colour_number_and_choice_of_clusters_change_the_picture(tmp_path, flat):
    player = EpochPlayer(small_run(tmp_path), pids=PIDS, camids=np.zeros(24, int))
    assert [key for _, key in player.colour.options] == [
        "chosen",
        "error",
        "identity",
        "camera",
    ]
    player.colour.value = "error"
    player.check()
    labels = player.figure.axes[0].get_legend_handles_labels()[1]
    assert any(label.startswith("merged") for label in labels)
    player.colour.value = "chosen"
    player.top.value = 2
    player.check()
    letters = [text.get_text()[-1] for text in player.figure.axes[1].texts]
    assert player.replay.n_chosen == 2
    assert sorted(letters) == ["A", "B"]
    player.by.value = "size"
    player.check()
    assert player.replay.choice == (2, "size")


def test_refresh_takes_up_what_training_has_added_and_can_go_with_it(tmp_path, flat):
    add_epoch(tmp_path, 0, PIDS)
    player = EpochPlayer(tmp_path)
    add_epoch(tmp_path, 1, np.where(PIDS == 3, 2, PIDS))
    player.refresh_button.click()
    player.check()
    assert player.epoch.max == 1
    assert player.epoch.value == 0
    assert len(player.figure.axes[1].get_xticks()) > 1
    add_epoch(tmp_path, 2, PIDS)
    player.newest.value = True
    player.check()
    assert player.epoch.value == 2
    assert title(player).startswith("Epoch 2: 4 clusters")
    add_epoch(tmp_path, 3, PIDS)
    assert player.refresh()
    assert player.epoch.value == 3


def test_a_run_that_has_not_begun_is_waited_for_in_a_sentence(tmp_path, flat):
    player = EpochPlayer(tmp_path / "later")
    player.check()
    assert "There is no run folder" in player.status.value
    assert player.figure is None
    for control, value in ((player.top, 3), (player.by, "size"), (player.newest, True)):
        control.value = value
        player.check()
    small_run(tmp_path / "later")
    assert player.refresh()
    assert player.epoch.value == 2
    assert title(player).startswith("Epoch 2")


def test_labels_without_features_play_without_a_map(tmp_path):
    player = EpochPlayer(small_run(tmp_path, features=False))
    player.epoch.value = 1
    player.check()
    assert "kept no features" in player.figure.axes[0].texts[0].get_text().replace("\n", " ")
    assert player.figure.axes[1].patches
    assert "▶ 1" in player.table.value


@pytest.mark.parametrize(
    "labels, words",
    [(np.full(24, -1), "0 clusters, 100%"), (np.zeros(24, int), "1 cluster, 0%")],
)
def test_one_epoch_and_no_or_one_cluster_are_shown(tmp_path, flat, labels, words):
    add_epoch(tmp_path, 0, labels)
    player = EpochPlayer(tmp_path, pids=PIDS)
    player.check()
    assert words in title(player)
    assert player.epoch.max == 0
    player.colour.value = "error"
    player.check()


def test_an_epoch_of_other_pictures_is_an_error_that_is_seen_kept_and_raised(tmp_path, flat):
    player = EpochPlayer(small_run(tmp_path))
    before = bytes(player.view.value)
    add_epoch(tmp_path, 3, PIDS[:20])
    assert not player.refresh()
    assert bytes(player.view.value) == before
    assert "labels 20 pictures" in player.status.value
    with pytest.raises(KitError, match="labels 20 pictures"):
        player.check()


def test_a_callback_that_fails_fails_the_test_that_checks(tmp_path, flat, monkeypatch):
    player = EpochPlayer(small_run(tmp_path))
    monkeypatch.setattr(player.replay, "layout", lambda epoch: 1 / 0)
    player.epoch.value = 1
    with pytest.raises(ZeroDivisionError):
        player.check()


def test_a_long_run_keeps_only_so_many_frames(tmp_path, flat, monkeypatch):
    from dkdmpl_kit.lessons.lab import player as module

    monkeypatch.setattr(module, "KEPT_FRAMES", 2)
    player = EpochPlayer(small_run(tmp_path))
    for epoch in (1, 2):
        player.epoch.value = epoch
    assert list(player._frames) == [(1, "chosen"), (2, "chosen")]


def test_the_browser_finds_it_by_its_class(tmp_path):
    assert "dkdmpl-player" in EpochPlayer(tmp_path)._dom_classes


def test_it_says_its_task(tmp_path, flat):
    assert "Task: play the run" in EpochPlayer(small_run(tmp_path)).children[0].value
