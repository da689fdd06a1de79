"""The template: the clean process that workers are forked from. Importing this module makes the process one.

It is preloaded by ``multiprocessing``'s fork server, and so runs in the template only (a worker finds it imported).

Guarantees
    The template and its workers are one process group of their own: Ctrl-C in the terminal does not reach them, and
    when the template ends, for whatever reason, it takes the group with it, also a worker in an endless loop in C, also
    what tasks have started. It ends when its server is gone: the server holds the write end of a pipe, and nobody else
    does (workers close theirs, see ``lifeline``).

Why ``__main__`` is imported here
    Each worker needs it, and it may take a second to import. Forked from here it is there already. But a script may
    start threads when it is imported, and a process with threads must not be forked: then the template begins anew,
    without it, and each worker imports it by itself. So it does if the import fails, and reports it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import sys
import threading
from typing import Any

from lifepool import _inside
from lifepool.backends.local.worker.forking import survive_failing_forks
from lifepool.backends.local.worker.mainmodule import import_main

#: The server passes instructions in this variable, for the moment of the start only.
ENVIRONMENT = "_LIFEPOOL_TEMPLATE"

_template_pid = os.getpid()


def _end_group() -> None:
    # A forked worker has inherited this exit handler; only the template may act on it.
    if os.getpid() == _template_pid and os.getpgrp() == _template_pid:
        os.killpg(_template_pid, signal.SIGKILL)


def _ignore(_signum: int, _frame: object) -> None:
    """Not ``SIG_IGN``, which programs started by a task would inherit."""


def _import_main(settings: dict[str, Any]) -> None:
    name, path = settings["main"]
    if name is None and path is None:
        return
    _inside.is_worker = True  # a script without the guard must not start anything here
    try:
        import_main(name, path, tell_failure=False)  # the workers will
        is_clean = _threads() == 1
    except BaseException:
        is_clean = False
    if not is_clean:
        os.environ[ENVIRONMENT] = json.dumps({**settings, "main": (None, None)})
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - the same process anew: same pid, same descriptors
    _inside.is_worker = False


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def _preload(modules: list[str]) -> None:
    for name in modules:
        try:
            importlib.import_module(name)
        except BaseException:  # noqa: S112 - each worker tries again and reports it, with the traceback
            continue


def _become_template(instructions: str) -> None:
    settings = json.loads(instructions)
    if os.getpgrp() != _template_pid:
        os.setpgid(0, 0)
    # A service manager sends SIGTERM to every process at once; the server drains then, and needs its workers to.
    signal.signal(signal.SIGTERM, _ignore)
    atexit.register(_end_group)
    sys.path[:] = settings["sys_path"]
    for module in ("lifepool.backends.local.process", "lifepool.backends.local.worker.bootstrap"):
        importlib.import_module(module)  # so that workers have them

    _import_main(settings)
    _preload(settings["preload"])
    survive_failing_forks()
    # What was loaded lives for ever: keep the collector from touching, and so from copying, those pages.
    gc.collect()
    gc.freeze()


if ENVIRONMENT in os.environ:
    _become_template(os.environ.pop(ENVIRONMENT))
