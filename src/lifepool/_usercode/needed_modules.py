"""Find the modules that tasks will need, before the first task; workers import them at their start.

What a decorator was put on names its module. A function that is passed to ``pool.run`` does not, before it is; but it
is nearly always one of the module that has the app or the pool as a global, or of one that this imports.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Modules that are imported ahead at most: a global that hundreds of modules import says nothing.
MOST_MODULES = 32


def modules_ahead(named: Iterable[str], owners: Iterable[object]) -> tuple[str, ...]:
    """Return the names of the modules that tasks will probably need, each once.

    Args:
        named: Those that decorated functions are defined in.
        owners: Objects (a pool, an app) whose module's tasks use this pool: the modules that have them as a global.
    """
    found = dict.fromkeys(name for name in named if name in sys.modules)
    wanted = {id(thing) for thing in owners if thing is not None}
    for name, module in list(sys.modules.items()):
        if any(id(value) in wanted for value in list(getattr(module, "__dict__", {}).values())):
            found[name] = None
    return tuple(name for name in found if _can_be_imported(name))[:MOST_MODULES]


def _can_be_imported(name: str) -> bool:
    """Return whether a worker can import it by this name; the main script it imports anyway, and lifepool it has."""
    if name in ("__main__", "__mp_main__") or name.partition(".")[0] == "lifepool":
        return False
    spec = getattr(sys.modules[name], "__spec__", None)
    return spec is not None and spec.name == name
