"""A run's folder, its pictures, and the machine that it runs on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import shutil
import sys
from pathlib import Path

from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment.config import PLACE, Config
from dkdmpl_kit.experiment.files import read_record, write_json
from dkdmpl_kit.experiment.presets import as_config

STARTED = {  # the fields of a run's config.json
    "settings": dict,
    "fingerprint": str,
    "data_fingerprint": str,
}


def started(run_dir: Path) -> dict:
    """A run's config.json: {"settings", "fingerprint", "data_fingerprint"}, and "config",
    the settings as a `Config`. KitError where it is missing, damaged or edited.
    """
    path = run_dir / "config.json"
    found = read_record(path, STARTED)
    return {**found, "config": as_config(found["settings"], path)}


def open_run(
    config: Config, data_fingerprint: str, *, resume: bool, corrections: str = ""
) -> Path:
    """Create the run's folder with config.json and environment.json, or check that an
    existing one is the same run. corrections: the fingerprint of what they say.

    Nothing is overwritten: a folder that holds a run needs `resume`, and the same
    settings and data. Where not one epoch became whole there is nothing to lose, and
    the folder is free for other settings.
    """
    run_dir = config.run_dir
    marker = config.run_dir / "config.json"
    if marker.exists():
        found = read_record(marker, STARTED)
        begun = (run_dir / "checkpoint.json").exists()
        same = (
            found["fingerprint"] == config.fingerprint()
            and found["data_fingerprint"] == data_fingerprint
            and found.get("corrections_fingerprint", "") == corrections
        )
        if begun and not same:
            now = dataclasses.asdict(config)
            changed = [
                f"{k}={v!r} (now {now.get(k)!r})"
                for k, v in found["settings"].items()
                if now.get(k) != v and k not in (*PLACE, "data_root", "table", "corrections")
            ]
            if found.get("corrections_fingerprint", "") != corrections:
                changed.append("other corrections")
            raise KitError(
                f"{run_dir} already holds a run that was started with other settings "
                "or data "
                f"({', '.join(changed) or 'other pictures'}): choose another out_dir or "
                "run_name, or the same settings."
            )
        if begun and not resume:
            raise KitError(
                f"{run_dir} already holds a run: resume it (--resume), or choose "
                "another out_dir or run_name."
            )
        if same:
            return run_dir
        # the decoded pictures may be others now
        shutil.rmtree(run_dir / "cache", ignore_errors=True)
    write_json(run_dir / "environment.json", environment())
    write_json(
        marker,
        {
            "settings": dataclasses.asdict(config),
            "fingerprint": config.fingerprint(),
            "data_fingerprint": data_fingerprint,
            **({"corrections_fingerprint": corrections} if corrections else {}),
        },
    )
    return run_dir


def open_dataset(
    config: Config,
    *,
    allow_withdrawn: bool = False,
    skip_missing: bool = False,
    progress: bool = True,
):
    """The `ReIDDataset` that the configuration names; the embedded one is rendered on
    first use, with a progress bar. skip_missing: leave out rows of a table whose file is
    missing.
    """
    from dkdmpl_kit.data import read_dataset, synthetic_dataset

    if config.data == "synthetic":
        shape = {
            f: getattr(config, f)
            for f in (
                "n_train_ids",
                "n_test_ids",
                "n_cameras",
                "images_per_camera",
                "kind",
                "difficulty",
            )
        }
        tag = hashlib.sha256(json.dumps([shape, config.data_seed]).encode()).hexdigest()[:8]
        root = (
            config.data_root
            or Path(config.out_dir)
            / "data"
            / f"synthetic-{config.kind}-{config.difficulty}-{tag}"
        )
        return synthetic_dataset(root, seed=config.data_seed, progress=progress, **shape)
    if config.data == "table":
        if not config.table:
            raise KitError(
                "data='table' needs table: the .csv, .jsonl or .parquet that names the "
                "pictures (--table crops.csv)."
            )
        return read_dataset(
            "table",
            config.data_root or None,
            table=config.table,
            skip_missing=skip_missing,
        )
    if not config.data_root:
        raise KitError(
            f"data={config.data!r} needs data_root: the folder in which the data set lies."
        )
    return read_dataset(
        config.data,
        config.data_root,
        pattern=config.pattern or None,
        table=config.table or None,
        allow_withdrawn=allow_withdrawn,
    )


def pick_device(name: str) -> str:
    """`"auto"` is CUDA where there is one, else the CPU; other names are passed on to
    torch after a check.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise KitError(
            f"device={name!r} is no torch device; use cpu, cuda, cuda:1 or auto."
        ) from None
    found = {
        "cpu": lambda: 1,
        "cuda": torch.cuda.device_count,
        "mps": lambda: int(torch.backends.mps.is_available()),
        "xpu": lambda: torch.xpu.device_count() if torch.xpu.is_available() else 0,
    }
    if device.type not in found:
        raise KitError(
            f"device={name!r} is none that the kit runs on: use cpu, cuda, cuda:1 or auto."
        )
    count = found[device.type]()
    if not count:
        raise KitError(
            f"device={name!r}, but torch sees no {device.type.upper()} device here: use "
            "device=cpu or auto."
        )
    if (device.index or 0) >= count:
        raise KitError(
            f"device={name!r}, but torch sees {count} of them here, numbered from 0: use a "
            "lower number, cpu or auto."
        )
    return str(device)


def environment() -> dict[str, object]:
    """Versions and machine facts that go beside every result."""
    from importlib.metadata import PackageNotFoundError, version

    def of(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    import torch

    from dkdmpl_kit import __version__

    packages = (
        "torch",
        "torchvision",
        "timm",
        "numpy",
        "scipy",
        "scikit-learn",
        "umap-learn",
    )
    return {
        "python": platform.python_version(),
        "platform": sys.platform,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "packages": {"dkdmpl-kit": __version__} | {p: of(p) for p in packages},
    }
