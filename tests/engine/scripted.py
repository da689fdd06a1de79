"""A backend without processes whose every step waits until the test lets it go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from lifepool._core.events import WorkerExited
from lifepool.backends.base import Capabilities, Listener, PlainCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._transfer.context import PropagatedContext


class ScriptedBackend:
    """Opens, starts workers, runs tasks and closes as it is told.

    Attributes:
        opening: How ``open`` goes: "at once", "held" or "fails".
        starting: The same of workers.
        closing: The same of ``close``.
        opens: How often it was opened.
        closes: How often ``close`` began since it was opened last.
        is_open: Whether it was opened, and not closed since.
        overlaps: Whether it was ever opened while it was open.
    """

    capabilities = Capabilities(kill=True, interrupt=True, retract=True, progress=False, crash_isolation=True)

    def __init__(self) -> None:
        self.opening = self.starting = self.closing = "at once"
        self.opens = self.closes = 0
        self.is_open = self.overlaps = False
        self._gates: dict[str, list[asyncio.Event]] = {"open": [], "close": []}
        self._starting: list[int] = []
        self._tasks: dict[int, list[int]] = {}

    # -- what the test does ---------------------------------------------------------------------------------------

    def let_go(self, what: str) -> None:
        """Let whoever is held at "open" or "close" go on."""
        for gate in self._gates[what]:
            gate.set()

    def let_workers_come(self) -> None:
        for worker in self._starting:
            self._later(self._come, worker)
        self._starting = []

    def finish_a_task(self) -> None:
        for worker, tasks in self._tasks.items():
            if tasks:
                self._listener.returned(worker, tasks.pop(0), "done", None, run_s=0.001)
                return

    @property
    def workers(self) -> int:
        return len(self._tasks) + len(self._starting)

    # -- Backend --------------------------------------------------------------------------------------------------

    async def open(self, listener: Listener) -> None:
        self.overlaps = self.overlaps or self.is_open
        self.is_open = True
        self.opens += 1
        self.closes = 0
        self._loop, self._listener = asyncio.get_running_loop(), listener
        await self._pass("open", self.opening)

    async def close(self) -> None:
        self.closes += 1
        await self._pass("close", self.closing)
        self.is_open = False

    def abandon(self) -> None:
        self.is_open = False

    async def _pass(self, what: str, how: str) -> None:
        if how == "held":
            gate = asyncio.Event()
            self._gates[what].append(gate)
            await gate.wait()
        if how == "fails":
            if what == "close":
                self.is_open = False
            raise OSError(f"it does not {what}")

    def start_worker(self, worker: int) -> None:
        if self.starting == "held":
            self._starting.append(worker)
        elif self.starting == "fails":
            self._later(self._listener.exited, WorkerExited(worker, start_error="no such library"))
        else:
            self._later(self._come, worker)

    def _come(self, worker: int) -> None:
        self._tasks[worker] = []
        self._listener.ready(worker)

    def _later(self, function: Callable[..., object], argument: Any) -> None:
        self._loop.call_soon(function, argument)

    def stop_worker(self, worker: int) -> None:
        self.kill_worker(worker)

    def kill_worker(self, worker: int) -> None:
        self._tasks.pop(worker, None)
        if worker in self._starting:
            self._starting.remove(worker)
        self._later(self._listener.exited, WorkerExited(worker, signal=9))

    def prepare(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        propagated: tuple[PropagatedContext, ...] = (),
        *,
        lent: bool = False,
        copy: bool = True,
    ) -> PlainCall:
        return PlainCall(fn, args)

    def send(self, worker: int, task: int, payload: Any) -> None:
        self._tasks[worker].append(task)

    def retract(self, worker: int) -> tuple[int, ...]:
        tasks = self._tasks.get(worker, [])
        back = tuple(tasks[1:])
        del tasks[1:]
        return back

    def interrupt(self, worker: int, task: int) -> None:
        if task in self._tasks.get(worker, []):
            self._tasks[worker].remove(task)
            self._later(self._interrupted, (worker, task))

    def _interrupted(self, which: tuple[int, int]) -> None:
        worker, task = which
        if worker in self._tasks:
            self._listener.returned(worker, task, None, TimeoutError(), run_s=0.001)

    def pid(self, worker: int) -> int | None:
        return None
