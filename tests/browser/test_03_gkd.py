"""Notebook 03 in the lab: the loss lab without anchors."""

from __future__ import annotations

NOTEBOOK = "03_gkd"
TURNED = ["picture", "tau", "tau_t", "T", "lambda_g"]


def test_every_control_of_the_loss_lab_moves_and_without_anchors_none_of_skd_is_offered(
    notebook,
):
    bench = notebook.bench("dkdmpl-losslab")
    assert bench.move_all(leave=("a picture", "by hand")) == dict.fromkeys(TURNED, True)
