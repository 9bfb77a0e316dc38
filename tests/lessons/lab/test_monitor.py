"""The training monitor around the real loop: paused, stopped and resumed, and what goes
wrong is heard of.
"""

from __future__ import annotations

import threading
import time
from functools import partial

import numpy as np
import pytest
import torch
from run_folders import PIDS, add_epoch, small_run

from dkdmpl_kit.data import ImageStore, arrays_of
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.lessons.lab import TrainingMonitor
from dkdmpl_kit.training import fit
from dkdmpl_kit.training.control import RunStopped

TIMED = ("seconds", "peak_memory_mb")


def until(condition, seconds=60):
    """Wait for another thread; fails where it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.01)


def untimed(history):
    return [{k: v for k, v in record.items() if k not in TIMED} for record in history]


@pytest.fixture
def config(tiny_config, tmp_path):
    return tiny_config.replace(out_dir=str(tmp_path), epochs=2, iterations=3, method="dkdmpl")


@pytest.fixture
def quick(config):
    """A monitor over a loop that writes epochs without training; `behaviour(epoch)` may
    raise.
    """

    def made(behaviour=lambda epoch: None, epochs=2, **options):
        def train(*, resume, on_epoch, control):
            assert resume
            for epoch in range(len(monitor.records), epochs):
                for _ in control.between(range(3), epoch, 3):
                    pass
                behaviour(epoch)
                add_epoch(config.run_dir, epoch, PIDS)
                on_epoch({"epoch": epoch})

        monitor = TrainingMonitor(train, config, **options)
        return monitor

    return made


def test_pause_stops_the_batches_and_stop_and_resume_reach_the_uninterrupted_records(
    config, tiny_dataset, tmp_path
):
    whole = fit(config.replace(out_dir=str(tmp_path / "whole")), tiny_dataset, progress=False)
    paths, pids, _ = arrays_of(tiny_dataset.train)
    store = ImageStore(paths, config.height, config.width, progress=False)
    heard = []

    def after_epoch(record):
        heard.append(record["epoch"])
        if len(heard) == 1:
            monitor.pause()  # so that the stop falls into the second epoch

    monitor = TrainingMonitor(
        partial(fit, config, tiny_dataset, progress=False),
        config,
        pids=pids,
        pictures=store,
        on_epoch=after_epoch,
    )
    assert monitor.phase == "not started"
    assert monitor.pause_button.disabled
    assert not monitor.start_button.disabled
    monitor.start_button.click()
    until(lambda: monitor.control.progress.batch is not None)
    monitor.pause_button.click()
    until(lambda: monitor.control.waiting)
    assert monitor.phase == "paused"
    assert not monitor.resume_button.disabled
    assert "· paused ·" in monitor.line.value
    at = monitor.control.progress
    assert not monitor.wait(0.4) and monitor.control.progress == at  # nothing moves
    monitor.resume_button.click()
    until(lambda: heard and monitor.control.waiting)
    monitor.stop_button.click()
    assert monitor.wait(60)
    assert monitor.phase == "stopped"
    assert monitor.error is None
    assert "stopped" in monitor.line.value
    monitor.resume_button.click()
    assert monitor.wait(60)
    assert monitor.phase == "finished"
    monitor.check()
    own = {"hard_accuracy", "teacher_mass"}
    assert untimed(
        [{k: v for k, v in r.items() if k not in own} for r in monitor.records]
    ) == untimed(whole.history)
    assert heard == [0, 1]
    assert own <= set(monitor.records[0])
    assert monitor.curves.figure.axes[0].lines[0].get_ydata().tolist() == [
        r["loss"] for r in whole.history
    ]
    assert monitor.curves.figure.axes[3].lines[1].get_ydata()[0] == len(np.unique(pids))
    assert monitor.hardest.figure.get_suptitle().startswith("The hardest pictures of epoch 1")


def test_the_notebook_stays_free_and_the_line_follows_the_batches(quick):
    gate, reached = threading.Event(), threading.Event()
    monitor = quick(lambda epoch: (reached.set(), gate.wait(30)))
    monitor.start()
    assert reached.wait(30)
    assert monitor.phase == "running"
    assert not monitor.wait(0)
    monitor._write_line()
    assert "running · epoch 1 (0 to 1), between batches" in monitor.line.value
    assert [
        monitor.start_button.disabled,
        monitor.pause_button.disabled,
        monitor.stop_button.disabled,
    ] == [True, False, False]
    gate.set()
    assert monitor.wait(30)
    monitor.check()
    assert "finished · 2 of 2 epochs done" in monitor.line.value
    assert all(
        getattr(monitor, f"{name}_button").disabled
        for name in ("start", "pause", "resume", "stop")
    )


def test_what_the_training_raises_is_shown_kept_and_raised_and_the_run_can_go_on(quick):
    trouble = [RuntimeError("no <memory>")]

    def second_fails(epoch):
        if epoch and trouble:
            raise trouble.pop()

    monitor = quick(second_fails)
    monitor.start_button.click()
    assert monitor.wait(30)
    assert monitor.phase == "failed"
    assert "no &lt;memory&gt;" in monitor.status.value
    assert len(monitor.records) == 1
    with pytest.raises(RuntimeError, match="no <memory>"):
        monitor.check()
    monitor.resume_button.click()
    assert monitor.wait(30)
    assert monitor.phase == "finished"
    assert len(monitor.records) == 2
    monitor.check()


def test_an_error_in_a_callback_stays_though_later_epochs_go_well_and_training_goes_on(quick):
    def first_fails(record):
        if record["epoch"] == 0:
            raise ValueError("callback")

    monitor = quick(on_epoch=first_fails)
    monitor.start()
    assert monitor.wait(30)
    assert monitor.phase == "finished"
    assert len(monitor.records) == 2
    with pytest.raises(ValueError, match="callback"):
        monitor.check()


def test_an_error_while_drawing_does_not_end_the_training(quick, monkeypatch):
    from dkdmpl_kit.lessons.lab import monitor as module

    monitor = quick()
    monkeypatch.setattr(module, "live_curves", lambda *args, **options: 1 / 0)
    monitor.start()
    assert monitor.wait(30)
    assert monitor.phase == "finished"
    with pytest.raises(ZeroDivisionError):
        monitor.check()


def test_a_loop_that_is_stopped_is_no_error_and_buttons_out_of_turn_do_nothing(quick):
    monitor = quick(lambda epoch: (_ for _ in ()).throw(RunStopped()))
    for name in ("pause", "stop"):
        getattr(monitor, f"{name}_button").click()
        monitor.check()
    assert monitor.phase == "not started"
    monitor.start_button.click()
    assert monitor.wait(30)
    assert monitor.phase == "stopped"
    monitor.check()
    monitor.start_button.click()
    assert monitor.wait(30)


def test_a_finished_run_is_shown_at_once(config):
    small_run(config.run_dir)
    monitor = TrainingMonitor(lambda **how: None, config, pids=PIDS, pictures=Pictures())
    monitor.check()
    assert [record["epoch"] for record in monitor.records] == [0, 1, 2]
    assert monitor.records[2]["hard_accuracy"] == 1
    assert monitor.curves.figure.axes[5].lines[0].get_ydata()[-1] < 0
    marks = [text.get_text() for text in monitor.hardest.figure.axes[0].texts]
    assert "✓" in marks
    assert "✗" not in marks


class Pictures:
    def batch(self, indices):
        return np.zeros((len(indices), 3, 8, 4), np.uint8)


def test_unknown_identities_and_runs_without_features_are_said(config):
    small_run(config.run_dir, features=False)
    monitor = TrainingMonitor(lambda **how: None, config, pids=PIDS, pictures=Pictures())
    monitor.check()
    assert "keeps no features" in monitor.status.value
    assert monitor.hardest.figure is None
    assert "keeps no features" in text_of(monitor.curves.figure.axes[5])
    blind = TrainingMonitor(
        lambda **how: None, config, pids=np.full(24, -1), pictures=Pictures()
    )
    assert "not known" in text_of(blind.curves.figure.axes[5])
    assert "hard_accuracy" not in blind.records[0]


def text_of(axes):
    return axes.texts[0].get_text().replace("\n", " ")


def test_before_the_first_epoch_the_panels_say_so_and_a_damaged_history_is_an_error(config):
    monitor = TrainingMonitor(lambda **how: None, config)
    assert all("No epoch is done yet" in text_of(ax) for ax in monitor.curves.figure.axes)
    assert monitor.wait(0)
    assert "not started · 0 of 2 epochs done" in monitor.line.value
    assert "dkdmpl-monitor" in monitor._dom_classes
    config.run_dir.mkdir(parents=True)
    (config.run_dir / "history.jsonl").write_text("{")
    with pytest.raises(KitError, match="history.jsonl"):
        TrainingMonitor(lambda **how: None, config).check()


def test_the_thread_computes_with_as_many_threads_as_the_notebook(config):
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(before + 1)
    try:
        monitor = TrainingMonitor(lambda **_: seen.append(torch.get_num_threads()), config)
        monitor.start_button.click()
        assert monitor.wait(30)
    finally:
        torch.set_num_threads(before)
    assert seen == [before + 1]
