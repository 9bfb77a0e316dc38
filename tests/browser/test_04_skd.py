"""Notebook 04 in the lab: the loss lab on a picture, and by hand."""

from __future__ import annotations

NOTEBOOK = "04_skd"
TURNED = ["picture", "tau", "tau_t", "T", "lambda_g", "lambda_s", "divergence"]


def test_every_control_of_the_loss_lab_redraws_the_label(notebook):
    bench = notebook.bench("dkdmpl-losslab")
    bench.shot("losslab")
    assert bench.move_all(leave=("a picture", "by hand")) == dict.fromkeys(TURNED, True)


def test_probabilities_dragged_by_hand_reach_the_losses(notebook):
    bench = notebook.bench("dkdmpl-losslab")
    bench.press("by hand")
    notebook.until(lambda: bench.ask("len(one.case.views['q'])") == 4, 60, "the case by hand")
    changed = bench.move_all(leave=("a picture", "by hand"))
    assert changed["hard label"]
    assert all(changed[str(k)] for k in range(4))
    assert "picture" not in changed
    bench.press("a picture")
    bench.settled()
    assert bench.ask("one.controls['source'].value") == "a picture"
