"""A server that is a daemonic process of multiprocessing, as hypercorn's and Celery's workers are."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from tests.engine.scripts import talking_to
from tests.gone import still_there


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("what", ["pool", "executor"])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_daemonic_process_has_a_pool_and_takes_it_along(what: str, method: str, ending: signal.Signals) -> None:
    with talking_to("daemonic.py", what, method) as script:
        assert script.stdout is not None
        server, worker, child = map(psutil.Process, map(int, script.stdout.readline().split()))
        template = worker.parent()
        assert template is not None
        assert template.ppid() == server.pid
        os.kill(server.pid, ending)
        assert still_there([server, template, worker, child], 10) == []
