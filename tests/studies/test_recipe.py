"""The presets beside the published recipe: nothing differs without a reason, and the
table says what it compares.
"""

from __future__ import annotations

import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import preset
from dkdmpl_kit.studies.recipe import PAPER, SOURCE, published, recipe_rows, recipe_table


@pytest.mark.parametrize("name", PAPER)
def test_a_preset_differs_from_the_published_settings_in_what_has_a_reason_and_nothing_else(
    name,
):
    known = published(name)
    differing = {
        setting: why
        for setting, theirs, ours, why in recipe_rows(name)
        if setting in known and theirs != ours
    }
    assert set(differing) == {"method", "precision", "seed"}
    assert "changed" not in differing.values() and all(differing.values())


def test_differences_that_are_no_setting_are_told_with_both_sides_and_a_reason():
    beyond = [
        row
        for row in recipe_rows("paper-market1501")
        if row[0] not in published("paper-market1501")
    ]
    assert {"resizing", "erased box", "reported epoch", "memory update"} <= {
        row[0] for row in beyond
    }
    assert all(theirs and ours and theirs != ours and why for _, theirs, ours, why in beyond)


def test_the_published_commands_change_iterations_and_sizes_for_the_large_sets():
    assert [published(name)["iterations"] for name in PAPER] == [200, 200, 400, 400]
    assert [(published(name)["height"], published(name)["width"]) for name in PAPER] == [
        (256, 128)
    ] * 3 + [(224, 224)]


def test_a_setting_that_somebody_changed_shows_as_changed():
    rows = {
        row[0]: row
        for row in recipe_rows(
            "paper-msmt17", preset("paper-msmt17", eps=0.5, iterations=200)
        )
    }
    assert rows["eps"][1:] == ("0.6", "0.5", "changed") and rows["iterations"][1:] == (
        "400",
        "200",
        "changed",
    )


def test_the_table_is_markdown_with_the_sampler_the_source_and_four_cells_a_row():
    text = recipe_table("paper-veri776", preset("paper-veri776", sampler="random"))
    assert "data veri776, sampler random" in text.splitlines()[0] and text.endswith(SOURCE)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == len(recipe_rows("paper-veri776")) + 2 and all(
        row.count("|") == 5 for row in rows
    )
    assert "| weight_decay | 0.0005 | 0.0005 |" in text and "| height | 224 | 224 |" in text


def test_other_presets_have_no_published_side():
    with pytest.raises(
        KitError, match="paper-market1501, paper-dukemtmcreid, paper-msmt17, paper-veri776"
    ):
        recipe_table("demo")
