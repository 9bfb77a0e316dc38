"""Results that others published: as the list of facts has them, DKD-MPL's place empty,
and never beside pictures that are not theirs.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from dkdmpl_kit.data.checking import OFFICIAL_COUNTS
from dkdmpl_kit.studies.literature import COLUMNS, DATA_SETS, published_on, why_not_comparable

FACTS = Path(__file__).resolve().parents[3] / "shared" / "facts.md"
HEADS = {
    "Market": "market1501",
    "MSMT17": "msmt17",
    "VeRi": "veri776",
    "Duke": "dukemtmcreid",
}
UNCHECKED = "check before printing"  # the list's own note: a picture that nobody has checked


def results(data: str) -> dict[str, str]:
    """{method: "mAP/Rank-1", or "mAP" alone} of the kit's table."""
    method, _, mean, rank, _ = COLUMNS
    table = published_on(data).dropna(subset=[mean])
    table[rank] = table[rank].map("/{}".format, na_action="ignore").fillna("")
    return dict(zip(table[method], table[mean] + table[rank]))


def facts() -> pd.DataFrame:
    """The list's table of published results: methods by the names of its columns."""
    section = FACTS.read_text().split("## Published results")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    head, _, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    table = pd.DataFrame(body, columns=head)
    groups = table["method"].str.startswith("*")
    table = table[~groups].set_index("method")
    return table.rename(index=lambda method: method.removesuffix(", mAP"))


def test_every_result_is_that_of_the_list_of_facts_and_none_is_left_out():
    if not FACTS.is_file():
        pytest.skip("the list of facts does not lie beside this checkout")
    listed = facts()
    unchecked = listed["source"].str.contains(UNCHECKED)
    assert list(listed.index[unchecked]) == ["CALR, IBN + GeM (2024)"]
    for head, data in HEADS.items():
        known = listed.loc[~unchecked, head]
        assert results(data) == known[known != "-"].to_dict()


def test_some_results_and_their_sources():
    table = published_on("msmt17").set_index("published method")
    baseline = table.loc["Cluster Contrast, DBSCAN (its README)"]
    assert list(baseline) == [
        "no labels",
        "27.6",
        "56.0",
        "results table of the Cluster Contrast repository",
    ]
    assert table.loc["3C, DBSCAN (2024)", "mAP in percent"] == "47.4"
    assert pd.isna(
        table.loc["CA-Jaccard on Cluster Contrast (CVPR 2024)", "Rank-1 in percent"]
    )
    assert "PPLR (CVPR 2022)" in table.index
    assert "PPLR (CVPR 2022)" not in set(published_on("dukemtmcreid")["published method"])


@pytest.mark.parametrize("data", DATA_SETS)
def test_dkd_mpl_has_an_empty_place_that_says_why(data):
    table = published_on(data)
    last = table.iloc[-1]
    assert last["published method"].startswith("DKD-MPL")
    assert last[["mAP in percent", "Rank-1 in percent"]].isna().all()
    assert "not available" in last["source"]
    assert table[["setting", "source"]].notna().all(axis=None)


def statistics(train: int, query: int) -> dict:
    return {"train": {"images": train}, "query": {"images": query}}


def test_only_the_official_numbers_of_pictures_make_a_folder_the_data_set():
    assert published_on("synthetic").empty
    assert published_on("folder").empty
    assert why_not_comparable("market1501", statistics(12_936, 3_368)) is None
    assert "800" in why_not_comparable("market1501", statistics(800, 48))
    assert "12,936" in why_not_comparable("market1501", statistics(12_936, 3_367))
    assert "do not say" in why_not_comparable("veri776", None)
    assert "no published figures" in why_not_comparable("folder", statistics(12_936, 3_368))
    assert "V1" in why_not_comparable("msmt17_v2", statistics(32_621, 11_659))
    assert why_not_comparable("msmt17", statistics(32_621, 11_659)) is None
    assert set(HEADS.values()) == set(DATA_SETS) <= set(OFFICIAL_COUNTS)
