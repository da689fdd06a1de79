"""What ``__main__`` defines and workers do not find: which calls name it, and what to tell the user."""

from __future__ import annotations

from functools import partial

#: Why workers do not have it, and what to do: for both sides.
TYPED = "workers can't import what was typed into a notebook, an interpreter, `python -c` or standard input"
TYPED_HINT = "put it into a module, a file that can be imported"
GUARDED_HINT = (
    "workers import the main script as a module: define what tasks use at its top level, outside of "
    "'if __name__ == \"__main__\":'"
)


def is_of_main(fn: object) -> bool:
    """Tell whether a function is defined in ``__main__``, or bound to what is."""
    while isinstance(fn, partial):
        fn = fn.func
    bound_to = getattr(fn, "__self__", None)
    if bound_to is not None:
        fn = bound_to if isinstance(bound_to, type) else type(bound_to)
    return getattr(fn, "__module__", None) == "__main__"


def misses_main(error: BaseException) -> bool:
    """Tell whether unpickling failed because ``__main__`` does not have what was named."""
    return isinstance(error, AttributeError) and ("<module '__main__'" in str(error) or "'__mp_main__'" in str(error))
