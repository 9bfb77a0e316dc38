"""Two runs or two trees side by side: what differs, and measures paired by seed where
that can be.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from reference.pages import loads

from dkdmpl_kit.cli import main
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.studies.comparison import Section, compare, comparison_page, comparison_text


def add_run(
    out: Path,
    method: str,
    seed: int,
    mean: float | None,
    *,
    data: str = "d",
    torch: str = "2.1",
    **settings,
) -> Path:
    run = out / "runs" / f"{method}-seed{seed}"
    run.mkdir(parents=True)
    settings = {
        "method": method,
        "seed": seed,
        "memory_update": "instance",
        "out_dir": str(out),
        **settings,
    }
    files = {
        "config": {"settings": settings, "fingerprint": "f", "data_fingerprint": data},
        "environment": {
            "threads": 1,
            "packages": {"torch": torch},
            "compute": {"tried": [seed]},
        },
        "result": {"final": {"mAP": mean, "rank1": 0.5, "n_clusters": 40 + seed}},
    }
    for name, value in files.items():
        (run / f"{name}.json").write_text(json.dumps(value))
    return run


def rows(section: Section) -> list[tuple]:
    return list(section.table.itertuples(index=False, name=None))


@pytest.fixture
def trees(tmp_path) -> tuple[Path, Path]:
    a = tmp_path / "a"
    b = tmp_path / "b"
    for seed, (one, two) in enumerate(((0.5, 0.54), (0.6, 0.66))):
        add_run(a, "dkdmpl", seed, one)
        add_run(b, "dkdmpl", seed, two, eps=0.5, torch="2.2", evaluate_every=7)
    add_run(a, "gkd", 0, 0.1)
    return a, b


def test_settings_and_environments_that_differ_are_listed_and_no_others(trees):
    settings, environment, _ = compare(*trees)
    assert rows(settings) == [
        ("eps", "0.6", "0.5"),
        ("method", "dkdmpl, gkd", "dkdmpl"),
        ("evaluate_every", "5", "7"),
    ]
    assert "No result depends on evaluate_every." in settings.sentence
    assert "3 differ" in settings.sentence
    assert rows(environment) == [("packages.torch", "2.1", "2.2")]


def test_measures_are_paired_by_method_and_seed_with_an_interval(trees):
    measures = compare(*trees)[2]
    # +4 and +6 points: mean 5, deviation 1.414, t(1) = 12.706
    assert rows(measures)[0] == ("DKD-MPL", "mAP %", 2, "55.0", "60.0", "+5.0 [-7.7, +17.7]")
    assert ("DKD-MPL", "clusters", 2, "40.5", "40.5", "+0.0 [+0.0, +0.0]") in rows(measures)
    assert {row[0] for row in rows(measures)} == {"DKD-MPL"}
    assert "2 pairs; without a partner: 1 in A, 0 in B" in measures.sentence
    assert "other pictures" not in measures.sentence


def test_two_single_runs_are_compared_whatever_they_are(tmp_path):
    one = add_run(tmp_path / "a", "gkd", 0, 0.5)
    two = add_run(tmp_path / "b", "skd", 3, None)
    measures = compare(one, two)[2]
    assert rows(measures) == [
        ("B − A", "Rank-1 %", 1, "50.0", "50.0", "+0.0"),
        ("B − A", "clusters", 1, "40.0", "43.0", "+3.0"),
    ]
    assert "no spread" in measures.sentence


def test_other_pictures_are_paired_but_said_to_be_other_pictures(tmp_path):
    for seed in (0, 1):
        add_run(tmp_path / "a", "gkd", seed, 0.5)
        add_run(tmp_path / "b", "gkd", seed, 0.4, data="e", difficulty="hard")
    settings, _, measures = compare(tmp_path / "a", tmp_path / "b")
    assert rows(settings)[0] == ("pictures (fingerprint)", "d", "e")
    assert rows(measures)[0][:5] == ("+ GKD", "mAP %", 2, "50.0", "40.0")
    assert "The pictures differ" in measures.sentence
    assert "hold different pictures" in measures.sentence


def test_trees_without_a_common_method_and_seed_say_so(tmp_path):
    for seed in (0, 1):
        add_run(tmp_path / "a", "gkd", seed, 0.5)
        add_run(tmp_path / "b", "skd", seed + 5, 0.5)
    measures = compare(tmp_path / "a", tmp_path / "b")[2]
    assert measures.table.empty
    assert "cannot be paired" in measures.sentence
    with pytest.raises(KitError, match="no runs at or below"):
        compare(tmp_path / "a", tmp_path / "nowhere")


def test_the_command_prints_the_tables_and_writes_a_page_that_requests_nothing(
    trees, tmp_path, capsys
):
    assert (
        main(
            [
                "report",
                "--compare",
                *map(str, trees),
                "--page",
                str(tmp_path / "compare.html"),
            ]
        )
        == 0
    )
    text = capsys.readouterr().out
    assert "| DKD-MPL | mAP % | 2 | 55.0 | 60.0 | +5.0 [-7.7, +17.7] |" in text
    assert "| eps | 0.6 | 0.5 |" in text
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert loads(page) == []
    assert "<td>packages.torch</td><td>2.1</td><td>2.2</td>" in page
    assert comparison_text(compare(*trees)) + "\n" in text
    assert (
        comparison_page(compare(*trees), *trees, tmp_path / "again.html").read_text(
            encoding="utf-8"
        )
        == page
    )
    assert main(["report"]) == 2
    assert "--compare" in capsys.readouterr().err


def test_a_damaged_run_is_left_out_by_name_and_a_folder_of_damaged_ones_is_refused(trees):
    a, b = trees
    (a / "runs" / "gkd-seed0" / "result.json").write_text("{")
    *sections, last = compare(a, b)
    assert last.heading == "Left out" and "gkd-seed0" in last.sentence
    assert [section.heading for section in sections][:2] == ["Settings", "Environment"]
    for run in (b / "runs").iterdir():
        (run / "result.json").write_text("{")
    with pytest.raises(KitError, match="result.json"):
        compare(a, b)
