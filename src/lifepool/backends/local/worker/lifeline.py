"""A worker's life is tied to its server's, also when the worker never reads its socket again."""

from __future__ import annotations

import os

from lifepool.backends.local.worker.deathsignal import die_with_parent


def tie_to_server() -> None:
    """Die with the template, which dies with the server."""
    die_with_parent(os.getppid())
