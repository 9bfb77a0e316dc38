"""A run replayed: what is read, chosen, measured and written."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from run_folders import PIDS, add_epoch, features_of, flat_maps, small_run

from dkdmpl_kit.cli import main
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.replay import RunReplay, hardest, save_gif, teacher_line
from dkdmpl_kit.training.checkpoint import load_epoch, load_history


@pytest.fixture
def flat(monkeypatch):
    return flat_maps(monkeypatch)


def opened(run_dir, **options):
    replay = RunReplay(run_dir, **options)
    replay.refresh()
    return replay


def test_epochs_come_back_as_saved_with_rows_of_norm_one(tmp_path):
    small_run(tmp_path)
    labels, features = load_epoch(tmp_path / "epochs" / "epoch_001.npz")
    np.testing.assert_array_equal(labels, np.where(PIDS == 3, 2, PIDS))
    np.testing.assert_allclose(features, features_of(1), atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    assert load_epoch(tmp_path / "epochs" / "epoch_001.npz", with_features=False)[1] is None
    assert [record["epoch"] for record in load_history(tmp_path)] == [
        0,
        1,
        2,
    ]
    assert load_history(tmp_path / "none") == []


def test_damaged_files_are_one_sentence(tmp_path):
    small_run(tmp_path)
    (tmp_path / "epochs" / "epoch_001.npz").write_bytes(b"half")
    with pytest.raises(KitError, match="epoch_001.npz cannot be read"):
        RunReplay(tmp_path).refresh()
    (tmp_path / "history.jsonl").write_text("{")
    with pytest.raises(KitError, match="not one JSON record a line"):
        load_history(tmp_path)


def test_a_replay_reads_what_has_come_since(tmp_path, flat):
    add_epoch(tmp_path, 0, PIDS)
    replay = opened(tmp_path)
    assert len(replay) == 1
    assert replay.refresh() == 0
    assert replay.bands.shape == (1, 24)
    add_epoch(tmp_path, 1, PIDS)
    add_epoch(tmp_path, 2, PIDS)
    assert replay.refresh() == 2
    assert replay.bands.shape == (3, 24)
    assert len(replay.history) == 3


def test_each_map_is_made_once_from_the_one_before(tmp_path, flat):
    replay = opened(small_run(tmp_path))
    np.testing.assert_allclose(replay.layout(2), features_of(0)[:, :2] + (2, 0), atol=2e-3)
    replay.layout(1), replay.layout(2)
    assert flat == [("first", (24, 15)), ("next", (24, 15)), ("next", (24, 15))]


def test_many_pictures_are_thinned_in_the_map_alone_and_it_is_said(tmp_path, flat):
    replay = opened(small_run(tmp_path), pids=PIDS, max_points=10)
    assert replay.layout(0).shape == (10, 2)
    assert replay.bands.shape == (3, 24)
    assert "10 of 24 pictures" in replay.remark()
    assert opened(tmp_path).remark() == ""
    for colour in ("chosen", "error", "identity"):
        figure = replay.frame(1, colour)
        assert sum(len(c.get_offsets()) for c in figure.axes[0].collections) == 10


def test_colours_need_what_they_show(tmp_path, flat):
    small_run(tmp_path)
    assert opened(tmp_path, pids=np.full(24, -1)).colours == ["chosen"]
    replay = opened(tmp_path, pids=PIDS, camids=np.zeros(24, int))
    assert replay.colours == ["chosen", "error", "identity", "camera"]
    with pytest.raises(
        KitError, match="colour='camera' cannot be shown here; there are: chosen"
    ):
        opened(tmp_path).frame(0, "camera")
    with pytest.raises(KitError, match="no epoch 3"):
        replay.frame(3)


def test_the_title_and_the_table_hold_the_records(tmp_path):
    replay = opened(small_run(tmp_path))
    assert replay.title(0) == "Epoch 0: 3 clusters, 17% outliers, ARI 0.50"
    assert replay.title(1) == "Epoch 1: 3 clusters, 0% outliers, ARI 0.70, mAP 25.0%"
    rows = replay.table(2).split("<tr>")[2:]
    cells = [
        [c.split("<")[0] for c in row.replace("<b>", "").split('8px">')[1:]] for row in rows
    ]
    assert cells[0] == ["0", "3.000", "–", "0.500", "3", "16.7", "–", "–", "–", "–", "–"]
    assert cells[2] == ["▶ 2", "1.000", "50.0", "1.000", "4", "0.0", "1", "0", "6", "1", "0"]


def test_without_features_there_are_flows_and_records_but_no_map(tmp_path):
    replay = opened(small_run(tmp_path, features=False), pids=PIDS)
    assert replay.layout(0) is None
    assert replay.records(0.05) == replay.history
    assert "kept no" in replay.frame(0).axes[0].texts[0].get_text()
    assert replay.flows().axes[0].patches
    with pytest.raises(KitError, match="kept no features"):
        replay.strip()


def test_folders_that_hold_no_run_and_epochs_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(KitError, match="There is no run folder"):
        RunReplay(tmp_path / "none").refresh()
    with pytest.raises(KitError, match="No epoch of .* is done yet"):
        RunReplay(tmp_path).refresh()
    with pytest.raises(KitError, match="There is no epoch"):
        save_gif(RunReplay(tmp_path), tmp_path / "run.gif")
    add_epoch(tmp_path, 0, PIDS)
    with pytest.raises(KitError, match="labels 24 pictures, and pids 5"):
        RunReplay(tmp_path, pids=PIDS[:5]).refresh()
    replay = opened(tmp_path)
    add_epoch(tmp_path, 1, PIDS[:20])
    with pytest.raises(
        KitError, match="epoch_001 of .* labels 20 pictures, and the run's first epoch 24"
    ):
        replay.refresh()
    assert len(replay) == 1


def test_a_gif_has_every_epoch_the_ways_between_and_the_kits_colours(tmp_path, flat):
    replay = opened(small_run(tmp_path))
    with Image.open(save_gif(replay, tmp_path / "run.gif", between=2)) as gif:
        assert gif.n_frames == 3 + 2 * 2
        assert gif.size[0] == 600
        assert gif.info["loop"] == 0
        times = []
        for k in range(gif.n_frames):
            gif.seek(k)
            times.append(gif.info["duration"])
        colours = {colour for _, colour in gif.convert("RGB").getcolors(10**6)}
    assert times == [1000, 80, 80, 1000, 80, 80, 3000]
    for wanted in ((0, 114, 178), (230, 159, 0), (255, 255, 255)):  # blue, orange, white
        assert min(np.abs(np.subtract(wanted, colour)).max() for colour in colours) <= 2


def test_the_command_writes_a_gif_and_a_strip_and_refuses_what_it_cannot(
    tmp_path, flat, capsys
):
    run = small_run(tmp_path / "run")
    assert (
        main(["player", str(run), "--out", str(tmp_path / "a.gif"), str(tmp_path / "b.png")])
        == 0
    )
    assert (tmp_path / "a.gif").stat().st_size > 1000
    assert Image.open(tmp_path / "b.png").size[0] > 500
    for argv, words in (
        (["player", str(tmp_path / "no"), "--out", "a.gif"], "no run folder"),
        (["player", str(run), "--out", "a.jpg"], "a.jpg must end in"),
        (["player", str(run), "--top", "0", "--out", "a.gif"], "at least one"),
    ):
        assert main(argv) == 2
        assert words in capsys.readouterr().err


def test_the_teachers_line_by_hand():
    """Two clusters on two axes; the third picture lies on the other cluster's side, and
    its label is wrong.
    """
    v = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1]], np.float32)
    labels, pids = np.array([0, 0, 0, 1, 1]), np.array([5, 5, 6, 6, 6])
    tau, centre = 0.5, np.array([2, 1]) / np.sqrt(5)
    e = [1 / (1 + np.exp((x[1] - x @ centre) / tau)) for x in v]  # mass on cluster 0
    mass = np.mean([e[0], e[1], 1 - e[2], 1 - e[3], 1 - e[4]])
    found = teacher_line(labels, v, pids, tau)
    assert np.isclose(found["hard_accuracy"], 0.8)
    assert np.isclose(found["teacher_mass"], mass, atol=1e-6)
    assert teacher_line(np.zeros(5, int), v, pids, tau) == {}
    assert teacher_line(np.full(5, -1), v, pids, tau) == {}


def test_records_carry_the_teachers_line_where_everybody_is_known(tmp_path):
    records = opened(small_run(tmp_path), pids=PIDS).records(0.05)
    assert records[2]["hard_accuracy"] == 1
    assert 0.9 < records[2]["teacher_mass"] <= 1
    assert records[2]["ari"] == 1
    partly = np.where(np.arange(24) == 0, -1, PIDS)
    assert "hard_accuracy" not in opened(tmp_path, pids=partly).records(0.05)[2]


def test_the_hardest_pictures_lie_nearest_to_another_cluster():
    features = features_of(2)
    labels = PIDS.copy()
    labels[[3, 20]] = [2, -1]  # a wrong label, and an outlier
    worst, scores = hardest(labels, features, 5)
    assert worst[0] == 3
    assert scores[0] < 0
    assert 20 not in worst
    assert (np.diff(scores) >= 0).all()
    assert len(hardest(labels, features, 99)[0]) == 23
    assert len(hardest(np.full(24, -1), features, 5)[0]) == 0
