"""Speed and memory of the kit: `python -m benchmarks [--size small|full] [--only ...]`.

The groups are clustering, ranking, training, reading, lab and scale. Each row sets the
kit against something else within one run, for ratios travel between machines better
than seconds do: naive references of ours, and the published codes where
DKDMPL_CLUSTER_CONTRAST and DKDMPL_TORCHREID name checkouts of them (see peers.py).
Small takes under a minute, full about half an hour. Writes figures/benchmarks-SIZE.md,
.json and, with the curve of time and memory against the number of images, .png.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # the naive references are the tests' own

from benchmarks import clustering, lab, ranking, reading, scale, training  # noqa: E402
from dkdmpl_kit.errors import KitError  # noqa: E402
from dkdmpl_kit.experiment import environment, read_json, write_atomic, write_json  # noqa: E402
from dkdmpl_kit.viz import save_figure  # noqa: E402

GROUPS = {
    "clustering": clustering.rows,
    "ranking": ranking.rows,
    "training": training.rows,
    "reading": reading.rows,
    "lab": lab.rows,
}
COLUMNS = (
    "what",
    "seconds",
    "peak MB",
    "against",
    "its seconds",
    "its peak MB",
    "times faster",
    "found",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'|'.join('---' for _ in COLUMNS)}|"


def line(row: dict) -> str:
    """A measurement as a line of the table."""
    kit = row["kit"]
    other = row.get("other") or {}
    times = f"{other['seconds'] / kit['seconds']:.3g}" if other else "–"
    cells = [
        row["what"],
        _number(kit["seconds"]),
        _number(kit["peak_mb"]),
        row.get("against") or "–",
        _number(other.get("seconds")),
        _number(other.get("peak_mb")),
        times,
        row.get("agreement") or "–",
    ]
    return "| " + " | ".join(cells) + " |"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Measure, print each row as it comes, and write the files."""
    parser = argparse.ArgumentParser(
        "benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument(
        "--only", default="", help="some of the groups above; the others' rows are kept"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "figures")
    args = parser.parse_args()
    names = [*GROUPS, "scale"]
    chosen = args.only.split(",") if args.only else names
    unknown = sorted(set(chosen) - set(names))
    if unknown:
        parser.error(
            f"--only: there is no group {', '.join(unknown)}; choose from {', '.join(names)}"
        )
    path = args.out / f"benchmarks-{args.size}.json"
    found = read_json(path) if args.only and path.exists() else {"groups": {}}
    print(HEAD, flush=True)
    for name in GROUPS:
        if name not in chosen:
            continue
        found["groups"][name] = []
        for row in GROUPS[name](args.size):
            found["groups"][name].append(row)
            print(line(row), flush=True)
    if "scale" in chosen:
        found["scale"] = scale.curve(args.size)
        found["groups"]["scale"] = [scale.largest_row(found["scale"])]
        print(line(found["groups"]["scale"][0]))
    found["environment"] = environment()
    rows = [row for name in names for row in found["groups"].get(name, [])]
    table = "\n".join([HEAD, *map(line, rows)])
    write_atomic(path.with_suffix(".md"), table + "\n")
    write_json(path, found)
    if "scale" in chosen:
        save_figure(
            scale.picture(found["scale"]),
            path.with_name(f"{path.stem}-scale.png"),
            metadata={"scale": found["scale"]},
        )


if __name__ == "__main__":
    try:
        main()
    except KitError as error:
        sys.exit(f"benchmarks: {error}")
