"""Remember what a pool's decorators declare: batches, resources, and the modules that they are defined in."""

from __future__ import annotations

import dataclasses
import weakref
from typing import TYPE_CHECKING, Any

from lifepool._inside.resources import load_eagerly
from lifepool.errors import BackendUnsupported

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._inside.resources import Resource
    from lifepool.config import PoolConfig


class Declarations:
    """What a pool's decorators have declared.

    Attributes:
        modules: Those that decorated functions are defined in, in order; the values mean nothing.
        resources: In the order in which they were declared.
    """

    def __init__(self) -> None:
        self.modules: dict[str, None] = {}
        self.resources: list[Resource[Any]] = []
        self._flushes: list[weakref.WeakMethod[Callable[[], None]]] = []

    def add_batch(self, flush: Callable[[], None]) -> None:
        """Remember the method that sends a batch's waiting calls, for as long as the batch lives."""
        # To a list: other threads may decorate while the loop goes through it.
        self._flushes.append(weakref.WeakMethod(flush))

    def flush_batches(self) -> None:
        """Send the calls that wait outside of the engine, before that takes no more."""
        for reference in self._flushes:
            if (flush := reference()) is not None:
                flush()

    def close_resources(self) -> None:
        """Close this process's own resources, if tasks ran here; the last one first."""
        for resource in reversed(self.resources):
            resource.close()

    def worker_config(self, config: PoolConfig) -> PoolConfig:
        """Return the settings, with the eager resources for workers to load.

        Raises:
            BackendUnsupported: If there are some, and a backend of the user's own starts the workers.
        """
        eager = tuple(resource for resource in self.resources if resource.eager)
        is_cluster = isinstance(config.backend, str) and "://" in config.backend
        if not eager or (is_cluster and config.fallback is None):
            return config  # the workers of a cluster load them when they are first used
        if not isinstance(config.backend, str):
            raise BackendUnsupported(
                "workers of a backend of your own can't load eager resources",
                capability="initializer",
                hint="leave out eager=True: they are loaded when they are first used",
            )
        initargs = (config.initializer, config.initargs, eager)
        return dataclasses.replace(config, initializer=load_eagerly, initargs=initargs)
