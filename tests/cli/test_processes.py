"""Process groups that the benchmarks start end within a bound, and leave nothing behind."""

import os
import subprocess
import sys

from lifepool.cli.processes import end_leader, group_members, kill_group, wait_until_gone

PATIENCE = 10.0  # seconds
SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPER
LEAVER = (
    "import subprocess, sys;"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "print('up', flush=True)"
)


def start(program: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", program]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"up\n"
    return process


def test_a_group_lists_its_living_members() -> None:
    process = start(SLEEPER)
    assert group_members(process.pid) == [process.pid]
    kill_group(process.pid, PATIENCE)
    assert group_members(process.pid) == []
    process.wait(PATIENCE)


def test_a_leader_that_hears_sigterm_ends_cleanly() -> None:
    assert end_leader(start(SLEEPER), PATIENCE)


def test_a_leader_that_ignores_sigterm_is_killed() -> None:
    process = start(DEAF)
    assert not end_leader(process, timeout=0.2)
    assert process.returncode is not None
    assert group_members(process.pid) == []


def test_a_process_that_outlives_its_leader_is_seen_and_killed() -> None:
    process = start(LEAVER)
    process.wait(PATIENCE)
    assert len(wait_until_gone(process.pid, timeout=0.1)) == 1
    kill_group(process.pid, PATIENCE)
    assert group_members(process.pid) == []


def test_the_own_group_has_this_process_in_it() -> None:
    assert os.getpid() in group_members(os.getpgrp())
