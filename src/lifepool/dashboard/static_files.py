"""The page's own files, read once from the package: they are few and small."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is served.

    Attributes:
        tag: Changes with the content: a browser that has this one gets 304, and no content.
    """

    content: bytes
    media_type: str
    tag: str


@cache
def files() -> dict[str, File]:
    """Return all files by name. Only these can be asked for, so no path leads elsewhere."""
    found = {}
    for entry in resources.files("lifepool.dashboard").joinpath("static").iterdir():
        media_type = TYPES.get(entry.name.rpartition(".")[2])
        if media_type is not None:
            content = entry.read_bytes()
            found[entry.name] = File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:20]}"')
    return found
