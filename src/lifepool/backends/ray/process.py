"""Keep the driver process: start it, talk to it, notice that it has ended or hangs, and start it anew."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Protocol

from lifepool.backends.ray import frames
from lifepool.backends.ray.frames import DOWN, LOG, Frame

if TYPE_CHECKING:
    from collections.abc import Mapping

logger: logging.Logger = logging.getLogger("lifepool")

#: Seconds without a word after which the process is taken to hang.
SILENCE_S = 4.0
#: The same from its start to its first word: Python starts, and a loaded machine takes its time.
FIRST_WORD_S = 20.0
#: Seconds between two looks at that.
WATCH_S = 0.5
#: Seconds for which it is waited for what Ray has said at the end.
LAST_WORDS_S = 0.2
#: Seconds that it has to end, after it was told to.
END_S = 4.0
#: Seconds between two starts, doubling from the first to the last.
RETRY_FIRST_S, RETRY_LAST_S = 0.1, 1.0
#: Seconds after which a start that came to nothing was a slow one: somebody was there.
SLOW_START_S = 5.0
#: Bytes read ahead.
AHEAD = 1 << 20
#: Bytes that fit into a pipe, as far as the system allows: both sides go on meanwhile, and wake up less often.
PIPE_BYTES = 1 << 20
_PROGRAM = "lifepool.backends.ray.driver"


class DriverEnds(Protocol):
    """Who is told of the driver process. All is called on the event loop."""

    def took(self, frame: Frame) -> None:
        """Take a frame."""

    def ended(self, reason: str) -> None:
        """Take note that it has ended, and is started anew."""


class DriverProcess:
    """Keep the process.

    Args:
        settings: Its JSON argument, to which ``slow_starts`` is added.
        environment: Variables beside those of this process.
        ends: Who is told.
        end_s: Seconds that it has to end, after it was told to.
    """

    def __init__(
        self, settings: Mapping[str, Any], environment: Mapping[str, str], ends: DriverEnds, end_s: float = END_S
    ) -> None:
        self._settings = settings
        self._slow_starts = 0  # in a row, that came to nothing
        self._environment = {**os.environ, **environment}
        self._ends = ends
        self._end_s = end_s
        self._input: asyncio.WriteTransport | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._last_words = ""

    def open(self) -> None:
        """Begin to keep it."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._keep())

    def put(self, frame: Frame) -> None:
        """Send a frame; it is dropped if the process is not there."""
        if self._input is not None and not self._input.is_closing():
            frames.write(self._input, frame)

    async def close(self) -> None:
        """End it: it may say goodbye to the nodes."""
        self._closing.set()
        if self._task is None:
            return
        if self._input is not None:
            self._input.close()
        await asyncio.wait([self._task], timeout=self._end_s)
        if self._process is not None:  # it hangs
            self._process.kill()
        await self._task

    # -- inside ---------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        pause = RETRY_FIRST_S
        while not self._closing.is_set():
            began = self._loop.time()
            try:
                was_up = await self._run()
            except Exception as error:
                logger.exception("lifepool failed in its dealings with its Ray driver; it starts another")
                was_up = False
                self._ends.ended(repr(error))
            was_slow = not was_up and self._loop.time() - began > SLOW_START_S
            self._slow_starts = self._slow_starts + 1 if was_slow else 0
            pause = RETRY_FIRST_S if was_up else min(2 * pause, RETRY_LAST_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._closing.wait()

    async def _run(self) -> bool:
        """Run the process once; return whether it was connected."""
        pipe = subprocess.PIPE
        # Not in a thread: what is cancelled there would leave a process behind.
        settings = json.dumps({**self._settings, "slow_starts": self._slow_starts})
        process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-m", _PROGRAM, settings], stdin=pipe, stdout=pipe, stderr=pipe, env=self._environment,
            start_new_session=True,  # it ends when this process does, and not by Ctrl-C
        )  # fmt: skip
        self._process = process
        for end in (process.stdin, process.stdout):
            _widen(end)
        transports: list[asyncio.BaseTransport] = []
        beside: list[asyncio.Task[None]] = []
        self._last_words, self._heard, self._patience_s = "", self._loop.time(), FIRST_WORD_S
        try:
            self._input = await _writer(process.stdin, transports)
            if self._closing.is_set():
                self._input.close()
            output = await _reader(process.stdout, transports)
            noting = self._loop.create_task(self._note(await _reader(process.stderr, transports)))
            beside = [noting, self._loop.create_task(self._watch(process))]
            was_up, reason = await self._take(output)
            if not self._closing.is_set():
                await asyncio.wait([noting], timeout=LAST_WORDS_S)
                self._ends.ended(reason or self._last_words or "its driver process has ended")
            return was_up
        finally:
            self._input = None
            process.kill()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            for transport in transports:
                transport.close()
            await asyncio.to_thread(process.wait)
            self._process = None

    async def _take(self, reader: asyncio.StreamReader) -> tuple[bool, str]:
        """Take frames until there are no more; return whether it was connected, and the reason that it gives."""
        was_up = False
        while True:
            try:
                frame = await frames.read(reader)
            except (asyncio.IncompleteReadError, OSError):
                return was_up, ""
            self._heard, self._patience_s = self._loop.time(), SILENCE_S
            if frame.kind == DOWN:
                return was_up, str(frame.fields()["reason"])
            if frame.kind == LOG:
                fields = frame.fields()
                logger.log(logging.getLevelNamesMapping()[fields["level"].upper()], "%s", fields["message"])
                continue
            was_up = was_up or frame.kind == frames.UP
            self._ends.took(frame)

    async def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a process that hangs. When this loop was blocked itself, that is no silence of the other side."""
        while self._loop.time() - self._heard < self._patience_s:
            before = self._loop.time()
            await asyncio.sleep(WATCH_S)
            if self._loop.time() - before > 2 * WATCH_S:
                self._heard = self._loop.time()
        self._last_words = "its driver process does not answer"
        process.kill()

    async def _note(self, reader: asyncio.StreamReader) -> None:
        """Have what Ray prints in the log, for those who look for it."""
        with contextlib.suppress(OSError):
            while line := await _line(reader):
                text = line.decode(errors="replace").strip()
                if text:
                    self._last_words = text[-500:]
                    logger.debug("Ray: %s", text)


def _widen(pipe: Any) -> None:
    """Have a pipe hold more, where that can be said (on Linux), and as far as it is allowed."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


async def _line(reader: asyncio.StreamReader) -> bytes:
    """Return a line, or a part of one that is very long."""
    try:
        return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await reader.readexactly(error.consumed)


async def _reader(pipe: Any, transports: list[asyncio.BaseTransport]) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=AHEAD)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    transports.append(transport)
    return reader


async def _writer(pipe: Any, transports: list[asyncio.BaseTransport]) -> asyncio.WriteTransport:
    transport, _ = await asyncio.get_running_loop().connect_write_pipe(asyncio.BaseProtocol, pipe)
    transports.append(transport)
    return transport
