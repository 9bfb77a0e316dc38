"""The presets beside Cluster Contrast's settings: nothing differs without a reason; and
the counted cost of a run, against FLOPs worked out by hand.
"""

from __future__ import annotations

import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import preset
from dkdmpl_kit.studies.recipe import (
    PAPER,
    SOURCE,
    cluster_contrast_settings,
    cost_table,
    picture_flops,
    recipe_rows,
    recipe_table,
    run_cost,
)


@pytest.mark.parametrize("name", PAPER)
def test_a_preset_differs_from_the_published_settings_in_what_has_a_reason_and_nothing_else(
    name,
):
    known = cluster_contrast_settings(name)
    differing = {
        setting: why
        for setting, theirs, ours, why in recipe_rows(name)
        if setting in known and theirs != ours
    }
    assert set(differing) == {"method", "precision", "seed"}
    assert "changed" not in differing.values()
    assert all(differing.values())


def test_differences_that_are_no_setting_are_told_with_both_sides_and_a_reason():
    beyond = [
        row
        for row in recipe_rows("paper-market1501")
        if row[0] not in cluster_contrast_settings("paper-market1501")
    ]
    assert {"resizing", "erased box", "reported epoch", "memory update"} <= {
        row[0] for row in beyond
    }
    assert all(theirs and ours and theirs != ours and why for _, theirs, ours, why in beyond)


def test_the_published_commands_change_iterations_and_sizes_for_the_large_sets():
    assert [cluster_contrast_settings(name)["iterations"] for name in PAPER] == [
        200,
        200,
        400,
        400,
    ]
    assert [
        (cluster_contrast_settings(name)["height"], cluster_contrast_settings(name)["width"])
        for name in PAPER
    ] == [(256, 128)] * 3 + [(224, 224)]


def test_a_setting_that_somebody_changed_shows_as_changed():
    rows = {
        row[0]: row
        for row in recipe_rows(
            "paper-msmt17", preset("paper-msmt17", eps=0.5, iterations=200)
        )
    }
    assert rows["eps"][1:] == ("0.6", "0.5", "changed")
    assert rows["iterations"][1:] == (
        "400",
        "200",
        "changed",
    )


def test_the_table_is_markdown_with_the_sampler_the_source_and_four_cells_a_row():
    text = recipe_table("paper-veri776", preset("paper-veri776", sampler="random"))
    assert "data veri776, sampler random" in text.splitlines()[0]
    assert text.endswith(SOURCE)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == len(recipe_rows("paper-veri776")) + 2
    assert all(row.count("|") == 5 for row in rows)
    assert "| weight_decay | 0.0005 | 0.0005 |" in text
    assert "| height | 224 | 224 |" in text


def test_other_presets_have_no_published_side():
    with pytest.raises(
        KitError, match="paper-market1501, paper-dukemtmcreid, paper-msmt17, paper-veri776"
    ):
        recipe_table("demo")


def resnet50_flops(height, width):
    """2 x multiply-adds of ResNet-50's convolutions with last stride 1, from its
    published table of layers.
    """
    total = 2 * 64 * 3 * 49 * (height // 2) * (width // 2)
    channels = 64
    h = height // 4
    w = width // 4
    for planes, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 1)):
        for block in range(blocks):
            step = stride if block == 0 else 1
            after = (h // step) * (w // step)
            total += 2 * (
                channels * planes * h * w
                + planes * planes * 9 * after
                + planes * 4 * planes * after
            )
            total += 2 * channels * 4 * planes * after if block == 0 else 0
            channels, h, w = 4 * planes, h // step, w // step
    return total


@pytest.mark.parametrize(("height", "width"), [(256, 128), (224, 224)])
def test_a_picture_costs_what_the_layers_of_resnet50_add_up_to(height, width):
    forward, both = picture_flops("resnet50", height, width)
    assert forward == resnet50_flops(height, width)
    # no gradient for the pixels
    assert both == 3 * forward - 2 * 64 * 3 * 49 * (height // 2) * (width // 2)
    # norms have no products to count
    assert picture_flops("resnet50_ibn_a", height, width) == (
        forward,
        both,
    )


def test_the_pictures_of_a_run_worked_by_hand():
    config = preset(
        "paper-market1501", height=64, width=32, epochs=3, iterations=5, evaluate_every=2
    )
    cost, (forward, both) = run_cost(config, (100, 10, 20)), picture_flops("resnet50", 64, 32)
    assert cost["trained"] == 3 * 5 * 256
    # after epochs 2 and 3, and the last measure
    assert cost["extracted"] == 100 * (3 + 1) + (10 + 20) * (2 + 1)
    assert cost["flops"] == cost["trained"] * both + cost["extracted"] * forward


def test_the_table_has_a_row_for_each_preset_and_backbone():
    text = cost_table(("paper-market1501", "paper-msmt17"))
    rows = text.splitlines()[2:]
    assert [row.split("|")[2].strip() for row in rows] == ["resnet50", "resnet50_ibn_a"] * 2
    assert "2,560,000" in rows[0]
    assert "5,120,000" in rows[2]
    assert text.splitlines()[0].count("|") == rows[0].count("|")
