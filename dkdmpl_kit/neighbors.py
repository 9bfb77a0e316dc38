"""The k-nearest-neighbour graph of an epoch's features: computed once, shared by clustering, maps and pictures."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from dkdmpl_kit.errors import KitError, check_option

BLOCK_ENTRIES = 2**24  # similarities held at once: 64 MiB in float32


@dataclass(frozen=True)
class NeighborGraph:
    """The k most similar rows of every row, best first; column 0 is the row itself, even among duplicates.

    indices (N, k) int32; similarities (N, k) float32, inner products
    features (N, d) float32, what the graph was built from (not a copy if it was float32 on the CPU already)
    """

    indices: np.ndarray
    similarities: np.ndarray
    features: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def k(self) -> int:
        return self.indices.shape[1]


def as_features(features: np.ndarray | torch.Tensor, name: str = "features") -> torch.Tensor:
    """`features` (N, d) as a contiguous float32 tensor on its device; KitError unless finite with rows of norm 1."""
    array = features if isinstance(features, torch.Tensor) else np.require(features, requirements="CW")
    if array.ndim != 2 or 0 in array.shape or str(array.dtype)[0] in "OU<":
        raise KitError(f"{name} must be numbers of shape (N, d), not {array.dtype} of shape {tuple(array.shape)}.")
    tensor = torch.as_tensor(array).detach().to(torch.float32).contiguous()
    norms = torch.linalg.vector_norm(tensor, dim=1)
    bad = torch.nonzero(~((norms - 1).abs() <= 1e-3)).flatten().tolist()
    if bad:
        raise KitError(f"{name} must be finite with rows of norm 1, but {len(bad)} rows are not (row {bad[0]}: norm "
                       f"{float(norms[bad[0]]):.4g}): divide each row by its norm, or find where NaN came from.")
    return tensor


def map_ranges(work: Callable[[int, int], object], n: int, block: int) -> list:
    """[work(start, stop)] over the ranges of `block` rows in 0..n, in order, on as many threads as torch uses."""
    from concurrent.futures import ThreadPoolExecutor

    starts = range(0, n, block)
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        return list(pool.map(lambda start: work(start, min(start + block, n)), starts))


def knn_graph(features: np.ndarray | torch.Tensor, k: int, *, backend: str = "auto",
              exact: bool = True) -> NeighborGraph:
    """The k most similar rows (the row itself included and first) of each of `features` (N, d), rows of norm 1.

    backend  "torch": blocked matrix products on the device of `features`; "faiss": its flat index, on a GPU if faiss
             sees one; "auto": torch when exact, faiss when not.
    exact    True: the true neighbours. A backend only proposes candidates; their similarities are then recomputed in
             double, and a row whose list the proposal's rounding could have changed is searched again. So the graph
             is the same on every backend, device and number of threads. False: faiss' HNSW, which may miss some.

    Equal similarities: the smaller index first. KitError: NaN, rows not of norm 1 (within 1e-3), k outside 1..N.
    """
    check_option("backend", backend, ("auto", "torch", "faiss"))
    if backend == "torch" and not exact:
        raise KitError("backend='torch' has no approximate search; take backend='faiss' with exact=False.")
    tensor = as_features(features)
    n, d = tensor.shape
    if not 1 <= k <= n:
        raise KitError(f"k={k} neighbours cannot be taken from {n} rows; choose k from 1 to {n}.")
    host = tensor.cpu().numpy()
    width = min(n, k + k // 2 + 8)  # a margin: the proposal's order is not final
    by_faiss = backend == "faiss" or not exact
    proposals = _faiss_candidates(host, width, exact) if by_faiss else _torch_candidates(tensor, width)
    graph = NeighborGraph(np.empty((n, k), np.int32), np.empty((n, k), np.float32), host)
    slack = _rounding(d)
    for start, columns, worst in proposals:
        rows = np.arange(start, start + len(columns))
        _rerank(graph, rows, columns)
        last = graph.similarities[rows, -1]
        if width < n:
            doubtful = worst + slack >= last if exact else last == -2
            _search_again(graph, tensor, rows[doubtful], slack)
    return graph


def _rounding(d: int) -> float:
    """An upper bound of the error of a float32 matrix product of rows of norm 1 (2**-7: inputs cut to bfloat16)."""
    return (1.01 * d + 2) * 2.0**-24 + (0.0 if torch.get_float32_matmul_precision() == "highest" else 2.0**-7)


def _torch_candidates(tensor: torch.Tensor, width: int):
    """Yield (first row, candidate columns (b, width), bound (b,) on the similarity of columns left out) by blocks."""
    block = max(1, BLOCK_ENTRIES // len(tensor))
    for start in range(0, len(tensor), block):
        values, columns = torch.topk(tensor[start:start + block] @ tensor.T, width, dim=1, sorted=False)
        yield start, columns.cpu().numpy(), values.amin(dim=1).cpu().numpy()


def _faiss_candidates(host: np.ndarray, width: int, exact: bool):
    """As `_torch_candidates`, from a faiss index."""
    try:
        import faiss
    except ImportError as error:
        raise KitError("faiss is not installed: pip install faiss-cpu (or faiss-gpu), or search exactly with "
                       "backend='torch'.") from error
    d, metric = host.shape[1], faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexFlat(d, metric) if exact else faiss.IndexHNSWFlat(d, 32, metric)
    if exact and faiss.get_num_gpus() > 0:
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    if not exact:
        index.hnsw.efConstruction, index.hnsw.efSearch = 100, max(128, 2 * width)
    index.add(host)
    block = max(1, BLOCK_ENTRIES // len(host)) if exact else 4096
    for start in range(0, len(host), block):
        values, columns = index.search(host[start:start + block], width)
        yield start, columns, values[:, -1]


def _rerank(graph: NeighborGraph, rows: np.ndarray, columns: np.ndarray) -> None:
    """Fill these rows of the graph from their candidate columns (b, width)."""
    from dkdmpl_kit import _kernels

    map_ranges(lambda start, stop: _kernels.rerank(graph.features, rows[start:stop], columns[start:stop],
                                                   graph.indices, graph.similarities), len(rows), 64)


def _search_again(graph: NeighborGraph, tensor: torch.Tensor, rows: np.ndarray, slack: float) -> None:
    """Rows in doubt (many near-equal similarities): every column that could belong to the list is a candidate."""
    block = max(1, BLOCK_ENTRIES // len(tensor))
    for part in (rows[start:start + block] for start in range(0, len(rows), block)):
        least = torch.as_tensor(graph.similarities[part, -1] - slack, device=tensor.device)
        possible = (tensor[part] @ tensor.T >= least[:, None]).cpu().numpy()
        for row, mask in zip(part, possible, strict=True):
            _rerank(graph, np.array([row]), np.flatnonzero(mask)[None])
