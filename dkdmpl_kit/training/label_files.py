"""Labels in a file that other programs open: one row a picture, .csv or .parquet."""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from dkdmpl_kit.data.files import printable
from dkdmpl_kit.data.rows import Rows, check_target, pyarrow_for, read_rows
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import write_atomic
from dkdmpl_kit.noise import LabelTable

ENDINGS = (".csv", ".parquet")
COLUMNS = {
    "path": "the picture, below the data's folder (root)",
    "cluster": "the pseudo label; -1 for an outlier",
    "camera": "as the files call it; empty where it is unknown",
    "similarity": "cosine to the own cluster's normalised mean; empty for an outlier",
    "quality": "centroid silhouette, -1 to 1, high where the label looks good; empty for an "
    "outlier",
    "nearest_cluster": "the other cluster with the most similar mean; -1 without any",
    "nearest_similarity": "cosine to that mean",
    "suspect": "true where that mean is more similar than the own one",
}
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute what begins so


def check_ending(path: str | Path) -> None:
    """KitError, before the work, unless labels may be written to a file of this name."""
    check_target(path, ENDINGS)


def check_names(names: Sequence[str], path: str | Path) -> None:
    """KitError, before the work, where a table of text cannot hold the name of a picture."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise KitError(
                f"{printable(path)} cannot hold the name of {printable(name)}, which is not "
                "text: rename the picture."
            ) from error


def save_labels(
    path: str | Path,
    table: LabelTable,
    names: Sequence[str],
    cameras: Sequence[str],
    record: dict,
) -> Path:
    """Write labels with the columns of `COLUMNS`, whole or not at all.

    names: N paths with forward slashes. cameras: N texts, "" where unknown. record: what a
    .parquet keeps under "dkdmpl" of its schema's metadata. A path in a .csv that a
    spreadsheet would compute begins with "./". KitError: another ending, no room.
    """
    path = Path(path)
    check_ending(path)
    check_names(names, path)
    if path.suffix == ".parquet":
        return write_atomic(path, _as_parquet(table, names, cameras, record, path))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    rows = zip(
        (safe_path(name) for name in names),
        table.cluster.tolist(),
        ("'" + camera if camera.startswith(FORMULA) else camera for camera in cameras),
        map(_cell, table.similarity.tolist()),
        map(_cell, table.quality.tolist()),
        table.nearest_cluster.tolist(),
        map(_cell, table.nearest_similarity.tolist()),
        ("true" if suspect else "false" for suspect in table.suspect.tolist()),
    )
    writer.writerows(rows)
    return write_atomic(path, text.getvalue())


def safe_path(name: str) -> str:
    """A path as a table's cell, which no spreadsheet takes for a formula."""
    return f"./{name}" if name.startswith(FORMULA) else name


def tidy(name: str) -> str:
    """A path as people write it -> as the kit names it: ./a//b.jpg is a/b.jpg."""
    return posixpath.normpath(name.strip()) if name.strip() else ""


def read_labels(path: str | Path) -> dict[str, int]:
    """{path: cluster} of a file of labels; other columns are not looked at.

    KitError: not such a table, a cluster that is not a whole number, a path twice.
    """
    rows = read_rows(Path(path))
    require_columns(rows, ("path", "cluster"))
    found: dict[str, int] = {}
    for at, (name, cluster) in enumerate(zip(rows.texts("path"), rows.texts("cluster"))):
        if name is None or cluster is None:
            raise KitError(f"{rows.place(at)} has no {'cluster' if name else 'path'}.")
        name = tidy(name)
        if name in found:
            raise KitError(
                f"{rows.place(at)} is the second one of {printable(name)}: keep one of them."
            )
        found[name] = whole_number(cluster, f"{rows.place(at)}: cluster")
    return found


def require_columns(
    rows: Rows, needed: Collection[str], known: Collection[str] | None = None
) -> None:
    """KitError where a table lacks a column that is `needed`, or has one that means
    nothing (`known`: all that may be there).
    """
    where = printable(rows.source)
    missing = [name for name in needed if name not in rows.columns]
    if missing:
        raise KitError(f"{where} has no column {missing[0]!r}: it needs {', '.join(needed)}.")
    strange = [name for name in rows.columns if known is not None and name not in known]
    for name in strange:
        # a spreadsheet keeps empty columns without a name
        if name.startswith("column ") and not any(rows.texts(name)):
            continue
        raise KitError(
            f"{where} has the column {printable(name)!r}, which means nothing here: its "
            f"columns may be {', '.join(known or ())}."
        )


def whole_number(text: str, what: str) -> int:
    """A cell as a whole number, 17.0 among them; KitError names `what` it should be."""
    try:
        number = float(text)
        if number != int(number):
            raise ValueError
    except (ValueError, OverflowError):
        raise KitError(
            f"{what} {printable(text)!r} must be a whole number, as in labels.csv."
        ) from None
    return int(number)


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6f}"


def _as_parquet(
    table: LabelTable, names: Sequence[str], cameras: Sequence[str], record: dict, path: Path
) -> memoryview:
    pa = pyarrow_for(path, f"take a name that ends in {ENDINGS[0]}")
    numbers = all(camera.isdecimal() or not camera for camera in cameras)
    kind = int if numbers else str
    columns = {
        "path": list(names),
        "cluster": table.cluster,
        "camera": [kind(camera) if camera else None for camera in cameras],
        "similarity": pa.array(table.similarity, from_pandas=True),
        "quality": pa.array(table.quality, from_pandas=True),
        "nearest_cluster": table.nearest_cluster,
        "nearest_similarity": pa.array(table.nearest_similarity, from_pandas=True),
        "suspect": table.suspect,
    }
    columns["camera"] = pa.array(columns["camera"], pa.int64() if numbers else pa.string())
    buffer = io.BytesIO()
    made = pa.table(columns).replace_schema_metadata({"dkdmpl": json.dumps(record)})
    pa.parquet.write_table(made, buffer)
    return buffer.getbuffer()
