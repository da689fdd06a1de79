"""Call a pool from threads: from sync ``def`` endpoints, and from any thread that is not the event loop's."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from concurrent.futures import CancelledError, Future, wait
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack, overload

from lifepool._pool.decorated import PoolBatch
from lifepool._pool.thread_futures import pass_on_cancel, settle
from lifepool.errors import PoolClosed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from lifepool._engine.options import RunOptions
    from lifepool._pool.runtime import PoolRuntime

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: Seconds after which a waiting thread checks whether there is still an event loop that could answer.
LOOK_S = 0.5
#: Seconds for which an event loop may stand still between two runs before it is taken for gone.
GONE_S = 5.0


class FromThread:
    """Calls that block the thread they are made in, while the pool's event loop does the work.

    They propagate the thread's context variables, so a sync endpoint with ``PoolDep`` is watched like any other: when
    its client leaves, its tasks are cancelled.

    Args:
        runtime: The pool's.
        run: The pool's ``run``.
    """

    def __init__(self, runtime: PoolRuntime, run: Callable[..., Awaitable[Any]]) -> None:
        self._runtime = runtime
        self._run = run

    @overload
    def run(
        self, fn: Callable[[Unpack[Ts]], Coroutine[Any, Any, T]], /, *args: *Ts, **options: Unpack[RunOptions]
    ) -> T: ...

    @overload
    def run(self, fn: Callable[[Unpack[Ts]], T], /, *args: *Ts, **options: Unpack[RunOptions]) -> T: ...

    def run(self, fn: Callable[[Unpack[Ts]], Any], /, *args: *Ts, **options: Unpack[RunOptions]) -> Any:
        """Call ``fn(*args)`` in a worker and wait for the answer, as ``Pool.run`` does.

        Args:
            fn: A function that a worker can import; also one made by ``@pool.task`` or ``@pool.batch``.
            *args: Its arguments.
            **options: As for ``Pool.run``: ``timeout``, ``retries``, ``priority``, ...

        Raises:
            RuntimeError: On the event loop's own thread, which would wait for itself.
            PoolClosed: If the pool does not run, or ends before the task is done, or its event loop is gone.
            Exception: As for ``Pool.run``.

        Cancellation:
            ``KeyboardInterrupt`` in the waiting thread cancels the task.
        """
        if isinstance(fn, PoolBatch):
            return self.call(fn, *args, **options)
        return self.call(self._run, fn, *args, **options)

    @overload
    def call(self, function: Callable[..., Awaitable[T]], /, *args: Any, **keywords: Any) -> T: ...

    @overload
    def call(self, function: Callable[..., T], /, *args: Any, **keywords: Any) -> T: ...

    def call(self, function: Callable[..., Any], /, *args: Any, **keywords: Any) -> Any:
        """Call a function on the pool's event loop; if it returns something to await, that too. Return the result.

        For all that is not one task: ``pool.from_thread.call(pool.gather, fn, items)``, ``call(pool.drain)``,
        ``call(pool.add_hook, hook)``, or an ``async def`` of your own that uses the pool.

        Raises:
            RuntimeError: On the event loop's own thread, which would wait for itself.
            PoolClosed: If the pool does not run, or ends meanwhile, or its event loop is gone.
            Exception: What the function raises.

        Cancellation:
            ``KeyboardInterrupt`` in the waiting thread cancels what the function does.
        """
        loop = self._runtime.loop_for_threads()
        future: Future[Any] = Future()
        try:
            loop.call_soon_threadsafe(_begin, future, function, args, keywords, context=copy_context())
        except RuntimeError:
            raise _gone() from None
        try:
            _await_answer(future, loop)
            return future.result()
        except CancelledError:
            if self._runtime.lifecycle.state.is_ending:
                raise PoolClosed(
                    "the pool ended before the call was done", hint="give it a longer drain_timeout"
                ) from None
            raise
        except BaseException:
            future.cancel()
            raise


def _begin(future: Future[T], function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    """Begin the call, on the event loop."""
    if future.cancelled():
        return
    task = asyncio.ensure_future(_outcome_of(function, args, keywords))
    task.add_done_callback(functools.partial(_settle, future))
    future.add_done_callback(functools.partial(pass_on_cancel, task))


async def _outcome_of(
    function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[Any, BaseException | None]:
    """Return what the function returns, or raises: also what would end the event loop if it were raised there."""
    try:
        result = function(*args, **keywords)
        return await result if inspect.isawaitable(result) else result, None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # not what it awaits: the loop ends, and cancels all its tasks
            return None, _gone()
        raise
    except BaseException as error:
        return None, error


def _settle(future: Future[T], task: asyncio.Future[tuple[T, BaseException | None]]) -> None:
    if task.cancelled():
        future.cancel()
        settle(future)
    else:
        value, error = task.result()
        settle(future, value, error)


def _await_answer(future: Future[Any], loop: asyncio.AbstractEventLoop) -> None:
    """Wait for the answer, as long as there is somebody to give it.

    Raises:
        PoolClosed: If the event loop was closed, or has not run for some seconds.
    """
    still_since: float | None = None
    while not wait([future], LOOK_S).done:
        if loop.is_running():
            still_since = None
            continue
        still_since = still_since or time.monotonic()
        if loop.is_closed() or time.monotonic() - still_since > GONE_S:
            future.cancel()
            raise _gone()


def _gone() -> PoolClosed:
    return PoolClosed(
        "the pool's event loop has ended",
        hint="wait for your threads before you leave 'async with pool' or the lifespan",
    )
