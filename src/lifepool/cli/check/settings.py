"""Read what to look for and where: from the command line, else ``[tool.lifepool.check]`` in pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifepool.cli.check.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterable


class WrongUsage(Exception):
    """Raised for a request that makes no sense; the message says what would."""


@dataclass(frozen=True)
class Settings:
    """Each as given, a missing one empty.

    Attributes:
        select: Codes of the rules to apply; empty: all.
        ignore: Codes of the rules to leave out.
        exclude: Patterns of files and folders to leave out.
        root: The folder that the patterns start from.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    root: Path = Path()

    @property
    def codes(self) -> frozenset[str]:
        """Return the codes of the rules to apply."""
        return frozenset(self.select or RULES) - frozenset(self.ignore)


def load(folder: Path, *, select: Iterable[str], ignore: Iterable[str], exclude: Iterable[str]) -> Settings:
    """Return the settings for a run in ``folder``; what is given here overrides the file.

    Raises:
        WrongUsage: If a code does not exist, or the table has a key or a value that it can't have.
    """
    written = _from_file(folder.absolute())
    return replace(
        written,
        select=_codes(select) or written.select,
        ignore=_codes(ignore) or written.ignore,
        exclude=tuple(_split(exclude)) or written.exclude,
    )


def _from_file(folder: Path) -> Settings:
    """Read the table in the nearest pyproject.toml, in this folder or above."""
    file = next(
        (each / "pyproject.toml" for each in (folder, *folder.parents) if (each / "pyproject.toml").is_file()), None
    )
    if file is None:
        return Settings(root=folder)
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("lifepool", {}).get("check", {})
        return Settings(root=file.parent, **_checked(table))
    except (tomllib.TOMLDecodeError, WrongUsage) as error:
        raise WrongUsage(f"{file}: {error}") from None


def _checked(table: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    known = [each.name for each in fields(Settings) if each.name != "root"]
    for key, value in table.items():
        if key not in known:
            raise WrongUsage(f"[tool.lifepool.check] has no {key!r}; it has {', '.join(known)}")
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise WrongUsage(f"[tool.lifepool.check] {key} must be a list of strings")
    return {key: tuple(value) if key == "exclude" else _codes(value) for key, value in table.items()}


def _codes(values: Iterable[str]) -> tuple[str, ...]:
    codes = tuple(value.upper() for value in _split(values))
    for code in codes:
        check_code(code)
    return codes


def check_code(code: str) -> None:
    """Refuse what is not a rule.

    Raises:
        WrongUsage: If there is no such rule.
    """
    if code not in RULES:
        raise WrongUsage(f"there is no rule {code!r}; they are {min(RULES)} to {max(RULES)}")


def _split(values: Iterable[str]) -> list[str]:
    return [part for value in values for part in re.split(r"[,\s]+", value) if part]
