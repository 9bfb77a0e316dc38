"""Notebook 05 in the lab: the epoch player, and the monitor's buttons on a run that
trains meanwhile.
"""

from __future__ import annotations

NOTEBOOK = "05_training"
AT = "[one.control.progress.epoch, one.control.progress.batch, one.line.value]"


def test_every_control_of_the_epoch_player_changes_the_frame(notebook):
    player = notebook.bench("dkdmpl-player")
    changed = player.move_all()
    assert changed["epoch"]
    assert changed["colour by"]
    assert changed["clusters"]
    assert "go to the newest epoch" in changed
    player.shot("player")
    player.box.locator("input[type=checkbox]").uncheck()
    player.press("Refresh")
    player.box.locator("[role=slider]").first.press("Home")
    notebook.until(lambda: player.ask("one.epoch.value") == 0, 60, "the first epoch")
    player.settled()
    player.box.locator(".widget-play button").first.click()
    notebook.until(lambda: player.ask("one.epoch.value") > 0, 60, "the player to play")


def test_the_monitor_pauses_stops_and_resumes_the_real_loop_and_the_notebook_stays_responsive(
    notebook,
):
    monitor = notebook.bench("dkdmpl-monitor")
    monitor.press("Start")
    monitor.press("Pause")
    notebook.until(
        lambda: monitor.ask("one.phase == 'paused' and one.control.waiting"),
        60,
        "the loop to wait",
    )
    still = monitor.ask(AT)
    assert notebook.cell("print(6 * 7)") == "42"
    notebook.page.wait_for_timeout(1500)
    assert monitor.ask(AT) == still
    assert "paused" in still[2]
    assert "paused" in monitor.box.inner_text()
    monitor.press("Resume")
    notebook.until(lambda: monitor.ask(AT) != still, 60, "the next batch")
    assert notebook.cell("print(7 * 7)") == "49"  # while it trains
    monitor.press("Stop")
    notebook.until(lambda: monitor.ask("one.phase") == "stopped", 60, "the stop")
    kept = monitor.ask("len(one.records)")
    monitor.press("Resume")
    notebook.until(lambda: monitor.ask("one.phase") == "finished", 240, "the end of the run")
    assert monitor.ask("len(one.records)") == monitor.ask("one.config.epochs") > kept
    assert len(monitor.settled()[0]) == 2
    monitor.shot("monitor")
    live = notebook.bench("dkdmpl-player", 1)
    notebook.until(
        lambda: live.ask("one.epoch.value") == monitor.ask("one.config.epochs") - 1,
        60,
        "the player to follow",
    )
