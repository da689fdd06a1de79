"""A worker pool of Celery's that is a node of lifepool: Celery takes messages, a local pool runs the calls in them.

It is Celery's place for pools of others: ``celery worker --pool custom`` with ``CELERY_CUSTOM_WORKER_POOL`` set to
``lifepool.nodes.celery_pool:TaskPool``. A call counts as accepted as soon as it is here, so it is acknowledged then:
one that is lost with its node is not delivered again by the broker, for its client knows better whether it may be.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionInfo

from lifepool.backends.celery.names import TASK, calls_in
from lifepool.backends.remote.messages import Refused
from lifepool.nodes.node_thread import NodeThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool.backends.remote.messages import Signer
    from lifepool.backends.remote.urls import ClusterUrl
    from lifepool.nodes.node_thread import NodeSettings

    class BasePool:
        """What is used of Celery's class, which has no types: so a checker knows ours, with or without Celery."""

        app: Any

else:
    from celery.concurrency.base import BasePool

logger: logging.Logger = logging.getLogger("lifepool.node")

_NOT_OURS = "this worker runs lifepool's calls alone: route other tasks to another queue, with workers of their own"


class Handed:
    """A call that Celery has handed over.

    Args:
        id: The call's.
        number: Stands for the process that Celery takes it to run in.
        pool: Where it is.
        callback: Called with Celery's own triple when it is done.
    """

    __slots__ = ("__weakref__", "callback", "id", "number", "pool", "since")

    def __init__(self, id: str, number: int, pool: TaskPool, callback: Callable[[Any], object]) -> None:
        self.id: str = id
        self.number: int = number
        self.pool: TaskPool = pool
        self.callback: Callable[[Any], object] = callback
        self.since: float = time.monotonic()

    def terminate(self, signal: object) -> None:
        """Break the call off: Celery was told to revoke it."""
        self.pool.cancel(self.id)


class TaskPool(BasePool):
    """Run lifepool's calls in a local pool of this machine.

    The Celery app has what it needs to know as ``app.lifepool``, a triple of the URL, what signs messages, and the
    node's settings.
    """

    signal_safe = False
    body_can_be_buffer = True

    def on_start(self) -> None:
        """Start the node, and learn how much it runs at a time."""
        url: ClusterUrl
        signer: Signer
        settings: NodeSettings
        url, signer, settings = self.app.lifepool
        self._handed: dict[int, Handed] = {}
        self._numbers = itertools.count(1)
        self._done: deque[int] = deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._unaccepted: deque[Callable[[], object]] = deque()
        self._has_claims = not url.is_amqp  # then a call is known that was delivered before
        self._node = NodeThread(settings, signer, lambda: _outlet(url))
        self.limit: int = self._node.start()
        logger.info(
            "the node is up: %d workers, queue %r at %s, runs %s",
            self.limit, url.queue, url.where, ", ".join(settings.allow) or "nothing: it was started without --allow",
        )  # fmt: skip

    def register_with_event_loop(self, loop: Any) -> None:
        """Have Celery's loop look at what is done, and wake up for a signal.

        Python goes back to waiting after a signal, for as long as Celery has no other timer: ten seconds on RabbitMQ.
        """
        loop.add_reader(self._wake_read, self._finish_done)
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def on_apply(
        self,
        target: Any,
        args: Any = None,
        kwargs: Any = None,
        accept_callback: Any = None,
        callback: Any = None,
        error_callback: Any = None,
        **_: Any,
    ) -> Handed:
        """Take a message. Whatever is wrong with it, Celery is done with it."""
        name, id, request, body, *_rest = args
        handed = Handed(id, next(self._numbers), self, callback)
        is_full = len(self._handed) >= self.limit
        if accept_callback is not None:
            self._unaccepted.append(lambda: accept_callback(handed.number, handed.since))  # acknowledges it
        try:
            if name != TASK:
                raise ValueError(_NOT_OURS)
            messages = calls_in(body)
        except (Refused, ValueError) as error:
            self._accept()
            logger.warning("refused a message of the queue: %s", error)
            _fail(error, error_callback)
            return handed
        self._handed[handed.number] = handed
        doubtful = not self._has_claims and bool((request.get("delivery_info") or {}).get("redelivered"))
        self._node.take(messages, lambda: self._is_done(handed.number), waits=is_full, doubtful=doubtful)
        self._accept()
        return handed

    def _accept(self) -> None:
        """Acknowledge what has a slot: a broker that sends more than that goes on when this one is done with some."""
        room = self.limit - (len(self._handed) - len(self._unaccepted))
        while self._unaccepted and room >= 0:
            self._unaccepted.popleft()()
            room -= 1

    def cancel(self, id: str) -> None:
        """Break a call off."""
        self._node.cancel(id)

    def terminate_job(self, pid: int, signal: object = None) -> None:
        """Break off what Celery takes to run in this process."""
        if (handed := self._handed.get(pid)) is not None:
            self.cancel(handed.id)

    def on_stop(self) -> None:
        """Finish what is there, hand back what has not started, and end the node."""
        self._node.stop()
        self._finish_done()
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)
        os.close(self._wake_write)
        os.close(self._wake_read)

    def on_terminate(self) -> None:
        """Do the same: the node's own time limit bounds it."""
        self.on_stop()

    def _is_done(self, number: int) -> None:
        """Pass on, from the node's thread, that all calls of a message are done with."""
        self._done.append(number)
        with contextlib.suppress(OSError):  # full: then it is read soon anyway
            os.write(self._wake_write, b".")

    def _finish_done(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_read, 4096):
                pass
        while self._done:
            handed = self._handed.pop(self._done.popleft(), None)
            if handed is not None:
                handed.callback((False, None, time.monotonic() - handed.since))
        self._accept()


def _outlet(url: ClusterUrl) -> Any:
    if url.is_amqp:
        from lifepool.backends.celery.amqp_outlet import AmqpOutlet

        return AmqpOutlet(url)
    from lifepool.backends.celery.outlet import RedisOutlet

    return RedisOutlet(url)


def _fail(error: Exception, error_callback: Any) -> None:
    try:
        raise error
    except Exception:
        if error_callback is not None:
            error_callback(ExceptionInfo())
