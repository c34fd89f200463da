"""Add pages from outside docs/ to the documentation site (hooks of mkdocs, named in mkdocs.yml).

- README.md, CONTRIBUTING.md, CHANGELOG.md and benchmarks/*.md become pages; README.md is the start page.
- Each module of st3sweep becomes a page of the API reference, generated from its docstrings.
- Links are written for the repository. Those that lead out of docs/ are rewritten to the site's page, or to plain text
  with the path if the site has no such page.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "st3sweep"
API = "reference/api"
# Not called from Python by users: the commands' arguments, Ray's processes, helpers.
NOT_IN_THE_API = {"cli", "execution", "util", "__main__"}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")

BENCHMARKS = sorted(f"benchmarks/{path.name}" for path in (ROOT / "benchmarks").glob("*.md"))
DECISIONS = sorted(f"decisions/{path.name}" for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md"))
# Page of the site: file of the repository.
OUTSIDE = {"index.md": "README.md"} | {name: name for name in ("CONTRIBUTING.md", "CHANGELOG.md", *BENCHMARKS)}


def on_config(config: MkDocsConfig) -> None:
    """Replace the names ``benchmarks``, ``api`` and ``decisions`` in the navigation by their lists of pages."""
    lists = {
        "benchmarks": list(BENCHMARKS),
        "api": _api_entries(PACKAGE),
        "decisions": ["decisions/index.md", *DECISIONS],
    }
    for section in config.nav or []:
        for entries in section.values():
            if isinstance(entries, list):
                entries[:] = [{name: lists.get(what, what)} for entry in entries for name, what in entry.items()]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for page, source in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for module in _modules(PACKAGE):
        name = _dotted(module)
        files.append(File.generated(config, _api_page(module), content=f"# `{name}`\n\n::: {name}\n"))
    files.append(File.generated(config, "decisions/index.md", content=_list_of_decisions()))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Rewrite the repository's links to those of the site, except in code blocks."""
    here = page.file.src_uri
    if here.startswith(API):
        return markdown
    lines, in_code = [], False
    for line in markdown.split("\n"):
        in_code ^= line.lstrip().startswith("```")
        lines.append(line if in_code else LINK.sub(lambda link: _link(link, here, files), line))
    return "\n".join(lines)


def _link(link: re.Match[str], here: str, files: Files) -> str:
    image, text, target = link.groups()
    path, hash_, anchor = target.partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return link[0]
    repository_path = posixpath.normpath(posixpath.join(posixpath.dirname(OUTSIDE.get(here, f"docs/{here}")), path))
    found = _page_of(repository_path, files)
    if found:
        return f"{image}[{text}]({posixpath.relpath(found, posixpath.dirname(here) or '.')}{hash_}{anchor})"
    if not image and (ROOT / repository_path).exists():
        return f"{text} (`{repository_path}`)"
    return link[0]  # mkdocs warns about it


def _page_of(repository_path: str, files: Files) -> str | None:
    """Return the site's file for a path of the repository; for a folder, its index."""
    pages = {source: page for page, source in OUTSIDE.items()}
    candidates = [pages.get(repository_path), pages.get(f"{repository_path}/README.md")]
    if repository_path.startswith("docs/"):
        inside = repository_path.removeprefix("docs/")
        candidates += [inside, f"{inside}/index.md"]
    return next((one for one in candidates if one and files.get_file_from_path(one)), None)


def _modules(folder: Path) -> list[Path]:
    """Return the documented modules in the order of the navigation: a package before its modules."""
    found = [folder / "__init__.py"] if (folder / "__init__.py").exists() else []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("_") or (folder == PACKAGE and path.stem in NOT_IN_THE_API):
            continue
        if path.is_dir():
            found += _modules(path)
        elif path.suffix == ".py":
            found.append(path)
    return found


def _api_entries(folder: Path) -> list[Any]:
    """Return the navigation of one package: its page, then its modules and packages by name."""
    entries: list[Any] = [_api_page(folder / "__init__.py")] if (folder / "__init__.py").exists() else []
    named = {}
    for path in _modules(folder):
        inside = path.relative_to(folder).parts
        if inside[0] != "__init__.py":
            child = folder / inside[0]
            named[child.stem] = _api_entries(child) if child.is_dir() else _api_page(child)
    return entries + [{name: what} for name, what in sorted(named.items())]


def _dotted(module: Path) -> str:
    parts = module.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _api_page(module: Path) -> str:
    parts = module.relative_to(ROOT).with_suffix("").parts
    return "/".join([API, *parts[1:-1], "index" if parts[-1] == "__init__" else parts[-1]]) + ".md"


def _list_of_decisions() -> str:
    titles = [(ROOT / "docs" / one).read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ") for one in DECISIONS]
    rows = [f"- [{title}]({posixpath.basename(one)})" for title, one in zip(titles, DECISIONS, strict=True)]
    return "\n".join(["# Decisions", "", "Decisions, their reasons, and rejected alternatives.", "", *rows, ""])
