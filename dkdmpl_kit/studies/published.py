"""Figures that other people published, with their sources; for a place of their own,
never in a table of ours.
"""

from __future__ import annotations

from collections.abc import Mapping

from dkdmpl_kit.data.checking import PUBLISHED as STATISTICS

CLUSTER_CONTRAST = "results table of the Cluster Contrast repository"
CALR = "results table of the CALR repository"
THREE_C = "results table of the 3C repository"
SURVEY = "README of mangye16/ReID-Survey"
FAST_REID = "model zoo of fast-reid"
# (method, source, {data set: (mAP %, Rank-1 %)}); ResNet-50, fully unsupervised unless
# the name says otherwise
PUBLISHED = (
    (
        "SpCL (NeurIPS 2020)",
        CLUSTER_CONTRAST,
        {
            "market1501": (73.1, 88.1),
            "dukemtmcreid": (65.3, 81.2),
            "msmt17": (19.1, 42.3),
            "veri776": (36.9, 79.9),
        },
    ),
    (
        "Cluster Contrast, DBSCAN",
        CLUSTER_CONTRAST,
        {
            "market1501": (82.1, 92.3),
            "dukemtmcreid": (72.6, 84.9),
            "msmt17": (27.6, 56.0),
            "veri776": (40.3, 84.6),
        },
    ),
    (
        "Cluster Contrast, Infomap",
        CLUSTER_CONTRAST,
        {
            "market1501": (83.0, 92.9),
            "dukemtmcreid": (73.6, 85.5),
            "msmt17": (31.2, 61.5),
            "veri776": (40.8, 86.2),
        },
    ),
    (
        "RLCC (CVPR 2021)",
        CALR,
        {
            "market1501": (77.7, 90.8),
            "dukemtmcreid": (69.2, 83.2),
            "msmt17": (27.9, 56.5),
            "veri776": (39.6, 83.4),
        },
    ),
    (
        "PPLR, no camera (CVPR 2022)",
        CALR,
        {"market1501": (81.5, 92.8), "msmt17": (31.4, 61.1), "veri776": (41.6, 85.6)},
    ),
    (
        "ISE (CVPR 2022)",
        "PaddleClas documentation",
        {"market1501": (84.7, 94.0), "msmt17": (35.0, 64.7)},
    ),
    ("DCMIP (ICCV 2023)", THREE_C, {"market1501": (86.7, 94.7), "msmt17": (40.9, 69.3)}),
    (
        "3C, with cameras (2024)",
        THREE_C,
        {"market1501": (86.7, 94.7), "msmt17": (45.3, 73.1), "veri776": (47.1, 90.6)},
    ),
    (
        "supervised: BoT",
        SURVEY,
        {"market1501": (85.9, 94.5), "dukemtmcreid": (76.4, 86.4), "msmt17": (45.1, 63.4)},
    ),
    (
        "supervised: AGW",
        SURVEY,
        {"market1501": (87.8, 95.1), "dukemtmcreid": (79.6, 89.0), "msmt17": (49.3, 68.3)},
    ),
    (
        "supervised: SBS R50-ibn",
        FAST_REID,
        {
            "market1501": (89.3, 95.7),
            "dukemtmcreid": (81.2, 90.8),
            "msmt17": (60.6, 83.9),
            "veri776": (81.9, 97.0),
        },
    ),
    ("DKD-MPL (IEEE Trans. Multimedia 2024)", "not available to us, and never guessed", {}),
)
NAMES = {
    "market1501": "Market-1501",
    "dukemtmcreid": "DukeMTMC-reID",
    "msmt17": "MSMT17",
    "veri776": "VeRi-776",
}


def published_rows(data: str) -> list[tuple[str, float | None, float | None, str]]:
    """(method, mAP %, Rank-1 %, source) of every method with figures on `data`, and
    DKD-MPL's empty row; [] elsewhere.
    """
    if data not in NAMES:
        return []
    return [
        (method, *figures.get(data, (None, None)), source)
        for method, source, figures in PUBLISHED
        if data in figures or not figures
    ]


def why_not_comparable(data: str, statistics: Mapping[str, Mapping] | None) -> str | None:
    """Why published figures on `data` do not belong beside runs on pictures with these
    `statistics`; None where they do.

    Own photographs may lie in an official layout: only the published numbers of
    pictures make them that data set.
    """
    if data == "msmt17_v2":
        return "The published figures are on MSMT17 V1, and these are V2's pictures (faces blurred): results differ."
    if data not in NAMES:
        return f"There are no published figures for {data} pictures."
    if not statistics:
        return f"The runs do not say how many pictures they used, so it cannot be told whether these are {NAMES[data]}."
    found = tuple(statistics[split]["images"] for split in ("train", "query"))
    known = STATISTICS[data].images
    if found == known[:2]:
        return None
    return (
        f"These pictures lie in the layout of {NAMES[data]} and are not that data set "
        f"({found[0]:,} pictures to train on "
        f"and {found[1]:,} queries; there they are {known[0]:,} and {known[1]:,}): "
        "its published figures do not belong here."
    )
