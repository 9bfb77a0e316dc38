"""`dkdmpl`: a thin face over the library. Exit codes: 0 done, 1 a notebook or run failed, 2 bad input, 130 interrupted."""
from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import KitError
from .experiment import OPTIONS, PRESETS, Config, open_dataset, preset, read_json


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run one command; `KitError` becomes one sentence on standard error and exit code 2."""
    parser = _parser()
    args, unknown = parser.parse_known_args(argv)
    try:
        _refuse_unknown(unknown)
        return args.run(args) or 0
    except KitError as error:
        print(f"dkdmpl: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dkdmpl: interrupted; whole epochs are kept: the same command with --resume goes on.", file=sys.stderr)
        return 130


def _refuse_unknown(flags: Sequence[str]) -> None:
    """A misspelt flag is one sentence with the close ones."""
    if not flags:
        return
    known = ["--" + field.name.replace("_", "-") for field in dataclasses.fields(Config)]
    close = difflib.get_close_matches(flags[0], known, 3)
    hint = f"did you mean {' or '.join(close)}?" if close else "see dkdmpl COMMAND --help."
    raise KitError(f"There is no option {flags[0]}: {hint}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("dkdmpl", description="Dual knowledge distillation on multiview pseudo labels.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run, help: str, *, settings: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(run=run)
        if settings:
            _add_settings(sub)
        return sub

    sub = command("demo", _demo, "run all notebooks on the embedded data and write report.html")
    sub.add_argument("--out", default="runs/demo", help="folder for everything that is written (default: %(default)s)")
    sub.add_argument("--preset", default="demo", choices=sorted(PRESETS))

    sub = command("train", _train, "train one encoder without identities", settings=True)
    sub.add_argument("--resume", action="store_true", help="continue this run from its last whole epoch")
    sub.add_argument("--config", metavar="JSON", help="read all settings from a file, or from standard input (-)")

    sub = command("cluster", _cluster, "pseudo labels of an encoder's features for several eps", settings=True)
    sub.add_argument("--run", dest="run_folder", help="use the encoder of this run folder (default: untrained)")
    sub.add_argument("--eps-values", default="0.4,0.5,0.6,0.7", help="comma-separated (default: %(default)s)")

    sub = command("evaluate", _evaluate, "mAP, CMC and mINP of an encoder on a data set's test split", settings=True)
    sub.add_argument("--run", dest="run_folder", help="use the encoder of this run folder (default: untrained)")

    sub = command("rank", _rank, "rank your own gallery for your own query picture", settings=True)
    sub.add_argument("--query", required=True, help="a picture")
    sub.add_argument("--gallery", required=True, help="a folder of pictures")
    sub.add_argument("--run", dest="run_folder", help="use the encoder of this run folder (default: untrained)")
    sub.add_argument("--top", type=int, default=10)
    sub.add_argument("--sheet", default="ranking.png", help="the contact sheet to write (default: %(default)s)")

    _add_tools(command)
    return parser


def _add_tools(command) -> None:
    """The commands that are not about one encoder: data, notebooks, grids, reports."""
    sub = command("data", _data, "check a data set, or render the embedded one", settings=True)
    sub.add_argument("action", choices=("check", "render"))

    sub = command("notebooks", _notebooks, "run notebooks headless, rebuild them from their sources, write learner's copies "
                                           "without solutions, or slides of executed notebooks")
    sub.add_argument("action", choices=("run", "build", "learner", "slides"))
    sub.add_argument("names", nargs="*", help="such as 02_clustering (default: all, in order)")
    sub.add_argument("--out", help="folder to write to (default: runs/notebooks; for learner's copies: learner); slides are "
                                   "made of what `run` left there, and of what is run now")
    sub.add_argument("--folder", default=None, help="where the notebooks lie (default: notebooks/ of this checkout)")
    sub.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    sub.add_argument("--timeout", type=int, default=1800, help="seconds for one notebook (default: %(default)s)")

    sub = command("grid", _grid, "train every cell of a grid file, resumable, several at a time")
    sub.add_argument("file")
    sub.add_argument("--out", required=True)
    sub.add_argument("--jobs", type=int, default=1)
    sub.add_argument("--threads", type=int, default=1, help="threads of each job (default: %(default)s)")

    sub = command("robustness", _robustness, "how much label noise each loss bears: a small head on frozen features, resumable")
    sub.add_argument("--out", default="runs/robustness", help="folder for data, features and cells (default: %(default)s)")
    sub.add_argument("--seeds", type=int, default=3, help="seeds of each cell (default: %(default)s)")
    sub.add_argument("--publish", metavar="FOLDER", help="write records and figures there (default: figures/ below --out)")

    sub = command("report", _report, "one page, and one table, of all runs below a folder")
    sub.add_argument("folder")
    sub.add_argument("--publish", metavar="FOLDER", help="also write the records (JSON) and the figures there")


def _add_settings(sub: argparse.ArgumentParser) -> None:
    """Every field of `Config` as a flag; what is not given comes from the preset."""
    sub.add_argument("--preset", default="demo", choices=sorted(PRESETS),
                     help="where unset settings come from (default: %(default)s)")
    sub.add_argument("--skip-corrupt", action="store_true", help="go on without unreadable pictures, and count them")
    sub.add_argument("--allow-withdrawn", action="store_true", help="read DukeMTMC-reID although it was withdrawn")
    sub.add_argument("--quiet", action="store_true", help="no tables and progress bars")
    group = sub.add_argument_group("settings (see dkdmpl_kit.experiment.Config)")
    for field in dataclasses.fields(Config):
        if field.name != "preset":
            group.add_argument("--" + field.name.replace("_", "-"), dest="set_" + field.name, metavar="VALUE",
                               help=" | ".join(OPTIONS.get(field.name, (type(field.default).__name__,))))


def _settings(args: argparse.Namespace) -> dict:
    return {k.removeprefix("set_"): v for k, v in vars(args).items() if k.startswith("set_") and v is not None}


def _config(args: argparse.Namespace) -> Config:
    source = getattr(args, "config", None)
    if source:
        try:
            base = json.load(sys.stdin) if source == "-" else read_json(source)
        except ValueError as error:
            raise KitError(f"The settings in {source} are not valid JSON: {error}.") from error
        return Config().replace(**base.get("settings", base)).replace(**_settings(args))
    return preset(args.preset, **_settings(args))


def _dataset(config: Config, args: argparse.Namespace):
    """Open the data set, print its statistics, and drop corrupt pictures where that was asked for."""
    from .data import drop_corrupt

    dataset = open_dataset(config, allow_withdrawn=args.allow_withdrawn)
    if args.skip_corrupt:
        dataset, skipped = drop_corrupt(dataset, progress=not args.quiet)
        print(f"{len(skipped)} unreadable pictures left out" + "".join(f"\n  {path}" for path in skipped))
    if not args.quiet:
        print(dataset.summary())
    return dataset


def _encoder(args: argparse.Namespace) -> tuple[Config, object]:
    """The encoder of `--run`, with its settings unless a flag says otherwise; else the untrained one."""
    from .experiment import pick_device
    from .training import load_encoder, new_state

    if args.run_folder:
        config, encoder = load_encoder(args.run_folder)
        return config.replace(**_settings(args)), encoder
    config = _config(args)
    return config, new_state(config, pick_device(config.device)).encoder


def _demo(args: argparse.Namespace) -> int:
    from .notebooks import default_folder, run_notebooks
    from .report import write_report

    run_notebooks("all", notebooks_dir=default_folder(), out_dir=Path(args.out),
                  parameters={"preset": args.preset, "out_dir": str(Path(args.out).resolve()), "interactive": False})
    print(f"Open {write_report(Path(args.out))}")
    return 0


def _train(args: argparse.Namespace) -> int:
    from .training import fit

    config = _config(args)
    result = fit(config, _dataset(config, args), resume=args.resume, progress=not args.quiet)
    print(_measures_line(config.name, result.final), f"-> {result.run_dir}")
    return 0


def _measures_line(name: str, measures: dict) -> str:
    shown = [f"{key} {value:.4g}" for key, value in measures.items() if value is not None]
    missing = [key for key, value in measures.items() if value is None]
    return f"{name}: " + ", ".join(shown) + (f" (not measurable here: {', '.join(missing)})" if missing else "")


def _features(args: argparse.Namespace):
    from .data import ImageStore
    from .training import extract

    config, encoder = _encoder(args)
    dataset = _dataset(config, args)

    def of(paths):
        return extract(config, encoder, ImageStore(paths, config.height, config.width, progress=not args.quiet))

    return config, dataset, of


def _cluster(args: argparse.Namespace) -> int:
    from .clustering import jaccard_distances, pseudo_labels
    from .data import arrays_of
    from .neighbors import knn_graph
    from .noise import cluster_agreement

    config, dataset, of = _features(args)
    try:
        values = [float(v) for v in args.eps_values.split(",")]
    except ValueError:
        raise KitError(f"--eps-values={args.eps_values!r} should be numbers with commas, such as 0.5,0.6.") from None
    features = of(dataset.unlabelled().paths)
    graph = knn_graph(features, min(config.k1, len(features)), exact=config.knn == "exact", progress=not args.quiet)
    distances = jaccard_distances(graph, k1=config.k1, k2=config.k2, max_distance=max(config.max_distance, *values))
    pids = arrays_of(dataset.train)[1]
    print("  eps  clusters  outliers      ARI")
    for eps in values:
        found = pseudo_labels(distances, method=config.cluster_method, eps=eps, min_samples=config.min_samples)
        ari = cluster_agreement(found.labels, pids).ari
        print(f"{eps:5.2f} {found.n_clusters:9d} {found.outlier_fraction:9.1%} {'unknown' if ari is None else f'{ari:.3f}':>8}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from .data import arrays_of
    from .evaluation import evaluate_ranking

    config, dataset, of = _features(args)
    if not dataset.query or not dataset.gallery:
        raise KitError(f"{dataset.root} has no query and gallery with known identities, so there is nothing to evaluate.")
    (query, query_pids, query_cams), (gallery, gallery_pids, gallery_cams) = (
        arrays_of(split) for split in (dataset.query, dataset.gallery))
    result = evaluate_ranking(of(query), of(gallery), query_pids, gallery_pids, query_cams, gallery_cams)
    ranks = ", ".join(f"Rank-{k} {v:.1%}" for k, v in result.cmc.items())
    print(f"mAP {result.mAP:.1%}, {ranks}, mINP {result.mINP:.1%} over {result.n_valid_queries} queries")
    return 0


def _rank(args: argparse.Namespace) -> int:
    import numpy as np

    from . import viz
    from .data import ImageStore, read_dataset
    from .training import extract

    config, encoder = _encoder(args)
    folder = read_dataset("folder", args.gallery)
    paths = [image.path for split in (folder.train, folder.query, folder.gallery) for image in split]
    paths = sorted({p for p in paths if p.resolve() != Path(args.query).resolve()})
    stores = [ImageStore(p, config.height, config.width, progress=not args.quiet) for p in ([Path(args.query)], paths)]
    query, gallery = (extract(config, encoder, store) for store in stores)
    order = np.argsort(-(gallery @ query[0]), kind="stable")[: args.top]
    for place, index in enumerate(order, 1):
        print(f"{place:3d}  {gallery[index] @ query[0]:.3f}  {paths[index]}")
    figure = viz.ranking_grid(stores[0].batch([0]).numpy(), stores[1].batch(order).numpy()[None], None)
    viz.save_figure(figure, args.sheet, metadata={"query": args.query, "gallery": args.gallery, "run": args.run_folder})
    print(f"contact sheet: {args.sheet}")
    return 0


def _data(args: argparse.Namespace) -> int:
    from .data import drop_corrupt

    config = _config(args)
    dataset = open_dataset(config, allow_withdrawn=args.allow_withdrawn)
    print(f"{dataset.summary()}\nfingerprint {dataset.fingerprint()}\n{dataset.root}")
    if args.action == "check":
        skipped = drop_corrupt(dataset, progress=not args.quiet)[1]
        if skipped:
            raise KitError(f"{len(skipped)} unreadable pictures, the first is {skipped[0]}: mend them, or use --skip-corrupt.")
        print("every picture can be read")
    return 0


def _notebooks(args: argparse.Namespace) -> int:
    from .handouts import write_learner_copies, write_slides
    from .notebooks import build_notebooks, default_folder, run_notebooks
    from .report import write_report

    folder, names = Path(args.folder) if args.folder else default_folder(), args.names or "all"
    out = Path(args.out or ("learner" if args.action == "learner" else "runs/notebooks"))
    if args.action == "build":
        print("rebuilt: " + (", ".join(build_notebooks(folder)) or "nothing, all in step"))
        return 0
    if args.action == "learner":
        copies = write_learner_copies(names, folder, out)
        print(f"{len(copies)} notebooks without solutions in {out}: open {copies[0].name} there in JupyterLab.")
        return 0
    parameters = {name: _literal(value) for name, value in args.parameter}
    parameters.setdefault("out_dir", str(out.resolve()))
    if args.action == "slides":
        for page in write_slides(names, folder, out, parameters, timeout_s=args.timeout):
            print(f"Open {page}")
        return 0
    run_notebooks(names, notebooks_dir=folder, out_dir=out, parameters=parameters, timeout_s=args.timeout)
    print(f"Open {write_report(out)}")
    return 0


def _literal(text: str) -> object:
    """A parameter's value: JSON where it is (numbers, true, false), else the text itself."""
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        return text


def _grid(args: argparse.Namespace) -> int:
    from .grid import read_grid, run_grid
    from .results import collect_runs, markdown_table

    failed = run_grid(read_grid(args.file, args.out), jobs=args.jobs, threads=args.threads)
    print(markdown_table(collect_runs(args.out)))
    if failed:
        print(f"dkdmpl: failed: {', '.join(failed)}; see train.log in their folders below {args.out}/runs", file=sys.stderr)
    return 1 if failed else 0


def _robustness(args: argparse.Namespace) -> int:
    from .robustness import findings, publish, run

    records = run(args.out, seeds=range(args.seeds))
    written = publish(records, read_json(Path(args.out) / "robustness.json"), args.publish or Path(args.out) / "figures")
    print(findings(records), *(f"wrote {path}" for path in written), sep="\n")
    return 0


def _report(args: argparse.Namespace) -> int:
    from .report import write_report
    from .results import collect_runs, markdown_table, publish

    records = collect_runs(args.folder)
    if not records:
        raise KitError(f"There are no runs below {args.folder}/runs: train first, or give the folder that was --out.")
    print(markdown_table(records))
    if args.publish:
        for path in publish(records, Path(args.publish)):
            print(f"wrote {path}")
    print(f"Open {write_report(Path(args.folder))}")
    return 0
