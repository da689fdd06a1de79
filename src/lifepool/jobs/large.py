"""What is done with payloads beside the event loop, if they are large."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

#: Bytes from which on encoding, hashing and signing is done in a thread: a millisecond's worth.
LARGE = 1 << 20


async def in_thread_if(is_large: bool, function: Callable[P, T], /, *args: P.args, **keywords: P.kwargs) -> T:
    """Call a function, in a thread if what it works on is large, else at once."""
    if is_large:
        return await asyncio.to_thread(function, *args, **keywords)
    return function(*args, **keywords)
