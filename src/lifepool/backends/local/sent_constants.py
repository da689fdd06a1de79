"""Which worker has which constants, and what it is sent before a task that needs one."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from lifepool._core.framing import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lifepool._transfer.constants import Constant
    from lifepool.backends.local.channel import Channel


class Delivered:
    """The constants that one worker has.

    They go over the wire, and so does every task that needs one (see ``Channel.send``): what was written before it is
    read before it, also if the ticket of the task that it was sent for is taken back.

    Args:
        channel: The way to the worker.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._there: dict[int, weakref.ref[Constant]] = {}

    def send_missing(self, needed: Iterable[Constant]) -> None:
        """Send what the worker lacks of these, before a task that needs them; have it forget what is gone here."""
        there, post = self._there, self._channel.post
        for number in [number for number, alive in there.items() if alive() is None]:
            del there[number]
            post(Kind.FORGET, number)
        for constant in needed:
            if constant.number not in there:
                there[constant.number] = weakref.ref(constant)
                post(Kind.CONSTANT, constant.number, constant.pickled())
