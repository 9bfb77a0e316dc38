"""The k-nearest-neighbour graph of an epoch's features: computed once, shared by
clustering, maps and pictures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from tqdm.auto import tqdm

from dkdmpl_kit.errors import KitError, check_option

BLOCK_ENTRIES = 2**24  # similarities held at once: 64 MiB in float32
BLOCK_ROWS = 2048  # fewer would leave the processor waiting for the columns
_BITS = {2: torch.int16, 4: torch.int32}


@dataclass(frozen=True)
class NeighborGraph:
    """The k most similar rows of every row, best first; column 0 is the row itself,
    even among duplicates.

    indices (N, k) int32; similarities (N, k) float32, inner products features (N, d)
    float32, what the graph was built from (not a copy if it was float32 on the CPU
    already)
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
    """`features` (N, d) as a contiguous float32 tensor on its device; KitError unless
    finite with rows of norm 1.
    """
    array = (
        features
        if isinstance(features, torch.Tensor)
        else np.require(features, requirements="CW")
    )
    if array.ndim != 2 or 0 in array.shape or str(array.dtype)[0] in "OU<":
        raise KitError(
            f"{name} must be numbers of shape (N, d), not {array.dtype} of shape "
            f"{tuple(array.shape)}."
        )
    tensor = torch.as_tensor(array).detach().to(torch.float32).contiguous()
    norms = torch.linalg.vector_norm(tensor, dim=1)
    bad = torch.nonzero(~((norms - 1).abs() <= 1e-3)).flatten().tolist()
    if bad:
        raise KitError(
            f"{name} must be finite with rows of norm 1, but {len(bad)} rows are not "
            f"(row {bad[0]}: norm "
            f"{float(norms[bad[0]]):.4g}): divide each row by its norm, or find where "
            "NaN came from."
        )
    return tensor


def map_ranges(work: Callable[[int, int], object], n: int, block: int) -> list:
    """[work(start, stop)] over the ranges of `block` rows in 0..n, in order, on as many
    threads as torch uses.
    """
    from concurrent.futures import ThreadPoolExecutor

    starts = range(0, n, block)
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        return list(pool.map(lambda start: work(start, min(start + block, n)), starts))


def knn_graph(
    features: np.ndarray | torch.Tensor,
    k: int,
    *,
    backend: str = "auto",
    exact: bool = True,
    progress: bool = False,
) -> NeighborGraph:
    """The k most similar rows (the row itself included and first) of each of `features`
    (N, d), rows of norm 1.

    backend  "torch": blocked matrix products on the device of `features`, in bfloat16
             where a CPU is measured to be faster at it; "faiss": its flat index, on a
             GPU if faiss sees one; "auto": torch if `exact`, else faiss.
    exact    True: the true neighbours. A backend only proposes candidates; their
             similarities are then recomputed in double, and a row whose list the
             proposal's rounding could have changed is searched again. So the graph is
             the same on every backend, device, precision, block size and number of
             threads. False: faiss's HNSW (Malkov, Yashunin 2020) may miss some;
             `recall` measures how many. It pays above several hundred thousand rows.

    Equal similarities: the smaller index first. KitError: NaN, rows not of norm 1
    (within 1e-3), k outside 1..N, an approximate search with torch or without faiss.
    """
    check_option("backend", backend, ("auto", "torch", "faiss"))
    if backend == "torch" and not exact:
        raise KitError(
            "backend='torch' searches exactly: leave exact at True, or choose "
            "backend='faiss' for an approximate search."
        )
    tensor = as_features(features)
    n, d = tensor.shape
    if not 1 <= k <= n:
        raise KitError(
            f"k={k} neighbours cannot be taken from {n} rows; choose k from 1 to {n}."
        )
    host = tensor.cpu().numpy()
    by_faiss = backend == "faiss" or not exact
    large = tensor.device.type == "cpu" and n * n * d > 2**30
    reduced = large and not by_faiss and bfloat16_is_faster()
    # a margin: the proposal's order is not final
    width = min(n, 3 * k + 8 if reduced else k + k // 2 + 8)
    if by_faiss:
        proposals = _faiss_candidates(host, width, exact)
    else:
        proposals = _torch_candidates(tensor, width, reduced)
    graph = NeighborGraph(np.empty((n, k), np.int32), np.empty((n, k), np.float32), host)
    with tqdm(
        total=n, desc="neighbours", unit="row", leave=False, disable=not progress
    ) as bar:
        for rows, columns, values, error in proposals:
            highest = values + error.of(rows, values)  # no true similarity is above it
            # at least k columns are truly this near, less the error
            kth = np.partition(values, -k, axis=1)[:, -k, None]
            _rerank(
                graph, rows, columns, (highest >= kth - error.of(rows, kth)) & (columns >= 0)
            )
            last = graph.similarities[rows, -1]
            if width < n:
                _search_again(
                    graph, tensor, rows[highest.min(axis=1) >= last if exact else last == -2]
                )
            bar.update(len(rows))
    return graph


def recall(found: NeighborGraph, exact: NeighborGraph) -> float:
    """The share of the exact graph's neighbours (the row itself not counted) that
    another graph of the rows has.
    """
    if found.indices.shape != exact.indices.shape or found.k < 2:
        raise KitError(
            f"Graphs of shape {found.indices.shape} and {exact.indices.shape} cannot "
            "be compared: both need "
            "the same rows and the same k, at least 2."
        )
    pairs = zip(found.indices[:, 1:], exact.indices[:, 1:])
    return float(
        np.mean([np.isin(true, own, assume_unique=True).mean() for own, true in pairs])
    )


@dataclass(frozen=True)
class ProductError:
    """How far a proposed similarity may lie from the true one: `by_row` (N,) absolute,
    plus `relative` of its size.

    For bfloat16, x = b + r with the rest r known: |x.y - b.c| <= |r_x||y| + |b||r_y|
    (Cauchy-Schwarz). The sum itself is in float32, gamma_d; a bfloat16 result is then
    rounded to 8 bits.
    """

    by_row: np.ndarray
    relative: float

    def of(self, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Bound for proposed `values` (b, c) of these rows."""
        return self.by_row[rows, None] + self.relative * np.abs(values)


def _float32_error(n: int, d: int) -> ProductError:
    """An upper bound of the error of a float32 matrix product of rows of norm 1 (2**-7:
    inputs cut to bfloat16).
    """
    cut = 0.0 if torch.get_float32_matmul_precision() == "highest" else 2.0**-7
    return ProductError(np.full(n, (1.01 * d + 2) * 2.0**-24 + cut, np.float32), 0.0)


def _bfloat16_error(tensor: torch.Tensor, cut: torch.Tensor) -> ProductError:
    rest = torch.cat(
        [
            torch.linalg.vector_norm(x - c, dim=1)
            for x, c in zip(tensor.split(128), cut.split(128))
        ]
    )
    by_row = 1.01 * (rest + rest.max()) + (1.01 * tensor.shape[1] + 2) * 2.0**-24
    return ProductError(by_row.numpy(), 1.01 * 2.0**-8)


@cache
def bfloat16_is_faster() -> bool:
    """Whether this CPU multiplies matrices at least 1.5 times faster in bfloat16 than
    in float32: measured once.
    """
    rows = torch.randn(512, 1024, generator=torch.Generator().manual_seed(0))
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = rows.to(dtype)
        times = []
        for _ in range(4):  # the first call prepares the library's kernel
            start = time.perf_counter()
            x @ x.T
            times.append(time.perf_counter() - start)
        seconds[dtype] = min(times[1:])
    return seconds[torch.float32] > 1.5 * seconds[torch.bfloat16]


def _torch_candidates(tensor: torch.Tensor, width: int, reduced: bool):
    """Yield (rows (b,), candidate columns (b, width), their proposed similarities (b,
    width), error) by blocks.
    """
    n, d = tensor.shape
    side = tensor.bfloat16() if reduced else tensor
    error = _bfloat16_error(tensor, side) if reduced else _float32_error(n, d)
    names = torch.arange(n, device=side.device)
    # used again and again: fresh pages cost time
    room = side.new_empty(min(2 * BLOCK_ENTRIES, n * min(n, BLOCK_ROWS)))
    for start in range(0, n, BLOCK_ROWS):
        block = side[start : start + BLOCK_ROWS]
        largest = _Largest(len(block), width, side)
        for tile in names.split(max(1, 2 * BLOCK_ENTRIES // BLOCK_ROWS)):
            product = room[: len(block) * len(tile)].view(len(block), len(tile))
            torch.mm(block, side[tile[0] : tile[-1] + 1].T, out=product)
            largest.offer(product, tile)
        yield np.arange(start, start + len(block)), *largest.read(), error


class _Largest:
    """The `width` largest similarities of each of n rows, offered in tiles.

    On a GPU by torch.topk; on a CPU by a compiled kernel, several times faster on long
    rows.
    """

    def __init__(
        self, n: int, width: int, like: torch.Tensor, *, compiled: bool | None = None
    ) -> None:
        self.width = width
        self.dtype = like.dtype
        self.compiled = like.device.type == "cpu" if compiled is None else compiled
        if self.compiled:
            self.lists = (
                np.empty((n, 2 * width + 128), np.int64),
                np.zeros(n, np.int64),
                np.full(n, -(2**62), np.int64),
            )
        else:
            self.values = torch.full(
                (n, width), -torch.inf, dtype=like.dtype, device=like.device
            )
            self.columns = torch.full((n, width), -1, device=like.device)

    def offer(self, tile: torch.Tensor, names: torch.Tensor) -> None:
        """Similarities (n, c) of all rows to the columns called `names` (c,)."""
        if not self.compiled:
            best, at = torch.topk(tile, min(self.width, tile.shape[1]), dim=1, sorted=False)
            values = torch.cat([self.values, best], 1)
            columns = torch.cat([self.columns, names[at]], 1)
            self.values, kept = torch.topk(values, self.width, dim=1, sorted=False)
            self.columns = columns.gather(1, kept)
            return
        from dkdmpl_kit.neighbors import kernels

        arrays = tile.view(_BITS[tile.element_size()]).numpy(), names.numpy()
        map_ranges(
            lambda start, stop: kernels.select(*arrays, start, stop, self.width, *self.lists),
            len(tile),
            64,
        )

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Columns (n, width), -1 where fewer were offered, and their similarities (n,
        width) float32.
        """
        if not self.compiled:
            return self.columns.cpu().numpy(), self.values.float().cpu().numpy()
        from dkdmpl_kit.neighbors import kernels

        kept, sizes, _ = self.lists
        columns = np.empty((len(kept), self.width), np.int32)
        bits = torch.empty(columns.shape, dtype=_BITS[self.dtype.itemsize])
        map_ranges(
            lambda start, stop: kernels.unpack(
                kept, sizes, start, stop, columns, bits.numpy()
            ),
            len(kept),
            256,
        )
        return columns, bits.view(self.dtype).float().numpy()


def _faiss_candidates(host: np.ndarray, width: int, exact: bool):
    """As `_torch_candidates`, from a faiss index."""
    try:
        import faiss
    except ImportError as error:
        raise KitError(
            "faiss is not installed: pip install faiss-cpu (or faiss-gpu), or search "
            "exactly with torch (backend='auto', exact=True; in a Config knn='exact')."
        ) from error
    n, d = host.shape
    faiss.omp_set_num_threads(torch.get_num_threads())
    if exact:
        index = faiss.IndexFlat(d, faiss.METRIC_INNER_PRODUCT)
        if faiss.get_num_gpus() > 0:
            index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    else:
        index = faiss.IndexHNSWFlat(d, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = 100, max(128, 2 * width)
    index.add(host)
    block = max(1, BLOCK_ENTRIES // n) if exact else 4096
    for start in range(0, n, block):
        values, columns = index.search(host[start : start + block], width)
        yield np.arange(start, start + len(columns)), columns, values, _float32_error(n, d)


def _rerank(
    graph: NeighborGraph, rows: np.ndarray, columns: np.ndarray, kept: np.ndarray
) -> None:
    """Fill these rows of the graph from the kept ones of their candidate columns (b,
    w).
    """
    from dkdmpl_kit.neighbors import kernels

    ends = np.cumsum(kept.sum(axis=1))
    chosen = columns[kept].astype(np.int32)
    map_ranges(
        lambda start, stop: kernels.rerank(
            graph.features,
            rows[start:stop],
            chosen,
            ends[start:stop],
            ends[start - 1] if start else 0,
            graph.indices,
            graph.similarities,
        ),
        len(rows),
        64,
    )


def _search_again(
    graph: NeighborGraph,
    tensor: torch.Tensor,
    rows: np.ndarray,
    allowed: np.ndarray | None = None,
) -> None:
    """Rows in doubt (many near-equal similarities): every column that could belong to
    the list is a candidate, of all or of those `allowed` (M,).
    """
    n, d = tensor.shape
    slack = float(_float32_error(1, d).by_row[0])
    block = max(1, BLOCK_ENTRIES // n // 8)
    names = np.arange(n, dtype=np.int32) if allowed is None else allowed
    columns = tensor if allowed is None or not len(rows) else tensor[allowed]
    for part in (rows[start : start + block] for start in range(0, len(rows), block)):
        least = torch.as_tensor(graph.similarities[part, -1] - slack, device=tensor.device)
        possible = (tensor[part] @ columns.T >= least[:, None]).cpu().numpy()
        _rerank(graph, part, np.broadcast_to(names, possible.shape), possible)
