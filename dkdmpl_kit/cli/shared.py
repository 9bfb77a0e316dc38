"""What the commands share: settings as flags, the data set, the encoder."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Collection
from pathlib import Path

from dkdmpl_kit.cli.settings import (
    EVERY,
    OF_THE_RUN,
    flag_of,
    refuse_meaningless,
    refuse_of_the_run,
)
from dkdmpl_kit.data.files import expanded
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import (
    OPTIONS,
    PRESETS,
    Config,
    as_config,
    open_dataset,
    preset,
    read_json,
    smoke,
    started,
)

PRESET = "demo"  # where neither --preset nor --config is given
SMOKE = (
    "a dry run of the same settings: one epoch of two small batches of small pictures; the "
    "run's name says so"
)


def add_settings(
    sub: argparse.ArgumentParser,
    uses: Collection[str] = EVERY,
    *,
    reads: bool = True,
    presets: bool = True,
) -> None:
    """The fields of `Config` that a command `uses` as flags; what is not given comes from
    the preset, or without `presets` from the command itself. reads: it opens pictures that
    someone else made.
    """
    if presets:
        sub.add_argument(
            "--preset",
            choices=sorted(PRESETS),
            help=f"where unset settings come from (default: {PRESET})",
        )
    if reads:
        sub.add_argument(
            "--skip-corrupt",
            action="store_true",
            help="go on without unreadable pictures, and count them",
        )
    if reads and "data" in uses:
        sub.add_argument(
            "--allow-withdrawn",
            action="store_true",
            help="read DukeMTMC-reID although it was withdrawn",
        )
    sub.add_argument("--quiet", action="store_true", help="no tables and progress bars")
    group = sub.add_argument_group(
        "settings, in brackets the value where the preset has none"
    )
    for field in dataclasses.fields(Config):
        if field.name in uses:
            group.add_argument(
                flag_of(field.name),
                dest="set_" + field.name,
                metavar="VALUE",
                help=_help_of(field).replace("%", "%%"),
            )


# of the settings that most people set; METHOD.md and Config tell of the others
MEANINGS = {
    "data": "synthetic (rendered), market1501, dukemtmcreid, msmt17, veri776, "
    "folder: a plain folder of crops, or table: what a table names",
    "data_root": "the folder in which the data set lies",
    "table": "data=table: a .csv, .jsonl or .parquet with the paths of pictures",
    "pattern": "data=folder: a regex with groups pid and camid",
    "backbone": "a timm model, resnet50_ibn_a, osnet_x0_25 or another OSNet",
    "weights": "bundled, imagenet (from timm's hub), random, or a file",
    "eps": "DBSCAN's radius, a Jaccard distance",
    "corrections": "a table of a person's corrections, which every clustering keeps to",
    "min_samples": "neighbours that make a picture a core of a cluster",
    "k1": "neighbours of the k-reciprocal sets",
    "epochs": "turns of the loop: cluster, then train",
    "iterations": "batches an epoch",
    "batch_clusters": "clusters in a batch",
    "batch_images": "pictures of each of them",
    "accumulation": "parts in which a batch is passed, for less memory",
    "samples_per_bn": "pictures that share batch-norm statistics; 0: the whole batch",
    "device": "cpu, cuda, or auto",
    "out_dir": "where everything is written",
    "run_name": "the run's folder below out_dir/runs",
}


def _help_of(field: dataclasses.Field) -> str:
    """What a setting means or may be, and in brackets its value where neither flag nor
    preset gives one.
    """
    values = " | ".join(OPTIONS.get(field.name, ())) or MEANINGS.get(
        field.name, type(field.default).__name__
    )
    return f"{values} [{field.default}]" if field.default != "" else values


def settings_of(args: argparse.Namespace) -> dict:
    """The settings that were given as flags, {name: text}."""
    return {
        k.removeprefix("set_"): v
        for k, v in vars(args).items()
        if k.startswith("set_") and v is not None
    }


def at_home(args: argparse.Namespace) -> None:
    """Expand ~ in all that a command was given, which shells leave in --flag=~/path.

    Settings are left alone: `Config` knows which of them are paths.
    """

    def expand(value):
        if isinstance(value, list):
            return [expand(item) for item in value]
        is_path = isinstance(value, (str, Path)) and str(value).startswith("~")
        return type(value)(expanded(value)) if is_path else value

    for name, value in vars(args).items():
        if not name.startswith("set_"):
            setattr(args, name, expand(value))


def config_of(args: argparse.Namespace) -> Config:
    """The `Config` of a command: `real_config_of`, cut down where it is a dry run."""
    config = real_config_of(args)
    return dry_run_of(config, args) if getattr(args, "smoke", False) else config


def real_config_of(args: argparse.Namespace) -> Config:
    """A command's preset, --config file or --from-run, with the flags applied, at its real
    size.
    """
    source = getattr(args, "config", None)
    given = settings_of(args)
    finished = getattr(args, "from_run", None)
    if finished and (source or args.preset):
        raise KitError(
            f"--from-run {finished} brings the settings of its run: leave out "
            f"{'--config' if source else '--preset'}, and give single settings as flags."
        )
    if source and args.preset:
        raise KitError(
            f"--preset {args.preset} and --config {source} are two answers to one "
            "question: give one."
        )
    if finished:
        from dkdmpl_kit.training import continued

        config = continued(finished, **given)
    else:
        base = settings_in(source) if source else preset(args.preset or PRESET)
        config = base.replace(**given)
    refuse_meaningless(config, given)
    return config


def dry_run_of(config: Config, args: argparse.Namespace) -> Config:
    """The dry run of a command with `config`: sizes that were asked for stay, and the name
    tells of all settings.
    """
    dry = smoke(config)
    given = settings_of(args) | {"run_name": dry.run_name}
    return named_and_weighted(dry.replace(**given))


def settings_in(source: str) -> Config:
    """The `Config` of a JSON file, or of standard input (-): an object of settings, or a
    run's config.json. KitError says what else it is.
    """
    if source == "-":
        try:
            found = json.loads(sys.stdin.read())
        except (ValueError, RecursionError) as error:
            raise KitError(
                f"The settings in {source} are not valid JSON: {error}."
            ) from error
    else:
        if not os.path.lexists(source):
            raise KitError(f"There is no settings file {source}: give a JSON file, or -.")
        found = read_json(source)
    settings = found.get("settings", found) if isinstance(found, dict) else found
    if not isinstance(settings, dict):
        raise KitError(
            f"The settings in {source} are not an object {{name: value}}, such as "
            '{"preset": "smoke", "eps": 0.5}, or the config.json of a run.'
        )
    return as_config(settings, source)


def named_and_weighted(config: Config) -> Config:
    """A dry run whose name says so, with random weights where timm's hub cannot be had."""
    from dkdmpl_kit.models import build_encoder

    if config.weights == "imagenet":
        try:
            build_encoder(config.backbone, weights="imagenet")
        except KitError as error:
            print(f"dry run with random weights: {error}", file=sys.stderr)
            config = config.replace(weights="random")
    return config.replace(run_name=f"smoke-{config.name.removeprefix('smoke-')}")


def dataset_of(config: Config, args: argparse.Namespace):
    """Open the data set, print its statistics, and drop corrupt pictures where that was
    asked for.
    """
    from dkdmpl_kit.data import drop_corrupt

    dataset = open_dataset(
        config,
        allow_withdrawn=args.allow_withdrawn,
        skip_missing=args.skip_corrupt,
        progress=not args.quiet,
    )
    if args.skip_corrupt:
        dataset, skipped = drop_corrupt(dataset, progress=not args.quiet)
        print(
            f"{len(skipped)} unreadable pictures left out"
            + "".join(f"\n  {path}" for path in skipped)
        )
    if not args.quiet:
        print(dataset.summary())
    return dataset


def encoder_of(args: argparse.Namespace) -> tuple[Config, object]:
    """The encoder of `--run`, with its settings unless a flag says otherwise; else the
    untrained one.
    """
    from dkdmpl_kit.experiment import pick_device
    from dkdmpl_kit.training import load_encoder, new_state

    if args.run_folder:
        given = settings_of(args)
        run = started(Path(args.run_folder))["config"]
        refuse_of_the_run(args, run, given)
        config, encoder = load_encoder(args.run_folder, device=given.get("device"))
        for name in given.keys() & OF_THE_RUN:
            given.pop(name)
        if given.get("data", config.data) != config.data:
            # the place, the file names and the corrections of other pictures than the run's
            config = config.replace(data_root="", table="", pattern="", corrections="")
        config = config.replace(**given)
        refuse_meaningless(config, given)
        return config, encoder
    config = config_of(args)
    encoder = new_state(config, pick_device(config.device)).encoder
    if encoder.remark and not args.quiet:
        print(encoder.remark, file=sys.stderr)
    return config, encoder


def features_of(args: argparse.Namespace):
    """(config, data set, paths -> features (N, d)) with the encoder that the command
    names.
    """
    from dkdmpl_kit.data import ImageStore
    from dkdmpl_kit.training import extract

    config, encoder = encoder_of(args)
    dataset = dataset_of(config, args)

    def of(paths):
        # each picture is looked at once, so none is kept
        store = ImageStore(paths, config.height, config.width, keep=False)
        return extract(config, encoder, store, progress=not args.quiet)

    return config, dataset, of
