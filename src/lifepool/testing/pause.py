"""A call that stays where it is until the test lets it go on."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Pause:
    """One scripted call that waits in its worker: for tests of what happens meanwhile.

    The worker is busy, so other calls wait in the queue if there is no other worker. The call's timeout counts on.
    """

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._lock = threading.Lock()
        self._is_released = False
        self._go_on: tuple[asyncio.AbstractEventLoop, Callable[[], object]] | None = None

    def wait(self, timeout: float = 10.0) -> None:
        """Block until the call is in its worker: for tests in another thread than the app's, as with ``TestClient``.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            TimeoutError: If it did not get there.
        """
        if not self._reached.wait(timeout):
            raise TimeoutError(f"no call got to its pause within {timeout:g} s")

    async def reached(self, timeout: float = 10.0) -> None:
        """Wait until the call is in its worker: for tests on the pool's event loop.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            TimeoutError: If it did not get there.

        Cancellation:
            Changes nothing.
        """
        await asyncio.to_thread(self.wait, timeout)

    def release(self) -> None:
        """Let the call go on; if it has not come yet, it will not wait. May be called from any thread, and twice."""
        with self._lock:
            self._is_released, go_on, self._go_on = True, self._go_on, None
        if go_on is not None:
            loop, callback = go_on
            loop.call_soon_threadsafe(callback)

    def hold(self, loop: asyncio.AbstractEventLoop, go_on: Callable[[], object]) -> bool:
        """Keep a call that has come, and call ``go_on`` on its event loop later; False: it need not wait any more."""
        with self._lock:
            if not self._is_released:
                self._go_on = loop, go_on
        self._reached.set()
        return not self._is_released

    def give_up(self) -> None:
        """Forget the call: nobody wants it any more."""
        with self._lock:
            self._go_on = None
