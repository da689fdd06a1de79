"""A server that is a daemonic process of multiprocessing, as hypercorn's and Celery's workers are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.engine.scripts import ROOT, SCRIPTS, environment, nothing_left
from tests.gone import still_there


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("what", ["pool", "executor"])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_daemonic_process_has_a_pool_and_takes_it_along(what: str, method: str, ending: signal.Signals) -> None:
    env = environment()
    with subprocess.Popen(
        [sys.executable, str(SCRIPTS / "daemonic.py"), what, method],
        cwd=ROOT,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as script:
        try:
            assert script.stdout is not None
            server, worker, child = map(psutil.Process, map(int, script.stdout.readline().split()))
            template = worker.parent()
            assert template is not None
            assert template.ppid() == server.pid
            os.kill(server.pid, ending)
            assert still_there([server, template, worker, child], 10) == []
        finally:
            script.kill()
            assert nothing_left(env)
