"""A task that looks which thread is signalled."""

from __future__ import annotations

import signal
import threading

from lifepool.backends.local.worker.signals import INTERRUPT
from tests.engine.gates import PATIENCE_S
from tests.tasks import announce


def wait_for_interrupt(address: str) -> bool:
    """Whether the interrupt came to the main thread, though that took none and another would have taken it."""
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    signal.pthread_sigmask(signal.SIG_BLOCK, {INTERRUPT})
    try:
        announce(address).close()
        return signal.sigtimedwait({INTERRUPT}, PATIENCE_S) is not None
    finally:
        stop.set()
        other.join()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {INTERRUPT})
