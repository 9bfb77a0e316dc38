"""Commands about the notebooks and their pictures: demo, notebooks, player."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from dkdmpl_kit.data.files import expanded
from dkdmpl_kit.errors import KitError
from dkdmpl_kit.experiment import PRESETS


def add(command) -> None:
    """Declare this module's commands; `command(name, run, help, settings=...)` makes
    each one's parser.
    """
    sub = command(
        "demo", _demo, "run all notebooks on the embedded data and write report.html"
    )
    sub.add_argument(
        "--out",
        default="runs/demo",
        help="folder for everything that is written (default: %(default)s)",
    )
    sub.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        help="how large everything is (default: demo)",
    )
    sub.add_argument(
        "--smoke", action="store_true", help="short for --preset smoke: does all of it run?"
    )

    sub = command(
        "notebooks",
        _notebooks,
        "run notebooks headless, rebuild them from their sources, write learner's "
        "copies "
        "without solutions, or slides of executed notebooks",
    )
    sub.add_argument("action", choices=("run", "build", "learner", "slides"))
    sub.add_argument(
        "names", nargs="*", help="such as 02_clustering (default: all, in order)"
    )
    sub.add_argument(
        "--out",
        help="folder to write to (default: runs/notebooks; for learner's copies: "
        "learner); slides are "
        "made of what `run` left there, and of what is run now",
    )
    sub.add_argument(
        "--folder",
        default=None,
        help="where the notebooks lie (default: notebooks/ of this checkout)",
    )
    sub.add_argument(
        "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE")
    )
    sub.add_argument(
        "--timeout",
        type=int,
        default=1800,
        help="seconds for one notebook (default: %(default)s)",
    )

    sub = command(
        "player",
        _player,
        "the epochs of a run as an animated GIF, or as a strip of four stills",
    )
    sub.add_argument(
        "run_folder",
        help="a run's folder, such as runs/demo/runs/dkdmpl-seed0; it must have kept "
        "its features",
    )
    sub.add_argument(
        "--out",
        nargs="+",
        required=True,
        metavar="FILE",
        help="files to write: .gif animated, .png stills",
    )
    sub.add_argument(
        "--top", type=int, default=7, help="clusters to show (default: %(default)s)"
    )


def _demo(args: argparse.Namespace) -> int:
    from dkdmpl_kit.studies.notebooks import default_folder, run_notebooks
    from dkdmpl_kit.studies.report import write_report

    if args.smoke and args.preset not in (None, "smoke"):
        raise KitError(f"--smoke and --preset {args.preset} are two sizes: give one.")
    run_notebooks(
        "all",
        notebooks_dir=default_folder(),
        out_dir=Path(args.out),
        parameters={
            "preset": "smoke" if args.smoke else args.preset or "demo",
            "out_dir": str(Path(args.out).resolve()),
            "interactive": False,
        },
    )
    print(f"Open {write_report(Path(args.out))}")
    return 0


def _notebooks(args: argparse.Namespace) -> int:
    from dkdmpl_kit.lessons.handouts import write_learner_copies, write_slides
    from dkdmpl_kit.studies.notebooks import build_notebooks, default_folder, run_notebooks
    from dkdmpl_kit.studies.report import write_report

    if args.timeout < 1:
        raise KitError(f"--timeout {args.timeout} must be at least 1 second.")
    folder = Path(args.folder) if args.folder else default_folder()
    names = args.names or "all"
    out = Path(args.out or ("learner" if args.action == "learner" else "runs/notebooks"))
    if args.action == "build":
        print("rebuilt: " + (", ".join(build_notebooks(folder)) or "nothing, all in step"))
        return 0
    if args.action == "learner":
        copies = write_learner_copies(names, folder, out)
        print(
            f"{len(copies)} notebooks without solutions in {out}: open "
            f"{copies[0].name} there in JupyterLab."
        )
        return 0
    parameters = {name: _literal(value) for name, value in args.parameter}
    # a notebook runs in its own folder, and paths are meant from here
    for name in ("data_root", "table", "out_dir"):
        if parameters.get(name):
            parameters[name] = os.path.abspath(expanded(str(parameters[name])))
    parameters.setdefault("out_dir", str(out.resolve()))
    if args.action == "slides":
        for page in write_slides(names, folder, out, parameters, timeout_s=args.timeout):
            print(f"Open {page}")
        return 0
    run_notebooks(
        names,
        notebooks_dir=folder,
        out_dir=out,
        parameters=parameters,
        timeout_s=args.timeout,
    )
    print(f"Open {write_report(out)}")
    return 0


def _player(args: argparse.Namespace) -> int:
    from dkdmpl_kit.lessons.replay import RunReplay, save_gif
    from dkdmpl_kit.viz import save_figure

    files = [Path(name) for name in args.out]
    if wrong := [path.name for path in files if path.suffix not in (".gif", ".png")]:
        raise KitError(f"{wrong[0]} must end in .gif (animated) or .png (stills).")
    if args.top < 1:
        raise KitError(f"--top {args.top}: show at least one cluster.")
    replay = RunReplay(args.run_folder)
    replay.refresh()
    replay.choose_clusters(args.top)
    for path in files:
        if path.suffix == ".gif":
            save_gif(replay, path)
        else:
            save_figure(
                replay.strip(),
                path,
                metadata={"run": replay.run_dir.name, "epochs": len(replay)},
            )
        print(f"{path}: {len(replay)} epochs of {replay.run_dir.name}")
    return 0


def _literal(text: str) -> object:
    """A parameter's value: JSON where it is (numbers, true, false), else the text
    itself.
    """
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        return text
