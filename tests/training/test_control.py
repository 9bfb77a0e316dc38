"""Pausing, stopping and following a run from another thread."""

from __future__ import annotations

import threading

import pytest

from dkdmpl_kit.experiment import open_dataset, preset
from dkdmpl_kit.training import fit
from dkdmpl_kit.training.control import Progress, RunControl, RunStopped


def test_a_paused_loop_waits_and_goes_on_where_it_was():
    control, seen, third = RunControl(), [], threading.Event()

    def loop():
        for batch in control.between(iter("abcd"), 5, 4):
            seen.append(batch)
            if batch == "b":
                control.pause()
                third.set()

    thread = threading.Thread(target=loop)
    thread.start()
    assert third.wait(5)
    thread.join(0.2)
    assert thread.is_alive() and seen == ["a", "b"] and control.state == "paused"
    assert control.progress == Progress(5, 1, 4)
    control.resume()
    thread.join(5)
    assert (
        seen == list("abcd")
        and control.progress == Progress(5, None, 4)
        and control.state == "running"
    )


def test_stopping_wakes_a_paused_loop_and_drops_no_batch_before():
    control = RunControl()
    batches = control.between(iter("abc"), 0, 3)
    assert next(batches) == "a"
    control.pause()
    control.stop()
    with pytest.raises(RunStopped):
        next(batches)
    assert control.state == "stopped"


def test_a_watcher_hears_of_every_batch_and_of_the_waiting():
    heard = []
    control = RunControl(lambda: heard.append((control.progress.batch, control.waiting)))
    control.pause()
    threading.Timer(0.1, control.resume).start()
    assert list(control.between("ab", 0, 2)) == ["a", "b"]
    assert (
        heard == [(None, True), (0, False), (1, False), (None, False)] and not control.waiting
    )


def test_a_run_that_is_stopped_inside_an_epoch_resumes_to_the_uninterrupted_result(tmp_path):
    config = preset("smoke", out_dir=str(tmp_path / "cut"), epochs=2, iterations=3)
    dataset = open_dataset(config)
    whole = fit(config.replace(out_dir=str(tmp_path / "whole")), dataset, progress=False)
    control = RunControl()

    def after_first(record):  # the stop falls into the second epoch
        control.stop()

    with pytest.raises(RunStopped):
        fit(config, dataset, progress=False, on_epoch=after_first, control=control)
    resumed = fit(config, dataset, resume=True, progress=False, control=RunControl())
    drop = {"seconds", "peak_memory_mb"}
    assert [{k: v for k, v in r.items() if k not in drop} for r in resumed.history] == [
        {k: v for k, v in r.items() if k not in drop} for r in whole.history
    ]
