"""Notebook 07 in the lab: the noise lens."""

from __future__ import annotations

NOTEBOOK = "07_label_noise"


def test_every_control_of_the_noise_lens_moves_its_pictures(notebook):
    bench = notebook.bench("dkdmpl-noiselens")
    bench.shot("noiselens")
    assert bench.move_all() == dict.fromkeys(
        ["split", "cameras", "factors", "agreement", "noise", "rate", "cause"], True
    )
    before = bench.settled()
    bench.press("other examples")
    assert bench.settled() != before or bench.ask("len(one.causes.pairs) <= one.per_page")
