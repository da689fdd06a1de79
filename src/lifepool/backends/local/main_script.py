"""Where workers find what the server's ``__main__`` defines; decision 9 has the rules."""

from __future__ import annotations

import os
import sys
import sysconfig
from multiprocessing import process
from pathlib import Path

from lifepool._inside import state
from lifepool.backends.local.worker.startup import MainScript


def main_script() -> MainScript | None:
    """Find ``__main__``; None if workers can't have it: it was typed, or read from standard input.

    A script of the user's is imported ahead. The starting point of a command-line tool (a script in the environment's
    bin, ``__main__.py`` of a package, a folder or an archive) rarely defines a task, and importing it costs hundreds
    of milliseconds, or runs the tool: it is imported when a call names something that it defines.
    """
    # multiprocessing did this when it was imported, perhaps before coverage or a debugger made another __main__.
    main = sys.modules["__mp_main__"] = sys.modules["__main__"]
    spec, path = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    is_first = id(main) == state.main_id
    path = path or (state.main_file if is_first else None)
    argv = state.main_argv if is_first else None
    if spec is not None and spec.name != "__main__":
        return MainScript(spec.name, None, ahead=not spec.name.endswith(".__main__"), argv=argv)
    if path is None:
        return None
    origin: str | None = vars(process)["ORIGINAL_DIR"]
    full = os.path.normpath(os.path.join(origin or "", path))
    if spec is not None:  # ``python folder`` or ``python archive.zip``
        return MainScript(None, os.path.dirname(full), ahead=False, argv=argv)
    if full.startswith(("/dev/", "/proc/")):  # such as /dev/stdin, which is another file in workers
        full = os.path.realpath(full)
    if not (os.path.isfile(full) or os.path.isdir(full)):  # such as a pipe, which can be read once
        return None
    return MainScript(None, full, ahead=not _is_tool(Path(full)), argv=argv)


def _is_tool(path: Path) -> bool:
    scripts = sysconfig.get_path("scripts")
    return bool(scripts) and path.resolve().parent == Path(scripts).resolve()
