"""What Windows does not have, taken away: the package can be imported, and pools run over executors.

This is not a test on Windows, which nobody has run. It finds what would fail there at once.
"""

from __future__ import annotations

import subprocess
import sys

#: The standard library is imported before, as it is here: only lifepool has to do without.
TAKEN_AWAY = """
import asyncio, concurrent.futures.process, importlib, logging, multiprocessing.synchronize, os, signal, sqlite3, ssl
import subprocess, sys, tempfile, urllib.request, uuid
try:
    import fastapi, typer, rich
except ImportError:
    pass
for name in ("fcntl", "resource", "termios", "pwd", "grp", "_posixshmem"):
    sys.modules[name] = None
for name in (
    "fork", "register_at_fork", "sched_getaffinity", "sched_yield", "memfd_create", "waitid", "getpgid", "killpg",
    "setsid", "geteuid", "getuid", "mkfifo", "O_CLOEXEC",
):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGSTOP", "pthread_kill", "setitimer"):
    delattr(signal, name)
if hasattr(os, "process_cpu_count"):  # it asks for the affinity where there is one
    os.process_cpu_count = os.cpu_count
sys.platform = "win32"
"""

PROGRAM = (
    TAKEN_AWAY
    + """
from concurrent.futures import ThreadPoolExecutor
import lifepool
from lifepool import Pool, QueueFull, TaskTimeout
from lifepool.backends.executor import ExecutorBackend
for name in ("futures", "hooks", "progress", "statistics", "testing", "dashboard", "instrumentation.loop",
             "instrumentation.slow", "integrations.asgi", "integrations.shedding", "jobs"):
    importlib.import_module(f"lifepool.{name}")

async def main():
    pool = Pool(max_workers=2)
    assert isinstance(pool._runtime.make_backend(pool.config, ()), ExecutorBackend)
    async with Pool(backend=ThreadPoolExecutor(2)) as pool:
        print(await pool.run(abs, -1), await pool.gather(abs, range(-3, 0)))

asyncio.run(main())
"""
)


def test_without_what_windows_does_not_have_it_is_imported_and_runs_over_an_executor() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("1 [3, 2, 1]\n", "")
