"""The functions that workers run. Light, and importable in every pool's workers."""

import itertools
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

ENDLESS_S = 1000.0


def double(number: int) -> int:
    return 2 * number


def announce(folder: str) -> None:
    """Say which process runs, in a file that appears at once with its content."""
    temporary = Path(folder, f".{os.getpid()}")
    temporary.write_text("")
    temporary.rename(Path(folder, str(os.getpid())))


def announce_and_wait(folder: str, seconds: float) -> str:
    announce(folder)
    time.sleep(seconds)
    return "done"


def hang_in_c(folder: str) -> None:
    """Keep the GIL and look at no signal."""
    announce(folder)
    sum(itertools.repeat(0))


def ask_to_be_killed(folder: str) -> None:
    Path(folder, "kill me").touch()


def crash() -> NoReturn:
    os._exit(3)


def leave() -> NoReturn:
    sys.exit(3)


def make_lock() -> Any:
    return {"lock": threading.Lock()}


class Stubborn(Exception):
    """The classic: `args` do not fit `__init__`, so its pickle can't be loaded."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


def raise_stubborn() -> NoReturn:
    raise Stubborn(42, detail="of its own")
