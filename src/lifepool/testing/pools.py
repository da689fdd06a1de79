"""Have an existing pool run in another way for the time of a test."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lifepool._pool.runtime import is_open
from lifepool.backends.inline import InlineBackend
from lifepool.testing.backend import ScriptedBackend
from lifepool.testing.script import Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lifepool.backends.base import Backend
    from lifepool.config import PoolConfig
    from lifepool.pool import Pool


@contextmanager
def inline(pool: Pool) -> Iterator[None]:
    """Run the pool's tasks in the test's own process while this is entered: breakpoints and mocks work.

    Nothing is pickled and nothing is isolated, and a task blocks the event loop. Start the pool within it, as the app
    does it, and end it before it is left.

    Args:
        pool: The app's pool, which does not run now.

    Raises:
        RuntimeError: If the pool runs when this is entered or left.
    """
    with _replaced(pool, lambda config, _: InlineBackend(initializer=config.initializer, initargs=config.initargs)):
        yield


@contextmanager
def scripted(pool: Pool) -> Iterator[Script]:
    """Let a script say how the pool's calls end while this is entered; what it does not mention runs as ``inline``.

    What the app sees is real: the scheduler, the queue, errors, retries, statistics and hooks. Only workers are
    replaced, and time can be moved. Start the pool within it, as the app does it, and end it before it is left.

    Args:
        pool: The app's pool, which does not run now.

    Returns:
        The script.

    Raises:
        RuntimeError: If the pool runs when this is entered or left.
        AssertionError: When it is left, if something was said for a next call that was not made.
    """
    script = Script()
    backend: ScriptedBackend | None = None

    def make(config: PoolConfig, _: tuple[str, ...]) -> Backend:
        nonlocal backend
        if backend is not None:
            pool.remove_hook(backend)
        backend = ScriptedBackend(script, initializer=config.initializer, initargs=config.initargs)
        pool.add_hook(backend)
        return backend

    with _replaced(pool, make, script.clock):
        try:
            yield script
        finally:
            if backend is not None and not is_open(pool._runtime):
                pool.remove_hook(backend)
    script.check_used()


@contextmanager
def _replaced(
    pool: Pool,
    make_backend: Callable[[PoolConfig, tuple[str, ...]], Backend],
    clock: Callable[[], float] | None = None,
) -> Iterator[None]:
    runtime = pool._runtime
    if is_open(runtime):
        raise RuntimeError(f"{pool!r} runs already: enter this before the app's lifespan starts the pool")
    before = runtime.make_backend, runtime.clock
    runtime.make_backend, runtime.clock = make_backend, clock or runtime.clock
    try:
        yield
        if is_open(runtime):
            raise RuntimeError(f"{pool!r} still runs: end it first, by leaving 'with TestClient(app)' or 'async with'")
    finally:
        runtime.make_backend, runtime.clock = before
