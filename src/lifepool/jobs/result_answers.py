"""Results as HTTP answers: streamed from the store piece by piece, whole or a part of them (RFC 9110)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fastapi.responses import JSONResponse, Response, StreamingResponse

from lifepool.integrations.problems import MEDIA_TYPE
from lifepool.jobs.large import LARGE, in_thread_if
from lifepool.jobs.views import json_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lifepool.jobs.jobs import Jobs
    from lifepool.jobs.records import Job
    from lifepool.jobs.results import StoredResult


class JsonResult:
    """A result that has to be shown in another way than it is stored: a pickle, or JSON with other types in it.

    Attributes:
        media_type: JSON.
        size: Bytes of its text.
    """

    media_type = "application/json"

    def __init__(self, text: bytes) -> None:
        self._text = text
        self.size: int = len(text)

    async def chunks(self, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes from ``start`` to before ``stop``."""
        yield self._text[start:stop]


def etag_of(job: Job) -> str:
    """Return the tag of a job's result: it never changes."""
    return f'"{job.id}.{job.version}"'


def matches(if_none_match: str, etag: str) -> bool:
    """Whether the client has it already."""
    return if_none_match.strip() == "*" or etag in (
        part.strip().removeprefix("W/") for part in if_none_match.split(",")
    )


async def content_of(jobs: Jobs, job: Job) -> StoredResult | JsonResult:
    """Return what clients get of a job that has succeeded: as it is stored, if they can read that.

    Raises:
        JobNotFound: If it has expired meanwhile.
        JobNotCallable: If the result can't be read here.
        JobNotStorable: If JSON can't show it.
        StoreError: If the store can't be used.
    """
    stored = await jobs.open_result(job)
    if stored.media_type is not None:
        return stored
    result = (await jobs.get(job.id)).result
    return JsonResult(await in_thread_if(stored.size > LARGE, json_of, result))


def answer(content: StoredResult | JsonResult, etag: str, byte_range: str | None) -> Response:
    """Answer with the whole, or with the one part of it that was asked for.

    Args:
        content: What there is.
        etag: Of it.
        byte_range: The header ``Range``; one with several parts, or that makes no sense, is answered with the whole.
    """
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "X-Content-Type-Options": "nosniff"}
    asked = None if byte_range is None else range_of(byte_range, content.size)
    start, stop, status = 0, content.size, 200
    if asked is not None:
        start, stop, status = asked.start, asked.stop, 206
        if not asked:
            headers["Content-Range"] = f"bytes */{content.size}"
            body = {
                "type": "urn:lifepool:no-such-range",
                "title": "Range Not Satisfiable",
                "status": 416,
                "detail": f"the result has {content.size} bytes",
            }
            return JSONResponse(body, 416, headers, MEDIA_TYPE)
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{content.size}"
    headers["Content-Length"] = str(stop - start)
    return StreamingResponse(content.chunks(start, stop), status, headers, content.media_type)


def range_of(header: str, size: int) -> range | None:
    """Return which bytes a header ``Range`` asks for; empty if there are none; None if the whole is the answer."""
    match = re.fullmatch(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", header)
    if match is None or match[1] == match[2] == "":
        return None
    if not match[1]:  # the last so many
        return range(max(size - int(match[2]), 0), size)
    start = int(match[1])
    if match[2] and int(match[2]) < start:
        return None
    return range(start, min(int(match[2]) + 1, size) if match[2] else size)
