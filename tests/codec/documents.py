"""What has a text in it and goes to a worker: here, so that workers import none of what the tests need."""

from __future__ import annotations

from dataclasses import dataclass


class Name(str):
    """Not a plain text."""

    __slots__ = ()


@dataclass
class Document:
    """Has a text among other things."""

    title: str
    body: str
    parts: list[str]
