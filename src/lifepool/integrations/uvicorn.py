"""Refuse requests as they are read: a protocol for uvicorn that asks ``LoadShedding`` first.

``uvicorn main:app --http lifepool.integrations.uvicorn:SheddingProtocol``
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, cast

try:
    import httptools
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError as _error:  # pragma: no cover - needs an environment without uvicorn
    raise ImportError(
        "lifepool.integrations.uvicorn needs uvicorn and httptools: pip install 'uvicorn[standard]'"
    ) from _error

from lifepool.integrations.shedding.middleware import ADMITTED_KEY, STATE_KEY
from lifepool.integrations.shedding.refusals import DISCARD_MOST, DISCARD_S, DISCARDING_MOST, response

if TYPE_CHECKING:
    import asyncio

    from uvicorn import Config
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

    from lifepool.integrations.shedding import LoadShedding

__all__ = ["SheddingProtocol"]

#: Where the protocols of a server share what they need for their answers.
_EARLY_KEY = "lifepool.early_refusals"
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,7})[ \t]*\r\n", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:", re.IGNORECASE)


class SheddingProtocol(HttpToolsProtocol):
    """uvicorn's protocol for HTTP/1.1, which refuses requests before it makes ASGI requests of them.

    It matters in a flood: a refusal takes half of the time that it takes in the middleware, and what is left are system
    calls. It finds the ``LoadShedding`` of the app by itself, in the state of its lifespan; without one it is uvicorn's
    own protocol. What it refuses passes through no middleware: put what must be in each answer into uvicorn's
    ``--header``.

    While nobody is refused it reads nothing itself. While somebody is, it reads each request with a parser that calls
    no Python for headers and body. What is not plain is left to uvicorn and the middleware: ``HEAD``, HTTP/1.0, an
    upgrade, pipelined requests, an encoded path; a body that has not come yet and is larger than 1 MiB, has no length,
    or waits for ``100 Continue``. So is everything with an access log, ``--limit-concurrency``, or a ``--header`` that
    says ``Connection``.
    """

    timeout_keep_alive_task: asyncio.TimerHandle | None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        has_more_to_do = self.access_log or self.limit_concurrency is not None or _names_connection(server_state)
        self._early = None if has_more_to_do else _early_refusals(app_state)
        self._has_begun = False  # to read a request whose end has not come
        self._discarded: _Discarded | None = None
        self._refused_at = -inf

    def on_message_begin(self) -> None:
        """Note that a request has begun."""
        self._has_begun = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Note that it has come as a whole."""
        self._has_begun = False
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Refuse a request that begins here, or leave it to uvicorn."""
        early = self._early
        if self._discarded is not None:
            self._discard(self._discarded, data)
        elif early is not None and early.shedding.is_refusing and self._is_idle():
            self._decide(early, data)
        else:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a body that still came."""
        self._end_discarding()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End the connection as the server ends; who still sends a body that is thrown away is answered."""
        self._answer_and_close()
        super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that is idle. A refusal makes no timer of its own: this one goes on for as long."""
        left = self._refused_at + self.timeout_keep_alive - self.loop.time()
        if left <= 0.0 or self.transport.is_closing():
            super().timeout_keep_alive_handler()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)

    def _is_idle(self) -> bool:
        """Tell whether the next byte begins a request, and all before it were answered."""
        cycle: RequestResponseCycle | None = self.cycle
        return not (self._has_begun or self.flow.write_paused) and (cycle is None or cycle.response_complete)

    def _decide(self, early: _EarlyRefusals, data: bytes) -> None:
        """Read a request, and refuse it if it is plain, and could not be answered in time."""
        request = early.read(data)
        if request is None:
            super().data_received(data)
            return
        now = time.monotonic()
        retry_after = early.shedding.refuse(now)
        if retry_after is None:
            if not request.is_whole:
                request.end()
            self._hand_over(early, data, now)
        elif request.is_whole:
            self._answer(early, retry_after)
        else:
            early.discarding += 1
            self._discarded = _Discarded(early, request, retry_after)
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(DISCARD_S, self._answer_and_close)

    def _hand_over(self, early: _EarlyRefusals, data: bytes, now: float) -> None:
        """Hand an admitted request to the app, which is not to decide again."""
        before = self.cycle
        arrival = early.shedding.admit(now)  # counts for a moment, also if the app never hears of the request
        super().data_received(data)
        if self.cycle is not before:
            scope: dict[str, Any] = cast("dict[str, Any]", self.scope)
            scope[ADMITTED_KEY] = arrival  # in time: the app starts in the next turn

    def _discard(self, discarded: _Discarded, data: bytes) -> None:
        """Read on in a body that is thrown away."""
        if not discarded.request.feed(data):
            self._answer_and_close()
        elif discarded.request.is_whole:
            self._end_discarding()
            self._unset_keepalive_if_required()
            self._answer(discarded.early, discarded.retry_after)

    def _end_discarding(self) -> _Discarded | None:
        """Return what is thrown away, if something is, and forget it."""
        discarded, self._discarded = self._discarded, None
        if discarded is not None:
            discarded.early.discarding -= 1
            discarded.request.end()
        return discarded

    def _answer(self, early: _EarlyRefusals, retry_after: int) -> None:
        """Answer a request that has come as a whole, as uvicorn would."""
        self.transport.write(early.answer(retry_after, self.server_state.default_headers))
        self.server_state.total_requests += 1
        self._refused_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _answer_and_close(self) -> None:
        """Answer a request whose body does not come in time, or is not the only thing that has come."""
        discarded = self._end_discarding()
        if discarded is not None and not self.transport.is_closing():
            headers = [*self.server_state.default_headers, (b"connection", b"close")]
            self.transport.write(discarded.early.answer(discarded.retry_after, headers))
            self.transport.close()
            self.server_state.total_requests += 1


class _Request:
    """A request that is read for nothing but where it goes and where it ends."""

    def __init__(self) -> None:
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self.forget()

    def end(self) -> None:
        """Let go of the parser, which knows this too: else only the garbage collector would find the two."""
        self._parser = None

    def forget(self) -> None:
        """Begin with another one."""
        self.target = b""
        self.is_plain = False
        self._begun = self._ended = 0

    @property
    def is_whole(self) -> bool:
        """Whether its end has come."""
        return self._ended == 1

    def feed(self, data: bytes) -> bool:
        """Read on. Return whether all of it belongs to one request that is answered like any other."""
        parser = self._parser
        if parser is None:
            return False
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return False
        return self.is_plain and self._begun == 1

    def on_message_begin(self) -> None:
        """Count requests."""
        self._begun += 1

    def on_url(self, part: bytes) -> None:
        """Take a part of the target."""
        self.target += part

    def on_headers_complete(self) -> None:
        """Note whether it is answered like any other."""
        parser = self._parser
        self.is_plain = (
            parser is not None
            and parser.should_keep_alive()
            and parser.get_http_version() == "1.1"
            and parser.get_method() != b"HEAD"
        )

    def on_message_complete(self) -> None:
        """Count requests that have come as a whole."""
        self._ended += 1


@dataclass(slots=True)
class _Discarded:
    """A request that is refused, and whose body still comes.

    Attributes:
        early: Makes the answer.
        request: Where it is.
        retry_after: Seconds, for the answer.
    """

    early: _EarlyRefusals
    request: _Request
    retry_after: int


class _EarlyRefusals:
    """What the connections of a server share.

    Args:
        shedding: Decides.

    Attributes:
        discarding: Bodies that are thrown away now.
    """

    def __init__(self, shedding: LoadShedding) -> None:
        self.shedding = shedding
        self.discarding = 0
        self._request = _Request()
        self._answers: dict[int, tuple[list[tuple[bytes, bytes]], bytes]] = {}  # by Retry-After, with their headers

    def read(self, data: bytes) -> _Request | None:
        """Read a request from its first byte. Return None if it is one for uvicorn and the app.

        One that is whole is forgotten with the next that is read.
        """
        request = self._request
        request.forget()
        is_plain = request.feed(data)
        is_reusable = is_plain and request.is_whole
        if not is_reusable:
            self._request = _Request()  # a parser that has stopped half way can't begin again
        if is_plain and (request.is_whole or self._may_discard(data)) and self._is_refusable(request.target):
            return request
        if not is_reusable:
            request.end()
        return None

    def _may_discard(self, data: bytes) -> bool:
        """Tell whether the rest of a body may be waited for, and thrown away."""
        return self.discarding < DISCARDING_MOST and _is_small(data)

    def _is_refusable(self, target: bytes) -> bool:
        """Tell whether a target is a plain path that is not exempt, whatever root path is taken off it."""
        path = target.partition(b"?")[0]
        is_plain = path.startswith(b"/") and path.isascii() and b"%" not in path and b"#" not in target
        return is_plain and not self.shedding.may_be_exempt(path.decode())

    def answer(self, retry_after: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Return the bytes of a refusal, with the server's own headers, which change once a second."""
        made = self._answers.get(retry_after)
        if made is None or made[0] is not headers:
            more, body = response(retry_after)
            head = b"".join(b"%b: %b\r\n" % each for each in (*headers, *more))
            made = self._answers[retry_after] = headers, b"HTTP/1.1 503 Service Unavailable\r\n%b\r\n%b" % (head, body)
        return made[1]


def _names_connection(server_state: ServerState) -> bool:
    """Tell whether the server's own headers say what becomes of connections: uvicorn knows how to do that."""
    return any(name.lower() == b"connection" for name, _ in server_state.default_headers)


def _early_refusals(app_state: dict[str, Any]) -> _EarlyRefusals | None:
    """Return what the connections of a server share; None if its app has no load shedding."""
    early: _EarlyRefusals | None = app_state.get(_EARLY_KEY)
    if early is None and STATE_KEY in app_state:
        early = app_state[_EARLY_KEY] = _EarlyRefusals(app_state[STATE_KEY])
    return early


def _is_small(data: bytes) -> bool:
    """Tell whether a request whose body still comes says that it is small, and does not wait to be asked for it."""
    head = data[: data.find(_END_OF_HEAD) + 2]
    length = _LENGTH.search(head)
    return length is not None and int(length[1]) <= DISCARD_MOST and _EXPECT.search(head) is None
