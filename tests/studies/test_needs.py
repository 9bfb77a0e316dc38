"""What the real size needs: counted by hand, and told in one table."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dkdmpl_kit.data.pictures import MEMORY_MB
from dkdmpl_kit.experiment import preset
from dkdmpl_kit.models import build_encoder
from dkdmpl_kit.studies import needs as module
from dkdmpl_kit.studies.needs import free_memory_mb, needs, needs_table


@pytest.fixture
def as_large_as_msmt17(tiny_dataset):
    """The tiny data set's pictures, as many as MSMT17 has."""
    sizes = {"train": 32_621, "query": 11_659, "gallery": 82_161}
    return replace(
        tiny_dataset,
        **{
            split: (getattr(tiny_dataset, split) * count)[:count]
            for split, count in sizes.items()
        },
    )


def rows(config, dataset, **more) -> dict:
    """{the beginning of its name: row}."""
    return {row.what[:24]: row for row in needs(config, dataset, **more)}


def test_pictures_features_and_the_optimiser_are_counted(as_large_as_msmt17, tiny_config):
    config = tiny_config.replace(height=192, width=96, epochs=3, keep_features=True)
    found = rows(config, as_large_as_msmt17)
    pixels = 3 * 192 * 96 * 32_621 / 2**20
    assert pixels < MEMORY_MB
    assert found["32,621 training pictures"].memory == pytest.approx(pixels)
    encoder = build_encoder(config.backbone, weights="random")
    weights = sum(p.numel() for p in encoder.parameters())
    assert found["encoder, gradients, opti"].memory == pytest.approx(16 * weights / 2**20)
    features = 2 * 3 * 32_621 * encoder.dim / 2**20
    assert found["checkpoints and epochs' "].disk > features
    ranking = found["features of 93,820 test "]
    assert ranking.memory > 4 * 93_820 * encoder.dim / 2**20
    together = found["at most together"]
    assert together.memory > pixels and together.seconds > 0
    assert together.seconds == pytest.approx(
        sum(row.seconds for name, row in found.items() if name != "at most together")
    )


def test_pictures_beyond_the_limit_lie_on_the_disk(as_large_as_msmt17, tiny_config):
    config = tiny_config.replace(height=256, width=128)
    found = rows(config, as_large_as_msmt17)["32,621 training pictures"]
    assert found.memory == 0 and found.disk == pytest.approx(3 * 256 * 128 * 32_621 / 2**20)


def test_a_batch_in_parts_needs_less_and_an_evaluation_less_still(tiny_dataset, tiny_config):
    config = tiny_config.replace(batch_clusters=16, batch_images=32)
    whole = needs(config, tiny_dataset)[-1].memory
    parts = needs(config.replace(accumulation=4, samples_per_bn=16), tiny_dataset)[-1].memory
    assert parts < whole
    assert needs(config, tiny_dataset, training=False)[-1].memory < whole


def test_what_a_step_keeps_is_what_autograd_keeps(tiny_config):
    """Against the tensors of a real step, on the CPU."""
    kept = {}

    def keep(tensor):
        if not isinstance(tensor, torch.nn.Parameter) and tensor.ndim == 4:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    encoder = build_encoder(tiny_config.backbone, weights="random").train()
    alive = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: alive.append(t) or keep(t), lambda t: t
    ):
        encoder(torch.rand(2, 3, tiny_config.height, tiny_config.width))
    assert module._sizes(tiny_config).kept == pytest.approx(sum(kept.values()) / 2, rel=0.05)


def test_the_table_says_what_this_machine_has_and_where_it_has_less(
    tiny_dataset, tiny_config, monkeypatch
):
    table = needs_table(tiny_config, tiny_dataset)
    lines = table.splitlines()
    assert lines[0].split()[-3:] == ["memory", "disk", "time"]
    assert lines[-2].startswith("at most together")
    assert lines[-1].startswith("this machine has free")
    monkeypatch.setattr(module, "free_memory_mb", lambda: 10.0)
    short = needs_table(tiny_config, tiny_dataset)
    assert short.splitlines()[-1].startswith("TOO LITTLE MEMORY here: raise accumulation")


def test_the_free_memory_is_that_of_the_container_where_it_is_less(monkeypatch):
    monkeypatch.setattr(module, "_available_mb", lambda: 8000.0)
    monkeypatch.setattr(module, "_container_mb", lambda: 500.0)
    assert free_memory_mb() == 500
    monkeypatch.setattr(module, "_container_mb", lambda: None)
    assert free_memory_mb() == 8000


def test_paper_presets_are_told_without_their_weights_or_pictures_of_that_size(tiny_dataset):
    config = preset("paper-msmt17", device="cpu", height=64, width=32)
    found = rows(config, tiny_dataset)
    assert found["20,000 steps of 256 pict"].memory > 0
