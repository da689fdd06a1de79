"""Process groups: start one, end it within a bound, and see that nothing of it is left."""

import os
import signal
import subprocess
import time
from pathlib import Path

PS_BOUND = 10.0  # seconds; it answers in milliseconds
KILL_S = 10.0  # seconds for killed processes to be gone: a busy machine may be late
POLL = 0.02  # seconds between two looks at a group that is ending


def group_members(group: int) -> list[int]:
    """Return the living processes of a process group; ended ones that wait for a parent not."""
    rows = _from_proc() if Path("/proc/self/stat").exists() else _from_ps()
    return [pid for pid, of_group, state in rows if of_group == group and state != "Z"]


def _from_proc() -> list[tuple[int, int, str]]:
    rows = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended between the listing and the look
                continue
            rows.append((int(entry.name), int(after_name[2]), after_name[0]))
    return rows


def _from_ps() -> list[tuple[int, int, str]]:
    command = ["ps", "-A", "-o", "pid=,pgid=,stat="]
    listing = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PS_BOUND)
    fields = [line.split() for line in listing.stdout.splitlines()]
    return [(int(pid), int(group), state[0]) for pid, group, state in fields]


def wait_until_gone(group: int, timeout: float) -> list[int]:
    """Wait until a process group is empty; return who is left after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while (left := group_members(group)) and time.monotonic() < end:
        time.sleep(POLL)
    return left


def kill_group(group: int, timeout: float) -> None:
    """Kill every process of a group that the caller started.

    Raises:
        RuntimeError: some are still there after ``timeout`` seconds.
    """
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
    if left := wait_until_gone(group, timeout):
        raise RuntimeError(f"processes {left} of group {group} survived SIGKILL")


def end_leader(process: subprocess.Popen[bytes], timeout: float) -> bool:
    """Ask the leader of a group to end, and kill the group if it does not.

    Args:
        process: started with ``process_group=0``.
        timeout: seconds for the leader to end, and again for the rest of its group; then they are killed.

    Returns:
        Whether all of them ended without being killed.
    """
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout)
        clean = not wait_until_gone(process.pid, timeout)
    except subprocess.TimeoutExpired:
        clean = False
    kill_group(process.pid, KILL_S)
    process.wait(KILL_S)
    return clean
