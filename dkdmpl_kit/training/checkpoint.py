"""What an epoch hands to the next one, and how it lies on disk: safetensors and JSON,
whole or not at all.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import (
    CHECKPOINT,
    environment,
    read_record,
    read_text,
    write_atomic,
    write_json,
)
from dkdmpl_kit.models import Encoder


@dataclass
class TrainingState:
    """What an epoch hands to the next one: all that a checkpoint holds."""

    encoder: Encoder
    optimiser: torch.optim.Optimizer
    ema: Encoder | None
    epoch: int = 0
    history: list[dict] = field(default_factory=list)
    previous: tuple[np.ndarray, np.ndarray] | None = (
        None  # consensus teacher: last epoch's (labels, posterior)
    )


def save_epoch(
    run_dir: Path, epoch: int, labels: np.ndarray, features: np.ndarray | None
) -> None:
    """epochs/epoch_NNN.npz: labels (N,), and features (N, d) in half precision where
    they are kept.
    """
    buffer = io.BytesIO()
    arrays = {"labels": labels} | (
        {} if features is None else {"features": features.astype(np.float16)}
    )
    np.savez_compressed(buffer, **arrays)
    write_atomic(run_dir / "epochs" / f"epoch_{epoch:03d}.npz", buffer.getvalue())


def load_epoch(
    path: Path, *, with_features: bool = True
) -> tuple[np.ndarray, np.ndarray | None]:
    """What `save_epoch` wrote: labels (N,), and features (N, d) float32 with rows of
    norm 1, None where not kept or wanted.
    """
    try:
        with np.load(path) as kept:
            features = (
                kept["features"].astype(np.float32)
                if with_features and "features" in kept
                else None
            )
            labels = kept["labels"]
    except Exception as error:  # a damaged zip has errors of its own
        raise KitError(
            f"{path} cannot be read ({type(error).__name__}): was it written by the "
            "kit, and wholly copied?"
        ) from error
    if features is not None:  # half precision has moved the norms
        features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return labels, features


def load_history(run_dir: Path) -> list[dict]:
    """The records of a run so far, one an epoch; empty before the first."""
    path = run_dir / "history.jsonl"
    if not path.exists():
        return []
    lines = read_text(path).splitlines()
    try:
        records = [json.loads(line) for line in lines]
        if not all(isinstance(record, dict) for record in records):
            raise ValueError("a line is not an object")
    except (ValueError, RecursionError) as error:
        raise KitError(
            f"{path} is not one JSON record a line ({error}): restore it, or start the "
            "run anew."
        ) from error
    return records


def save_checkpoint(run_dir: Path, state: TrainingState) -> None:
    """A safetensors file, then the JSON that points to it: a kill between the two
    leaves the older pair valid.
    """
    from safetensors.torch import save

    tensors = {f"encoder.{k}": v for k, v in state.encoder.state_dict().items()}
    if state.ema is not None:
        tensors |= {f"ema.{k}": v for k, v in state.ema.state_dict().items()}
    for i, slots in state.optimiser.state_dict()["state"].items():
        tensors |= {
            f"adam.{i}.{name}": torch.as_tensor(value) for name, value in slots.items()
        }
    if state.previous is not None:
        labels, posterior = state.previous
        tensors |= {
            "previous.labels": torch.from_numpy(labels),
            "previous.posterior": torch.from_numpy(posterior),
        }
    name = f"checkpoint-{state.epoch:04d}.safetensors"
    write_atomic(
        run_dir / name, save({k: v.detach().cpu().contiguous() for k, v in tensors.items()})
    )
    write_json(
        run_dir / "checkpoint.json",
        {
            "epoch": state.epoch,
            "weights": name,
            "history": state.history,
            "environment": environment(),
        },
    )
    write_atomic(
        run_dir / "history.jsonl", "".join(json.dumps(r) + "\n" for r in state.history)
    )
    for old in run_dir.glob("checkpoint-*.safetensors"):
        if old.name != name:
            old.unlink()


def load_checkpoint(run_dir: Path, state: TrainingState) -> None:
    """Bring `state` to the last whole epoch of the run, or leave it as it is where
    there is none yet.
    """
    if not (run_dir / "checkpoint.json").exists():
        return
    meta, tensors = _read_checkpoint(run_dir)
    try:
        _take_over(state, tensors)
    except (RuntimeError, ValueError, KeyError) as error:
        raise KitError(
            f"{run_dir / meta['weights']} does not fit the settings in "
            f"{run_dir / 'config.json'} ({str(error).splitlines()[0]}): restore the one "
            "that was changed, or start the run anew."
        ) from error
    state.epoch = meta["epoch"]
    state.history = meta["history"]


def _read_checkpoint(run_dir: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """checkpoint.json, and the tensors {name: tensor} of the weights that it names."""
    from safetensors.torch import load_file

    path = run_dir / "checkpoint.json"
    for last in (False, False, True):
        meta = read_record(path, CHECKPOINT)
        weights = run_dir / meta["weights"]
        records = meta["history"]
        if weights.parent != run_dir or weights.suffix != ".safetensors":
            raise KitError(
                f"{path} was edited: {meta['weights']!r} is not a checkpoint of this run; "
                "restore it or start the run anew."
            )
        if len(records) != meta["epoch"] or not all(isinstance(r, dict) for r in records):
            raise KitError(
                f"{path} was edited: it tells of {meta['epoch']} epochs, and its history "
                f"has {len(records)} records; restore it or start the run anew."
            )
        # a run that goes on meanwhile may have taken these weights away: look again
        if weights.is_file() or last:
            break
    try:
        return meta, load_file(weights)
    except Exception as error:  # safetensors raises its own error types
        raise KitError(
            f"{weights}, which checkpoint.json names, cannot be read "
            f"({' '.join(str(error).split())}): restore it, or delete {run_dir} and start "
            "anew."
        ) from error


def _take_over(state: TrainingState, tensors: dict[str, torch.Tensor]) -> None:
    """Put the tensors of a checkpoint into encoder, EMA encoder and optimiser."""

    def under(prefix: str) -> dict[str, torch.Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    state.encoder.load_state_dict(under("encoder."))
    if state.ema is not None:
        state.ema.load_state_dict(under("ema."))
    slots: dict[int, dict] = {}
    for key, value in under("adam.").items():
        index, name = key.split(".", 1)
        slots.setdefault(int(index), {})[name] = value
    state.optimiser.load_state_dict(
        {"state": slots, "param_groups": state.optimiser.state_dict()["param_groups"]}
    )
    if "previous.labels" in tensors:
        state.previous = (
            tensors["previous.labels"].numpy(),
            tensors["previous.posterior"].numpy(),
        )
