"""What notebook 06 shows of a trained run beside the untrained features: lists of queries,
maps of the features, and where the encoder looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dkdmpl_kit import viz
from dkdmpl_kit.lessons.stage import Stage
from dkdmpl_kit.models import Encoder
from dkdmpl_kit.models.activation import occlusion_map, similarity_map
from dkdmpl_kit.neighbors import NeighborGraph, umap_layout
from dkdmpl_kit.studies.results import read_run

COMPARED = ("dkdmpl", "skd", "gkd", "cluster_contrast")  # the first that there is
FINE_ROWS = 224  # pictures of so many rows have a last map of 7 rows or more


def compared_run(stage: Stage) -> tuple[str, dict]:
    """(method, record) of the finished run on these pictures that is compared with the
    untrained features. Where there is none the warm run stands in, and a line says so.
    """
    for method in COMPARED:
        folder = stage.out_dir / "runs" / f"{method}-seed{stage.config.seed}"
        if (folder / "result.json").exists():
            record = read_run(folder)
            if record["data_fingerprint"] == stage.dataset.fingerprint():
                return method, record
    print(
        "There is no finished run of these pictures. A short run of cluster contrast stands "
        "in: it shows the direction, not what longer training reaches. Notebook 05 trains "
        "the real ones."
    )
    return "cluster_contrast", read_run(stage.warm_run().run_dir)


def maps_of(
    graphs: Sequence[NeighborGraph],
    groups: np.ndarray,
    camids: np.ndarray | None,
    *,
    names: Sequence[str],
    what: str,
    seed: int = 0,
    few: int = 7,
) -> Figure:
    """Maps of the same pictures, one row a graph, each started from the one before: `few`
    of the groups (N,), drawn at random, and the cameras (N,), None where unknown.
    """
    kinds = np.unique(groups[groups >= 0])
    rng = np.random.default_rng(seed)
    chosen = rng.choice(kinds, min(few, len(kinds)), replace=False)
    shown = np.where(np.isin(groups, chosen), groups, -1)
    title = f"{len(chosen)} of {len(kinds)} {what}, drawn at random"
    xy, panels = None, []
    for graph in graphs:
        xy = umap_layout(graph, seed=seed, init=xy)
        some = {"xy": xy, "colour_by": shown, "kind": "some", "title": title}
        camera = {"xy": xy, "colour_by": camids, "kind": "camera", "title": "camera"}
        panels.append([some, camera])
    return viz.feature_maps(
        panels, row_labels=names, title="The training pictures before and after training"
    )


def ranked_queries(
    stage: Stage,
    queries: np.ndarray,
    matches: tuple[np.ndarray, np.ndarray],
    precision: np.ndarray,
    title: str,
) -> Figure:
    """The first places of some queries: matches, (Q, top) each, of `top_matches`; precision
    (Q,) the AP.
    """
    near, right = matches
    width = int((near >= 0).all(axis=0).sum())  # a small gallery may run out
    rows = [stage.pictures("gallery").batch(row[:width]) for row in near[queries]]
    return viz.ranking_grid(
        stage.pictures("query").batch(queries),
        rows,
        right[queries, :width],
        title=title,
        titles=[f"AP {precision[j]:.2f}" for j in queries],
    )


def own_camera_share(
    matches: tuple[np.ndarray, np.ndarray],
    query_camids: np.ndarray,
    gallery_camids: np.ndarray,
) -> float | None:
    """Of the wrong pictures in the lists (Q, top) of `top_matches`, the share under the
    query's own camera; None without one.
    """
    near, right = matches
    wrong = (near >= 0) & ~right & (query_camids[:, None] >= 0)
    same = gallery_camids[near] == query_camids[:, None]
    return float(same[wrong].mean()) if wrong.any() else None


def look(
    encoder: Encoder,
    query: Tensor,
    gallery_feature: np.ndarray,
    other: Tensor,
    query_feature: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(map of the query, map of the gallery picture): what each place does for their
    similarity. pictures (3, H, W) uint8, features (d,).
    """
    maps = []
    for picture, feature in ((query, gallery_feature), (other, query_feature)):
        towards = torch.from_numpy(feature)
        if picture.shape[1] >= FINE_ROWS:
            maps.append(similarity_map(encoder, picture[None], towards[None])[0].numpy())
        else:
            maps.append(occlusion_map(encoder, picture, towards).numpy())
    return maps[0], maps[1]


def middle_shares(
    maps: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> dict[str, float | None]:
    """{view: the share of its maps' positive effect in the middle half of the columns};
    None where nothing is positive.
    """
    shares: dict[str, float | None] = {}
    for name, both in maps.items():
        columns = np.clip(np.concatenate([np.asarray(m) for m in both]), 0, None).sum(axis=0)
        edge = len(columns) // 4
        total = float(columns.sum())
        inside = float(columns[edge : len(columns) - edge].sum())
        shares[name] = inside / total if total > 0 else None
    return shares
