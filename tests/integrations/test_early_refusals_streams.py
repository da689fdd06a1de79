"""Any bytes, cut anywhere: ``SheddingProtocol`` answers as uvicorn's own protocol and the middleware do."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integrations.early import Connection, uvicorns_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["uvicorns_logger"]

METHODS = (b"POST", b"POST", b"GET", b"HEAD", b"OPTIONS", b"PUT")
TARGETS = (
    b"/work", b"/work?x=1", b"/health", b"/unread", b"/%77ork", b"*", b"http://l/work", b"//health", b"/work#f",
)  # fmt: skip
VERSIONS = (b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0")
FIELDS = (
    b"", b"", b"", b"Connection: close\r\n", b"X: GET /work HTTP/1.1\r\n", b"Expect: 100-continue\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
)  # fmt: skip
LENGTHS = (
    b"Content-Length: %d\r\n", b"content-length:%d\r\n", b"Content-Length:  %d \r\n", b"Content-Length: +%d\r\n",
    b"Content-Length: 1\r\nContent-Length: %d\r\n", b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n",
)  # fmt: skip
BODIES = st.lists(st.sampled_from([b"x" * 50, b"\r\n", b"GET /work HTTP/1.1\r\nHost: l\r\n\r\n"]), max_size=3)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request, odd or not; or a piece of one."""
    body = b"".join(draw(BODIES))
    line = b" ".join(draw(st.sampled_from(each)) for each in (METHODS, TARGETS, VERSIONS))
    head = line + b"\r\n" + draw(st.sampled_from(FIELDS)) + b"Host: l\r\n"
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"\r\n"
    length = draw(st.sampled_from((LENGTHS[0], LENGTHS[0], LENGTHS[0], *LENGTHS)))
    return draw(st.sampled_from([head + length % len(body) + b"\r\n" + body, head + chunked, b"\r\n", b"GET /w", body]))


async def answers(pieces: list[bytes], admits: int, *, early: bool) -> tuple[list[int], bool, list[str], int]:
    """Return the statuses, whether the connection was closed, what got to the app, and how often was decided."""
    connection = Connection(shedding=early, admits=admits)
    await connection.say(*pieces)
    statuses = await connection.say(*[b""] * 6)
    found = statuses, connection.transport.is_closed, connection.reached, connection.decided
    connection.end()
    await connection.say()
    return found


@pytest.fixture(autouse=True)
def _in_no_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lifepool.integrations.uvicorn.DISCARD_S", 60.0)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Leave out a warning for each malformed request."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@settings(max_examples=250, deadline=None)
@given(
    st.lists(requests(), min_size=1, max_size=5),
    st.lists(st.integers(1, 600), max_size=5),
    st.booleans(),
    st.integers(0, 2),
)
def test_a_stream_is_answered_as_by_uvicorn_and_the_middleware(
    parts: list[bytes], cuts: list[int], at_heads: bool, admits: int
) -> None:
    stream = b"".join(parts)
    if at_heads:
        cuts = [end.end() for end in re.finditer(rb"\r\n\r\n|\r\nX: ", stream)]
    ends = [*sorted({cut for cut in cuts if cut < len(stream)}), len(stream)]
    pieces = [stream[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    ours = asyncio.run(answers(pieces, admits, early=True))
    plain = asyncio.run(answers(pieces, admits, early=False))
    if 400 in plain[0]:
        # Malformed bytes behind a body that is thrown away: uvicorn answers 400, and then the request in front of them.
        assert ours[0].count(503) <= plain[0].count(503) + 1
        assert set(ours[2]) <= set(plain[2])
    else:
        # A connection may end after an answer that was due; and it may go on where the middleware closes it, if the
        # body was there though nobody had asked for it.
        both = min(len(ours[0]), len(plain[0]))
        assert ours[0][:both] == plain[0][:both]
        assert len(ours[0]) == both or plain[1]
        assert len(plain[0]) == both or ours[1]
        assert ours[1] or plain[1] or ours == plain
