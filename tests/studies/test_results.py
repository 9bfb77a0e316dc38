"""Runs as rows: what makes a variant, what it is compared with, and the arithmetic of
means and intervals.
"""

from __future__ import annotations

import json
import math

import pytest

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.studies.results import (
    Row,
    baseline_of,
    by_data,
    by_row,
    collect_runs,
    contradiction,
    differences,
    markdown_table,
    markdown_tables,
    paired_differences,
    rows_of,
    spread,
)


def record(
    method: str = "dkdmpl",
    seed: int = 0,
    mean: float | None = 0.5,
    *,
    data: str = "abc",
    **settings,
) -> dict:
    settings = {"method": method, "seed": seed, "memory_update": "instance", **settings}
    return {
        "run": f"{method}-seed{seed}",
        "settings": settings,
        "data_fingerprint": data,
        "history": [],
        "final": {"mAP": mean, "rank1": 0.9, "n_clusters": 7},
    }


def test_mean_deviation_and_interval_by_hand():
    found = spread([1, 2, 6])
    assert found.mean == 3
    assert found.deviation == pytest.approx(math.sqrt(7))
    # Student's t, 2 degrees of freedom
    assert found.interval == pytest.approx(4.302653 * math.sqrt(7 / 3), rel=1e-5)
    assert spread([1, 2]).interval == pytest.approx(12.7062 * 0.5, rel=1e-4)
    assert spread([5]).deviation is None
    assert spread([5]).interval is None
    with pytest.raises(KitError, match="no values"):
        spread([])


def test_a_setting_that_varies_makes_rows_of_its_own_named_by_what_is_unusual():
    records = [record(seed=s) for s in (0, 1)] + [
        record(seed=s, gkd_teacher="cluster", eps=0.4) for s in (0,)
    ]
    table = by_row(records)
    assert [row.label for row in table] == [
        "DKD-MPL",
        "DKD-MPL, eps=0.4, gkd_teacher=cluster",
    ]
    assert [list(runs) for runs in table.values()] == [[0, 1], [0]]


def test_in_a_tie_the_default_is_usual_and_settings_without_meaning_for_a_method_make_no_row():
    tie = [record(centre_cameras=True), record(centre_cameras=False)]
    assert rows_of(tie) == [Row("dkdmpl", (("centre_cameras", True),)), Row("dkdmpl")]
    plain = [
        record("cluster_contrast", seed, warmup_epochs=seed, gkd_weight=0.1 * seed)
        for seed in (1, 2)
    ]
    assert rows_of(plain) == [Row("cluster_contrast")] * 2
    elsewhere = [
        record(
            seed=s, out_dir=f"/{s}", run_name=str(s), data_root=f"/{s}", evaluate_every=1 + s
        )
        for s in (0, 1)
    ]
    assert rows_of(elsewhere) == [Row("dkdmpl")] * 2


def test_the_update_of_the_memory_is_a_row_of_cluster_contrast_and_a_variant_of_others():
    records = [
        record(method, memory_update=update)
        for method, update in (
            ("cluster_contrast", "instance"),
            ("cluster_contrast", "mean"),
            ("dkdmpl", "instance"),
            ("dkdmpl", "mean"),
            ("gkd", "instance"),
        )
    ]
    assert [row.label for row in by_row(records)] == [
        "cluster contrast",
        "cluster contrast, mean update",
        "+ GKD",
        "DKD-MPL",
        "DKD-MPL, memory_update=mean",
    ]


def test_a_row_is_compared_with_cluster_contrast_of_the_same_other_settings():
    centred = ("centre_cameras", True)
    table = dict.fromkeys(
        [Row("cluster_contrast"), Row("cluster_contrast", (centred,)), Row("untrained")], {}
    )
    assert baseline_of(Row("dkdmpl"), table) == Row("cluster_contrast")
    assert baseline_of(Row("dkdmpl", (centred,)), table) == Row(
        "cluster_contrast", (centred,)
    )
    assert baseline_of(Row("dkdmpl", (centred, ("gkd_weight", 1.0))), table) == Row(
        "cluster_contrast", (centred,)
    )
    assert baseline_of(Row("dkdmpl", (("eps", 0.4),)), table) == Row("cluster_contrast")
    assert baseline_of(Row("cluster_contrast", (centred,)), table) == Row("cluster_contrast")
    assert all(
        baseline_of(Row(m), table) is None
        for m in ("cluster_contrast", "untrained", "supervised")
    )
    assert baseline_of(Row("dkdmpl"), {Row("dkdmpl"): {}}) is None


def test_differences_are_paired_by_seed_and_skip_what_was_not_measured():
    runs = {
        0: record(mean=0.5),
        1: record(seed=1, mean=0.9),
        2: record(seed=2, mean=None),
        4: record(seed=4),
    }
    base = {
        1: record("cluster_contrast", 1, 0.7),
        2: record("cluster_contrast", 2, 0.1),
        0: record("cluster_contrast", 0, 0.6),
    }
    assert differences(runs, base, "mAP") == {0: pytest.approx(-0.1), 1: pytest.approx(0.2)}
    assert paired_differences([*runs.values(), *base.values()]) == {
        "dkdmpl": {0: pytest.approx(-0.1), 1: pytest.approx(0.2)}
    }


def test_a_row_and_seed_that_was_run_twice_is_told_unless_the_results_agree():
    twice = [record() | {"where": "a/r"}, record() | {"where": "b/r"}]
    assert contradiction(twice) is None
    twice[1]["final"] = {"mAP": 0.4}
    assert "DKD-MPL with seed 0" in contradiction(twice)
    assert "a/r, b/r" in contradiction(twice)
    assert contradiction([record(), record(eps=0.3, mean=0.1)]) is None
    unfinished = record() | {"final": None}
    assert contradiction([record(), unfinished]) is None


def test_runs_on_other_pictures_never_share_a_table():
    records = [
        record(mean=0.2),
        record(seed=1, mean=0.4),
        record(mean=0.9, data="xyz", difficulty="hard"),
        record(mean=0.8, data="uvw", data_set="", difficulty="hard"),
    ]
    assert list(by_data(records)) == [
        "rendered people, medium",
        "rendered people, hard, xyz",
        "rendered people, hard, uvw",
    ]
    text = markdown_tables(records)
    assert text.count("| method |") == 3
    assert "| DKD-MPL | 2 | 30.0 ± 14.1 |" in text
    assert "| DKD-MPL | 1 | 90.0 |" in text
    assert markdown_tables(records[:2]) == markdown_table(records[:2])
    photos = record(data="market1501") | {
        "settings": record()["settings"] | {"data": "market1501", "data_root": "/x/photos"}
    }
    assert list(by_data([photos])) == ["market1501 (photos)"]


def test_runs_are_collected_from_any_depth_without_warm_ups_and_equal_untrained_rows(
    tmp_path,
):
    for where in (
        "a/runs/gkd-seed0",
        "a/deep/er/runs/gkd-seed1",
        "b/runs/warm-seed0",
        "a/data/runs/never",
    ):
        run = tmp_path / where
        run.mkdir(parents=True)
        (run / "config.json").write_text(
            json.dumps(
                {
                    "settings": {"method": "gkd", "seed": 0},
                    "fingerprint": "f",
                    "data_fingerprint": "d",
                }
            )
        )
        (run / "environment.json").write_text("{}")
    (tmp_path / "a" / "runs" / "gkd-seed0" / "data.json").write_text(
        '{"statistics": {"train": {"images": 3}}, "name": "x"}'
    )
    untrained = {
        "run": "untrained",
        "settings": {},
        "data_fingerprint": "d",
        "history": [],
        "final": {"mAP": 0.1},
    }
    for where, data in (
        ("a/untrained.json", "d"),
        ("b/untrained.json", "d"),
        ("b/untrained-2.json", "e"),
    ):
        (tmp_path / where).write_text(json.dumps(untrained | {"data_fingerprint": data}))
    found = collect_runs(tmp_path)
    assert [r.get("where", r["data_fingerprint"]) for r in found] == [
        "d",
        "e",
        "a/deep/er/runs/gkd-seed1",
        "a/runs/gkd-seed0",
    ]
    assert found[3]["statistics"] == {"train": {"images": 3}}
    assert "statistics" not in found[2]
    assert [r["run"] for r in collect_runs(tmp_path / "a" / "runs" / "gkd-seed0")] == [
        "gkd-seed0"
    ], "a run's own folder"
    assert collect_runs(tmp_path / "nowhere") == []
