"""How much label noise each loss bears: a small head on frozen features, trained on
true labels made wrong on purpose.

A head (linear layer, BNNeck, L2) on features of an encoder that does not move: a cell
takes seconds, so that rates, kinds of noise, methods and seeds can be crossed. It is
not a training of the whole encoder, and there is no clustering in it. Identities are
used to make the noisy labels and to measure; the head sees nothing but the noisy
labels, fixed for the run.
"""

from __future__ import annotations

import io
import itertools
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from dkdmpl_kit.data import ImageStore, ReIDDataset, arrays_of, augment, pk_batches
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.evaluation import evaluate_ranking
from dkdmpl_kit.experiment import (
    METHOD_LABELS,
    Config,
    environment,
    open_dataset,
    pick_device,
    preset,
    read_json,
    write_atomic,
    write_json,
)
from dkdmpl_kit.losses import anchor_features, dkdmpl_loss, teacher_logits, theory
from dkdmpl_kit.memory import ClusterMemory
from dkdmpl_kit.models import extract_features
from dkdmpl_kit.noise import inject_noise, label_report
from dkdmpl_kit.studies.results import spread
from dkdmpl_kit.training import learning_rate, new_state
from dkdmpl_kit.training.seeds import generator_for

METHODS = ("cluster_contrast", "gkd", "skd", "dkdmpl")
KINDS = ("symmetric", "look_alike", "camera_split")
RATES = (0.0, 0.15, 0.3, 0.45, 0.6)
SEEDS = (0, 1, 2)
# size of the head's features; augmented copies of each picture
DIM = 256
VIEWS = 2
_RECIPE = {
    "n_train_ids": 96,
    "n_test_ids": 96,
    "epochs": 15,
    "iterations": 30,
    "warmup_epochs": 0,
}


@dataclass(frozen=True, eq=False)
class FrozenFeatures:
    """Features of the untrained encoder, rows of norm 1: of the training pictures and
    of the test split's.

    plain (N, d); views (V, N, d): of augmented copies, drawn once; pids, camids (N,);
    query, gallery: each (features (M, d), pids (M,), camids (M,)); fingerprint: of the
    data.
    """

    plain: np.ndarray
    views: np.ndarray
    pids: np.ndarray
    camids: np.ndarray
    query: tuple[np.ndarray, np.ndarray, np.ndarray]
    gallery: tuple[np.ndarray, np.ndarray, np.ndarray]
    fingerprint: str


def frozen_features(
    config: Config, dataset: ReIDDataset, *, path: Path | None = None, progress: bool = False
) -> FrozenFeatures:
    """Extract them, or read them from `path` where they lie already. KitError without
    identities or a test split.
    """
    splits = {
        name: arrays_of(getattr(dataset, name)) for name in ("train", "query", "gallery")
    }
    if (
        not all(len(paths) for paths, _, _ in splits.values())
        or (splits["train"][1] < 0).any()
    ):
        raise KitError(
            "The robustness experiment makes true labels wrong and ranks a test split: "
            "it needs the identity of "
            "every training picture, a query and a gallery, and this data set lacks "
            "some."
        )
    names = (
        "backbone",
        "weights",
        "pooling",
        "last_stride",
        "height",
        "width",
        "flip",
        "padding",
        "erasing",
    )
    stamp = f"{dataset.fingerprint()} {VIEWS} {[getattr(config, name) for name in names]}"
    found = {}
    if path and path.exists():
        with np.load(path) as kept:
            found = dict(kept)
    if str(found.pop("stamp", "")) != stamp:
        found = _extract(
            config, {name: paths for name, (paths, _, _) in splits.items()}, progress
        )
        if path:
            buffer = io.BytesIO()
            np.savez(buffer, stamp=stamp, **found)
            write_atomic(path, buffer.getvalue())
    query, gallery = ((found[name], *splits[name][1:]) for name in ("query", "gallery"))
    return FrozenFeatures(
        found["train"],
        found["views"],
        *splits["train"][1:],
        query,
        gallery,
        dataset.fingerprint(),
    )


@torch.inference_mode()
def _extract(
    config: Config, paths: dict[str, tuple[Path, ...]], progress: bool
) -> dict[str, np.ndarray]:
    device = pick_device(config.device)
    encoder = new_state(config, device).encoder.eval()
    found = {}
    for name, files in paths.items():
        store = ImageStore(files, config.height, config.width, progress=False)
        found[name] = extract_features(encoder, store, device=device, progress=progress)
        if name == "train":
            draws = generator_for(config.data_seed, 0, "frozen views")
            chunks = np.array_split(np.arange(len(store)), -(-len(store) // 256))
            views = [
                torch.cat(
                    [
                        encoder(
                            augment(
                                store.batch(i),
                                draws,
                                flip=config.flip,
                                padding=config.padding,
                                erasing=config.erasing,
                            ).to(device)
                        )
                        .float()
                        .cpu()
                        for i in chunks
                    ]
                )
                for _ in tqdm(
                    range(VIEWS), desc="augmented copies", leave=False, disable=not progress
                )
            ]
            found["views"] = torch.stack(views).numpy()
    return found


class Head(nn.Module):
    """(B, d) -> (B, DIM) rows of norm 1: a linear layer without bias and a BNNeck
    (batch norm, its shift frozen at 0).
    """

    def __init__(self, inputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, DIM, bias=False)
        self.bnneck = nn.BatchNorm1d(DIM)
        self.bnneck.bias.requires_grad_(False)
        with torch.no_grad():
            self.linear.weight.copy_(
                torch.randn(DIM, inputs, generator=generator) / inputs**0.5
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.bnneck(self.linear(x)), dim=1)


def noisy_labels(
    frozen: FrozenFeatures, kind: str, rate: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(labels (N,) 0..K-1 without gaps, truth (N,): the label that each picture's
    identity has, -1 where it vanished).

    kind: "none" at rate 0, or a kind of `noise.inject_noise`; "look_alike" by the
    cosine of the frozen features.
    """
    true = np.unique(frozen.pids, return_inverse=True)[1]
    noisy = (
        true
        if kind == "none"
        else inject_noise(
            true,
            rate,
            kind=kind,
            seed=seed,
            features=frozen.plain if kind == "look_alike" else None,
            camids=frozen.camids if kind == "camera_split" else None,
        ).labels
    )
    names, labels = np.unique(noisy, return_inverse=True)
    place = np.searchsorted(names, true).clip(max=len(names) - 1)
    return labels, np.where(names[place] == true, place, -1)


def train_cell(frozen: FrozenFeatures, config: Config, kind: str, rate: float) -> dict:
    """Train one head by config's method, seed and settings; its test ranking, and P2's
    quantities, as plain numbers.

    "first" and "last": (eta, e_c, e_w, break_even) of the sample teacher after the
    first and the last epoch (`theory`), over the pictures whose true label exists. The
    rest of the loop is training.train_epoch's, on features for pictures.
    """
    started = time.perf_counter()
    labels, truth = noisy_labels(frozen, kind, rate, config.seed)
    plain = torch.from_numpy(frozen.plain)
    views = torch.from_numpy(frozen.views)
    y = torch.from_numpy(labels)
    head = Head(plain.shape[1], generator_for(config.seed, 0, "head"))
    optimiser = torch.optim.Adam(
        [p for p in head.parameters() if p.requires_grad], weight_decay=config.weight_decay
    )
    with torch.no_grad():
        head(plain)  # a first estimate for the batch norm's running statistics
    quality = {}
    for epoch in range(config.epochs):
        v = _encode(head, plain)
        memory = ClusterMemory(
            v, y, momentum=config.memory_momentum, update=config.memory_update
        )
        if epoch == 1:
            quality["first"] = _teacher_quality(
                memory, v, y, truth, config.teacher_temperature
            )
        _train_epoch(head, optimiser, memory, v, views, labels, frozen.camids, config, epoch)
    v = _encode(head, plain)
    quality["last"] = _teacher_quality(
        ClusterMemory(v, y), v, y, truth, config.teacher_temperature
    )
    (query, *query_ids), (gallery, *gallery_ids) = frozen.query, frozen.gallery
    ranking = evaluate_ranking(
        _encode(head, query),
        _encode(head, gallery),
        query_ids[0],
        gallery_ids[0],
        query_ids[1],
        gallery_ids[1],
    )
    return {
        "kind": kind,
        "rate": rate,
        "method": config.method,
        "seed": config.seed,
        "mAP": ranking.mAP,
        "rank1": ranking.cmc[1],
        "mINP": ranking.mINP,
        "first": quality.get("first", quality["last"]),
        "last": quality["last"],
        "wrong_after_matching": label_report(labels, frozen.pids).wrong_share,
        "seconds": round(time.perf_counter() - started, 2),
    }


def _train_epoch(
    head: Head,
    optimiser: torch.optim.Optimizer,
    memory: ClusterMemory,
    v: Tensor,
    views: Tensor,
    labels: np.ndarray,
    camids: np.ndarray,
    config: Config,
    epoch: int,
) -> None:
    gkd_weight, skd_weight = config.loss_weights(epoch)
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(config, epoch)
    draws = generator_for(config.seed, epoch, "views")
    head.train()
    for batch in pk_batches(
        labels,
        camids,
        clusters_per_batch=config.batch_clusters,
        images_per_cluster=config.batch_images,
        iterations=config.iterations,
        sampler="camera" if (camids >= 0).all() else "random",
        generator=generator_for(config.seed, epoch, "sampler"),
    ):
        y = torch.from_numpy(labels[batch])
        z = head(
            views[
                torch.randint(len(views), (len(batch),), generator=draws),
                torch.from_numpy(batch),
            ]
        )
        anchors = None
        if skd_weight:
            anchors = memory.logits(
                anchor_features(z, y, strategy=config.skd_anchor, generator=draws),
                config.temperature,
            )
        teacher = (
            teacher_logits(
                "sample",
                centroids=memory.centroids,
                features=v[batch],
                temperature=config.teacher_temperature,
            )
            if gkd_weight
            else None
        )
        loss = dkdmpl_loss(
            memory.logits(z, config.temperature),
            y,
            teacher_logits=teacher,
            anchor_logits=anchors,
            gkd_weight=gkd_weight,
            skd_weight=skd_weight,
            temperature=config.distillation_temperature,
            divergence=config.skd_divergence,
        )
        optimiser.zero_grad(set_to_none=True)
        loss.total.backward()
        optimiser.step()
        memory.update(z.detach(), y)


@torch.no_grad()
def _encode(head: Head, features: Tensor | np.ndarray) -> Tensor:
    return head.eval()(torch.as_tensor(features))


def _teacher_quality(
    memory: ClusterMemory, v: Tensor, y: Tensor, truth: np.ndarray, temperature: float
) -> dict[str, float]:
    seen = torch.from_numpy(truth >= 0)
    e = (
        teacher_logits(
            "sample", centroids=memory.centroids, features=v[seen], temperature=temperature
        )
        .double()
        .softmax(1)
    )
    eta, e_c, e_w = theory.teacher_quality(e, y[seen], torch.from_numpy(truth)[seen])
    return {
        "eta": eta,
        "e_c": e_c,
        "e_w": e_w,
        "break_even": theory.break_even(eta, e_c, e_w),
    }


def cells(
    rates=RATES, kinds=KINDS, methods=METHODS, seeds=SEEDS
) -> list[tuple[str, float, str, int]]:
    """(kind, rate, method, seed) of every cell, seeds outermost; without noise all
    kinds are one, "none".
    """
    conditions = ([("none", 0.0)] if 0 in rates else []) + [
        (kind, rate) for kind in kinds for rate in rates if rate
    ]
    return [
        (kind, rate, method, seed)
        for seed, (kind, rate), method in itertools.product(seeds, conditions, methods)
    ]


def run(out_dir: str | Path, *, seeds=SEEDS, progress: bool = True, **settings) -> list[dict]:
    """Train every cell that is not below out_dir/cells yet; the records of all.
    `settings` change the recipe's `Config`.

    Learning rate, epochs and size of the head were chosen with cluster contrast alone
    on other rendered identities (data_seed 100, seed 10); the weights of both
    distillations are the "teach" preset's, chosen on whole encoders.
    """
    out = Path(out_dir)
    config = preset("teach", out_dir=str(out), **_RECIPE).replace(**settings)
    dataset = open_dataset(config)
    about = {
        "fingerprint": config.fingerprint(),
        "data_fingerprint": dataset.fingerprint(),
        "head": [DIM, VIEWS],
    }
    marker = out / "robustness.json"
    if marker.exists() and {key: read_json(marker).get(key) for key in about} != about:
        raise KitError(
            f"{out} holds a robustness experiment with other settings or data: choose "
            "another --out."
        )
    stored = {
        name: value
        for name, value in asdict(config).items()
        if name not in ("out_dir", "data_root")
    }
    write_json(marker, about | {"settings": stored, "environment": environment()})
    frozen = frozen_features(config, dataset, path=out / "features.npz", progress=progress)
    records = []
    for kind, rate, method, seed in tqdm(
        cells(seeds=seeds), desc="robustness", unit="cell", disable=not progress
    ):
        path = out / "cells" / f"{kind}-{rate:.2f}-{method}-seed{seed}.json"
        if not path.exists():
            write_json(
                path, train_cell(frozen, config.replace(method=method, seed=seed), kind, rate)
            )
        records.append(read_json(path))
    return records


def gains(records: list[dict], measure: str = "mAP") -> list[dict]:
    """Each method less cluster contrast at the same condition and seed: one row a
    method and condition.

    {"method", "kind", "rate", "values" by seed, "mean", "half"}: half the width of the
    mean's 95 % t interval over the seeds (None from fewer than two), and "verdict":
    "helps" or "hurts" where it excludes 0, else "unclear".
    """
    from scipy.stats import t

    by_cell = {(r["kind"], r["rate"], r["method"], r["seed"]): r[measure] for r in records}
    rows = []
    for kind, rate, method in dict.fromkeys(
        (r["kind"], r["rate"], r["method"]) for r in records
    ):
        seeds = sorted(
            s
            for k, x, m, s in by_cell
            if (k, x, m) == (kind, rate, method) and (k, x, "cluster_contrast", s) in by_cell
        )
        if method == "cluster_contrast" or not seeds:
            continue
        found = spread(
            by_cell[kind, rate, method, s] - by_cell[kind, rate, "cluster_contrast", s]
            for s in seeds
        )
        n = len(seeds)
        half = None
        if n > 1:
            half = float(t.ppf(0.975, n - 1)) * found.deviation / n**0.5
        clear = half is not None and abs(found.mean) > half
        rows.append(
            {
                "method": method,
                "kind": kind,
                "rate": rate,
                "values": list(found.values),
                "mean": found.mean,
                "half": half,
                "verdict": ("helps" if found.mean > 0 else "hurts") if clear else "unclear",
            }
        )
    return rows


def margins_and_gains(
    records: list[dict], when: str = "first"
) -> list[tuple[str, float, float]]:
    """(kind, break-even margin of P2, gain of GKD in mAP) of every condition and seed
    that has both runs.

    The margin is the cluster contrast run's: what could be known without trying GKD.
    when: "first" or "last" epoch.
    """
    by_cell = {(r["kind"], r["rate"], r["seed"], r["method"]): r for r in records}
    return [
        (kind, r[when]["break_even"], by_cell[kind, rate, seed, "gkd"]["mAP"] - r["mAP"])
        for (kind, rate, seed, method), r in by_cell.items()
        if method == "cluster_contrast" and (kind, rate, seed, "gkd") in by_cell
    ]


def agreement(points: list[tuple[str, float, float]]) -> dict:
    """Does the margin predict the gain? Spearman's rho over the n points, the share of
    equal signs, and rho by kind.

    rho is None where it does not exist: fewer than three points, or one of the two
    never changes.
    """
    from scipy.stats import spearmanr

    def rho(chosen) -> float | None:
        margins, gained = (
            np.array(x) for x in ([p[1] for p in chosen], [p[2] for p in chosen])
        )
        if len(chosen) < 3 or np.ptp(margins) == 0 or np.ptp(gained) == 0:
            return None
        return float(spearmanr(margins, gained).statistic)

    kinds = {
        kind: [p for p in points if p[0] == kind]
        for kind in dict.fromkeys(p[0] for p in points)
    }
    return {
        "n": len(points),
        "rho": rho(points),
        "rho_by_kind": {kind: rho(chosen) for kind, chosen in kinds.items()},
        "same_sign": sum((m > 0) == (g > 0) for _, m, g in points),
        "above": sum(m > 0 for _, m, _ in points),
    }


def findings(records: list[dict]) -> str:
    """What the numbers say, in sentences: where each method helps and hurts, and
    whether P2's break-even predicted it.
    """
    rows = gains(records)
    seeds = len({r["seed"] for r in records})
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        parts = []
        for verdict in ("helps", "hurts"):
            found = [
                f"{_named(r['kind'], r['rate'])} {100 * r['mean']:+.2f} ± "
                f"{100 * r['half']:.2f}"
                for r in mine
                if r["verdict"] == verdict
            ]
            parts.append(
                f"{verdict} in {len(found)} of {len(mine)} conditions"
                + (f" ({', '.join(found)})" if found else "")
            )
        kinds = dict.fromkeys(r["kind"] for r in mine)
        means = {
            kind: np.mean([r["mean"] for r in mine if r["kind"] == kind]) for kind in kinds
        }
        lines.append(
            f"{METHOD_LABELS[method].removeprefix('+ ')} {' and '.join(parts)}. Mean gain in "
            "mAP points: "
            + ", ".join(f"{_named(kind)} {100 * mean:+.2f}" for kind, mean in means.items())
            + "."
        )
    lines.append(
        f"To help or hurt: the 95 % t interval of the difference over {seeds} seeds "
        "leaves out 0; elsewhere it "
        f"includes 0. Of {len(rows)} intervals about {0.05 * len(rows):.0f} would "
        "leave it out by chance alone."
        if seeds > 1
        else "One seed has no interval: nothing can be said to help or to hurt."
    )
    for when in ("first", "last"):
        found = agreement(margins_and_gains(records, when))
        by_kind = ", ".join(
            f"{_named(kind)} {_rho(rho)}"
            for kind, rho in found["rho_by_kind"].items()
            if kind != "none"
        )
        lines.append(
            f"P2's margin after the {when} epoch of cluster contrast, and GKD's gain "
            "in mAP: Spearman's rho "
            f"{_rho(found['rho'])} over n = {found['n']} pairs of runs; within one "
            f"kind of noise: {by_kind}. "
            f"Above break-even: {found['above']}; margin and gain of one sign: "
            f"{found['same_sign']} of {found['n']}."
        )
    lines.append(
        "The first of these margins is a forecast, the second is known only when "
        "training is over; points that share "
        "a seed or a rate are not independent."
    )
    return "\n".join(lines)


def _named(kind: str, rate: float = 0.0) -> str:
    return (
        "no noise"
        if kind == "none"
        else kind.replace("_", " ") + (f" {rate:.2f}" if rate else "")
    )


def _rho(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.2f}"


def by_rate(
    records: list[dict], measure: str = "mAP"
) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """{kind: {method: (rates (R,), values (S, R), NaN where not measured)}}; no noise
    is every kind's rate 0.
    """
    kinds = [
        kind for kind in dict.fromkeys(r["kind"] for r in records) if kind != "none"
    ] or ["none"]
    seeds = sorted({r["seed"] for r in records})
    table = {}
    for kind in kinds:
        chosen = [r for r in records if r["kind"] in (kind, "none")]
        rates = np.array(sorted({r["rate"] for r in chosen}))
        table[kind] = {}
        for method in dict.fromkeys(r["method"] for r in chosen):
            values = np.full((len(seeds), len(rates)), np.nan)
            for r in chosen:
                if r["method"] == method:
                    values[seeds.index(r["seed"]), np.searchsorted(rates, r["rate"])] = r[
                        measure
                    ]
            table[kind][method] = (rates, values)
    return table


def publish(records: list[dict], about: dict, folder: str | Path) -> list[Path]:
    """Write records.json, findings.txt and both figures with what made them; `about`:
    settings, versions, fingerprint.
    """
    from dkdmpl_kit import viz

    folder = Path(folder)
    text = (
        "A head (linear layer, BNNeck) on frozen features, trained on true labels made "
        "wrong on purpose, ranked on other "
        "identities: not a training of the whole encoder.\n" + findings(records)
    )
    figures = {
        "robustness": viz.noise_panels(by_rate(records), gains(records)),
        "break_even": viz.margin_gain(
            {when: margins_and_gains(records, when) for when in ("first", "last")}
        ),
    }
    kept = json.dumps({"about": about, "records": records}, separators=(",", ":"))
    written = [
        write_atomic(folder / "records.json", kept + "\n"),
        write_atomic(folder / "findings.txt", text + "\n"),
    ]
    meta = about | {
        "caption": text.replace("\n", " "),
        "seeds": sorted({r["seed"] for r in records}),
    }
    return written + [
        viz.save_figure(figure, folder / f"{name}.png", metadata=meta)
        for name, figure in figures.items()
    ]
