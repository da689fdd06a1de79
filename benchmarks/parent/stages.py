"""The stages of a task in the server process, and the functions of lifepool and of the event loop that make them up.

A function that is not there (renamed, or inlined into its caller) is not timed: its time is then part of the stage that
calls it, and the table names it as missing.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.parent.stopwatch import Stopwatch

SEND_FRAMES = "system call: send frames"
SEND_TICKETS = "system call: send tickets"
RECEIVE = "system call: receive"
POLL = "system call: wait for the sockets"
SELECT = "event loop: select's Python part"
SCHEDULER = "scheduler"

#: In the order in which a task passes them.
STAGES: dict[str, tuple[str, ...]] = {
    "submit: checks": ("lifepool.pool:Pool._submit", "lifepool._pool.runtime:PoolRuntime.running_engine"),
    "submit: options": ("lifepool.pool:task_options",),
    "submit: admission": ("lifepool._core.scheduler:Scheduler.admit",),
    "submit: pickle the call": (
        "lifepool.backends.local.backend:LocalBackend.prepare",
        "lifepool.backends.local.codec.calls:CallEncoder.encode",
    ),
    "submit: make the handle": ("lifepool._engine.handle:TaskHandle.__init__",),
    "submit: the engine's state": ("lifepool._engine.submission:Submissions.submit",),
    f"{SCHEDULER}: TaskSubmitted": (),
    "engine: feed, perform": ("lifepool._engine.engine:Engine.feed", "lifepool._engine.engine:Engine._send_task"),
    "channel: make and join frames": (
        "lifepool.backends.local.backend:LocalBackend.send",
        "lifepool.backends.local.channel:Channel.send",
        "lifepool.backends.local.channel:Channel._flush",
        "lifepool.backends.local.channel:Channel._write",
    ),
    "channel: cells": (
        "lifepool.backends.local.shared.cells:Cells.put",
        "lifepool.backends.local.shared.cells:Cells.release",
    ),
    SEND_FRAMES: (),
    SEND_TICKETS: (),
    POLL: (),
    SELECT: (),
    RECEIVE: (),
    "channel: parse frames": (
        "lifepool.backends.local.channel:Channel._on_readable",
        "lifepool.backends.local.channel:Channel._read_once",
        "lifepool._core.framing:FrameReader.buffer",
        "lifepool._core.framing:FrameReader.received",
    ),
    "backend: which answer it is": (
        "lifepool.backends.local.connection:WorkerConnection.on_frame",
        "lifepool.backends.local.connection:WorkerConnection._answered",
    ),
    "backend: unpickle the result": ("lifepool.backends.local.connection:decode_value",),
    "engine: returned": ("lifepool._engine.engine:Engine.returned",),
    f"{SCHEDULER}: TaskReturned": (),
    "engine: settle": ("lifepool._engine.engine:Engine._settle", "lifepool._engine.engine:Engine._finish"),
    f"{SCHEDULER}: other events": (),
    "engine: staying awake for the answer": (
        "lifepool._engine.answer_polling:AnswerPolling.begin",
        "lifepool._engine.answer_polling:AnswerPolling.end",
        "lifepool._engine.answer_polling:AnswerPolling._tick",
    ),
}

_SCHEDULED = {name.removeprefix(f"{SCHEDULER}: "): name for name in STAGES if name.startswith(SCHEDULER)}


def scheduler_stage(_scheduler: object, event: object, _now: float) -> str:
    """Return the stage of ``Scheduler.handle``: one for submissions, one for answers."""
    return _SCHEDULED.get(type(event).__name__, f"{SCHEDULER}: other events")


def send_stage(_socket: object, data: bytes, *_: object) -> str:
    """Return the stage of a socket's ``send``: frames begin with their magic, tickets are numbers."""
    return SEND_FRAMES if bytes(data[:2]) == b"lp" else SEND_TICKETS


class Stages:
    """Put a stopwatch around everything that is named above.

    Args:
        watch: Gets the times.

    Attributes:
        missing: Functions that were not found.
    """

    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch
        self.missing: list[str] = []

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Time the functions while the block runs. Objects that keep bound methods must be made inside of it."""
        undo: list[Callable[[], None]] = []
        try:
            for stage, targets in STAGES.items():
                for target in targets:
                    self._wrap(target, stage, undo)
            self._wrap("lifepool._core.scheduler:Scheduler.handle", scheduler_stage, undo)
            self._wrap_sockets(undo)
            self._wrap_selector()
            yield
        finally:
            for step in reversed(undo):
                step()

    def _wrap(self, target: str, stage: str | Callable[..., str], undo: list[Callable[[], None]]) -> None:
        module, _, path = target.partition(":")
        try:
            owner: Any = importlib.import_module(module)
            *parents, name = path.split(".")
            for parent in parents:
                owner = getattr(owner, parent)
            original = vars(owner)[name]
        except (ImportError, AttributeError, KeyError):
            self.missing.append(path)
            return
        setattr(owner, name, self._watch.wrap(original, stage))
        undo.append(lambda: setattr(owner, name, original))

    def _wrap_sockets(self, undo: list[Callable[[], None]]) -> None:
        """Put timed methods in front of those that sockets inherit from C, and remove them again."""
        stages: dict[str, str | Callable[..., str]] = {
            "send": send_stage,
            "sendmsg": SEND_FRAMES,
            "recv_into": RECEIVE,
        }
        for name, stage in stages.items():
            setattr(socket.socket, name, self._watch.wrap(getattr(socket.socket, name), stage))
            undo.append(partial(delattr, socket.socket, name))

    def _wrap_selector(self) -> None:
        """Time the selector of this loop, which ends with the measurement. uvloop has none that Python can see."""
        selector = getattr(asyncio.get_running_loop(), "_selector", None)
        if selector is None:
            return
        selector.select = self._watch.wrap(selector.select, SELECT)
        with suppress(AttributeError):
            selector._selector = _TimedPoll(selector._selector, self._watch)


class _TimedPoll:
    """The kernel's selector (epoll, kqueue), with a timed wait."""

    def __init__(self, kernel: Any, watch: Stopwatch) -> None:
        self._kernel = kernel
        for name in ("poll", "control"):
            if hasattr(kernel, name):
                setattr(self, name, watch.wrap(getattr(kernel, name), POLL))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)
