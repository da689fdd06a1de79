"""The Chinese tutorial is that of the English pages: the same steps and code, and each term as the table has it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.docs.markdown import blocks, links
from tests.docs.site import DOCS

if TYPE_CHECKING:
    from pathlib import Path

CHINESE = DOCS / "zh"
TABLE = CHINESE / "terms.md"
STEPS = sorted((DOCS / "tutorial").glob("*.md"))
TERMS = [line.strip("| ").split(" | ") for line in TABLE.read_text().splitlines() if line.startswith("| ")][1:]


def named(page: Path) -> str:
    return page.stem


def prose(text: str) -> str:
    """What is left of a page without its blocks, inline code, and the addresses of links."""
    return re.sub(r"(?s)<!--.*?-->|^```.*?^```$|`[^`]*`|\]\([^)]*\)", " ", text, flags=re.MULTILINE)


def uses(english: str, text: str) -> bool:
    words = r"[\s-]".join(english.split())
    return re.search(rf"\b{words}(s|es|d|ed|ing|led|ling)?\b", text, re.IGNORECASE) is not None


def missing(english: str, chinese: str) -> list[str]:
    """The terms that an English text uses and its Chinese one does not."""
    return [term for term, translation, _ in TERMS if uses(term, english) and translation not in chinese]


def test_every_step_is_translated() -> None:
    assert sorted(page.name for page in (CHINESE / "tutorial").glob("*.md")) == [page.name for page in STEPS]


@pytest.mark.parametrize("page", STEPS, ids=named)
def test_the_code_is_the_same_and_the_parts_are(page: Path) -> None:
    other = CHINESE / "tutorial" / page.name
    assert [(block.comment, block.language, block.text) for block in blocks(other)] == [
        (block.comment, block.language, block.text) for block in blocks(page)
    ]
    assert headings(other) == headings(page)


def headings(page: Path) -> list[str]:
    """How deep each heading is, in order."""
    return re.findall(r"^(#+) ", re.sub(r"(?ms)^```.*?^```$", "", page.read_text()), re.MULTILINE)


@pytest.mark.parametrize("page", STEPS, ids=named)
def test_the_links_lead_to_the_same_pages(page: Path) -> None:
    def targets(of: Path) -> set[Path]:
        return {(of.parent / link.partition("#")[0]).resolve() for link in links(of) if ":" not in link}

    translated = {CHINESE / "tutorial" / step.name: step for step in STEPS}
    found = {translated.get(target, target) for target in targets(CHINESE / "tutorial" / page.name)}
    assert found - {TABLE} == targets(page)


@pytest.mark.parametrize("page", STEPS, ids=named)
def test_each_term_is_translated_as_agreed(page: Path) -> None:
    assert missing(prose(page.read_text()), prose((CHINESE / "tutorial" / page.name).read_text())) == []


@pytest.mark.parametrize("page", sorted(CHINESE.rglob("*.md")), ids=named)
def test_no_other_word_is_used_for_a_term(page: Path) -> None:
    text = "" if page == TABLE else page.read_text()
    assert [word for _, _, others in TERMS for word in others.split("、") if word in text] == []


@pytest.mark.parametrize("english", [term for term, _, _ in TERMS])
def test_the_table_has_no_term_that_the_tutorial_does_not_use(english: str) -> None:
    assert any(uses(english, page.read_text()) for page in STEPS)


def test_a_term_that_was_translated_in_another_way_would_be_found() -> None:
    assert missing("Two workers drain the queue.", "两个工人排空队列。") == ["worker"]
