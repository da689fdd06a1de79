"""JSON as people paste it: a text with line breaks in it, put between quotes and sent with curl.

Strict JSON wants those line breaks escaped. The text is what matters here, and what is meant is beyond doubt.
"""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from examples.domains.decoding import GZIP_MAGIC
from examples.domains.problems import Problem

UNPACK = "Send it unpacked, or send a gzip file to /upload."


class PastedRequest(Request):
    """A request whose JSON may hold raw line breaks and tabs inside of strings."""

    async def body(self) -> bytes:
        """Read the body, which must not be packed.

        Raises:
            Problem: 415, it is.
        """
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        body = b"" if encoding not in ("identity", "") else await super().body()
        if encoding not in ("identity", "") or body.startswith(GZIP_MAGIC):
            what = "gzip" if body else encoding
            raise Problem(415, f"The body is packed ({what!r:.40}), which is not taken here.", UNPACK)
        return body

    async def json(self) -> Any:
        """Parse the body; everything else that is not JSON is refused as ever."""
        return json.loads(await self.body(), strict=False)


class PastedRoute(APIRoute):
    """A route that reads its body so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route's handler: it gets a `PastedRequest`."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(PastedRequest(request.scope, request.receive))

        return handle
