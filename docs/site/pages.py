"""Every page of the site by its place in the repository, so that links need little
change.

Markdown of the repository stays where it is; an executed notebook is the page
`notebooks/NAME.md`; a module of the library `dkdmpl_kit/losses/dkdmpl.md`, with its
docstrings; a command `commands/train.md`; every other file that a page links to is a page
that shows it.
"""

from __future__ import annotations

import ast
import re
import shutil
from functools import cached_property
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

import griffe
from commands import command_pages
from executed import executed_page

from dkdmpl_kit.cli import build_parser
from dkdmpl_kit.studies.notebooks import select_notebooks

ROOT = Path(__file__).resolve().parents[2]
KIT = "dkdmpl_kit"
PICTURES = (".png", ".gif", ".svg", ".jpg")
COURSE = ("glossary", "symbols", "teachers_guide")
LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?(\))")
NAME = re.compile(r"(?<![\[`])`([a-z_]+(?:\.\w+)+)`(?![`\]])")
ADDRESS = re.compile(
    r"\[([\w/]+\.py)\]\(((?:\.\./)*dkdmpl_kit/[\w/]+)\.py\)((?: (?:,)?`\w+`,?)+)"
)
LANGUAGES = {".yml": "yaml", ".cff": "yaml", ".json": "json", ".py": "python"}


class Pages:
    """The pages, with the notebooks that `make demo` has executed in the folder `demo`."""

    def __init__(self, demo: Path) -> None:
        self.demo = demo
        self.outputs: dict[str, str] = {}

    @cached_property
    def notebooks(self) -> list[str]:
        """The course's notebooks, in order."""
        return [path.stem for path in select_notebooks("all", ROOT / "notebooks")]

    def executed(self, name: str) -> Path:
        """Where `make demo` leaves a notebook."""
        return self.demo / "notebooks" / f"{name}.ipynb"

    @cached_property
    def package(self) -> griffe.Module:
        """The library, read and not imported."""
        return griffe.load(KIT, search_paths=[ROOT])

    @cached_property
    def modules(self) -> dict[str, griffe.Module]:
        """{page: module}, a package before what it holds."""
        found = {}

        def visit(module: griffe.Module) -> None:
            path = module.path.replace(".", "/")
            found[f"{path}/index.md" if module.is_init_module else f"{path}.md"] = module
            for _, inner in sorted(module.modules.items()):
                if not inner.is_alias and not inner.name.startswith("_"):
                    visit(inner)

        visit(self.package)
        return found

    @cached_property
    def texts(self) -> dict[str, Path]:
        """Markdown of the repository that has a place in the table of contents."""
        names = ["README.md", "METHOD.md", "CONTRIBUTING.md", "CHANGELOG.md"]
        names += [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]
        names += [f"notebooks/course/{name}.md" for name in COURSE]
        return {name: ROOT / name for name in names}

    @cached_property
    def commands(self) -> dict[str, str]:
        return {f"commands/{k}": v for k, v in command_pages(build_parser()).items()}

    def nav(self) -> list:
        """The table of contents, as the builder takes it."""
        others = [
            name for name in self.all if name.endswith(".md") and not self._is_known(name)
        ]
        return [
            {"Start": "README.md"},
            {
                "The course": [
                    {"Notebooks": [f"notebooks/{name}.md" for name in self.notebooks]},
                    *(f"notebooks/course/{name}.md" for name in COURSE),
                ]
            },
            {"The method": "METHOD.md"},
            {"Use": [name for name in self.texts if name.startswith("docs/")]},
            {"Commands": [{_title(name): name} for name in self.commands]},
            {"Library": self._library(self.package)},
            {
                "Project": [
                    "CONTRIBUTING.md",
                    "CHANGELOG.md",
                    {"Files": [{name.removesuffix(".md"): name} for name in sorted(others)]},
                ]
            },
        ]

    def _is_known(self, page: str) -> bool:
        named = {f"notebooks/{name}.md" for name in self.notebooks}
        return page in named | set(self.texts) | set(self.commands) | set(self.modules)

    def _library(self, module: griffe.Module) -> list:
        pages = {module.path: page for page, module in self.modules.items()}
        found: list = [pages[module.path]]
        for _, inner in sorted(module.modules.items()):
            if inner.path in pages:
                deeper = self._library(inner)
                found.append({inner.name: deeper if inner.is_init_module else deeper[0]})
        return found

    @cached_property
    def all(self) -> dict[str, str | bytes | Path]:
        """{place: Markdown, bytes, or the file itself} of everything on the site."""
        found: dict[str, str | bytes | Path] = {}
        for name, path in self.texts.items():
            found[name] = path.read_text(encoding="utf-8")
        for name in self.notebooks:
            page = executed_page(self.executed(name), self.outputs)
            found[f"notebooks/{name}.md"] = page.markdown
            found |= {f"notebooks/{file}": data for file, data in page.files.items()}
        found |= self.commands
        found |= {page: self._reference(module) for page, module in self.modules.items()}
        waiting = [name for name in found if name.endswith(".md")]
        while waiting:
            name = waiting.pop()
            for target in self._targets(found[name], name):
                place = self.page_of(target)
                if place in found or not (ROOT / target).is_file():
                    continue
                if place.endswith(".md"):
                    found[place] = _shown(ROOT / target)
                    waiting.append(place)
                else:
                    found[place] = ROOT / target
        return found

    def write(self, folder: Path) -> None:
        """Write every page and picture below an empty folder."""
        for name, content in self.all.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copyfile(content, path)
            elif isinstance(content, bytes):
                path.write_bytes(content)
            else:
                path.write_text(self.linked(content, name), encoding="utf-8")

    def _targets(self, markdown: str, page: str) -> list[str]:
        """The files of the repository that a page links to."""
        folder = PurePosixPath(page).parent
        return [normpath(folder / target) for _, target, _, _ in LINK.findall(markdown)]

    def page_of(self, target: str) -> str:
        """Where the site shows a file of the repository."""
        stem, _, ending = target.rpartition(".")
        if target.endswith((".md", *PICTURES)):
            return target
        if ending == "ipynb" and PurePosixPath(target).stem in self.notebooks:
            return f"{stem}.md"
        if ending == "py" and target.startswith(KIT + "/"):
            return f"{stem.removesuffix('__init__')}{'index' * stem.endswith('__init__')}.md"
        return f"{target}.md"

    def linked(self, markdown: str, page: str) -> str:
        """Markdown whose links lead to pages of the site, and names to docstrings."""
        folder = PurePosixPath(page).parent

        def link(found: re.Match) -> str:
            before, target, anchor, after = found.groups()
            place = self.page_of(normpath(folder / target))
            if not (ROOT / normpath(folder / target)).exists():
                return found[0]
            return f"{before}{relpath(place, folder)}{anchor or ''}{after}"

        def address(found: re.Match) -> str:
            module = found[2][found[2].index(KIT) :].replace("/", ".")
            names = re.sub(
                r"`(\w+)`", lambda name: self._name(name[0], f"{module}.{name[1]}"), found[3]
            )
            return f"[{found[1]}]({found[2]}.py){names}"

        if page in self.texts:
            markdown = ADDRESS.sub(address, markdown)
            markdown = NAME.sub(lambda n: self._name(n[0], f"{KIT}.{n[1]}"), markdown)
        return LINK.sub(link, markdown)

    def _name(self, shown: str, path: str) -> str:
        """A link to the docstring of a name, wherever it is defined; a field without one
        leads to its class, and what is not found stays as it is shown.
        """
        found = self._defined(path)
        while found is not None and found.is_attribute:
            found = found.parent
        if found is None or not found.docstring:
            return shown
        return f"[{shown}][{found.path}]"

    def _defined(self, path: str) -> griffe.Object | None:
        found: griffe.Object = self.package
        try:
            for name in path.split(".")[1:]:
                homes = _homes(found) if name not in found.members else {}
                for step in (*homes.get(name, "").split("."), name):
                    found = found[step] if step else found
                    found = found.final_target if found.is_alias else found
        except (KeyError, griffe.GriffeError):
            return None
        return found

    def _reference(self, module: griffe.Module) -> str:
        """The page of a module: its docstrings, and for a package what it holds."""
        parts = [f"::: {module.path}"]
        inner = [m for _, m in sorted(module.modules.items()) if m in self.modules.values()]
        if inner:
            rows = [f"| [`{m.name}`][{m.path}] | {_first_line(m)} |" for m in inner]
            parts.append("\n".join(["## Modules", "", "| module | |", "|---|---|", *rows]))
        exported = [
            self._name(f"`{name}`", f"{module.path}.{name}")
            for name, member in sorted(module.members.items())
            if member.is_alias and name in (module.exports or ())
        ]
        exported += [
            self._name(f"`{name}`", f"{module.path}.{name}") for name in _homes(module)
        ]
        if exported:
            said = f"`from {module.path} import ...` offers: "
            parts.append("## Names\n\n" + said + ", ".join(exported) + ".")
        return "\n\n".join(parts)


def _homes(module: griffe.Object) -> dict[str, str]:
    """{name: module below} of a package that imports its names on first use."""
    homes = module.members.get("_HOMES")
    return ast.literal_eval(str(homes.value)) if homes is not None else {}


def _title(page: str) -> str:
    stem = PurePosixPath(page).stem
    return "All commands" if stem == "index" else f"dkdmpl {stem}"


def _first_line(module: griffe.Module) -> str:
    text = module.docstring.value if module.docstring else ""
    first = " ".join(text.partition("\n\n")[0].split())
    return first.replace("|", "\\|").replace("<", "&lt;")


def _shown(path: Path) -> str:
    """The page of a file that is no page itself."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    if path.suffix == ".ipynb":
        path = path.with_suffix(".py")
        text = path.read_text(encoding="utf-8")
    language = LANGUAGES.get(path.suffix, "text")
    name = path.relative_to(ROOT).as_posix()
    return f"# {name}\n\n`````{language}\n{text.rstrip()}\n`````"
