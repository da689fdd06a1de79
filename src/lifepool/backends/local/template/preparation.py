"""Make the instructions that a new process of ``multiprocessing`` gets before it does anything."""

from __future__ import annotations

import sys
from multiprocessing import process, util
from typing import Any


def preparation(name: str) -> dict[str, Any]:
    """Make what ``multiprocessing`` tells a new process, but for ``__main__``, folder and start method, our own.

    Args:
        name: The new process's.
    """
    current = process.current_process()
    origin = vars(process)["ORIGINAL_DIR"]
    return {
        "name": name,
        "authkey": bytes(current.authkey),
        "log_to_stderr": vars(util)["_log_to_stderr"],
        **({} if vars(util)["_logger"] is None else {"log_level": vars(util)["_logger"].getEffectiveLevel()}),
        "sys_path": search_path(),
        "sys_argv": list(sys.argv),
        "orig_dir": origin,
    }


def search_path() -> list[str]:
    """Return ``sys.path``, with the folder of the program's start in the place of '', which means the current one."""
    origin = vars(process)["ORIGINAL_DIR"]
    return [origin if entry == "" and origin is not None else entry for entry in sys.path]
