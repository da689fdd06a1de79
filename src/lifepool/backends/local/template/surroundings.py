"""Give workers the server's surroundings, which may change: folder, environment, how it starts processes.

A template is started once, its workers at any time later. Each worker lives in the surroundings that the server has
when it asks for the worker.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from dataclasses import dataclass
from multiprocessing import context
from typing import Any


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a worker is to live.

    Attributes:
        folder: The current folder; None if it was deleted: then the worker stays where its template is.
        environment: Variables that have changed since the template was made; None: removed.
        start_method: How ``multiprocessing`` starts processes; None as long as nobody has asked for one or set it.
    """

    folder: str | None
    environment: dict[str, str | None]
    start_method: str | None

    def enter(self) -> None:
        """Go there.

        Raises:
            OSError: If this process may not enter the folder.
        """
        for name, value in self.environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if self.start_method is not None:
            _make_default(self.start_method)
        if self.folder is not None and self.folder != current_folder():
            os.chdir(self.folder)


def surroundings(since: dict[str, str]) -> Surroundings:
    """Describe this process's own, for another one.

    Args:
        since: The environment variables of the time that changes are counted from.
    """
    now = dict(os.environ)
    changed: dict[str, str | None] = {name: value for name, value in now.items() if since.get(name) != value}
    removed = dict.fromkeys(since.keys() - now.keys())
    return Surroundings(current_folder(), changed | removed, multiprocessing.get_start_method(allow_none=True))


def _make_default(start_method: str) -> None:
    """Make it what is used if nobody sets another one; a module that does so when it is imported still may."""
    default: Any = vars(context)["_default_context"]
    default._default_context = default.get_context(start_method)
    default._actual_context = None


def current_folder() -> str | None:
    """Return the current folder, or None if it was deleted."""
    with contextlib.suppress(OSError):
        return os.getcwd()
    return None
