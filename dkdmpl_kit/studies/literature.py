"""Results that other people published, with their sources: literature.csv.

They have a place of their own and never stand in a table of ours. In the file a cell is
"mAP/Rank-1" or "mAP" in percent, empty where the source has none; the network is
ResNet-50 and the training fully unsupervised unless the columns `method` and `setting`
say otherwise. The CALR repository's own results are left out: its table is a picture
that nobody has checked yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

import pandas as pd

from dkdmpl_kit.data.checking import OFFICIAL_COUNTS

DATA_SETS = {  # the data sets of the file's columns, and their names in print
    "market1501": "Market-1501",
    "dukemtmcreid": "DukeMTMC-reID",
    "msmt17": "MSMT17",
    "veri776": "VeRi-776",
}


COLUMNS = ("published method", "setting", "mAP in percent", "Rank-1 in percent", "source")


def published_on(data: str) -> pd.DataFrame:
    """The results on one data set as `COLUMNS`, figures as the source writes them, NaN or
    None where it has none.

    One line for every method with a result on `data`, and DKD-MPL's empty one; no lines
    for data that nobody published on.
    """
    if data not in DATA_SETS:
        return pd.DataFrame(columns=COLUMNS)
    with (files(__package__) / "literature.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file, dtype=str)
    figures = table[data].str.split("/", expand=True)
    columns = [table["method"], table["setting"], figures[0], figures[1], table["source"]]
    shown = pd.DataFrame(dict(zip(COLUMNS, columns)))
    without_results = table[list(DATA_SETS)].isna().all(axis="columns")
    return shown[table[data].notna() | without_results]


def why_not_comparable(data: str, statistics: Mapping[str, Mapping] | None) -> str | None:
    """Why published results on `data` do not belong beside runs on pictures with these
    `statistics`, {split: {"images": number}}; None where they do.

    Own photographs may lie in an official layout: only the official numbers of pictures
    make them that data set.
    """
    if data == "msmt17_v2":
        return (
            "The published figures are on MSMT17 V1, and these are V2's pictures (faces "
            "blurred): results differ."
        )
    if data not in DATA_SETS:
        return f"There are no published figures for {data} pictures."
    name = DATA_SETS[data]
    if not statistics:
        return (
            "The runs do not say how many pictures they used, so it cannot be told "
            f"whether these are {name}."
        )
    train, query = (statistics[split]["images"] for split in ("train", "query"))
    official_train, official_query, _ = OFFICIAL_COUNTS[data].images
    if (train, query) == (official_train, official_query):
        return None
    return (
        f"These pictures lie in the layout of {name} and are not that data set "
        f"({train:,} pictures to train on and {query:,} queries; there they are "
        f"{official_train:,} and {official_query:,}): its published figures do not "
        "belong here."
    )
