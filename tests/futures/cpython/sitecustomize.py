"""Swap the executor in every Python process that has this folder in its search path.

If the environment names a file as ``NOTE_EXECUTORS``, each executor that is made is one line there.
"""

import concurrent.futures
import os
from typing import Any

import lifepool.futures


class _Noted(lifepool.futures.ProcessPoolExecutor):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        with open(os.environ["NOTE_EXECUTORS"], "a") as file:
            file.write("made\n")


_swapped = _Noted if "NOTE_EXECUTORS" in os.environ else lifepool.futures.ProcessPoolExecutor
concurrent.futures.ProcessPoolExecutor = _swapped  # type: ignore[misc]
