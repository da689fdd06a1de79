"""What the site makes of the pages: where each stands, where its links lead, and in which order the pages are listed.

The pages are written for GitHub: their links are paths in the repository. Pages in ``docs`` keep their place on the
site. What they link to outside of ``docs`` is shown below ``repository/``: other pages as pages, code as a page with
the code, a folder by its README or as a list. ``scripts/site_hooks.py`` calls this when mkdocs builds the site; here
is all that needs no mkdocs, so that it is tested with everything else.
"""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tests.docs.markdown import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DOCS = ROOT / "docs"
OUTSIDE = "repository"  # the folder of the site for what is not in docs

_FENCE = re.compile(r"(^( *)```.*?^\2```$)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(\[[^\]]*\]\()([^)\s]+)(\))")
_BREAK = re.compile(r"(?<=[\u3000-\u9fff\uff00-\uffef]) *\n *(?=[\u4e00-\u9fff])")  # browsers would show a space
_COMMENT = re.compile(r"<!--(.*?)-->\n?(?:\n*```(\w+)\n)?", re.DOTALL)
_FILE = re.compile(r"(?:file|saved): ([\w.]+)$")
_LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml", ".yaml": "yaml", ".json": "json", ".sh": "sh"}
_OUTPUT = {"en": "Output", "zh": "输出"}


def on_site(path: Path) -> str:
    """Return where a file or folder of the repository is on the site, as the path of a Markdown file or an image."""
    if path.is_relative_to(DOCS) and path.is_file():
        return path.relative_to(DOCS).as_posix()
    if path.is_dir():
        path = path / "README.md"
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    suffix = "" if path.suffix in (".md", ".svg", ".png") else ".md"
    return f"{OUTSIDE}/{path.relative_to(ROOT).as_posix()}{suffix}"


def content(path: Path) -> str:
    """Return the Markdown that shows a file or folder of the repository which is no image."""
    if path.is_dir() and (path / "README.md").exists():
        path = path / "README.md"
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        shown = sorted(entry for entry in path.iterdir() if entry.name[0] not in "._" and entry.is_file())
        return f"# {name}/\n\n" + "".join(f"- [{entry.name}](/{name}/{entry.name})\n" for entry in shown)
    text = path.read_text()
    if path.suffix == ".md":
        return text
    return f"# {name}\n\n~~~~~~ {_LANGUAGES.get(path.suffix, 'text')}\n{text}\n~~~~~~\n"


def linked(path: Path, text: str) -> Iterator[Path]:
    """Yield the files and folders of the repository that the page at ``path`` links to."""
    for part in _prose(text):
        for link in _LINK.finditer(part):
            target, _ = _target(path, link[2])
            if target is not None and target != path:
                yield target


def pages_outside(start: Iterable[Path]) -> dict[str, Path]:
    """Return what the site has to show outside of ``docs``: all that pages link to, and what those link to.

    A file of code is shown, and leads nowhere; nor does a list of files, so that it is not the whole repository.
    """
    found: dict[str, Path] = {}
    ahead = list(start)
    while ahead:
        page = ahead.pop()
        for target in linked(page, page.read_text()):
            if target.is_relative_to(DOCS) or on_site(target) in found or not target.exists():
                continue
            found[on_site(target)] = target
            readme = target / "README.md" if target.is_dir() else target
            if readme.suffix == ".md" and readme.exists():
                ahead.append(readme)
            elif target.is_dir():
                found.update({on_site(entry): entry for entry in linked(target, content(target))})
    return found


def as_on_site(text: str, path: Path) -> str:
    """Return the Markdown of a page as the site shows it: links lead to pages of the site, comments are titles.

    Args:
        text: Its Markdown.
        path: Where it is in the repository.
    """
    here = on_site(path)
    language, _ = languages(here)

    def lead(link: re.Match[str]) -> str:
        target, anchor = _target(path, link[2])
        if target is None:
            return link[0]
        to = os.path.relpath(on_site(target), Path(here).parent)
        return f"{link[1]}{to if target != path else ''}{anchor}{link[3]}"

    def title(comment: re.Match[str]) -> str:
        said, fence = comment[1].strip(), comment[2]
        if fence is None:
            return ""
        file = _FILE.match(said)
        name = file[1] if file else _OUTPUT[language] if said.startswith("output") else ""
        return f'```{fence} title="{name}"\n' if name else f"```{fence}\n"

    def shown(prose: str) -> str:
        return _LINK.sub(lead, _BREAK.sub("", prose) if language == "zh" else prose)

    parts = [part if index % 2 else shown(part) for index, part in enumerate(_split(text))]
    return _COMMENT.sub(title, "".join(parts))


def languages(page: str) -> tuple[str, str]:
    """Return the language of a page of the site, and the page in the other one: its translation, or else the start."""
    if page.startswith("zh/"):
        other = page.removeprefix("zh/")
        return "zh", other if (DOCS / other).exists() else "README.md"
    return "en", f"zh/{page}" if (DOCS / "zh" / page).exists() else "zh/README.md"


def listed(entries: Iterable[Any], pages: Iterable[str]) -> list[Any]:
    """Return the navigation with its patterns replaced by pages: ``how-to/*`` is what is not named elsewhere.

    Args:
        entries: As in mkdocs.yml: a page, a pattern, or a title with one or with several of these.
        pages: All pages of the site that are to be listed.
    """
    entries = list(entries)
    rest = sorted(set(pages) - set(_named(entries)), key=lambda page: (not page.endswith("README.md"), page))
    return _filled(entries, rest)


def _named(entries: Any) -> Iterator[str]:
    if isinstance(entries, str):
        if "*" not in entries:
            yield entries
    else:
        for entry in entries.values() if isinstance(entries, dict) else entries:
            yield from _named(entry)


def _filled(entries: list[Any], rest: list[str]) -> list[Any]:
    filled: list[Any] = []
    for entry in entries:
        if isinstance(entry, dict):
            for title, inner in entry.items():
                filled.append({title: _filled(inner, rest) if isinstance(inner, list) else inner})
        elif "*" in entry:
            fitting = [page for page in rest if fnmatchcase(page, entry) and page.count("/") == entry.count("/")]
            filled += fitting
            rest[:] = [page for page in rest if page not in fitting]
        else:
            filled.append(entry)
    return filled


def _split(text: str) -> list[str]:
    """Split a page: what is between fences, and each whole fenced block, by turns."""
    parts = _FENCE.split(text)
    return [part for index, part in enumerate(parts) if index % 3 != 2]


def _prose(text: str) -> list[str]:
    return _split(text)[::2]


def _target(path: Path, link: str) -> tuple[Path | None, str]:
    """The file or folder that a link of the page at ``path`` leads to, None outside the repository; the anchor."""
    if re.match(r"[a-z]+:", link):
        return None, ""
    file, hash_, anchor = link.partition("#")
    folder = path if path.is_dir() else path.parent
    target = ROOT / unquote(file).lstrip("/") if file.startswith("/") else (folder / unquote(file)).resolve()
    return (target if file else path), hash_ + anchor
