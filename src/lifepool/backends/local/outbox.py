"""Calls on their way out: pickled at once or, if they are big and may wait, in a thread.

A call that waits is a future of one. What is pickled off the loop goes into a slot that was reserved here: only
the loop changes the state of the shared memory, a thread only fills what it was given.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from lifepool._transfer import constants
from lifepool._transfer.context import WithContext
from lifepool._transfer.exceptions import bearable
from lifepool._transfer.naming import ManyCalls
from lifepool._usercode.interrupts import passed_on
from lifepool.backends.local.codec.calls import Call, CallEncoder
from lifepool.backends.local.codec.large_text import placeholders
from lifepool.backends.local.codec.sink import glance, pickle_into
from lifepool.backends.local.codec.thread_safe import plain_size
from lifepool.backends.local.copy_threads import OFF_LOOP_BYTES
from lifepool.backends.local.shared.arena import Arguments
from lifepool.backends.local.shared.files import NO_SHARED_MEMORY
from lifepool.backends.local.shared.store import NoRoom

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from lifepool._transfer.context import PropagatedContext
    from lifepool.backends.local.copy_threads import CopyThreads
    from lifepool.backends.local.shared.arena import Lease

#: Room for big arguments, in payloads of the largest size; what does not fit is sent through the socket. Files are
#: sparse: this costs address space only.
ARGUMENTS_ROOM = 16


class Outbox:
    """Makes calls ready for sending.

    Args:
        loop: The event loop.
        threads: The threads that pickle what is big.
        max_payload: Calls above this many bytes are refused.
        has_main: Whether workers can import ``__main__``.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, threads: CopyThreads, max_payload: int, *, has_main: bool = True
    ) -> None:
        self._loop = loop
        self._threads = threads
        self._max_payload = max_payload
        self.shared: Arguments | None = None
        with contextlib.suppress(*NO_SHARED_MEMORY):  # without shared memory, all goes through the sockets
            self.shared = Arguments(ARGUMENTS_ROOM * max_payload)
        self.encoder: CallEncoder = CallEncoder(max_payload, self.shared, has_main=has_main)

    def prepare(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        propagated: tuple[PropagatedContext, ...],
        *,
        lent: bool,
        copy: bool,
    ) -> Call | asyncio.Future[Call]:
        """Pickle a call, or begin to.

        Args:
            fn: The function.
            args: Its arguments.
            propagated: What goes along with them.
            lent: Whether the arguments stay as they are until the task is done.
            copy: False: the worker gets read-only views of buffers, rather than copies.

        Raises:
            TaskNotPicklable: If it can't be pickled.
            PayloadTooLarge: If it is above the limit.
        """
        shared = self.shared
        if shared is None or not args:
            return self.encoder.encode(fn, args, propagated, copy=copy)
        size = glance(args, shared)
        most = _size_off_loop(fn, args, lent=lent) if size >= OFF_LOOP_BYTES else None
        if most is not None and most <= self._max_payload:
            with contextlib.suppress(NoRoom):
                return self._prepare_off_loop(fn, args, propagated, shared, most, copy=copy)
        return self.encoder.encode(fn, args, propagated, size, copy=copy)

    def _prepare_off_loop(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        propagated: tuple[PropagatedContext, ...],
        shared: Arguments,
        most: int,
        *,
        copy: bool,
    ) -> asyncio.Future[Call]:
        """Begin to pickle in a thread.

        Raises:
            NoRoom: If there is none for ``most`` bytes.
        """
        function = self.encoder.function(fn)
        parts = placeholders(args) if copy else args
        value = WithContext(parts, self.encoder.pickled(propagated)) if propagated else parts
        lease = shared.reserve(most)
        prepared: asyncio.Future[Call] = self._loop.create_future()

        def written(size: int | None) -> None:
            if prepared.done():
                return  # nobody wants it any more
            try:
                if size is None:
                    prepared.set_result(self.encoder.encode(fn, args, propagated, copy=copy))
                else:
                    shared.settle(lease, size)
                    prepared.set_result(Call(function, lease.location(), lease, out_of_band=not copy))
            except BaseException as error:
                passed_on(error, self._loop)
                prepared.set_exception(bearable(error))

        limit = self._max_payload - len(function)
        work = self._threads.run(partial(self._pickle, value, shared, lease, limit, copy), written)
        prepared.add_done_callback(lambda _: work.cancel())
        return prepared

    def _pickle(self, value: object, shared: Arguments, lease: Lease, limit: int, copy: bool) -> int:
        """Pickle it, in a thread. Raises if it did not work out, or is too large; the loop finds out which."""
        return pickle_into(shared.slot_writer(lease, self._threads.may_go_on), value, limit, out_of_band=not copy)

    def close(self) -> None:
        """Let go of the shared memory. The threads must have ended."""
        if self.shared is not None:
            self.shared.close()


def _size_off_loop(fn: Callable[..., Any], args: tuple[Any, ...], *, lent: bool) -> int | None:
    """Return at most how many bytes there are to be pickled in a thread; None if that is for the loop."""
    called: Any = fn
    if isinstance(called, ManyCalls):
        called = called.function
    bound = (called,) if constants.in_use else ()  # a partial may hold constants: those are found while it is pickled
    return plain_size((*bound, *args), lent=lent)
