"""JSON as people paste it: a text with line breaks in it, put between quotes and sent with curl.

Strict JSON wants those line breaks escaped. The text is what matters here, and what is meant is beyond doubt.
"""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute


class PastedRequest(Request):
    """A request whose JSON may hold raw line breaks and tabs inside of strings."""

    async def json(self) -> Any:
        """Parse the body; everything else that is not JSON is refused as ever."""
        return json.loads(await self.body(), strict=False)


class PastedRoute(APIRoute):
    """A route that reads its body so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Hand the request on as a `PastedRequest`."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(PastedRequest(request.scope, request.receive))

        return handle
