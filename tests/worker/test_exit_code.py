"""A worker's exit code can be read once; whoever asks gets it."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import connection, forkserver
from typing import TYPE_CHECKING, Any

from lifepool.backends.local.template.process import UNKNOWN_EXIT, _Popen

if TYPE_CHECKING:
    import pytest

PATIENCE_S = 20.0


def ended(code: int | None) -> Any:
    """A process of which the template said this, or nothing."""
    popen: Any = _Popen.__new__(_Popen)
    popen.returncode = None
    popen.sentinel, said = os.pipe()
    if code is not None:
        forkserver.write_signed(said, code)
    os.close(said)
    return popen


def test_two_threads_that_look_at_the_same_moment_both_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    both, wait = threading.Barrier(2, timeout=PATIENCE_S), connection.wait

    def wait_for_each_other(*arguments: Any) -> Any:
        ready = wait(*arguments)
        both.wait()
        return ready

    monkeypatch.setattr(connection, "wait", wait_for_each_other)
    popen = ended(7)
    with ThreadPoolExecutor(2) as threads:
        codes = list(threads.map(lambda _: popen.poll(), range(2)))
    os.close(popen.sentinel)
    assert codes == [7, 7]
    assert popen.returncode == 7


def test_an_end_that_nobody_told_of_is_unknown() -> None:
    popen = ended(None)
    assert popen.poll() == UNKNOWN_EXIT
    os.close(popen.sentinel)
