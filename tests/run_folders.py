"""Run folders written for the tests of what reads them: no training, no pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from dkdmpl_kit.lessons import replay
from dkdmpl_kit.training.checkpoint import save_epoch

PIDS = np.repeat(np.arange(4), 6)


def features_of(epoch: int) -> np.ndarray:
    """(24, 8) rows of norm 1: four identities that draw apart from epoch to epoch."""
    rng = np.random.default_rng(0)
    x = np.eye(8)[PIDS] * (1 + epoch) + 0.4 * rng.normal(size=(24, 8))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def add_epoch(
    run_dir: Path, epoch: int, labels: np.ndarray, *, features: bool = True, **record
) -> None:
    """One more epoch of a run, as training leaves it."""
    save_epoch(
        run_dir,
        epoch,
        np.asarray(labels),
        features_of(epoch)[: len(labels)] if features else None,
    )
    history = run_dir / "history.jsonl"
    before = history.read_text() if history.exists() else ""
    line = {
        "epoch": epoch,
        "loss": 3.0 - epoch,
        "ari": None,
        "mAP": None,
        "n_clusters": int(max(labels)) + 1,
        "outlier_fraction": float((np.asarray(labels) < 0).mean()),
        **record,
    }
    history.write_text(before + json.dumps(line) + "\n")


def small_run(run_dir: Path, *, features: bool = True) -> Path:
    """Three epochs: two identities merged, then apart; outliers that join."""
    merged = np.where(PIDS == 3, 2, PIDS)
    add_epoch(
        run_dir, 0, np.where(np.arange(24) % 6 == 0, -1, merged), features=features, ari=0.5
    )
    add_epoch(run_dir, 1, merged, features=features, ari=0.7, mAP=0.25)
    add_epoch(run_dir, 2, PIDS, features=features, ari=1.0, mAP=0.5)
    return run_dir


def flat_maps(monkeypatch) -> list:
    """Maps without UMAP: the first two columns of the features, then one step to the
    right an epoch; returns the calls.
    """
    calls = []

    def first(graph, *, seed):
        calls.append(("first", graph.indices.shape))
        return np.asarray(graph.features[:, :2])

    def further(graph, last, *, seed):
        calls.append(("next", graph.indices.shape))
        return last + (1, 0)

    monkeypatch.setattr(replay, "umap_layout", first)
    monkeypatch.setattr(replay, "next_layout", further)
    return calls
