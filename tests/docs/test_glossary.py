"""The glossary is true: its words are used in the code, and those it retires are in no name there."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

import lifepool
from tests.docs.markdown import ROOT

PACKAGE = Path(lifepool.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
PAGE, RETIRED_PART = (ROOT / "docs" / "glossary.md").read_text().split("<!-- retired -->\n")
#: Public names: changing them would break users' code.
ALLOWED = {"story"}


def rows(text: str) -> list[list[str]]:
    """The cells of each row of all tables of a text, without their headings."""
    found = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [cells for cells in found if cells[0] not in {"word", "retired"}]


WORDS = {word: meaning for word, meaning, _ in rows(PAGE)}
PLACES = {word: place.strip("`") for word, _, place in rows(PAGE)}
RETIRED = dict(rows(RETIRED_PART))


def names_in(tree: ast.AST) -> set[str]:
    """Every identifier of a module: what is defined, assigned, imported, passed by keyword, or read."""
    fields = ("id", "attr", "name", "arg", "asname")
    found = {getattr(node, field, None) for node in ast.walk(tree) for field in fields}
    return {name for name in found if isinstance(name, str)}


def split(name: str) -> str:
    """The words of an identifier: ``_WorkerExit.exit_reason`` -> ``worker exit exit reason``."""
    return " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)).lower()


def uses(word: str, name: str) -> bool:
    return re.search(rf"\b{word}s?\b", split(name)) is not None


@functools.cache
def all_names() -> dict[str, str]:
    """Every identifier of the package, and a file that has it."""
    return {
        name: path.name
        for path in FILES
        for name in (*names_in(ast.parse(path.read_text())), path.stem, path.parent.name)
    }


def occurs(word: str, text: str) -> bool:
    """Tell whether a word or its identifier is in a text; of "lease of a job" the lease is looked for."""
    parts = re.split(r"[- ]", word.partition(" of ")[0])
    pattern = r"[-_\s]?".join(map(re.escape, parts))
    return re.search(rf"(?<![a-z]){pattern}", text, re.IGNORECASE) is not None


@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_used_where_it_is_said_to_live(word: str) -> None:
    place = PACKAGE / PLACES[word]
    assert place.exists()
    assert place.is_dir() == PLACES[word].endswith("/")
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    assert occurs(word, "\n".join(file.read_text() for file in files))


def test_a_word_that_lives_elsewhere_would_be_found() -> None:
    assert not occurs("fair key", (PACKAGE / "_core" / "timers.py").read_text())


@pytest.mark.parametrize("word", RETIRED)
def test_a_retired_word_is_in_no_name(word: str) -> None:
    assert {name: file for name, file in all_names().items() if name not in ALLOWED and uses(word, name)} == {}


PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


# Decisions are history, and links to them as well; the glossary names what it retires.
@functools.cache
def prose_lines() -> list[str]:
    pages = [
        re.sub(r"\]\([^)]*\)", "]", page.read_text())
        for page in PAGES
        if page.parent.name != "decisions" and page.name != "glossary.md"
    ]
    return "\n".join([*(path.read_text() for path in FILES), *pages]).splitlines()


#: Of the retired words those that plain English hardly needs.
UNMISTAKABLE = ["books", "culprit", "desk", "disown", "door", "ledger", "luck", "luggage", "mishap", "shelf"]


@pytest.mark.parametrize("word", UNMISTAKABLE)
def test_an_unmistakable_retired_word_is_in_no_text(word: str) -> None:
    pattern = re.compile(rf"\b{word}s?\b", re.IGNORECASE)
    assert [line for line in prose_lines() if word in line.lower() and pattern.search(line)] == []


def test_no_word_is_explained_and_retired() -> None:
    assert set(WORDS) & set(RETIRED) == set()


@pytest.mark.parametrize("meaning", WORDS.values())
def test_a_word_is_explained_in_one_sentence(meaning: str) -> None:
    assert meaning.endswith(".")
    assert not re.search(r"[.?!] [A-Z]", meaning)


def test_a_retired_word_would_be_found() -> None:
    tree = ast.parse(
        "from a import b as the_desk\nclass FrontDoors: ...\ndef f(luck): g(books=1)\nx.mishap_log = indoor"
    )
    found = {word for word in RETIRED if any(uses(word, name) for name in names_in(tree))}
    assert found == {"desk", "door", "luck", "books", "mishap"}
