"""What mkdocs calls when it builds the site (mkdocs.yml names this file). The work is done in tests/docs/site.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import mermaidx
from markdown import Extension, Markdown
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.docs.diagrams import CONFIG, with_figures, with_places  # noqa: E402
from tests.docs.markdown import slug  # noqa: E402
from tests.docs.site import DOCS, as_on_site, content, languages, listed, pages_outside  # noqa: E402

_outside: dict[str, Path] = {}
_diagrams: dict[str, list[str]] = {}  # the sources on each page


class _ListsAsOnGitHub(Extension):
    """What belongs to an item of a list is indented by two spaces, not by four."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - its name in Python-Markdown
        """Set it."""
        md.tab_length = 2


def on_config(config: Any) -> Any:
    """Fill the navigation, and have anchors and lists as on GitHub."""
    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    config.nav = listed(config.nav, pages)
    config.markdown_extensions.append(_ListsAsOnGitHub())
    config.mdx_configs["toc"]["slugify"] = lambda heading, _separator: slug(heading)
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add what the pages link to outside of docs."""
    _outside.clear()
    _outside.update(pages_outside(DOCS.rglob("*.md")))
    for where, path in _outside.items():
        is_page = where.endswith(".md")
        shown = {"content": content(path)} if is_page else {"abs_src_path": str(path)}
        files.append(File.generated(config, where, inclusion=InclusionLevel.NOT_IN_NAV, **shown))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn a page of the repository into one of the site, with a place for each diagram."""
    shown = as_on_site(markdown, _outside.get(page.file.src_uri, DOCS / page.file.src_uri))
    shown, _diagrams[page.file.src_uri] = with_places(shown)
    return shown


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Draw the diagrams of a page."""
    return with_figures(output, _diagrams[page.file.src_uri], _draw)


def _draw(source: str, theme: str) -> str:
    """Return a diagram as SVG; what can't be drawn ends the build with Mermaid's own message."""
    svg: str = mermaidx.render(source, theme=theme, config=CONFIG).svg()
    return svg


def on_page_context(context: Any, page: Any, config: Any, nav: Any) -> Any:
    """Have the words around a page, such as "Next", in its language, and name the page in the other one."""
    language, other = languages(page.file.src_uri)
    config.theme["language"] = language
    translation = next(shown for shown in nav.pages if shown.file.src_uri == other)
    name = {"en": "中文", "zh": "English"}[language]
    context["other_language"] = {"url": translation.url, "name": name, "lang": "en" if language == "zh" else "zh"}
    return context
