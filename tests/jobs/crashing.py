"""A server that is killed (SIGKILL) at its n-th step in the store: ``python -m tests.jobs.crashing FOLDER URL ...``.

It does a bit of everything once for each n, each time in a process of its own and on a store of its own, until n is
past its last step. What it was promised (a job accepted, a result seen, a cancellation) it writes into a file.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifepool import Pool
from lifepool.jobs import Jobs
from lifepool.jobs.store.sqlite import SqliteConnection
from tests.jobs import tasks

if TYPE_CHECKING:
    from collections.abc import Callable

LEASE_S = 0.5
LARGE = 600_000


class Killer:
    """Counts steps, and kills this process at one of them."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._steps = 0

    def step(self) -> None:
        self._steps += 1
        if self._steps == self._at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, cls: Any) -> None:
        """Count what a class of connections does: before each statement, and on both sides of a commit."""
        for name in ("begin", "execute", "commit"):
            setattr(cls, name, self._counted(getattr(cls, name), both=name == "commit"))

    def _counted(self, method: Callable[..., Any], *, both: bool) -> Callable[..., Any]:
        def counted(*args: Any, **keywords: Any) -> Any:
            self.step()
            answer = method(*args, **keywords)
            if both:
                self.step()
            return answer

        return counted


async def serve(url: str, folder: Path) -> None:
    """Do a bit of everything."""
    with open(folder / "promised", "a", buffering=1) as promised:
        async with Jobs(Pool(backend="inline"), store=url, lease=LEASE_S) as jobs:
            first = await jobs.submit(tasks.logged, str(folder), "first")
            promised.write(f"accepted first {first.id}\n")
            await jobs.wait(first.id)
            promised.write(f"result first {first.id}\n")
            called = await jobs.submit(tasks.logged, str(folder), "called", on_done=tasks.done, tags=[str(folder)])
            promised.write(f"accepted called {called.id}\n")
            dropped = await jobs.submit(tasks.logged, str(folder), "dropped", run_at=4e9)
            promised.write(f"accepted dropped {dropped.id}\n")
            await jobs.cancel(dropped.id)
            promised.write(f"cancelled dropped {dropped.id}\n")
            large = await jobs.submit(tasks.logged, str(folder), "large", LARGE)
            promised.write(f"accepted large {large.id}\n")
            await jobs.wait(called.id)
            promised.write(f"result called {called.id}\n")
            await jobs.wait(large.id)
            promised.write(f"result large {large.id}\n")


def crash(n: int, url: str, folder: Path, connections: type) -> bool:
    """Serve in a process of its own that is killed at step ``n`` of these connections; whether it was."""
    pid = os.fork()
    if pid == 0:
        Killer(n).watch(connections)
        try:
            asyncio.run(serve(url, folder))
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def main() -> None:
    """Make a folder for each step, with a store in it unless URLs are given; print how many there are."""
    root, first, stride, *urls = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:  # once without a kill, so that forks have all that they import
        asyncio.run(serve(f"sqlite:///{folder}/jobs.db?synchronous=NORMAL", Path(folder)))
    connections: type = SqliteConnection
    if urls:
        from lifepool.jobs.store.postgresql import PostgresConnection

        connections = PostgresConnection
    n = int(first)
    while True:
        place = Path(root) / str(n)
        place.mkdir()
        url = urls.pop() if urls else f"sqlite:///{place}/jobs.db?synchronous=NORMAL"
        (place / "url").write_text(url)
        if not crash(n, url, place, connections):
            break
        n += int(stride)
    print(n, flush=True)


if __name__ == "__main__":
    main()
