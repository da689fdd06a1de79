"""Print the notes of a release, after looking whether everything agrees on its version and its day.

usage: python scripts/release.py v0.1.0
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


class NotReady(Exception):
    """Raised if something says another version; the message says what."""


def notes(tag: str, root: Path = ROOT) -> str:
    """Return the part of the changelog about a version.

    Args:
        tag: As v0.1.0.
        root: The checkout.

    Raises:
        NotReady: If a file knows another version or another day.
    """
    if not re.fullmatch(r"v\d+\.\d+\.\d+((a|b|rc)\d+)?", tag):
        raise NotReady(f"{tag!r} is no tag of a release; they look like v0.1.0 and v0.2.0rc1")
    version = tag.removeprefix("v")
    day, text = _section((root / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    said = {
        "pyproject.toml": tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"],
        "src/lifepool/__init__.py": _found(root / "src/lifepool/__init__.py", r'^__version__ = "(.+)"$'),
        "CITATION.cff": _found(root / "CITATION.cff", r"^version: (.+)$"),
    }
    for file, other in said.items():
        if other != version:
            raise NotReady(f"{file} says {other}, the tag says {version}")
    cited = _found(root / "CITATION.cff", r'^date-released: "(.+)"$')
    if cited != day:
        raise NotReady(f"CITATION.cff says {cited}, CHANGELOG.md says {day}")
    return text


def _section(changelog: str, version: str) -> tuple[str, str]:
    match = re.search(
        rf"^## \[{re.escape(version)}\] - (\d{{4}}-\d{{2}}-\d{{2}})\n(.*?)(?=^## \[|^\[.+\]: |\Z)",
        changelog,
        re.MULTILINE | re.DOTALL,
    )
    if match is None:
        raise NotReady(f"CHANGELOG.md has no dated part about {version}")
    return match[1], match[2].strip() + "\n"


def _found(file: Path, pattern: str) -> str:
    match = re.search(pattern, file.read_text(encoding="utf-8"), re.MULTILINE)
    return match[1] if match else "nothing"


if __name__ == "__main__":
    try:
        sys.stdout.write(notes(*sys.argv[1:2]))
    except (NotReady, TypeError) as error:
        raise SystemExit(f"release: {error}") from None
