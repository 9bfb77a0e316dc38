"""The bench of notebook 09: what papers need, what a louder loss adds, and what is shown."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import t

from dkdmpl_kit.experiment import METHODS, preset
from dkdmpl_kit.lessons import neighbours as lesson
from dkdmpl_kit.losses.rivals import NEEDS
from dkdmpl_kit.studies.results import published


def test_needs_and_passes_are_those_of_the_papers():
    config = preset("smoke")
    assert set(lesson.IDEAS) == {"cluster_contrast", "dkdmpl", *NEEDS} <= set(METHODS)
    passes = {method: lesson.passes_of(method, config) for method in lesson.IDEAS}
    assert passes == {
        "cluster_contrast": 1,
        "label_smoothing": 1,
        "mmt": 2,
        "rlcc": 1,
        "hdcpd": 2,
        "ice": 3,
        "spcl": 1,
        "dkdmpl": 1,
    }
    assert lesson.passes_of("dkdmpl", config.replace(skd_anchor="ema")) == 2
    assert lesson.needs_of("rlcc", config) == ["last clustering"]
    assert "slow copy" in lesson.needs_of("ice", config)
    assert lesson.needs_of("label_smoothing", config) == []
    lines = lesson.ideas_table(config).splitlines()
    assert len(lines) == 2 + len(lesson.IDEAS)
    assert {line.count("|") for line in lines} == {7}


def test_the_part_across_of_a_gradient_by_hand():
    base = torch.tensor([[2.0, 0.0]])
    assert lesson.part_across(base, base) == pytest.approx((1, 1, 0))
    assert lesson.part_across(torch.tensor([[0.0, 3.0]]), base) == pytest.approx(
        (1.5, 0, 1.5)
    )
    more = torch.tensor([[1.6 * 0.6, -1.6 * 0.8]])  # length 0.8, cosine 0.6
    assert lesson.part_across(more, base) == pytest.approx((0.8, 0.6, 0.64))
    length, cosine, across = lesson.part_across(0 * base, base)
    assert (length, across) == (0, 0) and math.isnan(cosine)


def test_what_a_label_does_is_told_apart_for_right_and_wrong_hard_labels():
    label = torch.tensor([[0.7, 0.3], [0.4, 0.6], [0.5, 0.5]], dtype=torch.float64)
    y, y_star = torch.tensor([0, 0, 1]), torch.tensor([0, 1, -1])
    row = lesson.labels_table({"soft": label}, y, y_star)["soft"]
    assert row["on the hard label"] == pytest.approx((0.7 + 0.4 + 0.5) / 3)
    assert row["on the truth, label right"] == pytest.approx(0.7)
    assert row["on the truth, label wrong"] == pytest.approx(0.6)
    assert row["names another"] == 2
    assert row["entropy (nats)"] == pytest.approx(
        -np.mean([(p * np.log(p)).sum() for p in label.numpy()])
    )
    unknown = lesson.labels_table({"soft": label}, y, torch.full((3,), -1))["soft"]
    assert (
        unknown["on the truth, label right"] is unknown["on the truth, label wrong"] is None
    )
    assert lesson.example_row({"soft": label}, y, y_star) == 1, "the wrong one"
    assert lesson.example_row({"soft": label}, y, torch.full((3,), -1)) == 1
    assert lesson.example_row({"soft": label}, torch.tensor([1, 1, 1]), -y_star.abs()) == 0


def test_adam_moves_a_weight_alike_for_a_louder_gradient():
    gradient = torch.tensor([[1.0, -2.0, 0.5]])
    once = lesson.adams_move(gradient)
    torch.testing.assert_close(once, -0.01 * gradient.sign(), atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(lesson.adams_move(2 * gradient), once, atol=1e-7, rtol=1e-4)


def test_half_width_is_students_and_grows_with_the_number_of_comparisons():
    values = [1.0, 2.0, 4.0]
    expected = t.ppf(0.975, 2) * np.std(values, ddof=1) / np.sqrt(3)
    assert lesson.half_width(values) == pytest.approx(expected)
    assert lesson.half_width(values, 0.05 / 9) > 2 * expected


def test_costs_are_medians_in_units_of_cluster_contrast_by_number_of_passes():
    def record(method: str, seconds: list[float]) -> dict:
        settings = {"method": method, "seed": 0, "memory_update": "instance"}
        history = [{"seconds": {"train": s - 0.5, "load": 0.5}} for s in seconds]
        return {
            "run": f"{method}-seed0",
            "settings": settings,
            "history": history,
            "final": {"mAP": 0.5},
        }

    records = [record("cluster_contrast", [2, 2, 9]), record("mmt", [3, 3, 3])]
    assert lesson.costs(records, preset("smoke")) == {1: [1.0], 2: [1.5]}
    assert lesson.costs([], preset("smoke")) == {}


def test_the_published_records_are_those_of_this_checkout(capsys):
    found = {record["settings"]["method"] for record in published("rivals")}
    assert found >= set(lesson.IDEAS)
    assert {"method", "kind"} <= set(published("robustness")[0])
    assert capsys.readouterr().out == ""
    assert published("nothing") == []
    assert "`make nothing` makes it" in capsys.readouterr().out


@pytest.fixture(scope="module")
def bench(tiny_config, tmp_path_factory):
    from dkdmpl_kit.lessons.stage import Stage

    stage = Stage(
        "test",
        preset_name="smoke",
        seed=0,
        device="cpu",
        data="synthetic",
        data_root=tiny_config.data_root,
        pattern="",
        out_dir=str(tmp_path_factory.mktemp("bench")),
        settings="",
    )
    return lesson.bench(stage)


def test_the_bench_holds_one_batch_in_64_bit_numbers_and_gradients_that_turn_features(bench):
    batch, clusters = len(bench.y), bench.memory.n_clusters
    assert (
        bench.logits.shape == bench.carried.shape == bench.teacher.shape == (batch, clusters)
    )
    assert bench.vote.shape == (batch, clusters)
    for x in (bench.z, bench.ema_z, bench.plain_z, bench.logits, bench.carried):
        assert x.dtype == torch.float64
    torch.testing.assert_close(bench.carried.sum(1), torch.ones(batch, dtype=torch.float64))
    for method in bench.methods:
        gradient = bench.by_features(method)
        torch.testing.assert_close(
            (gradient * bench.z).sum(1), torch.zeros_like(gradient[:, 0])
        )
    assert bench.by_logits("spcl") is None is bench.added_by_logits("spcl")
    assert bench.added_by_logits("louder") == 1
    assert bench.added_by_logits("ice") == 0 < bench.added_by_logits("mmt")
