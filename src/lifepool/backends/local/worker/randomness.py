"""Reseed random numbers: workers are copies of the template, and must not draw the same ones."""

from __future__ import annotations

import contextlib
import random
import sys


def reseed() -> None:
    """Seed the global generators of this process anew: those of ``random``, and of numpy if the template has it.

    Before anything of the user's is imported here, and after it: a seed that an initializer sets stays. Generators
    that a module has made for itself (``random.Random()``, ``numpy.random.default_rng()``) can't be found; they are
    copies.
    """
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        with contextlib.suppress(Exception):  # a module of that name need not be numpy's
            numpy_random.seed()
