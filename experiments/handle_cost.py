"""What does it cost that a handle is a future itself, against a handle that holds one?

Run from the root of the checkout: ``python -m experiments.handle_cost``. It takes a few seconds.
"""

# ruff: noqa: T201 - an experiment prints its table

from __future__ import annotations

import asyncio
import statistics
import tracemalloc
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from lifepool import TaskHandle

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

ROUNDS = 15
HANDLES = 20_000


class Holder:
    """A handle that has a future instead of being one, with the same fields."""

    __slots__ = ("_abandon", "_engine", "_error", "_outcome", "_payload", "_progress", "_retry_on", "_task", "_value",
                 "future")  # fmt: skip

    def __init__(self, engine: Any, task: int, payload: Any, retry_on: tuple[type, ...], *, abandon: bool) -> None:
        self.future: asyncio.Future[Any] = engine.loop.create_future()
        self._engine = engine
        self._task = task
        self._payload = payload
        self._retry_on = retry_on
        self._abandon = abandon
        self._value = self._error = self._outcome = self._progress = None

    def set_result(self, value: object) -> None:
        """Pass it on."""
        self.future.set_result(value)

    def __await__(self) -> Generator[Any, None, Any]:
        return self.future.__await__()


class Engine:
    """All of an engine that a handle needs to be made."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()


async def make_settle_await(kind: Callable[..., Any]) -> float:
    """Return seconds to make a handle, give it its result and await it."""
    engine = Engine()
    began = perf_counter()
    for number in range(HANDLES):
        handle = kind(engine, number, None, (), abandon=False)
        handle.set_result(number)
        await handle
    return (perf_counter() - began) / HANDLES


async def bytes_each(kind: Callable[..., Any]) -> float:
    """Return bytes that one waiting handle occupies."""
    engine = Engine()
    tracemalloc.start()
    handles = [kind(engine, 0, None, (), abandon=False) for _ in range(HANDLES)]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / len(handles)


def main() -> None:
    """Measure both in turn and print the median of each."""
    kinds = {"a future itself (TaskHandle)": cast("Callable[..., Any]", TaskHandle), "holds a future": Holder}
    samples: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(ROUNDS):
        for name, kind in kinds.items():
            samples[name].append(asyncio.run(make_settle_await(kind)) * 1e6)
    print(f"us to make, settle and await one handle, median (range) of {ROUNDS} rounds; bytes while it waits")
    for name, values in samples.items():
        size = asyncio.run(bytes_each(kinds[name]))
        print(f"{statistics.median(values):5.2f}  ({min(values):.2f} to {max(values):.2f})  {size:4.0f} bytes  {name}")


if __name__ == "__main__":
    main()
