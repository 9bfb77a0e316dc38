"""What `dkdmpl adapt` does to encoders, and which criterion without truth follows mAP.

python -m benchmarks.adapt OUT NAME [--data market1501 --data-root ROOT ...] [--seeds 0,1]

Adapts once a seed, as the command does, to the training pictures of a data set whose test
split has identities; then ranks the test split with the start, with what was kept and, with
--every-state, with the encoder after each epoch. Appends a row a seed to OUT (JSON lines):
mAP, Rank-1, the guard's evidence, minutes, settings, data fingerprint. --part 10 adapts to
a tenth of the training pictures, drawn by the seed.

python -m benchmarks.adapt OUT --summary judges the recorded evidence of OUT by the guard as
it is now, so that rows of an earlier rule say what this one keeps (a state that was not
ranked is an error), prints the table and, for every criterion,
Spearman's rank correlation of its change with the change of mAP over all states, and how
often a sure rise or fall had the sign of mAP's. --publish DIR writes the rows and the
picture of both to DIR as adapt.json and adapt.png.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

import numpy as np

from dkdmpl_kit.data import ImageStore, ReIDDataset, arrays_of
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.evaluation import evaluate_ranking
from dkdmpl_kit.experiment import (
    Config,
    environment,
    open_dataset,
    preset,
    write_atomic,
    write_json,
)
from dkdmpl_kit.training import extract, load_encoder, new_state
from dkdmpl_kit.training.adaptation import Adaptation, adapt
from dkdmpl_kit.training.guard import judged_state, verdict
from dkdmpl_kit.training.precision import peak_memory_mb
from dkdmpl_kit.training.seeds import seed_everything

PLACES = ("data_root", "weights", "table")
CRITERIA = ("stability", "mixing", "across", "mutual")


def measured(encoder, config: Config, dataset: ReIDDataset) -> dict[str, float]:
    """{"mAP", "rank1"} in percent of the test split."""
    paths, pids, camids = arrays_of((*dataset.query, *dataset.gallery))
    store = ImageStore(paths, config.height, config.width, keep=False, progress=False)
    features = extract(config, encoder, store)
    n = len(dataset.query)
    halves = (part for array in (features, pids, camids) for part in (array[:n], array[n:]))
    found = evaluate_ranking(*halves)
    return {"mAP": 100 * found.mAP, "rank1": 100 * found.cmc[1]}


def states_measured(found: Adaptation, dataset: ReIDDataset, every: bool) -> dict[int, dict]:
    """{epochs of training: `measured`} of the start, of what was kept and, where asked
    for, of every state.
    """
    from safetensors.torch import load_file

    config = found.config
    known = [state.epoch for state in found.verdict.judged]
    rows = {}
    for epoch in known if every else sorted({0, found.verdict.epoch}):
        seed_everything(config.seed)
        encoder = new_state(config, config.device).encoder
        if epoch:
            path = config.run_dir / "states" / f"epoch_{epoch:03d}.safetensors"
            encoder.load_state_dict(load_file(path))
        rows[epoch] = measured(encoder, config, dataset)
    kept = measured(load_encoder(found.run_dir)[1], config, dataset)
    if kept != rows[found.verdict.epoch]:
        raise KitError(f"{found.run_dir} does not hold the state that was chosen.")
    return rows


def row_of(name: str, config: Config, given: dict, args: argparse.Namespace) -> dict:
    """Adapt and measure once."""
    dataset = open_dataset(config, progress=False)
    if args.part > 1:
        n = len(dataset.train)
        drawn = np.random.default_rng(config.seed).choice(n, n // args.part, replace=False)
        train = tuple(dataset.train[index] for index in np.sort(drawn))
        dataset = dataclasses.replace(dataset, train=train)
    began = time.time()
    found = adapt(config, dataset, given=given, resume=True, progress=False, tell=print)
    minutes = (time.time() - began) / 60
    print(found.verdict.sentence)
    peak = peak_memory_mb()
    rows = states_measured(found, dataset, args.every_state)
    start, kept = rows[0], rows[found.verdict.epoch]
    print(f"{name}: mAP {start['mAP']:.1f} -> {kept['mAP']:.1f}", flush=True)
    return {
        "name": name,
        "seed": config.seed,
        "pictures": len(dataset.train),
        "start": start,
        "kept": kept,
        "minutes": minutes,
        "peak_memory_mb": peak,
        **found.verdict.record(),
        "measured": {str(epoch): row for epoch, row in rows.items()},
        "choices": {choice.name: choice.value for choice in found.choices},
        # names alone: a row tells nothing of the machine's folders
        "given": {k: Path(v).name if k in PLACES else v for k, v in given.items()},
        "data_fingerprint": dataset.fingerprint(),
        "environment": environment(),
    }


def pairs(rows: list[dict]) -> list[tuple[dict, float]]:
    """(a state's judgement, its change of mAP) of all measured states but the starts."""
    return [
        (state, row["measured"][str(state["epoch"])]["mAP"] - row["start"]["mAP"])
        for row in rows
        for state in row["states"]
        if state["epoch"] and str(state["epoch"]) in row["measured"]
    ]


def rejudged(row: dict) -> dict:
    """The row, with the choice that the present guard makes of its evidence. KitError: the
    state it keeps was not measured.
    """
    states = [judged_state(s["epoch"], s["means"], s["changes"]) for s in row["states"]]
    found = verdict(states)
    kept = row["measured"].get(str(found.epoch))
    if kept is None:
        raise KitError(
            f"{row['name']}, seed {row['seed']}: the guard now keeps epoch {found.epoch}, which "
            "was not measured; run it with --every-state."
        )
    return row | found.record() | {"kept": kept, "first_judged": row["chosen_epoch"]}


def summary(rows: list[dict]) -> str:
    """The table, and what each criterion is worth."""
    from scipy.stats import spearmanr

    lines = [
        "| set | seed | mAP % before | after | Rank-1 % before | after | kept | minutes |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in rows:
        start, kept = row["start"], row["kept"]
        epoch = f"epoch {row['chosen_epoch']}" if row["chosen_epoch"] else "the start"
        lines.append(
            f"| {row['name']} | {row['seed']} | {start['mAP']:.1f} | {kept['mAP']:.1f} | "
            f"{start['rank1']:.1f} | {kept['rank1']:.1f} | {epoch} | {row['minutes']:.1f} |"
        )
    lines += ["", "| criterion | states | rho with the change of mAP | sure and right |"]
    lines.append("|---|---|---|---|")
    for name in CRITERIA:
        known = [
            (s["changes"][name], gain) for s, gain in pairs(rows) if name in s["changes"]
        ]
        if len(known) < 3:
            continue
        rho = spearmanr([change[0] for change, _ in known], [gain for _, gain in known])[0]
        sure = [
            (low > 0) == (gain > 0) for (_, low, high), gain in known if low > 0 or high < 0
        ]
        lines.append(f"| {name} | {len(known)} | {rho:.2f} | {sum(sure)} of {len(sure)} |")
    return "\n".join(lines)


def publish(rows: list[dict], folder: Path) -> None:
    """The rows, and the picture of what each criterion is worth, to files."""
    from dkdmpl_kit import viz

    states = [(row["name"], *pair) for row in rows for pair in pairs([row])]
    changes = {
        name: [s["changes"].get(name, [float("nan")])[0] for _, s, _ in states]
        for name in CRITERIA
    }
    gains, sets = [gain for *_, gain in states], [name for name, *_ in states]
    figure = viz.criteria_against_gain(
        changes, gains, sets, title="Does a criterion without truth follow mAP?"
    )
    about = {"states": len(states), "trainings": len(rows), "environment": environment()}
    viz.save_figure(figure, folder / "adapt.png", metadata=about)
    write_json(folder / "adapt.json", about | {"rows": rows})


def main(argv: list[str] | None = None) -> int:
    """Run the module's command line."""
    parser = argparse.ArgumentParser("benchmarks.adapt", description=__doc__)
    parser.add_argument("out", type=Path, help="JSON lines to append to")
    parser.add_argument("name", nargs="?", help="what the rows are called")
    parser.add_argument("--summary", action="store_true")
    parser.add_argument("--publish", type=Path, metavar="DIR", help="with --summary")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--part", type=int, default=1)
    parser.add_argument("--every-state", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("runs/adapt-benchmark"))
    parser.add_argument(
        "settings", nargs="*", metavar="NAME=VALUE", help="settings of Config as name=value"
    )
    args = parser.parse_intermixed_args(argv)
    rows = (
        [json.loads(line) for line in args.out.read_text().splitlines()]
        if (args.out.exists())
        else []
    )
    if args.summary:
        rows = [rejudged(row) for row in rows]
        print(summary(rows))
        if args.publish:
            publish(rows, args.publish)
        return 0
    given = dict(setting.split("=", 1) for setting in args.settings)
    for seed in args.seeds.split(","):
        place = args.work / f"{args.name}-{seed}"
        config = preset("demo", **given, seed=seed, out_dir=str(place))
        rows.append(row_of(args.name, config, given, args))
        write_atomic(args.out, "".join(json.dumps(row) + "\n" for row in rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
