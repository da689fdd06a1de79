"""The text of an uploaded body, in chunks for the pool, in memory that does not grow with it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import Request
from python_multipart.multipart import parse_options_header

from examples.domains.decoding import Budget, Gunzip, MaybeGunzip, NoGzip, Plain, Reader, Text, Unpacked
from examples.domains.forms import Form
from examples.domains.limits import Limits
from examples.domains.problems import Problem

PIECE = 1 << 16  # bytes handled before others get their turn; about what servers deliver at once
GZIP_TYPES = (b"application/gzip", b"application/x-gzip")
HINT = "Send text/plain, a gzip file as application/gzip, or multipart/form-data with your files in the field `file`."

_BINARY = {"type": "string", "format": "binary"}
_FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "array", "items": _BINARY}},
}
# FastAPI cannot see this in the handler's signature, since the handler reads the stream itself.
OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "text/plain": {"schema": {"type": "string"}, "example": "see www.example.com"},
            "application/gzip": {"schema": _BINARY},
            "multipart/form-data": {"schema": _FORM},
        },
    }
}


async def chunks(request: Request, limits: Limits) -> AsyncGenerator[str, None]:
    """Yield the text of the body while it arrives, cut between names.

    Raises:
        Problem: 413, 415 or 422 for a body that cannot be read; and what `BodyLimit` raises.
    """
    reader = reader_of(*kind_of(request), Budget(limits))
    async with aclosing(pieces_of(request)) as pieces:
        async for piece in pieces:
            for texts in reader.feed(piece):
                for text in texts:
                    yield text
                await asyncio.sleep(0)  # each step is about a millisecond: let others run
    for texts in reader.close():
        for text in texts:
            yield text


async def pieces_of(request: Request) -> AsyncGenerator[bytes, None]:
    """Yield the body as it comes, in pieces that are handled at once."""
    async with aclosing(request.stream()) as stream:
        async for data in stream:
            for start in range(0, len(data), PIECE):
                yield data[start : start + PIECE]


def kind_of(request: Request) -> tuple[str, str]:
    """Return the content type and the content encoding of a body."""
    return request.headers.get("content-type", "text/plain"), request.headers.get("content-encoding", "identity")


def reader_of(content_type: str, content_encoding: str, budget: Budget) -> Reader:
    """Make what reads a body of this kind.

    Raises:
        Problem: 415, it is no text.
    """
    kind, options = parse_options_header(content_type)
    encoding = _encoding(content_encoding, budget)
    is_inner = isinstance(encoding, Gunzip)
    reader: Reader
    if kind == b"multipart/form-data":
        reader = Form(options.get(b"boundary", b""), lambda name, kind: _form_file(name, kind, budget, is_inner))
    elif kind.startswith(b"text/") or kind in (*GZIP_TYPES, b"application/octet-stream"):
        reader = _file(kind, options, budget, is_inner)
    else:
        raise Problem(415, f"The content type {kind.decode('latin-1')!r:.80} is not text.", HINT)
    return Unpacked(encoding, reader)


def _encoding(content_encoding: str, budget: Budget) -> Gunzip | Plain:
    encoding = content_encoding.strip().lower()
    if encoding in ("gzip", "x-gzip"):
        return Gunzip(budget)
    if encoding in ("identity", ""):
        return Plain()
    raise Problem(415, f"The content encoding {encoding!r:.40} is not known.", "Use gzip or none.")


def _form_file(name: bytes, content_type: bytes, budget: Budget, is_inner: bool) -> Reader:
    kind, options = parse_options_header(content_type)
    return _file(GZIP_TYPES[0] if name.lower().endswith(b".gz") else kind, options, budget, is_inner)


def _file(kind: bytes, options: dict[bytes, bytes], budget: Budget, is_inner: bool) -> Reader:
    charset = options[b"charset"].decode("latin-1") if b"charset" in options else None
    unpack = Gunzip(budget, is_inner=is_inner) if kind in GZIP_TYPES else MaybeGunzip(budget, is_inner=is_inner)
    return Unpacked(unpack, Unpacked(NoGzip(), Text(charset)))
