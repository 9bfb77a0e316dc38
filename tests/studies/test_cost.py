"""The counted cost of a run: against FLOPs worked out by hand."""

from __future__ import annotations

import pytest

from dkdmpl_kit.experiment import preset
from dkdmpl_kit.studies.cost import cost_table, picture_flops, run_cost


def resnet50_flops(height, width):
    """2 x multiply-adds of ResNet-50's convolutions with last stride 1, from its
    published table of layers.
    """
    total, channels, h, w = (
        2 * 64 * 3 * 49 * (height // 2) * (width // 2),
        64,
        height // 4,
        width // 4,
    )
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
    assert both == 3 * forward - 2 * 64 * 3 * 49 * (height // 2) * (
        width // 2
    )  # no gradient for the pixels
    assert picture_flops("resnet50_ibn_a", height, width) == (
        forward,
        both,
    )  # norms have no products to count


def test_the_pictures_of_a_run_worked_by_hand():
    config = preset(
        "paper-market1501", height=64, width=32, epochs=3, iterations=5, evaluate_every=2
    )
    cost, (forward, both) = run_cost(config, (100, 10, 20)), picture_flops("resnet50", 64, 32)
    assert cost["trained"] == 3 * 5 * 256
    assert cost["extracted"] == 100 * (3 + 1) + (10 + 20) * (
        2 + 1
    )  # after epochs 2 and 3, and the last measure
    assert cost["flops"] == cost["trained"] * both + cost["extracted"] * forward


def test_the_table_has_a_row_for_each_preset_and_backbone():
    text = cost_table(("paper-market1501", "paper-msmt17"))
    rows = text.splitlines()[2:]
    assert [row.split("|")[2].strip() for row in rows] == ["resnet50", "resnet50_ibn_a"] * 2
    assert (
        "2,560,000" in rows[0]
        and "5,120,000" in rows[2]
        and text.splitlines()[0].count("|") == rows[0].count("|")
    )
