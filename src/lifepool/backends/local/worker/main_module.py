"""Import the server's ``__main__`` in a worker, so that functions defined in the script that is run work.

A script that starts its server or pool without the ``__main__`` guard does so again here. It must not get far: a
``Pool`` refuses to start in a worker, ``multiprocessing`` refuses to start processes during this import, and whatever
the script printed about that is swallowed in favour of one clear error.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
from multiprocessing import process
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lifepool._inside import state
from lifepool.backends.local.codec.unreachable import GUARDED_HINT, TYPED, TYPED_HINT
from lifepool.backends.local.shared.unnamed_files import nameless_file
from lifepool.backends.local.worker.signals import calm_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lifepool.backends.local.worker.startup import MainScript

#: Modules that were ``__main__`` before: functions may still use their globals.
_before: list[ModuleType] = []


class GuardMissing(Exception):
    """The script does its work when it is imported."""


def import_main(main: MainScript | None, *, tell_failure: bool = True) -> None:
    """Run the script under the name ``__mp_main__`` and make it this process's ``__main__``, unless it is already.

    Args:
        main: Where it is. None: there is nothing to do.
        tell_failure: Whether what it printed is shown also if it fails.

    Raises:
        GuardMissing: If it tried to start a pool or processes, or to exit.
        Exception: Whatever else the script raised.
    """
    if main is None or _before:
        return
    current = process.current_process()
    with _buffered_output() as let_out:
        current._inheriting = True  # type: ignore[attr-defined]
        shown = tell_failure
        try:
            _run(main)
            shown = True
        except SystemExit as error:
            raise GuardMissing(f"it ended with SystemExit({error.code!r})") from None
        except Exception as error:
            if state.start_refused:
                raise GuardMissing("it starts a pool") from None
            if isinstance(error, RuntimeError) and "bootstrapping phase" in str(error):
                raise GuardMissing("it starts processes") from None
            raise
        finally:
            del current._inheriting  # type: ignore[attr-defined]
            if shown and not state.start_refused:
                let_out()
        if state.start_refused:
            raise GuardMissing("it starts a pool")


def seek_main(main: MainScript | None) -> str | None:
    """Import the script because a call names something of it that this process has not.

    Returns:
        What the user should do; None if it was left for this moment, and is imported now.
    """
    if main is None:
        return f"{TYPED}: {TYPED_HINT}"
    if _before:
        return GUARDED_HINT
    try:
        import_main(main)
    except GuardMissing:
        return state.GUARD_HINT
    except Exception as error:
        return f"importing the main script in a worker failed: {type(error).__name__}: {error}"
    finally:
        calm_signals()
    return None


def _run(main: MainScript) -> None:
    argv = sys.argv
    if main.argv is not None:
        sys.argv = list(main.argv)
    try:
        content = _content(main)
    finally:
        sys.argv = argv
    module = ModuleType("__mp_main__")
    module.__dict__.update(content)
    _before.append(sys.modules["__main__"])
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module


def _content(main: MainScript) -> dict[str, Any]:
    if main.name is not None:
        return runpy.run_module(main.name, run_name="__mp_main__", alter_sys=True)
    assert main.path is not None  # noqa: S101 - it has one or the other
    return runpy.run_path(main.path, run_name="__mp_main__")


@contextlib.contextmanager
def _buffered_output() -> Iterator[Callable[[], None]]:
    """Keep what is written to stdout and stderr until the function that is yielded lets it out."""
    _flush()
    saved = (os.dup(1), os.dup(2))
    with nameless_file() as out, nameless_file() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        wanted = False

        def let_out() -> None:
            nonlocal wanted
            wanted = True

        try:
            yield let_out
        finally:
            _flush()
            for target, copy, captured in zip((1, 2), saved, (out, err), strict=True):
                os.dup2(copy, target)
                os.close(copy)
                if wanted:
                    captured.seek(0)
                    _write_all(target, captured.read())


def _write_all(fd: int, data: bytes) -> None:
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(fd, data) :]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
