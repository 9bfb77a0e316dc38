"""Look at every built page: no link may be dead, and nothing may be asked of a network.

python docs/site/check.py runs/site
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# what a browser fetches by itself; a link that a reader may click can lead outside
FETCHES = {
    ("audio", "src"),
    ("embed", "src"),
    ("iframe", "src"),
    ("image", "href"),
    ("img", "src"),
    ("img", "srcset"),
    ("input", "src"),
    ("link", "href"),
    ("object", "data"),
    ("script", "src"),
    ("source", "src"),
    ("source", "srcset"),
    ("use", "href"),
    ("video", "poster"),
    ("video", "src"),
}
QUIET_LINKS = {"canonical", "alternate", "next", "prev"}  # of <link>: nothing is fetched
IN_CSS = re.compile(r"""url\(\s*["']?(.*?)["']?\s*\)|@import\s+["'](.*?)["']""")


@dataclass
class Page(HTMLParser):
    """What one page fetches, what it links to, and the anchors that it has."""

    path: Path
    fetched: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self._style = False
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._style = tag == "style"
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        for name, value in given.items():
            if name == "style":
                self._look_at_css(value)
            if tag == "link" and set(given.get("rel", "").split()) & QUIET_LINKS:
                continue
            if (tag, name.removeprefix("xlink:")) in FETCHES:
                self.fetched.append(value)
            elif name.removeprefix("xlink:") == "href":
                self.links.append(value)

    def handle_endtag(self, tag: str) -> None:
        self._style = self._style and tag != "style"

    def handle_data(self, data: str) -> None:
        if self._style:
            self._look_at_css(data)

    def _look_at_css(self, text: str) -> None:
        self.fetched += [url or other for url, other in IN_CSS.findall(text)]


@dataclass(frozen=True)
class Site:
    """What `look` counted, and every fault as one sentence."""

    pages: int
    links: int
    outside: int
    faults: list[str]


def look(folder: Path) -> Site:
    """Check each page of a folder against the others."""
    folder = folder.resolve()
    pages = {path: Page(path) for path in sorted(folder.rglob("*.html"))}
    links = outside = 0
    faults = []
    for path, page in pages.items():
        name = path.relative_to(folder).as_posix()
        for kind, targets in (("fetches", page.fetched), ("links to", page.links)):
            for target in targets:
                if urlsplit(target).scheme in ("data", "mailto", "javascript"):
                    continue
                if _is_outside(target):
                    outside += kind == "links to"
                    if kind == "fetches":
                        faults.append(f"{name} fetches {target} from a network")
                    continue
                links += 1
                if not _is_there(path, target, pages, folder):
                    faults.append(f"{name} {kind} {target}, which is not there")
    for style in sorted(folder.rglob("*.css")):
        for url, other in IN_CSS.findall(style.read_text(encoding="utf-8")):
            if _is_outside(url or other):
                named = style.relative_to(folder).as_posix()
                faults.append(f"{named} fetches {url or other} from a network")
    return Site(len(pages), links, outside, sorted(set(faults)))


def _is_outside(target: str) -> bool:
    return urlsplit(target).scheme in ("http", "https") or target.startswith("//")


def _is_there(path: Path, target: str, pages: dict[Path, Page], folder: Path) -> bool:
    parts = urlsplit(target)
    place = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not place.is_file() or folder not in place.parents:  # a folder shows no page by itself
        return False
    anchor = unquote(parts.fragment)
    return not anchor or place not in pages or anchor in pages[place].anchors


def main(folder: str) -> int:
    """Print what was counted; 1 where there is a fault."""
    found = look(Path(folder))
    for fault in found.faults:
        print(f"site: {fault}", file=sys.stderr)
    size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    print(
        f"{found.pages} pages, {found.links} links inside checked, {found.outside} lead outside, "
        f"{size / 1e6:.1f} MB, {len(found.faults)} faults: {Path(folder) / 'index.html'}"
    )
    return 1 if found.faults or not found.pages else 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
