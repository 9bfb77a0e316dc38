"""Features in a file, with the encoder that made them: embedded once, searched often."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dkdmpl_kit import __version__
from dkdmpl_kit.data import ImageStore
from dkdmpl_kit.data.files import expanded, printable, why_no_file
from dkdmpl_kit.data.rows import check_target, pyarrow_for
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import (
    Config,
    check_record,
    pick_device,
    preset,
    write_atomic,
)
from dkdmpl_kit.models import Encoder
from dkdmpl_kit.training.extraction import extract, resolve_auto
from dkdmpl_kit.training.optimisation import new_state
from dkdmpl_kit.training.outcome import load_encoder

SCHEMA = 1
ENDINGS = (".npz", ".parquet")
RECORD = {"schema": int, "kit": str, "encoder": dict, "root": str}
ENCODER = {"fingerprint": str, "backbone": str, "height": int, "width": int}
# what features of the same pictures by the same encoder depend on
SAME = ("fingerprint", "height", "width")
COLUMNS = {"camids": "camid", "pids": "pid", "splits": "split"}  # names in a table
UNIT = 1e-3  # how far from 1 the norm of a row may lie


@dataclass(frozen=True, eq=False)
class Features:
    """Features of N pictures, and where they come from.

    features  (N, d) float32, rows of norm 1
    paths     N names below `root`, with forward slashes, or whole paths
    camids    (N,) int64, -1 where the camera is unknown; pids (N,) int64, likewise the
              identity; splits, N of "", "query" and "gallery"
    encoder   what made them, by `encoder_record`
    root      the folder of the pictures; kit: the version that wrote the file
    """

    features: np.ndarray
    paths: tuple[str, ...]
    camids: np.ndarray
    pids: np.ndarray
    splits: tuple[str, ...]
    encoder: dict = field(repr=False)
    root: str = ""
    kit: str = __version__

    def __len__(self) -> int:
        return len(self.paths)

    def files(self) -> list[Path]:
        """Where the pictures lay when the features were made."""
        return [Path(self.root) / path for path in self.paths]

    def of_split(self, split: str) -> np.ndarray:
        """The indices (n,) int64 of one split's pictures."""
        return np.flatnonzero(np.array(self.splits, dtype=str) == split)


def features_of_pictures(
    features: np.ndarray,
    files: Sequence[Path],
    encoder: dict,
    root: str | Path,
    *,
    camids: np.ndarray | None = None,
    pids: np.ndarray | None = None,
    splits: Sequence[str] | None = None,
) -> Features:
    """`Features` of `files`, whose names are kept below `root`; what is not known is -1."""
    root = Path(root).absolute()
    files = [Path(file).absolute() for file in files]
    names = (f.relative_to(root) if f.is_relative_to(root) else f for f in files)
    unknown = np.full(len(files), -1, np.int64)
    return Features(
        features,
        tuple(name.as_posix() for name in names),
        unknown if camids is None else np.asarray(camids, np.int64),
        unknown if pids is None else np.asarray(pids, np.int64),
        tuple(splits or [""] * len(files)),
        encoder,
        str(root),
    )


def embed(
    paths: Sequence[str | Path],
    weights: str | Path = "bundled",
    *,
    run: str | Path | None = None,
    progress: bool = False,
    **settings,
) -> Features:
    """Features of the pictures at `paths`: embed(paths, weights="mine.pth").features is
    (N, d) float32, rows of norm 1.

    weights: as of `build_encoder`; or `run`, a run's folder, whose encoder and size of
    picture are used. settings: others of `Config`, such as backbone="resnet50",
    height=256, width=128, device="cpu". KitError: no paths, pictures that cannot be
    read, weights that do not fit, unknown settings.
    """
    files = [expanded(path) for path in paths]
    if not files:
        raise KitError("embed: there are no pictures; give at least one path.")
    if run is not None:
        if str(weights) != "bundled" or settings.keys() - {"device"}:
            raise KitError(
                f"embed: run={run} brings its own weights and settings: leave out weights "
                "and all settings but device."
            )
        config, encoder = load_encoder(run, device=settings.get("device"))
    else:
        config = preset("demo").replace(weights=str(weights), **settings)
        encoder = new_state(config, pick_device(config.device)).encoder
    store = ImageStore(files, config.height, config.width, keep=False)
    found = extract(config, encoder, store, progress=progress)
    return features_of_pictures(found, files, encoder_record(encoder, config), Path.cwd())


def encoder_fingerprint(encoder: nn.Module) -> str:
    """16 hex digits that name an encoder: SHA-256 over names, shapes and values of its
    parameters and buffers, and over what it does beside them. Device and memory format
    do not count.
    """
    about = [type(encoder).__name__]
    if isinstance(encoder, Encoder):
        known = encoder.describe()
        about += [f"{key}={known[key]}" for key in ("backbone", "pooling", "last_stride")]
    digest = hashlib.sha256(repr(about).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        if name.endswith("num_batches_tracked"):  # counts steps, and changes no feature
            continue
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        plain = tensor.detach().to("cpu", torch.float32).contiguous()
        digest.update(plain.numpy().tobytes())
    return digest.hexdigest()[:16]


def encoder_record(encoder: Encoder, config: Config) -> dict:
    """What a file of features says of its encoder: fingerprint, settings, picture size."""
    return {
        "fingerprint": encoder_fingerprint(encoder),
        **encoder.describe(),
        "height": config.height,
        "width": config.width,
        "precision": resolve_auto(config)[0].extraction_precision,
    }


def require_same_encoder(belongs: dict, encoder: dict, path: str | Path) -> None:
    """KitError unless two records are of one encoder, at one size of picture: `belongs` to
    the file `path`, and `encoder`, which is used now.
    """
    check_record(belongs, ENCODER, f"{printable(path)} (its 'encoder')")
    if all(belongs[name] == encoder[name] for name in SAME):
        return

    def told(record: dict) -> str:
        return (
            f"{record['backbone']} with weights {record.get('weights', 'unknown')} on "
            f"{record['height']} x {record['width']} pixels (fingerprint "
            f"{record['fingerprint']})"
        )

    raise KitError(
        f"{printable(path)} belongs to the encoder {told(belongs)}, but the queries would be "
        f"looked at by {told(encoder)}: give the same --run, or --backbone, --weights, "
        "--height and --width."
    )


def check_ending(path: str | Path) -> None:
    """KitError, before the work, unless a file of features may have this name here."""
    check_target(path, ENDINGS)


def save_features(path: str | Path, found: Features) -> Path:
    """Write a file of features, .npz or .parquet, whole or not at all.

    .npz: arrays features, paths, camids, pids, splits, and `record`, JSON. .parquet: a row
    a picture with the columns path, camid, pid, split, feature (a list of float32), the
    record under the key "dkdmpl" of the schema's metadata. The record: schema, kit (its
    version), encoder, root. KitError: another ending, pyarrow missing, no room.
    """
    path = Path(path)
    check_ending(path)
    record = {
        "schema": SCHEMA,
        "kit": found.kit,
        "encoder": found.encoder,
        "root": found.root,
    }
    text = json.dumps(record)
    buffer = io.BytesIO()
    if path.suffix == ".npz":
        np.savez(
            buffer,
            features=found.features,
            paths=np.array(found.paths, dtype=str),
            camids=found.camids,
            pids=found.pids,
            splits=np.array(found.splits, dtype=str),
            record=np.array(text),
        )
    else:
        _write_table(buffer, found, text, path)
    return write_atomic(path, buffer.getbuffer())  # no copy: galleries are large


def read_features(path: str | Path) -> Features:
    """Read what `save_features` wrote; KitError for any other, or a damaged, file."""
    path = Path(path)
    if why := why_no_file(path):
        raise KitError(f"{printable(path)} cannot be read: {why}.")
    check_ending(path)
    read = _read_arrays if path.suffix == ".npz" else _read_table
    try:
        arrays, text = read(path)
        record = json.loads(text)
    except KitError:
        raise
    except MemoryError:
        raise
    # readers of archives, arrays and tables raise many kinds for what is none
    except Exception as error:
        what = " ".join(str(error).split())[:200] or "it is empty"
        what = f"it has no {what}" if isinstance(error, KeyError) else what
        raise _damaged(path, what) from error
    check_record(record, RECORD, printable(path))
    check_record(record["encoder"], ENCODER, f"{printable(path)} (its 'encoder')")
    if record["schema"] != SCHEMA:
        raise KitError(
            f"{printable(path)} has schema {record['schema']}, and this kit "
            f"({__version__}) reads {SCHEMA}: embed the pictures anew."
        )
    return _checked(arrays, record, path)


def _checked(arrays: dict, record: dict, path: Path) -> Features:
    features = np.asarray(arrays["features"])
    n = len(features) if features.ndim == 2 else -1
    numbers = features.ndim == 2 and features.dtype.kind == "f" and features.size
    if not numbers or any(len(arrays[name]) != n for name in ("paths", *COLUMNS)):
        shapes = ", ".join(f"{name} {np.shape(array)}" for name, array in arrays.items())
        raise _damaged(path, f"its arrays do not fit together: {shapes}")
    if any(np.asarray(arrays[name]).dtype.kind not in "iu" for name in ("camids", "pids")):
        raise _damaged(path, "its cameras or identities are not whole numbers")
    norms = np.linalg.norm(features.astype(np.float32, copy=False), axis=1)
    if not (np.abs(norms - 1) <= UNIT).all():
        raise _damaged(path, "its features are not finite rows of norm 1")
    return Features(
        np.ascontiguousarray(features, np.float32),
        tuple(map(str, arrays["paths"])),
        np.asarray(arrays["camids"], np.int64),
        np.asarray(arrays["pids"], np.int64),
        tuple(map(str, arrays["splits"])),
        record["encoder"],
        record["root"],
        record["kit"],
    )


def _damaged(path: Path, why: str) -> KitError:
    return KitError(
        f"{printable(path)} was not written by the kit, or is damaged ({why}): embed the "
        "pictures anew."
    )


def _read_arrays(path: Path) -> tuple[dict, str]:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        raise ValueError("it is a single array")
    with loaded as file:
        arrays = {name: file[name] for name in ("features", "paths", *COLUMNS)}
        return arrays, str(file["record"])


def _write_table(buffer: io.BytesIO, found: Features, record: str, path: Path) -> None:
    pa = pyarrow_for(path, f"take a name that ends in {ENDINGS[0]}")
    flat = pa.array(found.features.ravel(), pa.float32())
    columns = {"path": list(found.paths)}
    columns |= {name: getattr(found, own) for own, name in COLUMNS.items()}
    columns["feature"] = pa.FixedSizeListArray.from_arrays(flat, found.features.shape[1])
    try:
        table = pa.table(columns)
    except UnicodeEncodeError as error:
        raise KitError(
            f"{printable(path)} cannot hold names of files that are not text: take a name "
            "that ends in .npz."
        ) from error
    table = table.replace_schema_metadata({"dkdmpl": record})
    pa.parquet.write_table(table, buffer)


def _read_table(path: Path) -> tuple[dict, str]:
    pa = pyarrow_for(path, f"take a name that ends in {ENDINGS[0]}")
    table = pa.parquet.read_table(path)
    record = (table.schema.metadata or {})[b"dkdmpl"].decode()
    feature = table["feature"].combine_chunks()
    arrays = {
        "features": feature.flatten().to_numpy().reshape(len(table), -1),
        "paths": table["path"].to_pylist(),
    }
    arrays |= {
        own: table[name].to_pylist() if name == "split" else table[name].to_numpy()
        for own, name in COLUMNS.items()
    }
    return arrays, record
