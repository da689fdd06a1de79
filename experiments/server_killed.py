"""How long do a pool's processes live after their server was killed, with one worker in an endless loop?

Run from the root of the checkout: ``python -m experiments.server_killed``. It takes about ten seconds.
"""

# ruff: noqa: T201 - an experiment prints its table

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time

import psutil

from lifepool import Pool

ROUNDS = 9
GIVE_UP_S = 10.0


def hang() -> None:
    """Hang: never end, and never look at a socket."""
    while True:
        pass


def answer() -> None:
    """Show that a worker is up."""


async def serve() -> None:
    """Run a server with a hanging task, and wait to be killed."""
    async with Pool(max_workers=2) as pool:
        pool.submit(hang)
        await pool.run(answer)
        print("up", flush=True)
        await asyncio.sleep(GIVE_UP_S)


def seconds_survived() -> float:
    """Kill a server; seconds until the last of its processes is gone."""
    command = [sys.executable, __file__, "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:  # noqa: S603 - this very file
        assert server.stdout is not None  # noqa: S101 - it is a pipe
        server.stdout.readline()
        family = psutil.Process(server.pid).children(recursive=True)
        began = time.perf_counter()
        server.kill()
        while any(map(_is_alive, family)) and time.perf_counter() - began < GIVE_UP_S:
            time.sleep(0.001)
        return time.perf_counter() - began


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def main() -> None:
    """Print the median and the range."""
    values = [seconds_survived() * 1e3 for _ in range(ROUNDS)]
    median = statistics.median(values)
    print(f"ms until every process was gone: {median:.0f} ({min(values):.0f} to {max(values):.0f}), {ROUNDS} rounds")


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    else:
        main()
