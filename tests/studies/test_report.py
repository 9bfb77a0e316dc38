from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from reference.pages import loads

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.studies.exhibits import write_exhibits
from dkdmpl_kit.studies.report import write_report
from dkdmpl_kit.studies.results import collect_runs

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)
EMBEDDED = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
HOSTILE = '<script src="https://a/x.js"></script>"&'


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def add_run(
    out: Path,
    method: str,
    seed: int,
    *,
    name: str = "",
    final: dict | None = None,
    data: str = "abc123",
    statistics: dict | None = None,
    **settings,
) -> None:
    run = out / "runs" / (name or f"{method}-seed{seed}")
    seconds = {"extract": 30.0, "train": 60.0}
    settings = {"method": method, "seed": seed, "eps": 0.6, **settings}
    write(
        run / "config.json",
        {"settings": settings, "fingerprint": "f", "data_fingerprint": data},
    )
    if statistics:
        write(run / "data.json", {"statistics": statistics, "name": "market1501"})
    write(run / "environment.json", {"python": "3.11.7", "packages": {"torch": "2.14.1"}})
    write(
        run / "checkpoint.json",
        {
            "history": [
                {"epoch": 0, "mAP": 0.3, "n_clusters": 40, "ari": 0.1, "seconds": seconds},
                {"epoch": 1, "mAP": None, "n_clusters": 50, "ari": 0.25, "seconds": seconds},
            ]
        },
    )
    if final:
        write(run / "result.json", {"final": final})


@pytest.fixture
def out(tmp_path) -> Path:
    table = {
        "columns": [
            "method",
            "mAP",
            "rank1",
            "mINP",
            "ari",
            "n_clusters",
            "outlier_fraction",
        ],
        "rows": [
            ["untrained", 0.2, 0.4, 0.1, 0.012, 20, 0.3],
            [HOSTILE, 0.554, 1.0, None, float("nan"), 60, 0.0],
        ],
    }
    write(
        tmp_path / "05" / "metrics.json",
        {
            "notebook": "05_training",
            "table": table,
            "figures": ["figures/curves.png"],
            "metrics": {"mAP": 0.554, "images": 1152, "note": HOSTILE},
        },
    )
    write(
        tmp_path / "01" / "metrics.json",
        {"notebook": "01_data", "metrics": {"identities": 64}},
    )
    (tmp_path / "figures").mkdir()
    for name in ("a_contact_sheet", "curves"):
        (tmp_path / "figures" / f"{name}.png").write_bytes(PNG)
    write(
        tmp_path / "figures" / "curves.json",
        {"caption": f"Curves {HOSTILE}", "seed": 0, "settings": {"momentum": 0.1}},
    )
    add_run(tmp_path, "gkd", 0)
    add_run(
        tmp_path, "dkdmpl", 3, final={"mAP": 0.6, "rank1": 0.7, "n_clusters": 61, "ari": None}
    )
    write(
        tmp_path / "notebooks" / "notebooks.json",
        [
            {
                "name": "01_data",
                "seconds": 12.3,
                "parameters": {},
                "source": "",
                "error": None,
            },
            {
                "name": "05_training",
                "seconds": 1.0,
                "parameters": {},
                "source": "",
                "error": f"ValueError: {HOSTILE}",
            },
        ],
    )
    return tmp_path


@pytest.fixture
def page(out) -> str:
    path = write_report(out)
    assert path == out / "report.html"
    return path.read_text(encoding="utf-8")


def test_the_report_requests_nothing_and_escapes_what_it_was_given(page):
    assert loads(page) == []
    assert "<script" not in page
    # a cell, a metric, a caption and its alt text, an error
    assert page.count("&lt;script src=") == 5
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page


def test_the_table_of_results_is_in_percent_and_shows_what_was_not_measured_as_a_dash(page):
    assert (
        "<th>mAP %</th><th>Rank-1 %</th><th>mINP %</th><th>ARI "
        "%</th><th>clusters</th><th>outliers %</th>" in page
    )
    assert (
        "<td>untrained</td><td>20.0</td><td>40.0</td><td>10.0</td><td>1.2</td><td>20</td><td>30.0</td>"
        in page
    )
    assert "<td>55.4</td><td>100.0</td><td>–</td><td>–</td><td>60</td><td>0.0</td>" in page


def row(*cells: str) -> str:
    return "".join(f"<td>{cell}</td>" for cell in cells)


def test_runs_show_their_final_measures_or_else_each_quantity_as_it_was_last_measured(page):
    assert row("gkd-seed0", "2", "30.0", "–", "–", "25.0", "50", "–", "3") in page
    assert row("dkdmpl-seed3", "2", "60.0", "70.0", "–", "–", "61", "–", "3") in page
    assert "<th>seeds</th>" not in page


def test_several_seeds_give_mean_and_deviation_but_two_runs_of_one_seed_do_not(out):
    add_run(out, "dkdmpl", 4, final={"mAP": 0.5, "n_clusters": 61})
    page = write_report(out).read_text(encoding="utf-8")
    assert row("DKD-MPL", "2", "55.0 ± 7.1", "70.0", "–", "–", "61 ± 0", "–") in page
    assert "<th>seeds</th><th>mAP %</th>" in page
    add_run(out, "dkdmpl", 4, name="another", final={"mAP": 0.1})
    page = write_report(out).read_text(encoding="utf-8")
    assert "<th>seeds</th>" not in page
    assert "DKD-MPL with seed 4 was run twice" in page


def test_pictures_are_embedded_once_each_with_caption_and_origin_those_of_notebooks_first(
    page,
):
    assert page.count(EMBEDDED) == 2
    assert page.index("Curves &lt;script") < page.index("a contact sheet")
    assert "seed: 0</small>" in page


def test_executed_notebooks_are_linked_and_a_failed_one_says_why(page):
    assert 'href="notebooks/01_data.html"' in page
    assert 'href="notebooks/01_data.ipynb"' in page
    assert 'href="notebooks/05_training.failed.ipynb"' in page
    assert 'href="notebooks/05_training.html"' not in page
    assert "ValueError: &lt;script" in page


def test_provenance_lists_versions_fingerprint_and_every_seed(page):
    assert "<td>packages.torch</td><td>2.14.1</td>" in page
    assert "<td>data_fingerprint</td><td>abc123</td>" in page
    assert "<td>seed</td><td>3, 0</td>" in page
    assert "<td>method</td><td>dkdmpl, gkd</td>" in page


def test_the_same_results_give_the_same_page(out, page):
    assert write_report(out).read_text(encoding="utf-8") == page


def test_a_picture_that_a_notebook_names_but_nobody_wrote_is_said_to_be_missing(out):
    (out / "figures" / "curves.png").unlink()
    assert "Missing picture" in write_report(out).read_text(encoding="utf-8")


def two_seeds(out: Path, values: dict[str, tuple[float, float]], **more) -> None:
    """Two seeds of each method with these mAPs."""
    for method, pair in values.items():
        for seed, mean in enumerate(pair):
            add_run(
                out,
                method,
                seed,
                final={"mAP": mean, "rank1": 0.5, "ari": None},
                memory_update="instance",
                **more,
            )


def test_a_tree_of_grids_becomes_one_page_with_a_part_for_each_set_of_pictures(tmp_path):
    two_seeds(tmp_path / "one", {"cluster_contrast": (0.50, 0.60), "dkdmpl": (0.52, 0.66)})
    two_seeds(
        tmp_path / "deep" / "two", {"dkdmpl": (0.1, 0.3)}, data="xyz", difficulty="hard"
    )
    write(
        tmp_path / "one" / "grid-ablation.json",
        {
            "about": "why\n it was run",
            "cells": ["dkdmpl-seed0", "dkdmpl-seed1", "gkd-seed0", "skd-seed0"],
        },
    )
    write(
        tmp_path / "one" / "runs" / "gkd-seed0" / "cell.json",
        {"attempts": [{"error": f"died {HOSTILE}"}]},
    )
    write(tmp_path / "one" / "runs" / "dkdmpl-seed0" / "one_run.html", "<p>")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert loads(page) == []
    assert "<script" not in page
    hard, medium = page.split("<h3>rendered people, hard</h3>")[1].split(
        "<h3>rendered people, medium</h3>"
    )
    assert row("DKD-MPL", "2", "59.0 ± 9.9") in medium
    assert "cluster contrast" not in hard
    assert (
        row("cluster contrast", "2", "55.0 ± 7.1", "50.0 ± 0.0", "–", "–", "–", "–") in page
    )
    assert row("DKD-MPL", "2", "20.0 ± 14.1", "50.0 ± 0.0", "–", "–", "–", "–") in page
    # 2 and 6 points: mean 4, deviation 2.83, t(1) = 12.706
    assert (
        row(
            "DKD-MPL",
            "cluster contrast",
            "2",
            "+4.0 [-21.4, +29.4]",
            "+0.0 [+0.0, +0.0]",
            "–",
            "0: +2.0, 1: +6.0",
        )
        in page
    )
    assert "2 of 4 runs are done. why it was run" in page
    assert "gkd-seed0: died &lt;script" in page
    assert "skd-seed0: not run" in page
    assert '<a href="one/runs/dkdmpl-seed0/one_run.html">one/dkdmpl-seed0</a>' in page
    # bars and curves of both, differences of the first
    assert page.count("data:image/png") == 5
    assert "Published" not in page


def test_variants_are_rows_of_their_own_against_the_same_settings(tmp_path):
    two_seeds(tmp_path / "a", {"cluster_contrast": (0.5, 0.5), "dkdmpl": (0.6, 0.6)})
    two_seeds(
        tmp_path / "b",
        {"cluster_contrast": (0.7, 0.7), "dkdmpl": (0.6, 0.7)},
        centre_cameras=True,
    )
    page = write_report(tmp_path).read_text(encoding="utf-8")
    name = "cluster contrast, centre_cameras=True"
    assert row("DKD-MPL, centre_cameras=True", name, "2") in page
    assert "0: -10.0, 1: +0.0" in page
    assert row(name, "cluster contrast", "2", "+20.0 [+20.0, +20.0]") in page
    assert "(centre_cameras)" in page


MARKET = {"train": {"images": 12_936}, "query": {"images": 3_368}}


def test_published_figures_stand_apart_and_enter_no_mean(tmp_path):
    two_seeds(
        tmp_path, {"cluster_contrast": (0.7, 0.8)}, data="market1501", statistics=MARKET
    )
    for path in (tmp_path / "runs").glob("*/config.json"):
        record = json.loads(path.read_text())
        record["settings"] |= {"data": "market1501", "data_root": "/x/Market"}
        write(path, record)
    page = re.sub(r"base64,[^\"]*", "", write_report(tmp_path).read_text(encoding="utf-8"))
    ours, others = page.split('<div class="others">')
    assert (
        row(
            "Cluster Contrast, DBSCAN (its README)",
            "no labels",
            "82.1",
            "92.3",
            "results table of the Cluster Contrast repository",
        )
        in others
    )
    assert (
        row(
            "DKD-MPL (IEEE Trans. Multimedia 2024)",
            "no labels",
            "–",
            "–",
            "not available to us, and never guessed",
        )
        in others
    )
    assert "not measured by this kit" in others
    assert "Published by others on Market-1501" in others
    assert "82.1" not in ours
    assert "SpCL" not in ours
    assert row("cluster contrast", "2", "75.0 ± 7.1") in ours
    assert "82.1" not in others.split("</div></div>", 1)[1]
    records = write_exhibits(collect_runs(tmp_path), tmp_path / "published")
    assert "82.1" not in (tmp_path / "published" / "table.md").read_text()
    assert len(records) >= 4


def test_own_photographs_in_an_official_layout_get_no_published_figures_but_the_reason(
    tmp_path,
):
    add_run(
        tmp_path,
        "dkdmpl",
        0,
        final={"mAP": 0.3},
        statistics={"train": {"images": 800}, "query": {"images": 48}},
    )
    path = tmp_path / "runs" / "dkdmpl-seed0" / "config.json"
    record = json.loads(path.read_text())
    write(
        path,
        record
        | {"settings": record["settings"] | {"data": "market1501", "data_root": "/x/photos"}},
    )
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "are not that data set (800 pictures to train on" in page
    assert "SpCL" not in page
    assert "82.1" not in page


def test_publishing_writes_a_set_of_figures_for_each_set_of_pictures_and_no_folders_of_the_machine(
    tmp_path,
):
    two_seeds(
        tmp_path / "one",
        {"cluster_contrast": (0.5, 0.6), "dkdmpl": (0.52, 0.66)},
        out_dir="/secret/place",
    )
    alone = {
        path.name for path in write_exhibits(collect_runs(tmp_path), tmp_path / "published")
    }
    assert alone == {
        "records.json",
        "table.md",
        "result_bars.png",
        "training_curves.png",
        "paired_differences.png",
    }
    assert all(
        "/secret" not in path.read_text() for path in (tmp_path / "published").glob("*.json")
    )
    two_seeds(tmp_path / "two", {"dkdmpl": (0.1, 0.3)}, data="xyz", difficulty="hard")
    both = {path.name for path in write_exhibits(collect_runs(tmp_path), tmp_path / "both")}
    assert {
        "result_bars-rendered-people-medium.png",
        "result_bars-rendered-people-hard.png",
    } < both


def test_without_matplotlib_the_page_says_what_to_install_in_place_of_figures(tmp_path):
    two_seeds(tmp_path, {"cluster_contrast": (0.50, 0.60), "dkdmpl": (0.52, 0.66)})
    command = "import sys; sys.modules['matplotlib'] = None; from dkdmpl_kit.cli import main; sys.exit(main())"
    report = [sys.executable, "-c", command, "report", str(tmp_path)]
    assert subprocess.run(report).returncode == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Figures need the package matplotlib" in page
    assert "data:image/png" not in page
    assert "+4.0 [-21.4, +29.4]" in page
    refused = subprocess.run(
        [*report, "--publish", str(tmp_path / "out")], capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert not (tmp_path / "out").exists()
    assert "dkdmpl-kit[notebooks]" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_empty_folder_has_nothing_to_report(tmp_path):
    with pytest.raises(KitError, match="nothing to report"):
        write_report(tmp_path)
    with pytest.raises(KitError, match="nothing to report"):
        write_report(tmp_path / "missing")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    "broken",
    [
        "{not json",
        [1, 2],
        {"table": {"rows": []}},
        {"table": {"columns": ["a", "b"], "rows": [[1]]}},
    ],
)
def test_a_broken_record_is_named(out, broken):
    write(out / "05" / "metrics.json", broken)
    with pytest.raises(KitError, match="metrics.json"):
        write_report(out)


def test_a_broken_run_is_named_and_the_others_are_shown(out, tmp_path):
    write(out / "runs" / "gkd-seed0" / "config.json", "{broken\n")
    page = write_report(out).read_text(encoding="utf-8")
    assert "Left out" in page and "gkd-seed0/config.json is not valid JSON" in page
    alone = tmp_path / "alone"
    write(alone / "runs" / "gkd-seed0" / "config.json", "{broken\n")
    with pytest.raises(KitError, match="gkd-seed0/config.json"):
        write_report(alone)
