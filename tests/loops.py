"""The event loops that a test can run on."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FACTORIES: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}

if sys.platform != "win32":
    import uvloop

    FACTORIES["uvloop"] = uvloop.new_event_loop
    # libuv's first loop opens a pipe that the process keeps: here, so that no test seems to leak.
    uvloop.new_event_loop().close()

if sys.version_info >= (3, 12):

    def _eager_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    FACTORIES["eager"] = _eager_loop
