"""Commands about one encoder: train, export; and what a preset is: recipe, cost."""

from __future__ import annotations

import argparse
import sys

from dkdmpl_kit.cli.extras import require
from dkdmpl_kit.cli.search import RUN
from dkdmpl_kit.cli.settings import ENCODER, EVERY, SIZE
from dkdmpl_kit.cli.shared import (
    SMOKE,
    add_settings,
    dataset_of,
    dry_run_of,
    encoder_of,
    real_config_of,
)
from dkdmpl_kit.errors import check_option


def add(command) -> None:
    """Declare this module's commands; `command(name, run, help, settings=...)` makes
    each one's parser.
    """
    sub = command("train", _train, "train one encoder without identities", uses=EVERY)
    sub.add_argument(
        "--resume", action="store_true", help="continue this run from its last whole epoch"
    )
    sub.add_argument(
        "--config",
        metavar="JSON",
        help="read all settings from a file, or from standard input (-)",
    )
    sub.add_argument(
        "--from-run",
        metavar="RUN",
        help="a new run with the settings and from the encoder of this finished one, for "
        "--epochs more",
    )
    sub.add_argument("--smoke", action="store_true", help=SMOKE)
    sub.add_argument(
        "--tensorboard",
        action="store_true",
        help="write each epoch's numbers to the run's folder tensorboard/",
    )

    sub = command(
        "export",
        _export,
        "an encoder as safetensors, torch.export and ONNX files with a model card",
    )
    sub.add_argument("--run", dest="run_folder", help=RUN)
    sub.add_argument("--out", required=True, help="a new folder to write to")
    sub.add_argument(
        "--normalise",
        choices=("inside", "outside"),
        default="inside",
        help="who subtracts the mean and divides by the deviation: the files, or who calls "
        "them, as many trackers do (default: %(default)s)",
    )
    sub.add_argument(
        "--threshold",
        metavar="JSON",
        help="the file that threshold wrote for this encoder, for model.json",
    )
    add_settings(sub, SIZE | ENCODER, reads=False)

    for name, run, help in (
        ("recipe", _recipe, "a paper preset beside Cluster Contrast's published settings"),
        ("cost", _cost, "pictures and FLOPs of a full run of a paper preset, counted"),
    ):
        sub = command(name, run, help)
        sub.add_argument("preset", nargs="?", help="such as paper-msmt17 (default: all four)")


def _train(args: argparse.Namespace) -> int:
    from dkdmpl_kit.experiment import pick_device
    from dkdmpl_kit.studies.needs import needs_table
    from dkdmpl_kit.training import fit, processes, reference_labels
    from dkdmpl_kit.training.tensorboard import tensorboard_writer

    real = real_config_of(args)
    config = dry_run_of(real, args) if args.smoke else real
    # under torchrun: several processes, of which the first one talks
    processes.start(pick_device(config.device))
    args.quiet = args.quiet or processes.rank() > 0
    dataset = processes.main_first(dataset_of, config, args)
    if args.smoke and processes.rank() == 0:
        print(needs_table(real, dataset))
    result = fit(
        config,
        dataset,
        reference_labels=reference_labels(config, dataset),
        resume=args.resume or args.smoke,
        progress=not args.quiet,
        on_epoch=tensorboard_writer(config.run_dir) if args.tensorboard else None,
    )
    if processes.rank() == 0:
        if result.encoder.remark:
            print(result.encoder.remark, file=sys.stderr)
        print(_measures_line(config.name, result.final), f"-> {result.run_dir}")
        if best := result.best:
            print(
                f"best measured epoch: {best['epoch']}, mAP {best['mAP']:.4g} (chosen "
                f"on {best['chosen_on']})"
            )
    return 0


def _measures_line(name: str, measures: dict) -> str:
    shown = [f"{key} {value:.4g}" for key, value in measures.items() if value is not None]
    missing = [key for key, value in measures.items() if value is None]
    return (
        f"{name}: "
        + ", ".join(shown)
        + (f" (not measurable here: {', '.join(missing)})" if missing else "")
    )


def _export(args: argparse.Namespace) -> int:
    require("onnx", "onnxscript")
    from dkdmpl_kit.training.export import check_export, export_encoder

    check_export(args.out, args.normalise, args.threshold)  # before the long part
    args.set_device = "cpu"  # wherever it was trained: the files are for any machine
    config, encoder = encoder_of(args)
    paths = export_encoder(
        config,
        encoder,
        args.out,
        normalise=args.normalise,
        threshold=args.threshold,
        run=args.run_folder,
    )
    if not args.quiet:
        for path in paths:
            print(f"wrote {path}")
    return 0


def _papers(args: argparse.Namespace) -> tuple[str, ...]:
    from dkdmpl_kit.studies.recipe import PAPER

    if args.preset is None:
        return PAPER
    check_option("preset", args.preset, PAPER)
    return (args.preset,)


def _recipe(args: argparse.Namespace) -> int:
    from dkdmpl_kit.studies.recipe import recipe_table

    print("\n\n".join(map(recipe_table, _papers(args))))
    return 0


def _cost(args: argparse.Namespace) -> int:
    from dkdmpl_kit.studies.recipe import cost_table

    print(cost_table(_papers(args)))
    return 0
