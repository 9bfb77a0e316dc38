"""Published figures: as the sources have them, DKD-MPL's place empty, and never beside
pictures that are not theirs.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dkdmpl_kit.studies.published import NAMES, STATISTICS, published_rows, why_not_comparable

FACTS = Path(__file__).resolve().parents[3] / "shared" / "facts.md"
COLUMNS = ("market1501", "dukemtmcreid", "msmt17", "veri776")


def statistics(train: int, query: int) -> dict:
    return {"train": {"images": train}, "query": {"images": query}}


def test_every_figure_is_that_of_the_list_of_facts():
    if not FACTS.is_file():
        pytest.skip("the list of facts does not lie beside this checkout")
    rows = re.findall(
        r"^\| (.+?) \| (\S+) \| (\S+) \| (\S+) \| (\S+) \| (.+?) "
        r"\|$",
        FACTS.read_text(),
        re.M,
    )
    facts = {
        (method, data): pair
        for method, *pairs, _ in rows
        for data, pair in zip(COLUMNS, pairs)
        if "/" in pair
    }
    kit = {
        (method, data): f"{mean:.1f}/{rank:.1f}"
        for data in COLUMNS
        for method, mean, rank, _ in published_rows(data)
        if mean is not None
    }
    assert len(kit) == 36 and kit == facts


def test_some_figures_and_their_sources():
    rows = {method: rest for method, *rest in published_rows("msmt17")}
    assert rows["Cluster Contrast, DBSCAN"] == [
        27.6,
        56.0,
        "results table of the Cluster Contrast repository",
    ]
    assert rows["PPLR, no camera (CVPR 2022)"] == [
        31.4,
        61.1,
        "results table of the CALR repository",
    ]
    assert "PPLR, no camera (CVPR 2022)" not in {
        method for method, *_ in published_rows("dukemtmcreid")
    }


@pytest.mark.parametrize("data", COLUMNS)
def test_dkd_mpl_has_an_empty_place_that_says_why(data):
    *_, (method, mean, rank, source) = published_rows(data)
    assert (
        method.startswith("DKD-MPL")
        and mean is None
        and rank is None
        and "not available" in source
    )
    assert all(source for *_, source in published_rows(data))


def test_only_the_published_numbers_of_pictures_make_a_folder_the_data_set():
    assert published_rows("synthetic") == published_rows("folder") == []
    assert why_not_comparable("market1501", statistics(12_936, 3_368)) is None
    assert "800" in why_not_comparable("market1501", statistics(800, 48))
    assert "12,936" in why_not_comparable("market1501", statistics(12_936, 3_367))
    assert "do not say" in why_not_comparable("veri776", None)
    assert "no published figures" in why_not_comparable("folder", statistics(12_936, 3_368))
    assert "V1" in why_not_comparable("msmt17_v2", statistics(32_621, 11_659))
    assert why_not_comparable("msmt17", statistics(32_621, 11_659)) is None
    assert set(NAMES) == set(COLUMNS) <= set(STATISTICS)
