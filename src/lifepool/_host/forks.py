"""Run code around each fork of this process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def _nothing() -> None:
    """Do nothing."""


def at_fork(
    *,
    before: Callable[[], Any] = _nothing,
    in_parent: Callable[[], Any] = _nothing,
    in_child: Callable[[], Any] = _nothing,
) -> None:
    """Have functions called around each fork from now on; do nothing where processes can't fork (Windows).

    Args:
        before: Called before a fork, the function that was registered last first.
        in_parent: Called afterwards in this process.
        in_child: Called afterwards in the new process, before anything else runs there.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)
