"""The diagrams of the pages: their source is Mermaid's, which GitHub draws; the site gets them as SVG, drawn once.

A page is built twice over: its Markdown leaves an empty place for each diagram, so that neither Markdown nor the search
sees the drawing, and its HTML gets the figures. What draws is installed beside mkdocs only; ``scripts/site_hooks.py``
hands it in.
"""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Mermaid's themes, by what the site calls its own.
THEMES = {"light": "neutral", "dark": "dark"}
#: Compact, since a page is 700 pixels wide; labels are text of the page's font, which can be searched and read aloud.
CONFIG = {
    "fontFamily": "inherit",
    "flowchart": {"nodeSpacing": 25, "rankSpacing": 25, "htmlLabels": False},
    "sequence": {
        "actorMargin": 12,
        "width": 100,
        "height": 40,
        "messageMargin": 28,
        "mirrorActors": False,
        "diagramMarginX": 8,
    },
}
#: A diagram shrinks to this part of its width; below, the figure scrolls to the side.
LEAST_SCALE = 0.62

_FENCE = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PLACE = re.compile(r'<div class="diagram" data-number="(\d+)"></div>')
_ID = re.compile(r'\bid="([^"]+)"')
_WIDTH = re.compile(r'viewBox="\S+ \S+ ([\d.]+) ')


def with_places(markdown: str) -> tuple[str, list[str]]:
    """Return the Markdown with a place for each diagram, and the sources of these."""
    sources: list[str] = []

    def place(fence: re.Match[str]) -> str:
        sources.append(fence[1])
        return f'<div class="diagram" data-number="{len(sources) - 1}"></div>'

    return _FENCE.sub(place, markdown), sources


def with_figures(html: str, sources: Sequence[str], draw: Callable[[str, str], str]) -> str:
    """Return the HTML with a figure in each place.

    Args:
        html: Of the page.
        sources: What ``with_places`` gave.
        draw: Makes SVG of a source and the name of a theme.
    """
    return _PLACE.sub(lambda place: _figure(sources[int(place[1])], int(place[1]), draw), html)


def _figure(source: str, number: int, draw: Callable[[str, str], str]) -> str:
    drawn = [
        _fitted(draw(source, theme), f"diagram-{number}-{ground}", f"diagram-{ground}")
        for ground, theme in THEMES.items()
    ]
    return f'<figure class="diagram">{"".join(drawn)}</figure>'


def _fitted(svg: str, prefix: str, shown: str) -> str:
    """Return an SVG that can stand beside others in a page: its names are its own, and it keeps a size to be read."""
    width = _WIDTH.search(svg)
    if width is None:
        raise ValueError(f"this is no SVG with a viewBox: {svg[:200]}")
    for name in sorted(set(_ID.findall(svg)), key=len, reverse=True):
        svg = re.sub(rf'(\bid="|#){re.escape(name)}(?=["\s.{{,:>)\[])', rf"\g<1>{prefix}-{name}", svg)
    least = round(float(width[1]) * LEAST_SCALE)
    return f'<div class="{escape(shown)}" style="min-width: {least}px">{svg}</div>'
