"""How the tables of names are written down."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """``words("x y")`` is ``x`` and ``y``."""
    return frozenset(text.split())


def methods(owners: str, names: str) -> frozenset[str]:
    """``methods("a() b()", "x y")`` is ``a().x``, ``a().y``, ``b().x``, ``b().y``."""
    return frozenset(f"{owner}.{name}" for owner in owners.split() for name in names.split())
