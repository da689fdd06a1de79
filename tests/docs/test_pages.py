"""The pages hold together: links lead somewhere, every page can be found, decisions have their parts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

import lifepool
from tests.docs.markdown import OTHER_PAGES, PAGES, ROOT, anchors, blocks, links, region

if TYPE_CHECKING:
    from pathlib import Path

DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def local_links(page: Path) -> list[tuple[str, Path, str]]:
    """(as written, the file, the anchor) of each link that stays in the repository."""
    found = []
    for link in links(page):
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = unquote(link).partition("#")
            found.append((link, (page.parent / path).resolve() if path else page, anchor))
    return found


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES], ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = [
        link
        for link, target, anchor in local_links(page)
        if not target.exists() or (anchor and anchor not in anchors(target))
    ]
    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page not in reached:
            reached.add(page)
            ahead += [target for _, target, _ in local_links(page) if target.suffix == ".md"]
    assert {*PAGES, *OTHER_PAGES} - reached == set()


@pytest.mark.parametrize("page", DECISIONS, ids=named)
def test_a_decision_has_all_its_parts(page: Path) -> None:
    text = page.read_text()
    assert re.search(r"^Date: \d{4}-\d{2}-\d{2} · Status: (accepted|superseded by .+)$", text, re.MULTILINE)
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["Problem", "Options", "Decision", "Consequences", "Revisit when"]
    assert text.count("\n") < 90, "one page"


def test_the_core_s_page_names_every_file_of_it() -> None:
    page = ROOT / "src" / "lifepool" / "_core" / "README.md"
    files = [path.name for path in page.parent.glob("*.py") if path.name != "__init__.py"]
    assert [name for name in files if f"`{name}`" not in page.read_text()] == []


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))


def test_the_first_program_of_the_readme_has_at_most_twelve_lines() -> None:
    program = next(block.text for block in blocks(ROOT / "README.md") if block.language == "python")
    lines = [line for line in program.splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 12


def test_the_readme_has_its_place_for_benchmarks() -> None:
    assert region(ROOT / "README.md", "benchmarks")


def test_the_changelog_has_unreleased_changes_on_top_and_knows_this_version() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert len(headings) > 1 or lifepool.__version__ == "0.1.0"  # nothing was released yet


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_lines_fit(page: Path) -> None:
    prose = re.sub(r"(?m)^\|[^\n]*\|$|^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert [line for line in prose.splitlines() if len(line) > 120] == []
