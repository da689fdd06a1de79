"""What ``__main__`` defines and workers do not find: which calls name it, and what to tell the user."""

from __future__ import annotations

import sys
from functools import partial

#: Why workers do not have it, and what to do: for both sides.
TYPED = "workers can't import what was typed into a notebook, an interpreter, `python -c` or standard input"
TYPED_HINT = "put it into a module, a file that can be imported"
GUARDED_HINT = (
    "workers import the main script as a module: define what tasks use at its top level, outside of "
    "'if __name__ == \"__main__\":'"
)

OTHER_MAIN_HINT = (
    "the script was run inside of another program (cProfile, trace, exec), whose __main__ is another one: put the "
    "function into a module"
)
REBUILT_HINT = (
    "the worker's traceback, which is this error's cause, shows what fails there: an import, or the object's own code"
)


def is_of_main(fn: object) -> bool:
    """Tell whether a function is defined in ``__main__``, or bound to what is."""
    while isinstance(fn, partial):
        fn = fn.func
    try:
        bound_to = getattr(fn, "__self__", None)
        if bound_to is not None:
            fn = bound_to if isinstance(bound_to, type) else type(bound_to)
        return bool(getattr(fn, "__module__", None) == "__main__")
    except Exception:  # an object of the user's that refuses to tell: the worker will find out
        return False


def is_of_other_main(fn: object) -> bool:
    """Return whether a function is defined in a ``__main__`` that is not this process's."""
    while isinstance(fn, partial):
        fn = fn.func
    namespace = getattr(fn, "__globals__", None)
    return is_of_main(fn) and namespace is not None and namespace is not vars(sys.modules["__main__"])


def misses_main(error: BaseException) -> bool:
    """Tell whether unpickling failed because ``__main__`` does not have what was named."""
    return isinstance(error, AttributeError) and ("<module '__main__'" in str(error) or "'__mp_main__'" in str(error))
