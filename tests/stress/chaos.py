"""Faults from outside: signals to workers and to the template, at random moments; and the record of them."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from random import Random

    from lifepool import Pool

#: Seconds for which injections are remembered; longer than any task may last.
MEMORY_S = 120.0
#: Seconds that a signal may take to strike.
STRIKE_S = 0.05
#: Seconds that a new template and its workers take to come up on a busy machine; failed starts are plausible then.
RISING_S = 5.0

KINDS = {"kill worker": 45, "stop worker": 20, "stop and continue worker": 30, "kill template": 5}


class Chaos:
    """Send signals to the processes of a pool until it is cancelled.

    Args:
        pool: Whose processes.
        random: Chooses whom, what and when.
        every_s: Mean seconds between two faults.
    """

    def __init__(self, pool: Pool, random: Random, every_s: float) -> None:
        self._backend: Any = pool._engine._backend  # type: ignore[union-attr]
        self._random = random
        self._every_s = every_s
        self._deaths: deque[float] = deque()
        self._falls: deque[float] = deque()  # of the template
        self._stops: deque[float] = deque()
        self.injected: Counter[str] = Counter()
        self._stopped: dict[psutil.Process, float] = {}

    async def run(self) -> None:
        """Inject faults."""
        names, weights = tuple(KINDS), tuple(KINDS.values())
        while True:
            await asyncio.sleep(self._random.expovariate(1 / self._every_s))
            (kind,) = self._random.choices(names, weights)
            self._continue_stopped()
            process = self._template() if kind == "kill template" else self._some_worker()
            if process is not None:
                self._inject(kind, process)

    def killed_since(self, instant: float) -> bool:
        """Tell whether a worker may have been killed from outside at this instant or later."""
        return bool(self._deaths) and self._deaths[-1] >= instant - STRIKE_S

    def fell_since(self, instant: float) -> bool:
        """Tell whether the pool may have been without its template at this instant or later."""
        return bool(self._falls) and self._falls[-1] >= instant - RISING_S

    def stopped_since(self, instant: float) -> bool:
        """Tell whether a worker may have stood still for a while at this instant or later."""
        return bool(self._stops) and self._stops[-1] >= instant - MEMORY_S / 4

    def _inject(self, kind: str, process: psutil.Process) -> None:
        now = time.monotonic()
        try:
            if kind.startswith("stop"):
                self._stops.append(now)
                process.suspend()
                if kind == "stop and continue worker":
                    self._stopped[process] = now + self._random.uniform(0.01, 4.0)
            else:
                self._deaths.append(now)
                if kind == "kill template":
                    self._falls.append(now)
                process.kill()
        except psutil.NoSuchProcess:
            return
        self.injected[kind] += 1
        for instants in (self._deaths, self._falls, self._stops):
            while instants and instants[0] < now - MEMORY_S:
                instants.popleft()

    def _continue_stopped(self) -> None:
        now = time.monotonic()
        for process in [p for p, when in self._stopped.items() if when <= now]:
            del self._stopped[process]
            try:
                process.resume()
            except psutil.NoSuchProcess:
                continue  # the pool found it first

    def _some_worker(self) -> psutil.Process | None:
        members = [member for member in self._backend._connections.values() if member.process is not None]
        return _own_child(self._random.choice(members).process.pid, self._template_pid()) if members else None

    def _template(self) -> psutil.Process | None:
        pid = self._template_pid()
        return None if pid is None else _own_child(pid, os.getpid())

    def _template_pid(self) -> int | None:
        pid: int | None = self._backend._template.pid
        return pid


def _own_child(pid: int, parent: int | None) -> psutil.Process | None:
    """Return the process, if it still is the same one: numbers are used again."""
    try:
        process = psutil.Process(pid)
        return process if process.ppid() == parent and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None
