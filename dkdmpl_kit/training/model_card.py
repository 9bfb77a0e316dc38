"""The model card of an exported encoder."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path

from dkdmpl_kit import __version__
from dkdmpl_kit.data.files import printable
from dkdmpl_kit.experiment import Config, read_record
from dkdmpl_kit.models import Encoder

# of the card; config.json has all
SETTINGS = (
    "backbone",
    "weights",
    "normalisation",
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


def model_card(
    config: Config,
    encoder: Encoder,
    handover: dict,
    differences: dict[str, float],
    about: dict[str, str],
    *,
    at: str = "",
) -> str:
    """README.md of an exported folder: front matter for the Hugging Face Hub, then text.

    handover: the content of model.json; differences: {file's ending: largest difference of
    a feature}; about: what `about_training` says; at: how the threshold was found.
    """
    checked = ", ".join(f"model.{name} {value:.1e}" for name, value in differences.items())
    build = (
        f'build_encoder("{encoder.name}", weights="model.safetensors", '
        f'pooling="{encoder.pooling}", '
        f"last_stride={encoder.last_stride}"
        f"{f', size={encoder.size}' if encoder.size else ''}).eval()"
    )
    outside = handover["normalisation"] == "outside"
    threshold = "none: find one for your pictures with `dkdmpl threshold`"
    if handover["threshold"] is not None:
        threshold = f"{handover['threshold']:.4f}, at {_cell(at)}"
    return _template("model_card").format(
        tags="\n".join(f"- {json.dumps(tag)}" for tag in _tags(encoder)),
        height=config.height,
        width=config.width,
        dim=encoder.dim,
        range=(
            "RGB in [0, 1], minus the mean, divided by the deviation (below)"
            if outside
            else "RGB in [0, 1]"
        ),
        where="by the caller" if outside else "inside",
        mean=handover["mean"],
        std=handover["std"],
        threshold=threshold,
        checked=checked,
        version=__version__,
        build=build,
        backbone=_cell(encoder.name),
        weights=_cell(_weights_of(config)),
        **about,
    )


def about_training(config: Config, encoder: Encoder, run: str | Path | None) -> dict:
    """{name, origin, about}: what the card says of a run's training and results; of weights
    that the kit did not train (run None), that it did not. KitError: a damaged run.
    """
    if run is None:
        return {
            "name": _cell(encoder.name),
            "origin": f"Exported by dkdmpl-kit {__version__}, which did **not** train it: its "
            "weights are the starting weights.",
            "about": _template("untrained"),
        }
    run = Path(run)
    result = {"final": {}}
    if (run / "result.json").exists():
        result = read_record(run / "result.json", {"final": dict})
    started = read_record(run / "config.json", {"data_fingerprint": str})
    rows = [
        f"| {_cell(name)} | {value:.4g} |"
        for name, value in result["final"].items()
        if isinstance(value, (int, float))
    ]
    shown = {name: getattr(config, name) for name in SETTINGS}
    shown["weights"] = _weights_of(config)
    return {
        "name": _cell(config.name),
        "origin": f"Trained with dkdmpl-kit {__version__} on "
        f"{_cell(result.get('labels', 'pseudo labels'))}.",
        "about": _template("trained").format(
            results="\n".join(rows) or "| none yet: the run was cut | |",
            data=_cell(config.data),
            fingerprint=_cell(started["data_fingerprint"]),
            settings="\n".join(f"| {n} | {_cell(value)} |" for n, value in shown.items()),
        ),
    }


def _weights_of(config: Config) -> str:
    """The starting weights' name, without folders of this machine."""
    return Path(config.weights).name if os.sep in config.weights else config.weights


def _tags(encoder: Encoder) -> list[str]:
    return ["re-identification", "image-feature-extraction", "onnx", encoder.name]


def _cell(value: object) -> str:
    """A value in a table or a line of Markdown, where it stands for itself."""
    text = printable(value)
    for letter in "\\`*|[<":
        text = text.replace(letter, f"\\{letter}")
    return text


def _template(name: str) -> str:
    folder = resources.files("dkdmpl_kit.training") / "templates"
    return (folder / f"{name}.md").read_text()
