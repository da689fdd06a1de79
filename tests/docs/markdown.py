"""Read what the tests need out of a Markdown page: fenced blocks with the comment before them, links, headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "experiments" / "README.md",
        ROOT / "src" / "lifepool" / "_core" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
)
#: Written elsewhere: only their links are checked here.
OTHER_PAGES = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "examples").rglob("README.md")),
]

_COMMENT_THEN_FENCE = re.compile(
    r"(?:^<!--(?P<comment>(?:(?!-->).)*)-->\s*\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: Where it stands.
        line: The line of its opening fence.
        language: What is written behind the fence.
        text: What is between the fences.
        comment: The HTML comment right before it, or an empty string.
    """

    page: Path
    line: int
    language: str
    text: str
    comment: str = ""

    @property
    def place(self) -> str:
        """For messages."""
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(
            page=page,
            line=text.count("\n", 0, match.start("text")),
            language=match["language"],
            text=match["text"],
            comment=(match["comment"] or "").strip(" ").lstrip("\n"),
        )
        for match in _COMMENT_THEN_FENCE.finditer(text)
    ]


def links(page: Path) -> list[str]:
    """The targets of all links of a page."""
    return [match["target"] for match in _LINK.finditer(_without_blocks(page))]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of this page may name, the way GitHub makes it."""
    return {slug(heading) for heading in _HEADING.findall(_without_blocks(page))}


def _without_blocks(page: Path) -> str:
    return _COMMENT_THEN_FENCE.sub("", page.read_text())


def slug(heading: str) -> str:
    """Return the anchor that GitHub makes of a heading; the site makes the same."""
    kept = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return kept.strip().replace(" ", "-")


def region(page: Path, name: str) -> str:
    """What stands between ``<!-- name:start -->`` and ``<!-- name:end -->``.

    Raises:
        ValueError: If the page has no such region.
    """
    match = _region(name).search(page.read_text())
    if match is None:
        raise ValueError(f"{page} has no region <!-- {name}:start --> ... <!-- {name}:end -->")
    return match[2]


def replace_region(page: Path, name: str, content: str) -> None:
    """Put ``content`` into a region of a page."""
    page.write_text(_region(name).sub(lambda match: f"{match[1]}{content}{match[3]}", page.read_text()))


def _region(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}:start -->\n)(.*?)(<!-- {name}:end -->)", re.DOTALL)
