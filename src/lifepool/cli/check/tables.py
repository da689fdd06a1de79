"""Helpers to write tables of names."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """Split text into words: ``words("x y")`` is ``x`` and ``y``."""
    return frozenset(text.split())


def methods(owners: str, names: str) -> frozenset[str]:
    """Combine owners and names: ``methods("a() b()", "x y")`` is ``a().x``, ``a().y``, ``b().x``, ``b().y``."""
    return frozenset(f"{owner}.{name}" for owner in owners.split() for name in names.split())
