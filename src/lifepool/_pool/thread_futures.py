"""Settle the futures that threads wait for, on the event loop."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

T = TypeVar("T")


def settle(future: Future[T], value: T | None = None, error: BaseException | None = None) -> None:
    """Give a future its outcome, unless it was cancelled: then wake those who wait for it."""
    if not future.set_running_or_notify_cancel():
        return
    if error is None:
        future.set_result(value)  # type: ignore[arg-type]  # None is the value of a function that returns nothing
    else:
        future.set_exception(error)


def pass_on_cancel(source: asyncio.Future[Any], future: Future[Any]) -> None:
    """Cancel the task on the event loop whose outcome the thread's future waits for, if that was cancelled."""
    if future.cancelled():
        with contextlib.suppress(RuntimeError):  # the loop is closed: everything has its outcome
            source.get_loop().call_soon_threadsafe(source.cancel)
