"""A trained encoder for use elsewhere: safetensors, torch.export and ONNX files that
were checked, and a model card.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import os
import warnings
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dkdmpl_kit import __version__
from dkdmpl_kit.data.scratch import scratch_folder
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import Config, read_json, write_atomic, write_json
from dkdmpl_kit.models import Encoder, GeM, build_encoder
from dkdmpl_kit.training.outcome import load_encoder

TOLERANCE = 1e-4
# of the card; config.json has all
SETTINGS = (
    "backbone",
    "weights",
    "pooling",
    "height",
    "width",
    "method",
    "gkd_weight",
    "skd_weight",
    "gkd_teacher",
    "skd_anchor",
    "skd_divergence",
    "memory_update",
    "sampler",
    "samples_per_bn",
    "epochs",
    "iterations",
    "batch_clusters",
    "batch_images",
    "learning_rate",
    "precision",
    "seed",
    "data",
)


def export_run(run: str | Path, out: str | Path) -> list[Path]:
    """Write a run's encoder to the new folder `out`: model.safetensors, model.pt2,
    model.onnx, config.json, README.md.

    model.pt2 (torch.export) and model.onnx take float32 pictures (B, 3, height, width),
    RGB in [0, 1], any B >= 1, and give features (B, dim), rows of norm 1. Each file is
    read back, and its features of pictures in batches of 1 and of 5 must equal the
    encoder's to 1e-4. All files appear together, or, after an error, none. KitError
    where that fails, where `out` is not empty, and where the packages of the extra
    "runs" are missing.
    """
    run = Path(run)
    out = Path(out)
    missing = [
        name
        for name in ("onnx", "onnxruntime", "onnxscript")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise KitError(f"export needs {', '.join(missing)}: pip install 'dkdmpl-kit[runs]'.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise KitError(
            f"{out} is not an empty folder: give a new one, nothing is overwritten."
        )
    # on the CPU, wherever it was trained: the files are for any machine
    config, encoder = load_encoder(run, device="cpu")
    plain = portable(encoder)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(out.parent, f".{out.name}-") as part:
            folder = part / out.name
            folder.mkdir()
            differences = _write_models(folder, plain, config)
            write_json(folder / "config.json", dataclasses.asdict(config))
            write_atomic(folder / "README.md", _card(run, config, plain, differences))
            for path in folder.iterdir():
                path.chmod(0o644)
            os.replace(folder, out)
    except OSError as error:
        raise KitError(
            f"Cannot write {out}: {error.strerror or error}; choose another folder."
        ) from error
    return sorted(out.iterdir())


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


def _write_models(folder: Path, encoder: Encoder, config: Config) -> dict[str, float]:
    """The three files; {name: largest difference of a feature}, each at most TOLERANCE."""
    from safetensors.torch import save_file

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
        program = torch.export.export(encoder, (example,), dynamic_shapes={"x": batch})
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
        differences[name] = feature_difference(encoder, reader(paths[name], encoder), config)
        if not differences[name] <= TOLERANCE:  # NaN fails too
            raise KitError(
                f"model.{name} gives features that differ by {differences[name]:.1e} "
                "from the encoder's, above "
                f"{TOLERANCE:g}: nothing was written; report this with the versions in "
                "environment.json."
            )
    return differences


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
        encoder.name, weights=path, pooling=encoder.pooling, last_stride=encoder.last_stride
    ).eval()


def _read_pt2(path: Path, encoder: Encoder) -> Callable[[Tensor], Tensor]:
    return torch.export.load(path).module()


def _read_onnx(path: Path, encoder: Encoder) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(
        np.asarray(session.run(None, {"pictures": x.numpy()})[0])
    )


def _card(run: Path, config: Config, encoder: Encoder, differences: dict[str, float]) -> str:
    """README.md of the exported folder."""
    result = (
        read_json(run / "result.json") if (run / "result.json").exists() else {"final": {}}
    )
    fingerprint = read_json(run / "config.json")["data_fingerprint"]
    measured = {name: value for name, value in result["final"].items() if value is not None}
    results = (
        "\n".join(f"| {name} | {value:.4g} |" for name, value in measured.items())
        or "| none yet: the run was cut | |"
    )
    settings = "\n".join(f"| {name} | {getattr(config, name)} |" for name in SETTINGS)
    checked = ", ".join(f"model.{name} {value:.1e}" for name, value in differences.items())
    build = (
        f'build_encoder("{encoder.name}", weights="model.safetensors", '
        f'pooling="{encoder.pooling}", '
        f"last_stride={encoder.last_stride}).eval()"
    )
    return _card_template().format(
        name=config.name,
        height=config.height,
        width=config.width,
        dim=encoder.dim,
        settings=settings,
        results=results,
        fingerprint=fingerprint,
        data=config.data,
        checked=checked,
        version=__version__,
        labels=result.get("labels", "pseudo labels"),
        build=build,
        backbone=encoder.name,
        weights=config.weights,
    )


def _card_template() -> str:
    return (
        resources.files("dkdmpl_kit.training") / "templates" / "model_card.md"
    ).read_text()
