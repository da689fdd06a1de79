"""Notice that a module has to be imported, without any work as long as none has."""

from __future__ import annotations

import sys
from threading import get_ident
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class _Finder:
    """Report that a module is imported for the first time: a finder that is asked first, and never finds one."""

    def __init__(self, on_import: Callable[[], None]) -> None:
        self._on_import = on_import
        self._thread = get_ident()

    def find_spec(self, _name: str, _path: Any = None, _target: Any = None) -> None:
        if get_ident() == self._thread:
            self._on_import()


def watch_imports(on_import: Callable[[], None]) -> None:
    """Have a function called before each module that this thread imports anew."""
    finder: Any = _Finder(on_import)
    sys.meta_path.insert(0, finder)
