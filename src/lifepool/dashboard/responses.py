"""HTTP responses: status, headers that keep a browser from doing anything unasked, a body of known length."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    from lifepool.dashboard.static_files import File

#: Nothing but the page's own files, no inline script or style, no frame around it, no form, no base.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
ALWAYS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response, complete."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    async def send(self, send: Callable[[MutableMapping[str, Any]], Awaitable[None]], *, head: bool) -> None:
        """Send it as ASGI messages; for HEAD without its body."""
        headers = {**ALWAYS, "content-length": str(len(self.body)), **self.headers}
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        await send({"type": "http.response.body", "body": b"" if head else self.body})


def of_json(value: object, status: int = 200) -> Answer:
    """Answer with a value as JSON that is not cached: it is about now."""
    body = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    return Answer(status, body, {"content-type": "application/json", "cache-control": "no-store"})


def of_problem(status: int, detail: str, **headers: str) -> Answer:
    """Answer with an error in a sentence that a person can act on (RFC 9457)."""
    body = json.dumps({"status": status, "detail": detail}).encode()
    common = {"content-type": "application/problem+json", "cache-control": "no-store"}
    return Answer(status, body, {**common, **headers})


def of_file(file: File, known_tags: str) -> Answer:
    """Answer with a file; if the browser has it already, only with 304."""
    headers = {"etag": file.tag, "cache-control": "no-cache"}  # keep it, but ask: after an update all fit together
    if file.tag in known_tags:
        return Answer(304, b"", headers)
    return Answer(200, file.content, {**headers, "content-type": file.media_type})


def of_redirect(location: str) -> Answer:
    """Answer with a redirect."""
    return Answer(307, b"", {"location": location})
