"""Count what a name finder gets right on the labelled sample.

A name counts as found as often as it stands in the snippet: duplicates must be found, too.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.domains.extract import find_domains

__all__ = ["FINDERS", "SAMPLE", "Finder", "Score", "Snippet", "errors", "load_sample", "score"]

SAMPLE = Path(__file__).with_name("sample.jsonl")
_NAIVE = re.compile(r"(?:[a-zA-Z0-9-]+\.)+[a-zA-Z]{2,}")

Finder = Callable[[str], list[str]]


@dataclass(frozen=True)
class Snippet:
    """A line or two of text and the names that a person found in it.

    Attributes:
        text: The text.
        names: Every name in order, normalized as by `find_domains`.
        kind: The stratum it was drawn for.
        source: The package it was drawn from.
        made_up: True if it was written for the sample, where the packages had nothing of its kind.
    """

    text: str
    names: list[str]
    kind: str
    source: str
    made_up: bool = False


@dataclass(frozen=True)
class Score:
    """Counts of names found and labelled."""

    found_right: int
    found_wrong: int
    missed: int

    @property
    def precision(self) -> float:
        """Return the share of the found names that are labelled; 1.0 if none was found."""
        found = self.found_right + self.found_wrong
        return self.found_right / found if found else 1.0

    @property
    def recall(self) -> float:
        """Return the share of the labelled names that were found; 1.0 if there are none."""
        labelled = self.found_right + self.missed
        return self.found_right / labelled if labelled else 1.0

    @property
    def f1(self) -> float:
        """Return the harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def find_naively(text: str) -> list[str]:
    """Find what the pattern that everybody writes first finds: the baseline."""
    return [name.lower() for name in _NAIVE.findall(text)]


FINDERS: dict[str, Finder] = {"extractor": find_domains, "naive pattern": find_naively}


def load_sample() -> list[Snippet]:
    """Read the labelled snippets."""
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()
    return [Snippet(**json.loads(line)) for line in lines]


def score(find: Finder, snippets: Sequence[Snippet]) -> Score:
    """Compare the names that `find` returns with the labels."""
    wrong = missed = labelled = 0
    for _, invented, lost in errors(find, snippets):
        wrong += len(invented)
        missed += len(lost)
    labelled = sum(len(snippet.names) for snippet in snippets)
    return Score(found_right=labelled - missed, found_wrong=wrong, missed=missed)


def errors(find: Finder, snippets: Sequence[Snippet]) -> Iterator[tuple[Snippet, list[str], list[str]]]:
    """Yield each snippet with a mistake, the names found wrongly and the names missed."""
    for snippet in snippets:
        found, labelled = Counter(find(snippet.text)), Counter(snippet.names)
        invented = list((found - labelled).elements())
        lost = list((labelled - found).elements())
        if invented or lost:
            yield snippet, invented, lost
