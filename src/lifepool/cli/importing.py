"""Import what the user names as ``module:attribute``, and say clearly why not."""

from __future__ import annotations

import difflib
import importlib
import traceback

from lifepool._inside import state
from lifepool._transfer.reference import import_by_name


class NotFound(Exception):
    """Raised for a target that is not there; the message says why, ``hint`` what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def import_target(target: str) -> object:
    """Import what ``module:attribute`` names, in the way that a worker would.

    Raises:
        NotFound: If it can't be imported, or does its work when it is imported.
    """
    module, _, path = target.partition(":")
    # As in a worker: a script without the guard must not get far, and is found out.
    state.phase = state.Phase.IMPORTING
    try:
        loaded = importlib.import_module(module)
    except SystemExit as error:
        raise NotFound(f"importing {module} ended with SystemExit({error.code!r})", state.GUARD_HINT) from None
    except BaseException as error:
        if state.start_refused:
            raise NotFound(f"importing {module} starts a pool", state.GUARD_HINT) from None
        raise NotFound(_import_failure(module, error), _import_hint(module, error)) from None
    finally:
        state.phase = None
    if state.start_refused:
        raise NotFound(f"importing {module} starts a pool", state.GUARD_HINT)
    try:
        found: object = import_by_name(module, path)
    except AttributeError as error:
        close = difflib.get_close_matches(path, vars(loaded), n=1)
        hint = f"did you mean {module}:{close[0]}?" if close else "look at how it is spelt there"
        raise NotFound(str(error), hint) from None
    return found


def _import_failure(module: str, error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"importing {module} failed: {type(error).__name__}: {error} ({last.filename}:{last.lineno})"


def _import_hint(module: str, error: BaseException) -> str:
    missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    if missing and (module == missing or module.startswith(f"{missing}.")):
        return f"run this in the folder where {missing} lies, or install it"
    return "workers import this module too: what it needs must be there when it is imported"
