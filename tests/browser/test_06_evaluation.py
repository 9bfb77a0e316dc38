"""Notebook 06 in the lab: the ranking browser."""

from __future__ import annotations

NOTEBOOK = "06_evaluation"


def test_every_control_of_the_ranking_browser_moves_its_pictures(notebook):
    bench = notebook.bench("dkdmpl-ranking")
    assert bench.move_all() == dict.fromkeys(
        ["order", "query", "where does it look?", "place"], True
    )
    assert bench.ask("one.order.value") != "as listed"
    assert bench.ask("bool(one.query == one.sequence[1])")
    bench.shot("ranking")
