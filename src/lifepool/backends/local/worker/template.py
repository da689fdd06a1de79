"""The template: the clean process that workers are forked from. Importing this module makes the process one.

It is preloaded by ``multiprocessing``'s fork server, and so runs in the template only (a worker finds it imported).

Guarantees
    The template and its workers are one process group of their own: Ctrl-C in the terminal does not reach them, and
    when the template ends, for whatever reason, it takes the group with it, also a worker in an endless loop in C, also
    what tasks have started. It ends when its server is gone: the server holds the write end of a pipe, and nobody else
    does (workers close theirs, see ``lifeline``).
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import sys

#: The server passes instructions in this variable, for the moment of the start only.
ENVIRONMENT = "_LIFEPOOL_TEMPLATE"

_template_pid = os.getpid()


def _end_group() -> None:
    # A forked worker has inherited this exit handler; only the template may act on it.
    if os.getpid() == _template_pid and os.getpgrp() == _template_pid:
        os.killpg(_template_pid, signal.SIGKILL)


def _ignore(_signum: int, _frame: object) -> None:
    """Not ``SIG_IGN``, which programs started by a task would inherit."""


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

    _preload(settings["preload"])
    # What was loaded lives for ever: keep the collector from touching, and so from copying, those pages.
    gc.collect()
    gc.freeze()


if ENVIRONMENT in os.environ:
    _become_template(os.environ.pop(ENVIRONMENT))
