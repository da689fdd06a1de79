"""``ProcessPoolExecutor``: the standard library's executor, over a pool on a thread of its own."""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
import warnings
import weakref
from concurrent.futures import process as standard
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from lifepool._core.framing import MAX_FRAME_BYTES
from lifepool._pool.thread_futures import ThreadFuture
from lifepool.futures.errors import as_standard
from lifepool.futures.mapping import RunAll, in_chunks, one_by_one, results_in_order
from lifepool.futures.multiprocessing_locks import make_sendable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future
    from multiprocessing.context import BaseContext
    from types import TracebackType

    from lifepool.backends.base import Backend
    from lifepool.config import PoolConfig

P = ParamSpec("P")
T = TypeVar("T")

#: What differs from a pool's defaults, unless the environment says otherwise. Workers start as work comes, and stay.
_DEFAULTS: dict[str, Any] = {"min_workers": 1, "idle_timeout": 365 * 86400.0, "max_payload": MAX_FRAME_BYTES - 2**20}


class ProcessPoolExecutor(standard.ProcessPoolExecutor):
    """Run calls in worker processes, with the constructor and methods of the standard library's executor.

    It may be used from several threads. Callbacks of futures run on the thread of its pool: keep them short. It is a
    subclass of the standard executor, so that ``isinstance`` says what libraries ask for, and has nothing of it but
    its methods: none of its private attributes.

    Args:
        max_workers: Workers there may be. None: as for ``Pool``.
        mp_context: None, or a ``multiprocessing`` context. lifepool starts its workers its own way, as
            ``"forkserver"`` does; of a context that would fork this process, a ``UserWarning`` says that it does not.
        initializer: Called once in each worker before its first task.
        initargs: Its arguments. Locks, queues and events of ``multiprocessing`` may be among them, also those of a
            context that forks: they are made ready for other processes, unless one is held, or other processes may
            have it already.
        max_tasks_per_child: Tasks after which a worker is replaced. None: never.

    Raises:
        ValueError: If a value makes no sense.
        TypeError: If an argument has a wrong type.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        # Not at the top: the template and workers import the script, and so this module, and never make a pool.
        from lifepool._pool.pool_thread import PoolThread
        from lifepool.pool import Pool

        _check(max_workers, initializer, max_tasks_per_child)
        self._mp_context = _usable(mp_context)  # read by joblib and others; the pool does not use it
        given = {"max_workers": max_workers, "initializer": initializer, "max_tasks_per_worker": max_tasks_per_child}
        settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if initializer is not None:
            make_sendable(initargs)
            settings["initargs"] = tuple(initargs)
        defaults = {name: value for name, value in _DEFAULTS.items() if f"LIFEPOOL_{name.upper()}" not in os.environ}
        pool = Pool(max_queue=sys.maxsize, **defaults, **settings)
        pool._runtime.make_backend = _make_backend
        self._max_workers = pool.max_workers  # read by dask, joblib and others, as the standard executor has it
        self._thread = PoolThread(
            pool._runtime, pool.submit, as_standard, functools.partial(_begin_template, pool.config)
        )
        weakref.finalize(self, self._thread.end).atexit = False  # forgotten: finish what is there, then end

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue ``fn(*args, **kwargs)``.

        Returns:
            Its future; errors of the pool, such as arguments that can't be pickled, are raised by its ``result()``.

        Raises:
            RuntimeError: After ``shutdown``, or if the system has no thread for the pool.
            OSError: If the system has no descriptors for it.
            PoolClosed: While a worker imports the module: a script without the ``__main__`` guard got here.
        """
        thread = self._thread
        future: ThreadFuture[T] = ThreadFuture(thread.is_current)
        thread.put(future, functools.partial(fn, **kwargs) if kwargs else fn, args)
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Call ``fn`` with the items of the iterables; the results come in their order.

        Args:
            fn: A function of as many arguments as there are iterables.
            *iterables: The arguments.
            timeout: Seconds from now for all results. What is unfinished then is cancelled.
            chunksize: Items per task.
            buffersize: Tasks that may be submitted and whose results are not taken yet. None: the iterables are read
                at once.

        Returns:
            A generator. If it is closed, or an item raises, what no worker has begun is cancelled.

        Raises:
            ValueError: If ``chunksize`` or ``buffersize`` is below 1.
            TypeError: If ``buffersize`` is no number.
            TimeoutError: From the iterator, if the timeout passed.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        calls = zip(*iterables, strict=False)
        if chunksize == 1:
            return results_in_order(self, self._thread, fn, calls, timeout=timeout, buffersize=buffersize)
        run_all, chunks = RunAll(fn, chunksize), in_chunks(calls, chunksize)
        return one_by_one(results_in_order(self, self._thread, run_all, chunks, timeout=timeout, buffersize=buffersize))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Shut down and wait, after Ctrl-C in the block as well; but then what is not done is cancelled first."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._thread.break_off()
        self.shutdown()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing new, finish what is there, and end the workers.

        Args:
            wait: Return when that is done; it takes as long as the tasks take.
            cancel_futures: Cancel what no worker has begun.
        """
        from lifepool._pool.pool_thread import is_queued

        self._thread.end(cancel=is_queued if cancel_futures else None)
        if wait:
            self._thread.join()

    def terminate_workers(self) -> None:
        """Shut down now, without waiting: what no worker has begun is cancelled, what runs is interrupted.

        The futures of what runs raise ``WorkerLost``. A task that is not over soon after that is killed.
        """
        self._thread.end_workers(kill=False)

    def kill_workers(self) -> None:
        """Shut down now, without waiting: what no worker has begun is cancelled, the workers are killed.

        The futures of what runs raise ``WorkerLost``.
        """
        self._thread.end_workers(kill=True)


def _begin_template(config: PoolConfig) -> None:
    """Start the template's process while this one imports what a running pool needs."""
    if config.backend == "local":
        from lifepool.backends.selection import is_local_supported

        if is_local_supported():
            from lifepool.backends.local.template.parking import place

            place.begin(config.preload, config.name)


def _make_backend(config: PoolConfig, modules: tuple[str, ...]) -> Backend:
    """Make the pool's backend, whose template the next executor may have."""
    from lifepool.backends.selection import make_backend

    backend: Any = make_backend(config, modules)
    if hasattr(backend, "parks_template"):
        backend.parks_template = True
    return backend  # type: ignore[no-any-return]


def _check(max_workers: object, initializer: object, max_tasks_per_child: object) -> None:
    """Refuse what the standard constructor refuses, with its words; the rest is the pool's to check."""
    if isinstance(max_workers, int) and max_workers <= 0:
        raise ValueError("max_workers must be greater than 0")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    if max_tasks_per_child is not None and not isinstance(max_tasks_per_child, int):
        raise TypeError("max_tasks_per_child must be an integer")
    if isinstance(max_tasks_per_child, int) and max_tasks_per_child <= 0:
        raise ValueError("max_tasks_per_child must be >= 1")


def _usable(context: Any) -> BaseContext:
    """Return a context that starts processes as cleanly as the pool does; warn if that is not what was given."""
    if context is not None:
        if context.get_start_method() != "fork":
            return context  # type: ignore[no-any-return] # it may be the module itself, whose methods are a context's
        warnings.warn(
            "mp_context would fork this process, which lifepool never does: its workers start cleanly, as with "
            "multiprocessing.get_context('forkserver'), and know only what they import and are given",
            UserWarning,
            stacklevel=3,
        )
    return multiprocessing.get_context("spawn")
