"""Refuse bodies that are too large, with a problem that says where to go instead."""

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.domains.problems import Problem


class BodyLimit:
    """ASGI middleware: a body over its path's limit ends in 413 as soon as that is known.

    A Content-Length that is too large is refused before a byte is read; without one (a chunked
    body) the bytes are counted as they come. FastAPI's `max_body_size=` does the same, but answers
    a declared Content-Length in plain text, which no client of this service expects.

    Args:
        app: The application to guard.
        limits: The most bytes for each path, and the hint that goes with the refusal.
    """

    def __init__(self, app: ASGIApp, limits: Mapping[str, tuple[int, str]]) -> None:
        self.app = app
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `receive` that counts."""
        if scope["type"] == "http" and scope["path"] in self.limits:
            limit, hint = self.limits[scope["path"]]
            receive = _counting(receive, Headers(scope=scope), limit, hint)
        await self.app(scope, receive, send)


def _counting(receive: Receive, headers: Headers, limit: int, hint: str) -> Receive:
    declared = headers.get("content-length", "")
    expected = int(declared) if declared.isdecimal() else 0
    received = 0

    def check(size: int) -> None:
        if size > limit:
            detail = f"This is larger than the {limit:,} bytes that are taken here."
            raise Problem(413, detail, hint, limit=limit)

    async def counting() -> Message:
        nonlocal received
        check(expected)
        message = await receive()
        received += len(message.get("body", b""))
        check(received)
        return message

    return counting
