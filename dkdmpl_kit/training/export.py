"""An encoder for use elsewhere: safetensors, torch.export and ONNX files that were
checked, what a tracker must know of them as JSON, and a model card.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import importlib.util
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dkdmpl_kit import __version__
from dkdmpl_kit.data.files import printable
from dkdmpl_kit.data.scratch import scratch_folder
from dkdmpl_kit.errors import KitError, check_option
from dkdmpl_kit.experiment import Config, read_record, write_atomic, write_json
from dkdmpl_kit.models import Encoder, GeM, build_encoder
from dkdmpl_kit.training.features import encoder_record, require_same_encoder
from dkdmpl_kit.training.model_card import about_training, model_card
from dkdmpl_kit.training.outcome import load_encoder

TOLERANCE = 1e-4
SCHEMA = 1
REBUILDS = ("backbone", "pooling", "last_stride", "height", "width")
NORMALISE = ("inside", "outside")  # who subtracts the mean: the file, or who calls it


@dataclasses.dataclass(frozen=True)
class Threshold:
    """The similarity from which a match is believed. `about`: how it was found."""

    value: float
    about: str


def export_run(
    run: str | Path,
    out: str | Path,
    *,
    normalise: str = "inside",
    threshold: str | Path | None = None,
) -> list[Path]:
    """`export_encoder` of a run's encoder, on the CPU wherever it was trained; with the
    run's config.json and results.
    """
    check_export(out, normalise, threshold)
    config, encoder = load_encoder(run, device="cpu")
    return export_encoder(
        config, encoder, out, normalise=normalise, threshold=threshold, run=run
    )


def export_encoder(
    config: Config,
    encoder: Encoder,
    out: str | Path,
    *,
    normalise: str = "inside",
    threshold: str | Path | None = None,
    run: str | Path | None = None,
) -> list[Path]:
    """Write an encoder to the new folder `out`: model.safetensors, model.pt2, model.onnx,
    model.json, README.md, and of a run config.json.

    model.pt2 (torch.export) and model.onnx take float32 pictures (B, 3, height, width),
    RGB, any B >= 1, and give features (B, dim), rows of norm 1. normalise: "inside" takes
    pictures in [0, 1]; "outside" takes them with the encoder's mean subtracted and divided
    by its standard deviation, as many trackers do by themselves. model.json says which,
    and what else a caller must know. threshold: the file that `dkdmpl threshold --out`
    wrote for this encoder at this size of picture.

    Each file is read back, and its features of pictures in batches of 1 and of 5 must
    equal the encoder's to 1e-4. All files appear together, or, after an error, none.
    KitError where that fails, where `out` is not empty, for a threshold of another
    encoder, and where the packages of the extra "runs" are missing.
    """
    check_export(out, normalise, threshold)
    out = Path(out)
    plain = portable(encoder)
    record = encoder_record(plain, config)
    believed = _threshold_of(threshold, record)
    at = believed.about if believed else ""
    about = about_training(config, plain, run)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(out.parent, f".{out.name}-") as part:
            folder = part / out.name
            folder.mkdir()
            differences = _write_models(folder, plain, config, normalise)
            handover = _handover(folder, plain, record, normalise, believed)
            write_json(folder / "model.json", handover)
            if run is not None:
                write_json(folder / "config.json", _settings_of(config))
            card = model_card(config, plain, handover, differences, about, at=at)
            write_atomic(folder / "README.md", card)
            for path in folder.iterdir():
                path.chmod(0o644)
            os.replace(folder, out)
    except OSError as error:
        raise KitError(
            f"Cannot write {out}: {error.strerror or error}; choose another folder."
        ) from error
    return sorted(out.iterdir())


def check_export(
    out: str | Path, normalise: str = "inside", threshold: str | Path | None = None
) -> None:
    """What can be refused before an encoder is built: KitError as `export_encoder`'s."""
    check_option("normalise", normalise, NORMALISE)
    missing = [
        name
        for name in ("onnx", "onnxruntime", "onnxscript")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise KitError(f"export needs {', '.join(missing)}: pip install 'dkdmpl-kit[runs]'.")
    out = Path(out)
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise KitError(
            f"{out} is not an empty folder: give a new one, nothing is overwritten."
        )
    _read_threshold(threshold)


def _read_threshold(path: str | Path | None) -> dict | None:
    if path is None:
        return None
    fields = {"threshold": (int, float), "encoder": dict, "fpr": (int, float), "labels": str}
    found = read_record(path, fields)
    if not (math.isfinite(found["threshold"]) and -1 <= found["threshold"] <= 1):
        raise KitError(
            f"{printable(path)} has threshold {found['threshold']}, which is not a similarity "
            "from -1 to 1: write it anew with dkdmpl threshold --out."
        )
    return found


def _threshold_of(path: str | Path | None, record: dict) -> Threshold | None:
    """The threshold of a file; KitError where it belongs to another encoder than `record`."""
    found = _read_threshold(path)
    if found is None:
        return None
    require_same_encoder(found["encoder"], record, path)
    about = f"a false-positive rate of {found['fpr']:g}, from {found['labels']}"
    return Threshold(float(found["threshold"]), about)


def _settings_of(config: Config) -> dict:
    """The settings of a run, with names in place of paths of this machine."""
    settings = dataclasses.asdict(config)
    return settings | {
        name: Path(value).name
        for name, value in settings.items()
        if isinstance(value, str) and Path(value).is_absolute()
    }


def _handover(
    folder: Path,
    encoder: Encoder,
    record: dict,
    normalise: str,
    believed: Threshold | None,
) -> dict:
    """model.json: all that a program needs to call model.onnx and to use its features."""
    return {
        "schema": SCHEMA,
        "kit": __version__,
        "model": "model.onnx",
        "sha256": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest(),
        "input": "pictures",
        "output": "features",
        "height": record["height"],
        "width": record["width"],
        "colour": "RGB",
        "range": [0, 1],
        "mean": _three(encoder.mean),
        "std": _three(encoder.std),
        "normalisation": normalise,
        "dim": encoder.dim,
        "metric": "cosine",
        "threshold": believed and believed.value,
        "fingerprint": record["fingerprint"],
        # with model.safetensors: settings that build the encoder again
        "encoder": {name: record[name] for name in REBUILDS},
    }


def _three(channels: Tensor) -> list[float]:
    return [round(float(value), 6) for value in channels.flatten()]


class _WholeGeM(GeM):
    """GeM in one piece: the parts that a CPU's memory likes would fix the batch size of
    an exported graph.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=self.eps).pow(self.p).mean(dim=(2, 3)).pow(1.0 / self.p)


def portable(encoder: Encoder) -> Encoder:
    """A copy on the CPU in eval mode, float32, that any exporter can trace; the same
    weights and features.
    """
    plain = copy.deepcopy(encoder).to(
        "cpu", torch.float32, memory_format=torch.contiguous_format
    )
    if isinstance(plain.pool, GeM):
        pool = _WholeGeM(eps=plain.pool.eps)
        pool.p = plain.pool.p
        plain.pool = pool
    plain.freeze_stages = 0  # no switch of autograd inside the graph
    return plain.eval().requires_grad_(False)


def _without_normalisation(encoder: Encoder) -> Encoder:
    """A copy that takes pictures from which the mean is subtracted already."""
    bare = copy.deepcopy(encoder)
    bare.mean.zero_()
    bare.std.fill_(1.0)
    return bare


def _write_models(
    folder: Path, encoder: Encoder, config: Config, normalise: str
) -> dict[str, float]:
    """The three files; {name: largest difference of a feature}, each at most TOLERANCE."""
    from safetensors.torch import save_file

    outside = normalise == "outside"
    graph = _without_normalisation(encoder) if outside else encoder
    example = check_pictures(2, config)
    batch = {0: torch.export.Dim("batch", min=1)}
    paths = {name: folder / f"model.{name}" for name in ("safetensors", "pt2", "onnx")}
    save_file(
        {name: tensor.contiguous() for name, tensor in encoder.state_dict().items()},
        paths["safetensors"],
        metadata={
            "kit": __version__,
            **{k: str(v) for k, v in encoder.describe().items() if k != "weights"},
        },
    )
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(graph, (example,), dynamic_shapes={"x": batch})
        torch.export.save(program, paths["pt2"])
        torch.onnx.export(
            program,
            (example,),
            paths["onnx"],
            input_names=["pictures"],
            output_names=["features"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    differences = {}
    for name, reader in (
        ("safetensors", _read_safetensors),
        ("pt2", _read_pt2),
        ("onnx", _read_onnx),
    ):
        read = reader(paths[name], encoder)
        if outside and name != "safetensors":
            read = _after_normalising(read, encoder)
        differences[name] = feature_difference(encoder, read, config)
        if not differences[name] <= TOLERANCE:  # NaN fails too
            raise KitError(
                f"model.{name} gives features that differ by {differences[name]:.1e} "
                "from the encoder's, above "
                f"{TOLERANCE:g}: nothing was written; report this with the versions in "
                "environment.json."
            )
    return differences


def _after_normalising(
    read: Callable[[Tensor], Tensor], encoder: Encoder
) -> Callable[[Tensor], Tensor]:
    """`read` of pictures in [0, 1], as a caller of a file without normalisation uses it."""
    return lambda x: read((x - encoder.mean) / encoder.std)


def check_pictures(count: int, config: Config) -> Tensor:
    """(count, 3, H, W) in [0, 1]: coloured fields with a little noise, so that features
    differ from picture to picture.
    """
    generator = torch.Generator().manual_seed(count)
    fields = F.interpolate(
        torch.rand(count, 3, 6, 4, generator=generator), (config.height, config.width)
    )
    return 0.9 * fields + 0.1 * torch.rand(fields.shape, generator=generator)


@torch.no_grad()
def feature_difference(
    encoder: nn.Module, other: Callable[[Tensor], Tensor], config: Config
) -> float:
    """The largest absolute difference of a feature between two encoders, over batches
    of 1 and of 5 pictures.
    """
    return max(
        float((encoder(x) - other(x)).abs().max())
        for x in (check_pictures(1, config), check_pictures(5, config))
    )


def _read_safetensors(path: Path, encoder: Encoder) -> Callable[[Tensor], Tensor]:
    return build_encoder(
        encoder.name,
        weights=path,
        pooling=encoder.pooling,
        last_stride=encoder.last_stride,
        size=encoder.size,
    ).eval()


def _read_pt2(path: Path, encoder: Encoder) -> Callable[[Tensor], Tensor]:
    return torch.export.load(path).module()


def _read_onnx(path: Path, encoder: Encoder) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(
        np.asarray(session.run(None, {"pictures": x.numpy()})[0])
    )
