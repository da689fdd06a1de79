"""Texts for the service case: the same for every server, in every round, on every machine."""

import random

PROSE = (
    "the report of a host that was seen in this log at night and again from there "
    "before we asked whether every record could have been written by mistake or not"
)
WORDS = PROSE.split()
SUFFIXES = ("com", "org", "net", "co.uk", "de", "io")
WORDS_PER_NAME = 12
"""About one domain name in sixty characters, as in a log or a threat report."""


def make_texts(count: int, size: int, seed: int = 20_000) -> list[str]:
    """Return ``count`` distinct texts of ``size`` ASCII characters with domain names in them."""
    source = random.Random(seed)
    return [_make_text(source, size) for _ in range(count)]


def _make_text(source: random.Random, size: int) -> str:
    parts: list[str] = []
    length = 0
    while length < size:
        sentence = " ".join([*source.choices(WORDS, k=WORDS_PER_NAME), _make_name(source)])
        parts.append(sentence)
        length += len(sentence) + 1
    return " ".join(parts)[:size]


def _make_name(source: random.Random) -> str:
    label = "".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randint(4, 10)))
    return f"www.{label}.{source.choice(SUFFIXES)}"
