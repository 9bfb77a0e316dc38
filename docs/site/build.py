"""Build the site: `make site`, or

    python docs/site/build.py --demo runs/demo --out runs/site

The pages are written as Markdown (pages.py), MkDocs makes HTML of them, strictly; then
formulas become MathML, outputs of notebooks come to their places, and check.py looks for
dead links and for requests.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from html import unescape
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from check import main as check  # noqa: E402
from pages import ROOT, Pages  # noqa: E402

from dkdmpl_kit.studies.notebooks import read_records  # noqa: E402
from dkdmpl_kit.studies.notebooks.sources import digest  # noqa: E402
from dkdmpl_kit.studies.pages import mathml  # noqa: E402

INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.S)
DISPLAY = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.S)
IN_TITLE = re.compile(r"\\\(([^<>]*?)\\\)")
OUTPUT = re.compile(r'<div data-output="(\w+)"></div>')


def main() -> int:
    """Build, finish and check; 1 where the demo is missing or the site has a fault."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--demo", type=Path, default=ROOT / "runs" / "demo")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "site")
    args = parser.parse_args()
    began = time.perf_counter()
    pages = Pages(args.demo.resolve())
    if missing := [name for name in pages.notebooks if not pages.executed(name).is_file()]:
        print(
            f"site: {args.demo} lacks the executed notebook {missing[0]}: run `make demo` first "
            "(or name another folder with DEMO=).",
            file=sys.stderr,
        )
        return 1
    for name in older(pages):
        print(f"site: {name} was executed before its source was changed", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="dkdmpl-site-") as scratch:
        built = build(pages, Path(scratch))
        for path in built.rglob("*.html"):
            html = path.read_text(encoding="utf-8")
            path.write_text(finished(html, pages.outputs), encoding="utf-8")
        if args.out.exists():
            shutil.rmtree(args.out)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(built, args.out)
    code = check(str(args.out))
    print(f"{time.perf_counter() - began:.0f} s")
    return code


def build(pages: Pages, scratch: Path) -> Path:
    """The folder of HTML that MkDocs makes; its warnings are errors."""
    sources = scratch / "pages"
    shutil.copytree(HERE / "assets", sources)
    pages.write(sources)
    config = yaml.safe_load((HERE / "mkdocs.yml").read_text(encoding="utf-8"))
    config |= {
        "nav": pages.nav(),
        "docs_dir": str(sources),
        "site_dir": str(scratch / "site"),
    }
    (scratch / "mkdocs.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"],
        cwd=scratch,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        check=True,
    )
    (scratch / "site" / "404.html").unlink()  # of a server; a folder has none
    return scratch / "site"


def finished(html: str, outputs: dict[str, str]) -> str:
    """A page with its formulas as MathML, which browsers draw by themselves, and the HTML
    that notebooks printed.
    """
    html = INLINE.sub(lambda found: mathml(unescape(found[1])), html)
    html = DISPLAY.sub(lambda found: mathml(unescape(found[1]), display=True), html)
    html = IN_TITLE.sub(lambda found: found[1], html)  # in the table of contents
    return OUTPUT.sub(lambda place: outputs[place[1]], html)


def older(pages: Pages) -> list[str]:
    """Notebooks whose source has changed since they were executed."""
    now = {name: digest(ROOT / "notebooks" / f"{name}.ipynb") for name in pages.notebooks}
    records = read_records(pages.demo / "notebooks" / "notebooks.json")
    return [r["name"] for r in records if now.get(r["name"], r["source"]) != r["source"]]


if __name__ == "__main__":
    raise SystemExit(main())
