"""Look up which versions are installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those of these packages that are installed, by the names that pip knows."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
